"""An out-of-memory error that a text tells of: a pasted traceback, a log, a saved notebook."""

from __future__ import annotations

from dataclasses import dataclass

from nb_oomhelper.records.event import OomEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place in a text.

    Attributes:
        line: From 1: of the text; of a notebook, of the cell's output.
        cell: Place of the notebook's cell, from 1; None in a text that is no notebook.
        count: The number in the cell's brackets, In [n]; None where the cell has none.
    """

    line: int
    cell: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One error in a text.

    Attributes:
        event: What failed, as its message and its traceback tell it.
        spot: Where the message stands, the first time.
        file: The file of the user's code that was running, as the traceback prints it; None where it tells none.
        times: How often the same error comes in the text.
    """

    event: OomEvent
    spot: Spot
    file: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a text says about memory that ran out.

    Attributes:
        found: Each error once, in the text's order.
        more: How many further ones there are.
        lines: Lines of the text; of a notebook, of the outputs that were read.
        skipped: Bytes that were not read, at the text's beginning.
        others: Errors of other kinds, by class, with the place of each kind's last one; where nothing was found.
        sizes: Sizes that the text names, as they stand there, with the place of each; where nothing was found.
    """

    found: tuple[Told, ...] = ()
    more: int = 0
    lines: int = 0
    skipped: int = 0
    others: tuple[tuple[str, Spot], ...] = ()
    sizes: tuple[tuple[str, Spot], ...] = ()
