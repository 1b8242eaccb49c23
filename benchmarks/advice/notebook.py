"""One notebook: its cells, how much room it has, and what a good answer is.

A notebook is a TOML file with these keys; cells are strings of code, as people write them:

    title     one line
    kind      what sort of situation it is: one of `KINDS`
    cells     what runs before the failing cell, in order
    earlier   what the failing cell looked like when it was run before, and failed: in order; none if it is not given
    fail      the failing cell
    twice     true where the failing cell is the last of `cells`, run once more
    room      MiB of host memory that are left before the failing cell; not given where it needs a device
    device    MiB that the played CUDA device has; not given where a device plays no part
    good      what a good answer is, in words
    answer    the same as a cell: run in the failing cell's place it runs to its end, with 100 MiB to spare
    cure      false where nothing can make this cell run in this room: there is no answer then
    says      where there is no cure: what the panel's first line says then, a regular expression
    done      an expression that is true once the failing cell has run to its end, as it was or as it was changed
    survives  expressions that must be true before and after, by the name of the user's object
    half      texts in the cells, each with what stands there for half the batch
    needs     packages that are imported before memory is limited

A played device's capacity holds for the whole notebook; the room on the host is measured before the failing cell.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
FOLDER = Path(__file__).parent / "notebooks"
KINDS = ("training", "inference", "loading", "kept", "data", "workers")

_REQUIRED = {"title", "kind", "cells", "fail", "good"}
_TYPES: Mapping[str, type] = {
    "title": str,
    "kind": str,
    "cells": list,
    "earlier": list,
    "fail": str,
    "twice": bool,
    "room": int,
    "device": int,
    "good": str,
    "answer": str,
    "cure": bool,
    "says": str,
    "done": str,
    "survives": dict,
    "half": dict,
    "needs": list,
}


class NotebookError(Exception):
    """A notebook's file is not well formed, or its cells did not do what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """One notebook; the module's docstring says what its keys mean. Here sizes are bytes."""

    name: str
    title: str
    kind: str
    cells: tuple[str, ...]
    fail: str
    good: str
    answer: str = ""
    room: int | None = None
    earlier: tuple[str, ...] = ()
    twice: bool = False
    device: int | None = None
    cure: bool = True
    says: str = ""
    done: str = "True"
    survives: Mapping[str, str] = field(default_factory=dict)
    half: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def whole(self) -> tuple[str, ...]:
        """The cells of the notebook from its top, each once."""
        return self.cells if self.twice else (*self.cells, self.fail)

    @property
    def halved(self) -> tuple[str, ...]:
        """The cells to run for half the batch: from the first that is changed to the failing one."""
        changed = [self._halve(cell) for cell in (*self.cells, self.fail)]
        first = next(
            at for at, (old, new) in enumerate(zip((*self.cells, self.fail), changed, strict=True)) if old != new
        )
        return tuple(changed[first:])

    def _halve(self, cell: str) -> str:
        for old, new in self.half.items():
            cell = cell.replace(old, new)
        return cell


def load(path: Path) -> Notebook:
    """Read one file.

    Raises:
        NotebookError: A key is missing, unknown or of the wrong kind, or two keys contradict each other.
    """
    try:
        keys: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise NotebookError(f"{path.name}: {error}") from error
    if missing := _REQUIRED - keys.keys():
        raise NotebookError(f"{path.name} has no {', '.join(sorted(missing))}")
    for key, value in keys.items():
        if key not in _TYPES or type(value) is not _TYPES[key]:
            raise NotebookError(f"{path.name}: the key {key} is unknown or of the wrong kind")
    for key in ("cells", "earlier", "needs"):
        keys[key] = tuple(keys.get(key, ()))
    for key in {"room", "device"} & keys.keys():
        keys[key] *= MIB
    one = Notebook(name=path.stem, **keys)
    if problem := _contradiction(one):
        raise NotebookError(f"{path.name}: {problem}")
    return one


def _contradiction(one: Notebook) -> str:
    if one.kind not in KINDS:
        return f"there is no kind {one.kind}"
    if one.room is None and one.device is None:
        return "neither room nor device is given"
    if one.cure == bool(one.says) or one.cure != bool(one.answer):
        return "with a cure there is an answer, without one what the panel says"
    if one.twice and one.cells[-1] != one.fail:
        return "the failing cell is not the last of cells"
    if any(all(old not in cell for cell in (*one.cells, one.fail)) for old in one.half):
        return "no cell has what half replaces"
    return ""


def load_all(folder: Path = FOLDER) -> dict[str, Notebook]:
    """Every notebook in a folder by its name."""
    return {path.stem: load(path) for path in sorted(folder.glob("*.toml"))}
