"""What a function gives for parts of a DataFrame: put together, and compared with what it gives for all of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from nb_oomhelper.errors import RowsError
from nb_oomhelper.remedies.joined_rows import is_same
from nb_oomhelper.remedies.totals import Way

_WAYS = ("as made", "numbered", "as the table", "by index")
_CLOSE, _CLOSE_32 = 1e-6, 1e-3  # of a number: sums over parts are rounded otherwise
_BESIDE = 1e-3  # the same of the largest, where numbers cancel each other out


def joined(made: Sequence[Any]) -> Any:
    """Put together rows that a function gave for one part after another.

    Args:
        made: What it gave.

    Raises:
        RowsError: It is nothing that can be put together, or of several kinds.
    """
    _check_kinds(made)
    if isinstance(made[0], tuple):
        whole = [joined(one) for one in zip(*made, strict=True)]
        return getattr(type(made[0]), "_make", type(made[0]))(whole)
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    if isinstance(made[0], (pandas.DataFrame, pandas.Series)):
        return made[0] if len(made) == 1 else pandas.concat(made)
    if isinstance(made[0], numpy.ndarray) and made[0].ndim:
        return numpy.concatenate(made)
    raise RowsError(f"it gives {type(made[0]).__name__}, of which parts cannot be joined")


def total(made: Sequence[Any], way: Way) -> Any:
    """Put together totals of one part after another: tables whose rows have names, or numbers.

    Args:
        made: The parts' totals.
        way: How.

    Raises:
        RowsError: It is nothing that can be put together, or of several kinds.
    """
    _check_kinds(made)
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    first = made[0]
    if len(made) == 1:
        return first
    if isinstance(first, (int, float, numpy.number, numpy.bool_)):
        whole = getattr(pandas.Series(made), way)()
        return type(first)(whole) if type(first) in (int, float) else whole
    if not isinstance(first, (pandas.DataFrame, pandas.Series)):
        raise RowsError(f"it gives {type(first).__name__}, of which there is no total")
    groups = pandas.concat(made).groupby(level=[*range(first.index.nlevels)], sort=False, dropna=False, observed=True)
    whole = getattr(groups, way)()
    if first.index.nlevels == 1 and whole.index.dtype != first.index.dtype == object:  # texts have a dtype of their own
        whole.index = whole.index.astype(object)
    return whole


def _check_kinds(made: Sequence[Any]) -> None:
    if len({type(one) for one in made}) > 1:
        raise RowsError("parts gave things of several kinds")


def arrangement_of(made: Any, whole: Any, table: Any, *, values: bool) -> Any:
    """Tell how rows from parts must be arranged to be the same as those that come out of the whole table.

    Args:
        made: What came out of parts of it.
        whole: What came out of it.
        table: The table.
        values: Compare what they say, too, and not only their form.

    Returns:
        For `arranged`; None where it cannot be.
    """
    if isinstance(whole, tuple):
        if not isinstance(made, tuple) or len(made) != len(whole):
            return None
        pairs = zip(made, whole, strict=True)
        ways = [arrangement_of(one, two, table, values=values) for one, two in pairs]
        return None if None in ways else ways
    for way in _WAYS if hasattr(whole, "index") else _WAYS[:1]:
        one = _in_order(made, table, way)
        if one is not None and _is_same(one, whole, values=values):
            return way, getattr(getattr(whole, "index", None), "is_unique", False)
    return None


def arranged(made: Any, table: Any, way: Any) -> Any:
    """Arrange rows from parts.

    Args:
        made: What came out of parts of a table.
        table: The table.
        way: As `arrangement_of` gave it.

    Raises:
        RowsError: Two parts have given a row of one name, where there is one of each.
    """
    if isinstance(way, list):
        whole = [arranged(one, table, own) for one, own in zip(made, way, strict=True)]
        return getattr(type(made), "_make", type(made))(whole)
    name, unique = way
    found = _in_order(made, table, name)
    if found is None or (unique and not found.index.is_unique):
        raise RowsError("several parts gave a row of the same name")
    return found


def _in_order(made: Any, table: Any, way: str) -> Any:
    """Rows in another order; None where they have none such."""
    if way == "numbered":
        return made.reset_index(drop=True)
    if way == "by index":
        return made.sort_index(kind="stable")
    if way == "as the table":
        if not table.index.is_unique or made.index.nlevels != table.index.nlevels:
            return None
        places = table.index.get_indexer(made.index)
        return None if (places < 0).any() else made.iloc[places.argsort(kind="stable")]
    return made


def _is_same(made: Any, whole: Any, *, values: bool) -> bool:
    """Whether two results are the same, but for how their numbers are rounded."""
    pandas = sys.modules["pandas"]
    if type(made) is not type(whole):
        return False
    if isinstance(whole, sys.modules["numpy"].ndarray):
        return is_same(made, whole, values=values)
    if not isinstance(whole, (pandas.DataFrame, pandas.Series)):
        made, whole = pandas.Series(made), pandas.Series(whole)
    if made.shape[1:] != whole.shape[1:] or (values and made.shape != whole.shape):
        return False
    table, other = (one if one.ndim == 2 else one.to_frame(one.name or 0) for one in (made, whole))
    if not values:
        return bool(table.columns.equals(other.columns) and (table.dtypes == other.dtypes).all())
    numbers = other.select_dtypes("number")
    narrow = any(one.itemsize < 8 and one.kind == "f" for one in numbers.dtypes if hasattr(one, "itemsize"))
    close = _CLOSE_32 if narrow else _CLOSE
    near = close * _BESIDE * float(numbers.abs().max(axis=None)) if numbers.size else 0.0
    try:
        pandas.testing.assert_frame_equal(table, other, rtol=close, atol=near, check_freq=False)
    except AssertionError:
        return False
    return True
