"""One way to run out of memory: what the cells are, what can be freed after them, and what must stay.

A scenario is a TOML file with these keys; cells are strings of code, as a user would type them:

    title       one line
    set_up      a cell; `torch`, `DEVICE` and `take(mib)` (a tensor of so many MiB) are there already
    fail        the cells that lead to the error, in their order; "click NAME" presses a button instead
    twin        the failed cell, smaller: it runs only once the memory is back
    freeable    MiB that the failure leaves behind and that can be freed
    kept        MiB that the cells leave to the user's own objects; 0 if it is not given
    survives    expressions that must be true afterwards, by the name of the user's object
    ours        the arguments of release() that count as the one click; none if it is not given
    deletes     the user's variables that are to go: every method but "nothing" deletes them
    deep        true where only release(deep=True) can free all
    expect      what the failure says, a regular expression; by default an out-of-memory error
    needs       packages, beside torch
    host_only   true where a device plays no part

The small card has room for `ROOM` bytes beyond what the set-up took.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
ROOM = 640 * MIB
FOLDER = Path(__file__).parent / "scenarios"

_OUT_OF_MEMORY = "can't allocate memory|Unable to allocate|out of memory|OutOfMemoryError|per_process_memory_fraction"
_MINE = {"mine": "mine.numel() == 16 << 20 and int(mine[-1]) == 1"}  # every kernel has it, see inside.PRELUDE
_REQUIRED = {"title", "set_up", "fail", "twin", "freeable"}
_KINDS: Mapping[str, type] = {
    "title": str,
    "set_up": str,
    "fail": list,
    "twin": str,
    "freeable": int,
    "kept": int,
    "survives": dict,
    "ours": str,
    "deletes": list,
    "deep": bool,
    "expect": str,
    "needs": list,
    "host_only": bool,
}


class ScenarioError(Exception):
    """A scenario's file is not well formed, or its cells did not do what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario; the module's docstring says what its keys mean. Here sizes are bytes."""

    name: str
    title: str
    set_up: str
    fail: tuple[str, ...]
    twin: str
    freeable: int
    kept: int = 0
    survives: Mapping[str, str] = field(default_factory=dict)
    ours: str = ""
    deletes: tuple[str, ...] = ()
    deep: bool = False
    expect: str = _OUT_OF_MEMORY
    needs: tuple[str, ...] = ()
    host_only: bool = False


def load(path: Path) -> Scenario:
    """Read one file.

    Raises:
        ScenarioError: A key is missing, unknown or of the wrong kind; or what can be freed does not fit the card.
    """
    try:
        keys: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path.name}: {error}") from error
    if missing := _REQUIRED - keys.keys():
        raise ScenarioError(f"{path.name} has no {', '.join(sorted(missing))}")
    for key, value in keys.items():
        if key not in _KINDS or type(value) is not _KINDS[key]:
            raise ScenarioError(f"{path.name}: the key {key} is unknown or of the wrong kind")
    freeable, kept = keys.pop("freeable") * MIB, keys.pop("kept", 0) * MIB
    if not 0 < freeable <= ROOM - kept:
        raise ScenarioError(f"{path.name}: so much does not fit the small card")
    for key in ("fail", "deletes", "needs"):
        keys[key] = tuple(keys.get(key, ()))
    keys["survives"] = _MINE | keys.get("survives", {})
    return Scenario(name=path.stem, freeable=freeable, kept=kept, **keys)


def load_all() -> dict[str, Scenario]:
    """Every scenario by its name."""
    return {path.stem: load(path) for path in sorted(FOLDER.glob("*.toml"))}
