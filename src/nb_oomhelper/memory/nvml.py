"""The driver's view of the GPUs: devices, memory and processes.

Reading goes through NVML alone and never creates a CUDA context. Nothing here raises: each call may fail by itself,
and then only the figure that it would have given is None, with a note on why. A call may also hang: all are
made on the worker's thread (`poll`), and who wants figures waits no longer than `_PATIENCE`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from nb_oomhelper.memory.cuda_ordinals import ordinals
from nb_oomhelper.memory.nvml_calls import FUNCTION_NOT_FOUND, NOT_FOUND, NOT_SUPPORTED, Library, load, why_not
from nb_oomhelper.poll import WORKER, LateError
from nb_oomhelper.records.memory import DeviceMemory, DriverReading, ProcessMemory
from nb_oomhelper.records.note import Note, joined, note
from nb_oomhelper.untrusted import one_line

_FULL, _LATE = note("nvml.full"), note("nvml.late")
_Answer = TypeVar("_Answer")

_PATIENCE = 5.0  # seconds for one reading: of 64 GPUs it takes one, and the very first may start a sleeping driver
_NOT_AVAILABLE = (1 << 64) - 1  # NVML_VALUE_NOT_AVAILABLE as an unsigned long long
_MEMORY_V2 = 0x02000028  # nvmlMemory_v2: version 2 of a structure of 40 bytes
_COMPUTE = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
_GRAPHICS = ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2")


class Driver:
    """NVML, started at the first reading and shut down by `close`. Any thread may read."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._started = False

    def read(self, known: Mapping[int, str] | None = None) -> DriverReading:
        """Read all GPUs. Never raises, and waits `_PATIENCE` at most: not at all where an earlier reading still hangs.

        Args:
            known: The framework's own ordinals, each with the uuid it gives for it, where a framework
                is already running; see `ordinals`.

        Returns:
            One row a GPU, or one a MIG device where a GPU is split into those; `note` says why there
            is nothing to show, or which GPUs are missing from the rows.
        """
        reading = self._ask(_read_gpus)
        if isinstance(reading, Note):
            return DriverReading(note=_unknown(reading))
        visible, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")
        return replace(reading, devices=ordinals(reading.devices, visible, order, known))

    def read_memory(self, device: DeviceMemory) -> DeviceMemory | None:
        """Read the memory of one GPU again, in two calls of the driver. Never raises, and waits as `read`.

        Args:
            device: As it was read before.

        Returns:
            Its row with the memory of now, and without processes; None where that could not be read.
        """
        row = self._ask(lambda library: _read_again(library, device))
        return None if isinstance(row, Note) else row

    def close(self) -> None:
        """Shut NVML down if this object started it; a later `read` starts it again. Never raises; waits as `read`."""
        if self._started and self._pid == os.getpid() and WORKER.running:
            with contextlib.suppress(LateError, MemoryError):
                WORKER.ask(self._shut_down, _PATIENCE)

    def begin(self) -> None:
        """Have the library loaded and started before it is needed, and wait for nothing."""
        WORKER.tell(lambda: self._read(_read_gpus))

    def _ask(self, read: Callable[[Library], _Answer]) -> _Answer | Note:
        """Have something read on the worker's thread; or say why it could not be."""
        try:
            return WORKER.ask(lambda: self._read(read), _PATIENCE) if WORKER.start() else _FULL
        except LateError:
            return _LATE
        except MemoryError:
            return _FULL

    # on the worker's thread

    def _read(self, read: Callable[[Library], _Answer]) -> _Answer | Note:
        if self._pid != os.getpid():  # forked: the parent's NVML is not ours
            self._pid, self._started = os.getpid(), False
        answer, shut_down = self._attempt(read)
        if shut_down:  # by other code, under us: start NVML again, once
            answer, _ = self._attempt(read)
        return answer

    def _shut_down(self) -> None:
        library = load()
        if self._started and not isinstance(library, Note):
            self._started = False
            library.ask("nvmlShutdown")

    def _attempt(self, read: Callable[[Library], _Answer]) -> tuple[_Answer | Note, bool]:
        """Read once, starting NVML if need be; and whether NVML turned out to be shut down by then."""
        library = load()
        if isinstance(library, Note):
            return library, False
        if not self._started:
            _, code = library.ask("nvmlInit")
            if code:
                return why_not(code), False
        answer = read(library)
        self._started = not library.shut_down
        return answer, library.shut_down


@dataclass(slots=True)
class _Gaps:
    """What of one device could not be read, and why."""

    missing: dict[Note, list[Note]] = field(default_factory=dict)

    def add(self, what: str, code: int | Note) -> None:
        """Keep what is unknown, as the key of its word, and for which reason."""
        self.missing.setdefault(why_not(code), []).append(note(what))

    def told(self) -> Note | None:
        """What to say: "could not read name, memory: this user has no permission"; or None."""
        parts = (
            note("nvml.unread", what=joined(*what, key="list.and"), reason=reason)
            for reason, what in self.missing.items()
        )
        return joined(*parts)


def _unknown(reason: Note) -> Note:
    return note("nvml.unknown", reason=reason)


def _read_gpus(library: Library) -> DriverReading:
    """Read every GPU that the driver counts."""
    count, code = library.ask("nvmlDeviceGetCount")
    if code:
        return DriverReading(note=_unknown(why_not(code)))
    if not count:
        return DriverReading(note=note("nvml.no_gpu"))
    devices: list[DeviceMemory] = []
    empty: list[Note] = []
    for index in range(count):
        rows = _read_gpu(library, index)
        devices += rows
        if not rows:
            empty.append(note("nvml.no_mig_device", index=index))
    return DriverReading(devices=tuple(devices), note=joined(*empty))


def _read_gpu(library: Library, index: int) -> list[DeviceMemory]:
    """Read one GPU: one row, or one row a MIG device (none where MIG mode is on and nothing was made)."""
    gaps = _Gaps()
    handle, code = library.ask("nvmlDeviceGetHandleByIndex", index)
    if code:
        gaps.add("nvml.this_gpu", code)
        return [DeviceMemory(nvml_index=index, note=gaps.told())]
    mode, code = library.ask("nvmlDeviceGetMigMode", handle)
    if code and code not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):  # those two: no MIG here
        gaps.add("nvml.mig_mode", code)
    if not code and mode[0]:
        count, code = library.ask("nvmlDeviceGetMaxMigDeviceCount", handle)
        if not code:
            return _read_mig_devices(library, handle, index, count)
        gaps.add("nvml.mig_devices", code)
    return [_read_device(library, handle, index, gaps)]


def _read_mig_devices(library: Library, parent: Any, index: int, count: int) -> list[DeviceMemory]:
    """Read the MIG devices of one GPU; `count` is how many there may be, many places are empty."""
    rows = []
    for place in range(count):
        handle, code = library.ask("nvmlDeviceGetMigDeviceHandleByIndex", parent, place)
        if code == NOT_FOUND:
            continue
        gaps = _Gaps()
        if code:
            missing = note("nvml.unread", what=note("nvml.mig_device", place=place), reason=why_not(code))
            rows.append(DeviceMemory(nvml_index=index, note=missing))
        else:
            rows.append(_read_device(library, handle, index, gaps))
    return rows


def _read_device(library: Library, handle: Any, index: int, gaps: _Gaps) -> DeviceMemory:
    """Read one GPU or MIG device, each figure by itself."""
    name, code = library.ask("nvmlDeviceGetName", handle)
    if code:
        gaps.add("nvml.name", code)
    uuid, code = library.ask("nvmlDeviceGetUUID", handle)
    if code:
        gaps.add("nvml.uuid", code)
    name, uuid = (None if text is None else one_line(text) for text in (name, uuid))
    memory = _read_memory(library, handle, gaps)
    processes = _read_processes(library, handle, gaps)
    return DeviceMemory(nvml_index=index, name=name, uuid=uuid, processes=processes, note=gaps.told(), **memory)


def _read_again(library: Library, before: DeviceMemory) -> DeviceMemory | None:
    """Read a device's memory by its uuid: a handle that was kept may be another's once NVML was shut down."""
    handle, code = (None, NOT_FOUND) if before.uuid is None else library.ask("nvmlDeviceGetHandleByUUID", before.uuid)
    memory = {} if code else _read_memory(library, handle, _Gaps())
    if not memory:
        return None
    return replace(
        before,
        capacity=memory["capacity"],
        used=memory["used"],
        free=memory["free"],
        system_reserved=memory["system_reserved"],
        processes=None,
        note=None,
    )


def _read_memory(library: Library, handle: Any, gaps: _Gaps) -> dict[str, int | None]:
    """Read a device's memory in bytes: the keys capacity, used, free, system_reserved.

    Version 2 of the call tells the driver's own share apart: used + free + system_reserved is the
    capacity. Version 1, all that drivers before 510 have, counts that share as used and does not tell it.
    """
    info, code = library.ask("nvmlDeviceGetMemoryInfo", handle, _MEMORY_V2)
    reserved = None if code else _known(info.reserved)
    if code:
        info, code = library.ask("nvmlDeviceGetMemoryInfo", handle)
    if code or info.total in (0, _NOT_AVAILABLE):
        gaps.add("nvml.memory", code or NOT_SUPPORTED)
        return {}
    used, free = _known(info.used), _known(info.free)
    # NVML's documents of R525 say that version 2, too, counts the driver's share as used; later ones and
    # drivers do not. Where the sum shows it, the share is taken out, so that it is not counted twice.
    if reserved and used is not None and free is not None and used + free == info.total:
        used = max(0, used - reserved)
    return {"capacity": info.total, "used": used, "free": free, "system_reserved": reserved}


def _read_processes(library: Library, handle: Any, gaps: _Gaps) -> tuple[ProcessMemory, ...] | None:
    """Read who is on a device, largest first; None where the driver does not tell.

    A process that computes and draws is in both lists with the same memory, so the larger figure counts.
    """
    compute, code = library.ask_newest(_COMPUTE, handle)
    if code:
        gaps.add("nvml.processes", code)
        return None
    graphics, code = library.ask_newest(_GRAPHICS, handle)
    if code and code not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):  # those two: nothing can draw on it
        gaps.add("nvml.graphics_processes", code)
    used: dict[int, int | None] = {}
    for row in [*compute, *(graphics or ())]:
        figures = [figure for figure in (used.get(row.pid), _known(row.usedGpuMemory)) if figure is not None]
        used[row.pid] = max(figures, default=None)
    rows = (ProcessMemory(pid=pid, used=size, is_self=pid == os.getpid()) for pid, size in used.items())
    return tuple(sorted(rows, key=lambda row: (-(row.used or 0), row.pid)))


def _known(figure: int | None) -> int | None:
    return None if figure == _NOT_AVAILABLE else figure
