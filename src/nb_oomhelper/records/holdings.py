"""Who keeps memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HolderKind = Literal[
    "variable", "output_history", "failed_cell", "earlier_cell", "module", "unreachable", "unexplained"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Something with a name that keeps memory of one backend and device.

    Attributes:
        name: As the user would write it: "model", "Out[12]"; for a failed cell the local names.
        kind: Which sort of holder it is.
        backend, device: Where the bytes lie.
        own: Bytes that only this holder keeps: they come back if it goes.
        shared: Bytes that other holders keep as well.
        count: Number of storages.
        parts: Bytes by what they are for, largest first: "parameters", "gradients", "buffers",
            "optimizer state", "graph" (only an autograd graph leads there), "tensors", "objects" (texts, bytes and
            containers).
        shapes: The largest tensors and arrays, "float32 (8000, 8000)", at most three.
        dtypes: Bytes by dtype, largest first; of tensors and arrays from 1 MiB on.
        type_name: Class name of the object, or None for a group.
        role: "model", "pretrained model", "optimizer", "tensor", "array" or "other".
        path: For a variable: where below it most of that lies, as the user would write it,
            "losses[…]", "trainer.optimizer"; "" where that is the variable itself.
        function, line: For failed cells: where the names live.
        estimated: There are so many objects that some of the bytes are an estimate.
    """

    name: str
    kind: HolderKind
    backend: str
    device: int | None = None
    own: int = 0
    shared: int = 0
    count: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    shapes: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, int], ...] = ()
    type_name: str | None = None
    role: str = "other"
    path: str = ""
    function: str | None = None
    line: int | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All holders found on one backend and device, and how much of the search was done.

    Attributes:
        rows: Largest `own` first.
        shares: One row for each set of holders that keep storages together: the indexes of these
            holders in `rows`, ascending, and the bytes that exactly they keep.
        addresses: For each row of `shares`, where the storages begin whose address is known.
        complete: False where the deadline ended the search; then bytes may be kept by more holders
            than are named here.
        no_room: The search itself found no room for some of them.
        searched, total: How many holders were searched through, of how many.
        everywhere: False where time was up before modules and all living tensors were looked at.
        seconds: How long the search took.
    """

    rows: tuple[Holding, ...] = ()
    shares: tuple[tuple[tuple[int, ...], int], ...] = ()
    addresses: tuple[tuple[int, ...], ...] = ()
    complete: bool = True
    no_room: bool = False
    searched: int = 0
    total: int = 0
    seconds: float = 0.0
    everywhere: bool = True

    def of_kind(self, *kinds: HolderKind) -> frozenset[int]:
        """Give the indexes of the rows of these kinds."""
        return frozenset(index for index, row in enumerate(self.rows) if row.kind in kinds)

    def of_failures(self) -> frozenset[int]:
        """Give what every release lets go of: the failed cell, and cells that failed before and were not released."""
        return self.of_kind("failed_cell", "earlier_cell")

    def named(self, name: str) -> frozenset[int]:
        """Give the index of the variable of that name; empty where it is none of the rows."""
        return frozenset(index for index in self.of_kind("variable") if self.rows[index].name == name)

    def freed_by(self, released: frozenset[int]) -> int:
        """Add up the bytes that come back if all these holders go: what they keep alone or among themselves."""
        return sum(size for holders, size in self.shares if released.issuperset(holders))

    def freed_after_release(self, released: frozenset[int]) -> int:
        """Add up the bytes that come back with these holders beyond what every release gives back by itself."""
        failed = self.of_failures()
        return self.freed_by(failed | released) - self.freed_by(failed)

    def freed_at(self, released: frozenset[int]) -> frozenset[int]:
        """Give where the storages begin that come back if all these holders go, as far as that is known."""
        rows = zip(self.shares, self.addresses, strict=False)
        return frozenset(place for (holders, _), places in rows if released.issuperset(holders) for place in places)
