"""What a function gives for parts of a DataFrame: put together, and compared with what it gives for all of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from nb_oomhelper.errors import RowsError
from nb_oomhelper.remedies.joined_rows import is_same, tuple_like
from nb_oomhelper.remedies.probing import DEPEND
from nb_oomhelper.remedies.totals import Way

_WAYS = ("as made", "numbered", "as the table", "by index")
_CLOSE, _CLOSE_32 = 1e-6, 1e-3  # of a number: sums over parts are rounded otherwise
_OF_FLAGS = {"max": "any", "min": "all"}
_BESIDE = 1e-3  # the same of the largest, where numbers cancel each other out


def joined(made: Sequence[Any]) -> Any:
    """Put together rows that a function gave for one part after another.

    Args:
        made: What it gave.

    Raises:
        RowsError: It is nothing that can be put together, or of several kinds.
    """
    if all(hasattr(one, "index") for one in made):
        made = [one for one in made if len(one)] or made[:1]  # what is empty may be of another kind
    _check_kinds(made)
    if isinstance(made[0], tuple):
        return tuple_like(made[0], [joined(one) for one in zip(*made, strict=True)])
    if is_of_pandas(made[0]):
        return made[0] if len(made) == 1 else _one_behind_the_other(made)
    if isinstance(made[0], sys.modules["numpy"].ndarray) and made[0].ndim:
        return sys.modules["numpy"].concatenate(made)
    raise RowsError(f"it gives {type(made[0]).__name__}, of which parts cannot be joined")


def _one_behind_the_other(made: Sequence[Any]) -> Any:
    """Put tables or columns together, where what all rows together are of can be told from what parts are of."""
    whole = sys.modules["pandas"].concat(made)
    tables = [one if one.ndim == 2 else one.to_frame() for one in (whole, *made)]
    if any(not one.columns.equals(tables[0].columns) for one in tables):
        raise RowsError("parts gave tables of other columns")
    for dtype, *own in zip(*(one.dtypes for one in tables), strict=True):
        if dtype not in own and getattr(dtype, "kind", "O") not in "iuf":
            raise RowsError("parts gave values of several kinds")
    return whole


def total(made: Sequence[Any], way: Way) -> Any:
    """Put together totals of one part after another: tables whose rows have names, or numbers.

    Args:
        made: The parts' totals.
        way: How.

    Raises:
        RowsError: It is nothing that can be put together, or of several kinds.
    """
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    if way != "sum" and not any(hasattr(one, "ndim") and one.ndim for one in made):
        made = [one for one in made if not pandas.isna(one)] or made[:1]  # a part of no rows has none
    if not all(isinstance(one, numpy.number) for one in made):  # whole numbers may be others in a later part
        _check_kinds(made)
    first: Any = made[0]
    if len(made) == 1:
        return first
    ordered: tuple[Any, ...] = (str, pandas.Timestamp, pandas.Timedelta) if way != "sum" else ()
    if isinstance(first, (int, float, numpy.number, numpy.bool_, *ordered)):
        whole = numpy.asarray(made).sum() if way == "sum" else getattr(pandas.Series(made), way)()
        return float(whole) if type(first) is float else int(whole) if type(first) is int else whole
    if not is_of_pandas(first):
        raise RowsError(f"it gives {type(first).__name__}, of which there is no total")
    rows = pandas.concat(made)
    groups = rows.groupby(level=[*range(first.index.nlevels)], sort=False, dropna=False, observed=True)
    kinds = {*(rows.dtypes if rows.ndim == 2 else [rows.dtype])}
    of_flags = way != "sum" and kinds == {numpy.dtype(bool)}  # whose largest pandas finds in eight times the room
    whole = getattr(groups, _OF_FLAGS[way] if of_flags else way)()
    if first.index.nlevels == 1 and whole.index.dtype != first.index.dtype == object:  # texts have a dtype of their own
        whole.index = whole.index.astype(object)
    return whole


def _check_kinds(made: Sequence[Any]) -> None:
    if len({type(one) for one in made}) > 1:
        raise RowsError("parts gave things of several kinds")


def arrangement_of(made: Any, whole: Any, table: Any, *, values: bool, fixed: bool) -> Any:
    """Tell how rows from parts must be arranged to be the same as those that come out of the whole table.

    Args:
        made: What came out of parts of it.
        whole: What came out of it.
        table: The table.
        values: Compare what they say, too, and not only their form.
        fixed: What came out of parts has its order.

    Returns:
        For `arranged`: all ways that do; None where there is none.
    """
    if isinstance(whole, tuple):
        if not isinstance(made, tuple) or len(made) != len(whole):
            return None
        pairs = zip(made, whole, strict=True)
        ways = [arrangement_of(one, two, table, values=values, fixed=fixed) for one, two in pairs]
        return None if None in ways else ways
    free = not fixed and is_of_pandas(whole) and isinstance(made, type(whole))
    found = tuple(
        way for way in (_WAYS if free else _WAYS[:1]) if _is_same(_in_order(made, table, way), whole, values=values)
    )
    return (found, getattr(getattr(whole, "index", None), "is_unique", False)) if found else None


def is_otherwise_known(way: Any) -> bool:
    """Tell whether it is not only that rows lie as they came out of the parts.

    Args:
        way: As `arrangement_of` gave it.
    """
    if isinstance(way, list):
        return all(map(is_otherwise_known, way))
    return bool({*way[0]} - {"as made", "numbered"})


def arranged(made: Any, table: Any, way: Any) -> Any:
    """Arrange rows from parts.

    Args:
        made: What came out of parts of a table.
        table: The table.
        way: As `arrangement_of` gave it.

    Raises:
        RowsError: Two parts have given a row of one name, where there is one of each; or rows could be arranged in
            several ways, of which others come out.
    """
    if isinstance(way, list):
        return tuple_like(made, [arranged(one, table, own) for one, own in zip(made, way, strict=True)])
    names, unique = way
    if not is_of_pandas(made):
        return made
    if unique and "numbered" not in names and not _has_its_own_names(made.index, table.index):
        raise RowsError("several parts gave a row of the same name")
    orders = [_order(made.index, table, one) for one in names]
    if any(one is None or not one.equals(orders[0]) for one in orders):
        raise RowsError(DEPEND)
    if len(names) > 1 and "numbered" in names and not made.index.equals(_order(made.index, table, "numbered")):
        raise RowsError(DEPEND)
    return _in_order(made, table, names[0])


def _has_its_own_names(index: Any, table: Any) -> bool:
    """Whether no two rows are named alike, but such as are in the table, too."""
    twice = index[index.duplicated()]
    return not len(twice) or (index.nlevels == table.nlevels and twice.isin(table[table.duplicated()]).all())


def is_of_pandas(thing: Any) -> bool:
    """Tell whether something is a table or a column of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(thing, (pandas.DataFrame, pandas.Series))


def _order(index: Any, table: Any, way: str) -> Any:
    """The names of the rows in another order; None where there is none such."""
    if way == "numbered":
        return sys.modules["pandas"].RangeIndex(len(index))
    places = _places(index, table, way)
    return index if places is _SAME else None if places is None else index[places]


def _in_order(made: Any, table: Any, way: str) -> Any:
    """Rows in another order; None where they have none such."""
    if way == "numbered":
        return made.reset_index(drop=True)
    places = _places(getattr(made, "index", None), table, way)
    return made if places is _SAME else None if places is None else made.iloc[places]


_SAME = slice(None)


def _places(index: Any, table: Any, way: str) -> Any:
    """Where in a part the rows lie that come first, second and so on; None where that cannot be told."""
    if way == "by index":
        if not table.index.is_unique and index.nlevels == table.index.nlevels and index.isin(table.index).all():
            return None  # it may be the table's, whose rows lie otherwise
        if index.is_monotonic_increasing:  # to sort it would take as much as a column
            return _SAME
        numbers = sys.modules["pandas"].Series(sys.modules["numpy"].arange(len(index)), index=index)
        try:
            return numbers.sort_index(kind="stable").to_numpy()
        except TypeError:  # names of several kinds have no order
            return None
    if way == "as the table":
        if not table.index.is_unique or index.nlevels != table.index.nlevels:
            return None
        if index.equals(table.index):
            return _SAME
        places = table.index.get_indexer(index)
        return None if (places < 0).any() else places.argsort(kind="stable")
    return _SAME


def _is_same(made: Any, whole: Any, *, values: bool) -> bool:
    """Whether two results are the same, but for how their numbers are rounded."""
    if type(made) is not type(whole) and not (isinstance(made, float) and isinstance(whole, float)):
        return False
    if isinstance(whole, sys.modules["numpy"].ndarray):
        return is_same(made, whole, values=values)
    if not is_of_pandas(whole):
        made, whole = map(sys.modules["pandas"].Series, (made, whole))
    if made.shape != whole.shape:
        return False
    table, other = (one if one.ndim == 2 else one.to_frame(one.name or 0) for one in (made, whole))
    if not table.columns.identical(other.columns) or not (table.dtypes == other.dtypes).all():
        return False
    if not table.index.identical(other.index):
        return False
    pairs = ((table.iloc[:, at], other.iloc[:, at]) for at in range(table.shape[1] if values else 0))
    return all(_is_same_column(one, two) for one, two in pairs)


def is_same_but_for_kinds(made: Any, other: Any) -> bool:
    """Tell whether two results say the same, where whole numbers in the one may be others in the other: 1 and 1.0.

    Args:
        made: The one.
        other: The other.
    """
    if isinstance(made, tuple) or isinstance(other, tuple):
        fit = type(made) is type(other) and len(made) == len(other)
        return fit and all(map(is_same_but_for_kinds, made, other))
    frame = sys.modules["pandas"].DataFrame
    try:
        tables = [frame(one if hasattr(one, "ndim") and one.ndim else [one]) for one in (made, other)]
        sys.modules["pandas"].testing.assert_frame_equal(
            *tables, check_dtype=False, check_index_type=False, check_column_type=False, check_freq=False, rtol=_CLOSE
        )
    except (AssertionError, ValueError):
        return False
    return True


def _is_same_column(made: Any, whole: Any) -> bool:
    """The same of one column; of whole numbers, texts and times all must be the same."""
    kind, close, near = getattr(whole.dtype, "kind", "O"), 0.0, 0.0
    if kind in "fc":
        close = _CLOSE_32 if whole.dtype.itemsize < 8 else _CLOSE
        sizes = whole.abs().astype("float64")
        largest = sizes[sizes < float("inf")].max()
        near = close * _BESIDE * float(largest) if largest > 0 else 0.0
    elif kind == "O":  # there may be numbers in it
        close = _CLOSE
    try:
        sys.modules["pandas"].testing.assert_series_equal(made, whole, rtol=close, atol=near, check_freq=False)
    except AssertionError:
        return False
    return True
