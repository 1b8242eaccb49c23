"""The driver's view of the GPUs: devices, memory and processes. The only door to `pynvml`.

Reading goes through NVML alone and never creates a CUDA context. Nothing here raises: each call may fail by itself,
and then only the figure that it would have given is None, with a note on why. A call may also hang: all are
made on the worker's thread (`poll`), and who wants figures waits no longer than `_PATIENCE`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nb_oomhelper.memory.cuda_ordinals import ordinals
from nb_oomhelper.poll import WORKER, LateError
from nb_oomhelper.records.memory import DeviceMemory, DriverReading, ProcessMemory
from nb_oomhelper.records.note import Note, joined, note
from nb_oomhelper.untrusted import one_line

# Return codes of nvml.h (nvmlReturn_t), as numbers because pynvml is not imported at import.
_UNINITIALIZED = 1
_NOT_SUPPORTED = 3
_NOT_FOUND = 6
_FUNCTION_NOT_FOUND = 13
_REASONS = {  # keys of sentences
    1: "shut_down",
    3: "not_supported",
    4: "no_permission",
    9: "not_running",
    10: "timeout",
    12: "no_driver",
    13: "too_old",
    15: "lost",
    16: "must_reset",
    17: "blocked",
    18: "updated",
    20: "no_memory",
    23: "no_resources",
    25: "too_old",
    27: "not_ready",
    28: "not_found",
    999: "failed",
}
_NO_BINDING, _BAD_BINDING = note("nvml.no_binding"), note("nvml.bad_binding")
_FULL, _LATE = note("nvml.full"), note("nvml.late")

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
        try:
            if not WORKER.start():
                return DriverReading(note=_unknown(_FULL))
            reading = WORKER.ask(self._read, _PATIENCE)
        except LateError:
            return DriverReading(note=_unknown(_LATE))
        except MemoryError:
            return DriverReading(note=_unknown(_FULL))
        visible, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")
        return replace(reading, devices=ordinals(reading.devices, visible, order, known))

    def close(self) -> None:
        """Shut NVML down if this object started it; a later `read` starts it again. Never raises; waits as `read`."""
        if self._started and self._pid == os.getpid() and WORKER.running:
            with contextlib.suppress(LateError, MemoryError):
                WORKER.ask(self._shut_down, _PATIENCE)

    def begin(self) -> None:
        """Have the library loaded and started before it is needed, and wait for nothing."""
        WORKER.tell(self._read)

    # on the worker's thread

    def _read(self) -> DriverReading:
        if self._pid != os.getpid():  # forked: the parent's NVML is not ours
            self._pid, self._started = os.getpid(), False
        reading, shut_down = self._attempt()
        if shut_down:  # by other code, under us: start NVML again, once
            reading, _ = self._attempt()
        return reading

    def _shut_down(self) -> None:
        library = _load()
        if self._started and not isinstance(library, Note):
            self._started = False
            library.ask("nvmlShutdown")

    def _attempt(self) -> tuple[DriverReading, bool]:
        """Read once, starting NVML if need be; and whether NVML turned out to be shut down by then."""
        library = _load()
        if isinstance(library, Note):
            return DriverReading(note=_unknown(library)), False
        if not self._started:
            _, code = library.ask("nvmlInit")
            if code:
                return DriverReading(note=_unknown(_reason(code))), False
        reading = _read_gpus(library)
        self._started = not library.shut_down
        return reading, library.shut_down


@dataclass(slots=True)
class _Library:
    """pynvml, asked so that nothing raises."""

    pynvml: Any
    shut_down: bool = False

    def ask(self, name: str, *args: Any) -> tuple[Any, int | Note]:
        """Call one function of pynvml.

        Returns:
            Its result and 0, or None and the reason: NVML's return code, or a note where the failure was
            not NVML's own.
        """
        function = getattr(self.pynvml, name, None)
        if function is None:
            return None, _FUNCTION_NOT_FOUND
        try:
            return function(*args), 0
        except Exception as error:  # NVMLError, but also decoding errors and ctypes' own: a foreign library's edge
            code = getattr(error, "value", None)
            if not isinstance(code, int):
                return None, note("nvml.nonsense", error=type(error).__name__)
            self.shut_down |= code == _UNINITIALIZED
            return None, code

    def ask_newest(self, names: Iterable[str], *args: Any) -> tuple[Any, int | Note]:
        """Call the first of these functions that the driver has: newer drivers keep older entry points."""
        answer: tuple[Any, int | Note] = None, _FUNCTION_NOT_FOUND
        for name in names:
            answer = self.ask(name, *args)
            if answer[1] != _FUNCTION_NOT_FOUND:
                break
        return answer


@dataclass(slots=True)
class _Gaps:
    """What of one device could not be read, and why."""

    missing: dict[Note, list[Note]] = field(default_factory=dict)

    def add(self, what: str, code: int | Note) -> None:
        """Keep what is unknown, as the key of its word, and for which reason."""
        self.missing.setdefault(_reason(code), []).append(note(what))

    def told(self) -> Note | None:
        """What to say: "could not read name, memory: this user has no permission"; or None."""
        parts = (
            note("nvml.unread", what=joined(*what, key="list.and"), reason=reason)
            for reason, what in self.missing.items()
        )
        return joined(*parts)


def _load() -> _Library | Note:
    """Import pynvml, or say why it cannot be had."""
    try:
        import pynvml
    except (Exception, SystemExit) as error:  # a broken installation may raise anything while it is imported
        return _NO_BINDING if isinstance(error, ImportError) and error.name == "pynvml" else _BAD_BINDING
    return _Library(pynvml) if hasattr(pynvml, "nvmlInit") else _BAD_BINDING


def _reason(code: int | Note) -> Note:
    """Why a call failed."""
    if isinstance(code, Note):
        return code
    return note(f"nvml.{_REASONS[code]}") if code in _REASONS else note("nvml.error", code=code)


def _unknown(reason: Note) -> Note:
    return note("nvml.unknown", reason=reason)


def _read_gpus(library: _Library) -> DriverReading:
    """Read every GPU that the driver counts."""
    count, code = library.ask("nvmlDeviceGetCount")
    if code:
        return DriverReading(note=_unknown(_reason(code)))
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


def _read_gpu(library: _Library, index: int) -> list[DeviceMemory]:
    """Read one GPU: one row, or one row a MIG device (none where MIG mode is on and nothing was made)."""
    gaps = _Gaps()
    handle, code = library.ask("nvmlDeviceGetHandleByIndex", index)
    if code:
        gaps.add("nvml.this_gpu", code)
        return [DeviceMemory(nvml_index=index, note=gaps.told())]
    mode, code = library.ask("nvmlDeviceGetMigMode", handle)
    if code and code not in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND):  # those two: no MIG here
        gaps.add("nvml.mig_mode", code)
    if not code and mode[0]:
        count, code = library.ask("nvmlDeviceGetMaxMigDeviceCount", handle)
        if not code:
            return _read_mig_devices(library, handle, index, count)
        gaps.add("nvml.mig_devices", code)
    return [_read_device(library, handle, index, gaps)]


def _read_mig_devices(library: _Library, parent: Any, index: int, count: int) -> list[DeviceMemory]:
    """Read the MIG devices of one GPU; `count` is how many there may be, many places are empty."""
    rows = []
    for place in range(count):
        handle, code = library.ask("nvmlDeviceGetMigDeviceHandleByIndex", parent, place)
        if code == _NOT_FOUND:
            continue
        gaps = _Gaps()
        if code:
            missing = note("nvml.unread", what=note("nvml.mig_device", place=place), reason=_reason(code))
            rows.append(DeviceMemory(nvml_index=index, note=missing))
        else:
            rows.append(_read_device(library, handle, index, gaps))
    return rows


def _read_device(library: _Library, handle: Any, index: int, gaps: _Gaps) -> DeviceMemory:
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


def _read_memory(library: _Library, handle: Any, gaps: _Gaps) -> dict[str, int | None]:
    """Read a device's memory in bytes: the keys capacity, used, free, system_reserved.

    Version 2 of the call tells the driver's own share apart: used + free + system_reserved is the
    capacity. Version 1, all that drivers before 510 have, counts that share as used and does not tell it.
    """
    info, code = library.ask("nvmlDeviceGetMemoryInfo", handle, _MEMORY_V2)
    reserved = None if code else _known(info.reserved)
    if code:
        info, code = library.ask("nvmlDeviceGetMemoryInfo", handle)
    if code or info.total in (0, _NOT_AVAILABLE):
        gaps.add("nvml.memory", code or _NOT_SUPPORTED)
        return {}
    used, free = _known(info.used), _known(info.free)
    # NVML's documents of R525 say that version 2, too, counts the driver's share as used; later ones and
    # drivers do not. Where the sum shows it, the share is taken out, so that it is not counted twice.
    if reserved and used is not None and free is not None and used + free == info.total:
        used = max(0, used - reserved)
    return {"capacity": info.total, "used": used, "free": free, "system_reserved": reserved}


def _read_processes(library: _Library, handle: Any, gaps: _Gaps) -> tuple[ProcessMemory, ...] | None:
    """Read who is on a device, largest first; None where the driver does not tell.

    A process that computes and draws is in both lists with the same memory, so the larger figure counts.
    """
    compute, code = library.ask_newest(_COMPUTE, handle)
    if code:
        gaps.add("nvml.processes", code)
        return None
    graphics, code = library.ask_newest(_GRAPHICS, handle)
    if code and code not in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND):  # those two: nothing can draw on it
        gaps.add("nvml.graphics_processes", code)
    used: dict[int, int | None] = {}
    for row in [*compute, *(graphics or ())]:
        figures = [figure for figure in (used.get(row.pid), _known(row.usedGpuMemory)) if figure is not None]
        used[row.pid] = max(figures, default=None)
    rows = (ProcessMemory(pid=pid, used=size, is_self=pid == os.getpid()) for pid, size in used.items())
    return tuple(sorted(rows, key=lambda row: (-(row.used or 0), row.pid)))


def _known(figure: int | None) -> int | None:
    return None if figure == _NOT_AVAILABLE else figure
