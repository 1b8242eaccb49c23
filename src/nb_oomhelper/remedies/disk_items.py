"""What may lie on disk: values, of which a copy is as good as they are."""

from __future__ import annotations

import datetime
import decimal
import itertools
import sys
from collections import Counter, OrderedDict
from sys import getsizeof
from typing import Any

from nb_oomhelper.remedies.arrays import is_array, is_tensor

_ATOMS = frozenset({int, float, complex, bool, type(None), str, bytes, decimal.Decimal})
_ATOMS |= {datetime.datetime, datetime.date, datetime.time, datetime.timedelta}
_LISTS = frozenset({list, tuple, set, frozenset})
_DICTS = frozenset({dict, Counter, OrderedDict})
_COLUMNS, _OF_PANDAS = ("DataFrame", "Series", "Index"), ("Timestamp", "Timedelta")
_DEEP = 6  # containers within each other
_LOOKED_AT = 20  # items of a container, of each of which as many are looked at
_FORM = 128  # bytes that an array takes beside its numbers


def as_value(item: Any, deep: int = _DEEP) -> tuple[Any, int] | None:
    """Copy a number, a text, an array, a table, or a container of such, so that nobody else changes the copy.

    Args:
        item: Anything.
        deep: How many containers there may be within each other.

    Returns:
        The copy, of which arrays cannot be written to, and its bytes; None of anything else.
    """
    kind = type(item)
    if kind in _ATOMS:
        return item, getsizeof(item)
    if kind in _LISTS:
        if _ATOMS.issuperset(map(type, item)):
            return kind(item), getsizeof(item) + sum(map(getsizeof, item))
        return _joined(kind, item, [as_value(one, deep - 1) if deep else None for one in item])
    if kind in _DICTS:
        found = [as_value(one, deep - 1) if deep else None for one in item.values()]
        known = as_value(tuple(item)) and _joined(list, item, found)
        return None if not known else (kind(dict(zip(item, known[0], strict=True))), known[1])
    if not is_value(item):
        return None
    if is_array(item):
        return _fixed(item), int(item.nbytes) + _FORM
    if is_tensor(item):
        return item.clone(), int(item.numel() * item.element_size()) + _FORM
    return item.copy() if _is_of(item, "pandas", _COLUMNS) else item, getsizeof(item)


def is_value(item: Any, deep: int = _DEEP) -> bool:
    """Tell whether something can be copied so, as far as its first items tell.

    Args:
        item: Anything.
        deep: How many containers there may be within each other.
    """
    kind = type(item)
    if kind in _LISTS or kind in _DICTS:
        some = itertools.islice(item.values() if kind in _DICTS else item, _LOOKED_AT)
        return deep > 0 and all(is_value(one, deep - 1) for one in some)
    if kind in _ATOMS:
        return True
    if is_array(item):
        return not item.dtype.hasobject
    if is_tensor(item):
        return not item.requires_grad and item.device.type == "cpu"
    return _is_of(item, "numpy", ("generic",)) or _is_of(item, "pandas", (*_OF_PANDAS, *_COLUMNS))


def _fixed(item: Any) -> Any:
    made = item.copy(order="K")  # of a view its own part alone
    made.flags.writeable = False
    return made


def _joined(kind: Any, item: Any, found: list[tuple[Any, int] | None]) -> tuple[Any, int] | None:
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    return kind(one for one, _ in known), getsizeof(item) + sum(size for _, size in known)


def _is_of(item: object, module: str, names: tuple[str, ...]) -> bool:
    """Whether something is of one of a module's own classes, where that is loaded."""
    kinds = tuple(getattr(sys.modules.get(module), name, type(None)) for name in names)
    return issubclass(type(item), kinds) and type(item).__module__.partition(".")[0] == module
