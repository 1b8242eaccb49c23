"""What a call would allocate and free, in its order: plain numbers, which travel from the copy to the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["parameters", "gradients", "optimizer", "activations", "temporaries", "kv_cache", "workspace", "other"]


@dataclass(slots=True)
class Block:
    """One storage on the device.

    Attributes:
        size: Bytes that are asked for.
        kind: What it is for.
        address: Where it lies on the device if it was there before the call; 0 for one that the call makes.
    """

    size: int
    kind: Kind = "temporaries"
    address: int = 0


@dataclass(slots=True)
class Trace:
    """What a call does to the memory of one device.

    Attributes:
        blocks: All storages, in the order in which they were first seen.
        events: In their order: n for "block n is allocated", -n - 1 for "block n is freed". A block that was there
            before the call is only freed.
        places: (index into `events`, module's path), where each module begins and ends.
        notes: What could not be known, each a key of a sentence and its fields.
        ended: How the call ended: "returned", "raised", "deadline", or "values" where it wants a value that only the
            device could compute.
        error: One line of the error that ended it.
        line: The line of the caller's that was running then, as "file:line", or "".
        batch: Rows of the batch among the call's arguments, or None.
        trains: Whether autograd goes backward in it.
        begins: Index into `events` from which the call counts: what comes before gives back what was kept.
        now: Bytes that are there.
    """

    blocks: list[Block] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    places: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    ended: str = "returned"
    error: str = ""
    line: str = ""
    batch: int | None = None
    trains: bool = False
    begins: int = 0
    now: int = 0

    def begin(self) -> None:
        """Let the call begin here."""
        self.begins = len(self.events)

    def allocate(self, size: int, kind: Kind = "temporaries") -> int:
        """Add a block that the call makes.

        Args:
            size: Bytes.
            kind: What it is for, as far as that is known.

        Returns:
            Its number.
        """
        self.blocks.append(Block(size, kind))
        self.events.append(len(self.blocks) - 1)
        self.now += size
        return len(self.blocks) - 1

    def held(self, size: int, address: int, kind: Kind) -> int:
        """Add a block that was there before the call.

        Args:
            size: Bytes.
            address: On the device.
            kind: What it is for.

        Returns:
            Its number.
        """
        self.blocks.append(Block(size, kind, address))
        self.now += size
        return len(self.blocks) - 1

    def free(self, number: int) -> None:
        """Note that nothing refers to a block any more."""
        self.events.append(-number - 1)
        self.now -= self.blocks[number].size

    def place_at(self, index: int) -> str:
        """The module that was running at an event; "" outside of all."""
        found = ""
        for begin, path in self.places:
            if begin > index:
                break
            found = path
        return found
