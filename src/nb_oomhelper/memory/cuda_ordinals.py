"""Which GPU of the driver's is which of CUDA's in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from nb_oomhelper.records.memory import DeviceMemory


def ordinals(
    devices: Sequence[DeviceMemory],
    visible: str | None,
    order: str | None,
    known: Mapping[int, str] | None = None,
) -> tuple[DeviceMemory, ...]:
    """Set on each row the ordinal that frameworks in this process use for it.

    Args:
        devices: Rows in the driver's order, which is that of the PCI bus.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
        order: CUDA_DEVICE_ORDER; None where it is not set.
        known: The framework's ordinals with their uuids, in any case, with or without "GPU-". If it is
            not empty, it alone decides: the variables may have changed since the framework read them.

    Returns:
        The same rows; `device` is None where a GPU is hidden or its ordinal cannot be told.
    """
    if known:
        by_uuid = {_bare(uuid): ordinal for ordinal, uuid in sorted(known.items(), reverse=True)}
        return tuple(replace(row, device=by_uuid.get(_bare(row.uuid)) if row.uuid else None) for row in devices)
    found = {id(row): ordinal for ordinal, row in enumerate(_visible_rows(devices, visible, order))}
    return tuple(replace(row, device=found.get(id(row))) for row in devices)


def _bare(uuid: str) -> str:
    """A uuid without its prefix, in small letters: frameworks print it either way."""
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-")


def _visible_rows(devices: Sequence[DeviceMemory], visible: str | None, order: str | None) -> list[DeviceMemory]:
    """List the rows that CUDA shows, as far as that is certain, in CUDA's order."""
    # A GPU that cannot even be opened (no permission, lost) is not counted by CUDA either.
    opened = [row for row in devices if row.uuid or row.name or row.capacity is not None]
    text = None if visible is None else visible.strip()
    if text is not None and text.startswith(("GPU-", "MIG-")):
        rows = _picked([_by_prefix(opened, token.strip()) for token in text.split(",")])
    else:
        gpus = [list(group) for _, group in groupby(opened, key=lambda row: row.nvml_index)]
        if not _order_is_certain(gpus, order):
            return []
        numbers = range(len(gpus)) if text is None else [_leading_number(token) for token in text.split(",")]
        rows = _picked([gpus[number][0] if 0 <= number < len(gpus) else None for number in numbers])
    return _without_surplus_mig(rows)


def _by_prefix(devices: Sequence[DeviceMemory], prefix: str) -> DeviceMemory | None:
    """The one row whose uuid begins so; None where there is none or more than one."""
    if not prefix.startswith(("GPU-", "MIG-")):
        return None
    rows = [row for row in devices if row.uuid and row.uuid.startswith(prefix)]
    return rows[0] if len(rows) == 1 else None


def _leading_number(token: str) -> int:
    """Read a number as C's strtol does ("1gpu" is 1); -1 where there is none."""
    token = token.strip().removeprefix("+")
    digits = token[: len(token) - len(token.lstrip("0123456789"))]
    return int(digits) if 0 < len(digits) < 10 else -1  # CUDA knows no more devices than that


def _picked(rows: Sequence[DeviceMemory | None]) -> list[DeviceMemory]:
    """Apply CUDA's rules to a list: it ends at the first invalid entry, and one named twice hides all.

    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables (12.9)
    """
    picked: list[DeviceMemory] = []
    for row in rows:
        if row is None:
            break
        if any(row is other for other in picked):
            return []
        picked.append(row)
    return picked


def _order_is_certain(gpus: Sequence[Sequence[DeviceMemory]], order: str | None) -> bool:
    """Whether CUDA numbers the GPUs as the driver does: by default it puts the fastest first."""
    names = {(gpu[0].name or "").partition(" MIG ")[0] for gpu in gpus}
    return order == "PCI_BUS_ID" or len(gpus) < 2 or (len(names) == 1 and "" not in names)


def _without_surplus_mig(rows: list[DeviceMemory]) -> list[DeviceMemory]:
    """Keep only what is certain with MIG: a process sees one MIG device, and no whole GPU beside it.

    https://docs.nvidia.com/datacenter/tesla/mig-user-guide/mig-device-names.html ("CUDA Device
    Enumeration"), which adds that drivers may relax this: a mixture of both is left unknown.
    """
    mig = [row for row in rows if (row.uuid or "").startswith("MIG-")]
    if not mig:
        return rows
    return mig[:1] if len(mig) == len(rows) else []
