"""The frameworks' allocators, device by device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nb_oomhelper.frameworks import FRAMEWORKS
from nb_oomhelper.records.memory import AllocatorMemory


def busiest() -> tuple[str, int | None]:
    """Where memory matters in this process: the GPU with most in live tensors, or the host.

    Returns:
        Backend and the framework's ordinal; ("host", None) where no framework has started a GPU.
    """
    rows = busiest_allocators()
    return (rows[0].backend, rows[0].device) if rows else ("host", None)


def busiest_allocators() -> list[AllocatorMemory]:
    """The frameworks' allocators on the GPU with most in live tensors; none where no framework has started one."""
    found = allocators_by_gpu().values()
    return max(found, key=lambda rows: sum(one.allocated or 0 for one in rows), default=[])


def allocators_by_gpu() -> dict[int | None, list[AllocatorMemory]]:
    """The frameworks' allocators on each GPU that one of them has started, by ordinal."""
    found = (
        allocators("cuda", ordinal) for ordinal in [*known_ordinals("cuda"), None]
    )  # the last is one that tells no uuid
    return {rows[0].device: rows for rows in found if rows}


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often allocators have refused a request, and got one only by giving back their cache; by GPU."""

    ooms: dict[int | None, int] = field(default_factory=dict)
    retries: dict[int | None, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.ooms.values()) or any(self.retries.values())

    def since(self, before: Refusals, errors: int = 0) -> Refusals:
        """Count what came after an earlier reading.

        Args:
            before: The reading.
            errors: How many of these nobody has caught: they were seen as errors.
        """
        ooms = {device: count - before.ooms.get(device, 0) for device, count in self.ooms.items()}
        retries = {device: count - before.retries.get(device, 0) for device, count in self.retries.items()}
        for device in ooms:
            seen = min(errors, max(0, ooms[device]))
            ooms[device], errors = ooms[device] - seen, errors - seen
        return Refusals({key: n for key, n in ooms.items() if n > 0}, {key: n for key, n in retries.items() if n > 0})


def refusals_of(rows: dict[int | None, list[AllocatorMemory]]) -> Refusals:
    """Add up what allocators have counted, by GPU.

    Args:
        rows: As `allocators_by_gpu` gives them.
    """
    ooms = {device: sum(one.ooms or 0 for one in found) for device, found in rows.items()}
    retries = {device: sum(one.retries or 0 for one in found) for device, found in rows.items()}
    return Refusals(ooms, retries)


def read_refusals() -> Refusals:
    """Read what allocators have counted since the process began; no GPU is started for it."""
    return refusals_of(allocators_by_gpu())


def known_ordinals(backend: str) -> list[int]:
    """The ordinals of the GPUs that a framework has started; none on the host."""
    if backend == "host":
        return []
    return sorted({ordinal for framework in FRAMEWORKS for ordinal in framework.device_uuids()})


def allocators(backend: str, device: int | None, first: str = "") -> list[AllocatorMemory]:
    """Those of all frameworks that have started a device, that of the framework `first` before the others.

    Where no device is named, the first of them says which one is meant: each has its own idea of a current one.
    """
    found: list[AllocatorMemory] = []
    for framework in sorted(FRAMEWORKS, key=lambda one: one.name != first):
        one = framework.allocator(backend, device)
        if one is not None:
            found.append(one)
            device = one.device if device is None else device
    return found


def with_blocks(memory: AllocatorMemory) -> AllocatorMemory:
    """Add what the blocks of its cache tell; the same figures where they tell nothing."""
    framework = next((one for one in FRAMEWORKS if one.name == memory.framework), None)
    blocks = framework.cached_blocks(memory.backend, memory.device) if framework else None
    if blocks is None:
        return memory
    return replace(
        memory,
        largest_free_block=blocks.largest,
        whole=blocks.releasable,
        pooled=blocks.pooled,
        workspace=blocks.workspace,
        segments=blocks.segments,
    )
