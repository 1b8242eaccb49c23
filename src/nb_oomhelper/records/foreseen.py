"""A mistake that a cell's code shows before it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ForeseenKind = Literal["append", "add", "no_grad", "around", "retain_graph", "errors", "retry", "concat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A mistake that the text shows.

    Attributes:
        kind: Which.
        line: Its line in the cell, from 1.
        before: The code, as it is written.
        after: What to write in its place, or above it.
        cell: Number of the cell that defines the function in which it is; None for the cell itself.
        name: What the sentence is about beside the code: the name of a function, or of what collects.
    """

    kind: ForeseenKind
    line: int
    before: str
    after: str
    cell: int | None = None
    name: str = ""
