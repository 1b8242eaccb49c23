"""The tables that a cell's names stand for: how many rows they have, and whether numbers are missing in them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from nb_oomhelper.remedies.arrays import form_of, is_array, is_tensor
from nb_oomhelper.remedies.written import Table

_NUMBERS, _MOST = "fiu", 1 << 28  # kinds of numbers; so many are looked through in a second
_WIDEST = 2000  # columns: the same


def find_rows(names: Mapping[str, object]) -> dict[str, tuple[int, bool]]:
    """Find how many rows there are of what can be cut into parts, and whether it is one text.

    Args:
        names: Names and their objects.

    Returns:
        By name; of lists, texts, arrays, tensors and pandas' frames.
    """
    pandas = sys.modules.get("pandas")
    frames = tuple(getattr(pandas, name, None) for name in ("DataFrame", "Series")) if pandas is not None else ()
    found = {}
    for name, thing in names.items():
        kind = type(thing)
        if kind is list or kind is str or kind is bytes or any(kind is one for one in frames):
            found[name] = (len(thing), kind is str or kind is bytes)  # type: ignore[arg-type]
        elif (is_tensor(thing) or is_array(thing)) and (shape := form_of(thing)["shape"]):
            found[name] = (shape[0], False)
    return found


def find_frames(names: Mapping[str, object]) -> dict[str, Table]:
    """Find pandas' tables, of which a name in brackets is a column and no row.

    Args:
        names: Names and their objects.
    """
    frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return {name: _table(thing) for name, thing in names.items() if type(thing) is frame}


def _table(frame: Any) -> Table:
    return Table(
        rows=len(frame), columns=frozenset(one for one in frame.columns if type(one) is str), width=frame.shape[1]
    )


def find_complete(names: Mapping[str, object], source: str) -> frozenset[str]:
    """Find arrays and DataFrames of numbers in which none is missing, where a source fits something to a table.

    Args:
        names: Names and their objects.
        source: The source.
    """
    if "fit_transform" not in source:
        return frozenset()
    frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    found = set[str]()
    for name, thing in names.items():
        columns = _columns(thing) if type(thing) is frame else [thing] if is_array(thing) else []
        if columns and all(map(_is_complete, columns)):
            found.add(name)
    return frozenset(found)


def _columns(frame: Any) -> list[Any]:
    few = frame.shape[1] <= _WIDEST and frame.shape[0] * frame.shape[1] <= _MOST
    plain = few and all(getattr(one, "kind", "O") in _NUMBERS for one in frame.dtypes)
    return [frame.iloc[:, at].to_numpy() for at in range(frame.shape[1])] if plain else []


def _is_complete(array: Any) -> bool:
    if array.dtype.kind not in _NUMBERS or not 0 < array.size <= _MOST:
        return False
    least = array.min()  # takes no memory, and is NaN where one is
    return bool(least == least)
