"""Totals over the parts of a table: what `.agg()` of all rows, or groups of them, would give."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nb_oomhelper.errors import RowsError, UsageError

Agg = str | Sequence[str] | Mapping[str, Any]
"""What `.agg()` is given: `"mean"`, `["count", "mean"]`, `{"price": "sum"}`, or `{"total": ("price", "sum")}`."""

Way = Literal["sum", "max", "min"]
_PARTS: Mapping[str, tuple[tuple[str, Way], ...]] = {  # what is computed of each part, and how it is put together
    "sum": (("sum", "sum"),),
    "count": (("count", "sum"),),
    "size": (("size", "sum"),),
    "max": (("max", "max"),),
    "min": (("min", "min"),),
    "any": (("any", "max"),),
    "all": (("all", "min"),),
    "mean": (("sum", "sum"), ("count", "sum")),
    "value_counts": (("value_counts", "sum"),),
}


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the result: its name there, what it is of, and what is computed."""

    key: Any
    source: str | None
    function: str


class Totals:
    """Computes the parts' share of some totals, and the totals of these."""

    def __init__(self, agg: Agg) -> None:
        """Read what is wanted.

        Args:
            agg: As `.agg()` is given it.

        Raises:
            UsageError: It is none of the forms above, or wants what cannot be had from parts.
        """
        self._agg = agg
        self._columns = _columns(agg)
        if not self._columns or any(one.function not in _PARTS for one in self._columns):
            raise UsageError(f"in_parts: `agg` is made of {', '.join(_PARTS)}")
        self.counts_values = agg == "value_counts"  # those that are as many lie as they were met
        self.ways = [way for one in self._columns for _, way in _PARTS[one.function]]

    def of_part(self, given: Any) -> tuple[Any, ...]:
        """Give a part's share: what there is of each of `ways`.

        Args:
            given: What the function gave for it: groups, a table, or a column.
        """
        self._check_groups(given)
        given = _column_of(given)
        found = []
        for one in self._columns:
            values = given if one.source is None else given[one.source]
            for name, _ in _PARTS[one.function]:
                found.append(_share(values, name, of_mean=one.function == "mean"))
        return tuple(self._checked(given, one) for one in found)

    def _check_groups(self, given: Any) -> None:
        """See that groups have names by which those of another part are found again."""
        keys = getattr(given, "keys", None)
        keys = () if callable(keys) else keys if isinstance(keys, list) else (keys,)
        if getattr(given, "as_index", True) is False or any(isinstance(one, _pandas().Grouper) for one in keys):
            raise RowsError("groups that are numbered, or spans of time, are not the same in each part")

    def _checked(self, given: Any, share: Any) -> Any:
        """See that there are no groups of no rows, of which parts have another idea than the whole."""
        index = getattr(share, "index", None)
        if index is None or getattr(given, "observed", True) is not False:
            return share
        levels = index.levels if index.nlevels > 1 else [index]
        empty = any(isinstance(one.dtype, _pandas().CategoricalDtype) for one in levels)
        if empty and any(one.function in ("max", "min", "any", "all") for one in self._columns):
            raise RowsError("of categories that a part has no row of there is no maximum")
        return share

    def of_all(self, given: Any) -> Any:
        """Give what is wanted, of rows that are all there.

        Args:
            given: What the function gave for them.
        """
        if isinstance(self._agg, str):
            return getattr(given, self._agg)()
        named = isinstance(self._agg, Mapping) and any(isinstance(one, tuple) for one in self._agg.values())
        return given.agg(**self._agg) if named else given.agg(self._agg)  # type: ignore[arg-type]

    def made_of(self, totals: Sequence[Any]) -> Any:
        """Give what is wanted.

        Args:
            totals: Of all parts, of each of `ways`.
        """
        left = iter(totals)
        found = [_finished(one.function, [next(left) for _ in _PARTS[one.function]]) for one in self._columns]
        if isinstance(self._agg, str):
            return found[0]
        return _pandas().concat(found, axis=1, keys=[one.key for one in self._columns])


def _pandas() -> Any:
    return sys.modules["pandas"]


def _column_of(given: Any) -> Any:
    """An array's values as a column: arrays count what is missing, where pandas leaves it out."""
    if not isinstance(given, sys.modules["numpy"].ndarray):
        return given
    column = _pandas().Series(given.ravel())
    if column.isna().any():
        raise RowsError("an array with missing values has no total")
    return column


def _share(values: Any, name: str, *, of_mean: bool) -> Any:
    if name == "value_counts":
        return values.value_counts(sort=False)
    share = getattr(values, name)()
    if not of_mean or name != "sum":
        return share
    if getattr(share, "ndim", 0) == 1 and getattr(values, "ndim", 0) == 2:
        whole = any(one.kind in "iu" for one in values.dtypes)  # among others they are added up first
        return values.mean() * values.count() if whole else share
    if getattr(share, "ndim", 0) == 2:
        large = [at for at, one in share.dtypes.items() if one.kind in "iu"]
        exact = values.mean() * values.count() if large else share
        return share.assign(**{at: exact[at] for at in large})
    if getattr(getattr(share, "dtype", None), "kind", None) in ("i", "u"):
        return values.mean() * values.count()  # sums of whole numbers may be too large for one
    return share


def _columns(agg: Agg) -> list[_Column]:
    if isinstance(agg, str):
        return [_Column("", None, agg)]
    if not isinstance(agg, Mapping):
        return [_Column(one, None, one) for one in agg]
    found = []
    several = any(isinstance(one, list) for one in agg.values())
    for name, value in agg.items():
        if isinstance(value, tuple) and len(value) == 2:
            found.append(_Column(name, *value))
        else:
            functions = value if isinstance(value, list) else [value]
            found += [_Column((name, one) if several else name, name, one) for one in functions]
    return found


def _finished(function: str, totals: list[Any]) -> Any:
    if function == "value_counts":
        return totals[0].sort_values(ascending=False, kind="stable")
    if function != "mean":
        return totals[0]
    total, count = totals
    with sys.modules["numpy"].errstate(invalid="ignore"):  # of no rows there is none
        mean = total / count
    if hasattr(mean, "columns"):
        return mean.astype({name: dtype for name, dtype in total.dtypes.items() if _is_narrow(dtype)})
    return mean.astype(total.dtype) if hasattr(total, "dtype") and _is_narrow(total.dtype) else mean


def _is_narrow(dtype: Any) -> bool:
    return bool(dtype.kind == "f" and dtype.itemsize < 8)
