"""Items on disk, read when they are asked for: `nb_oomhelper.ListOnDisk`, `nb_oomhelper.DictOnDisk`."""

from __future__ import annotations

import bisect
import math
import pickle
import sys
import warnings
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from nb_oomhelper.remedies.arrays import is_array
from nb_oomhelper.remedies.demanded import Demanded
from nb_oomhelper.remedies.disk_file import DiskFile
from nb_oomhelper.remedies.disk_frames import concatenated, framed
from nb_oomhelper.remedies.disk_items import as_value
from nb_oomhelper.remedies.joining import joined
from nb_oomhelper.remedies.on_demand import OnDemand, on_demand

_LARGE = 64 << 10  # bytes of an array that is written as it lies
_PART = 1 << 20  # bytes of items that are written, and read, at a time
_LINK = 8  # bytes of a place in a list
_FEW = 32 << 20  # bytes of a slice up to which it is a list


class ListOnDisk(Sequence[Any]):
    """A list that gets longer, of which the items lie in a temporary file.

    An item is written as it is when it is put in; each time that it is read it is a new object, and what is changed in
    that is not kept. Arrays that are read cannot be written to. What is no number, text, array, table or container of
    these stays in memory, with a warning. Long slices are lists on disk, too, and cannot get longer.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, items: Iterable[Any] = ()) -> None:
        """Put items in.

        Args:
            items: They, made one by one: a generator.

        Raises:
            UsageError: There is no folder on a disk that can be written to.
        """
        self._parts = _Parts()
        self._which: range | None = None
        self.extend(items)

    def _view(self, which: range) -> ListOnDisk:
        made = object.__new__(ListOnDisk)
        made._parts, made._which = self._parts, which
        return made

    def append(self, item: Any) -> None:
        """Put an item at the end."""
        if self._which is not None:
            raise TypeError("this is a slice of a list on disk, which cannot get longer")
        self._parts.append(item)

    def extend(self, items: Iterable[Any]) -> None:
        """Put items at the end."""
        for item in items:
            self.append(item)

    def __iadd__(self, items: Iterable[Any]) -> ListOnDisk:
        self.extend(items)
        return self

    def __len__(self) -> int:
        return len(self._parts) if self._which is None else len(self._which)

    def __iter__(self) -> Iterator[Any]:
        if self._which is None:
            yield from self._parts
        else:
            yield from map(self._parts.at, self._which)

    def __getitem__(self, key: Any) -> Any:
        all_items = range(len(self._parts)) if self._which is None else self._which
        found = all_items[key]
        if not isinstance(found, range):
            return self._parts.at(found)
        few = self._parts.nbytes * len(found) <= _FEW * max(1, len(self._parts))
        return [self._parts.at(one) for one in found] if few else self._view(found)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, ListOnDisk)):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"<list of {len(self)} on disk>"

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return list, (list(self),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """What `numpy.array` makes of the list, without the list."""
        numpy = sys.modules["numpy"]
        if copy is False:
            raise ValueError("an array of a list on disk is always a new one")
        if len(self) and is_array(self[0]):
            return joined(numpy.array, iter(self), len(self), **({} if dtype is None else {"dtype": dtype}))
        some = [] if dtype is object else [numpy.array(one, dtype=dtype) for one in self.blocks()]
        if len({one.shape[1:] for one in some}) != 1:  # lists of several lengths
            return numpy.array(list(self), dtype=dtype)
        return numpy.concatenate(some)

    def array(self, make: Callable[[list[Any]], Any]) -> Any:
        """Give what a function of NumPy's makes of the items, as an array whose rows are read when they are asked for.

        Args:
            make: `numpy.array` or `numpy.stack`: a row for each item.

        Raises:
            RowsError: It does not make a row of each.
        """
        form, count = self._parts.form, len(self)
        if form is None:
            return on_demand(lambda rows: make([self[int(one)] for one in rows]), count)
        row = math.prod(form[0]) * int(form[1].itemsize)
        if row * count < _FEW:
            return make(list(self))

        def rows(which: Any) -> Any:
            numbers = range(*which.indices(count)) if isinstance(which, slice) else which
            made = sys.modules["numpy"].empty((len(numbers), *form[0]), form[1])
            for at, number in enumerate(numbers):
                made[at] = self[int(number)]
            return made

        return OnDemand(Demanded(make=rows, shape=(count, *form[0]), dtype=form[1], few=row * count // 8, wide=row))

    def blocks(self) -> Iterator[list[Any]]:
        """Give the items, in lists of some at a time."""
        if self._which is None:
            yield from self._parts.blocks()
        else:
            yield from ([one] for one in self)

    def frame(self, **options: Any) -> Any:
        """Give the `pandas.DataFrame` of the items, dicts or tuples, without all of these at once.

        Args:
            options: More arguments of `pandas.DataFrame`, but no `index`.
        """
        return framed(self.blocks, options)

    def concat(self, **options: Any) -> Any:
        """Give what `pandas.concat` makes of the items, without all of these at once where they have the same columns.

        Args:
            options: More arguments of `pandas.concat`.
        """
        return concatenated(self.blocks, options)


class DictOnDisk(MutableMapping[Hashable, Any]):
    """A dict of which the values lie in a temporary file, as the items of `ListOnDisk`."""

    def __init__(self, items: Mapping[Hashable, Any] | Iterable[tuple[Hashable, Any]] = ()) -> None:
        """Put items in.

        Args:
            items: Keys and values, made one by one: a generator.

        Raises:
            UsageError: There is no folder on a disk that can be written to.
        """
        self._values, self._at = ListOnDisk(), dict[Hashable, int]()
        self.update(items)

    def __getitem__(self, key: Hashable) -> Any:
        return self._values[self._at[key]]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._at[key] = len(self._values)
        self._values.append(value)

    def __delitem__(self, key: Hashable) -> None:
        del self._at[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: object) -> bool:
        return key in self._at

    def __repr__(self) -> str:
        return f"<dict of {len(self)} with its values on disk>"

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return dict, (list(self.items()),)


class _Parts:
    """Items, some at a time in a file; the newest ones are not written yet.

    Attributes:
        form: The shape and dtype of the items, where all of them are arrays alike.
    """

    def __init__(self) -> None:
        self.form: tuple[tuple[int, ...], Any] | None = None
        self._file = DiskFile()
        self._ends, self._counts = array("q"), array("q")  # of the parts: in the file, and of items
        self._newest: list[Any] = []
        self._weight = 0
        self._kept: dict[int, Any] = {}  # items that stay in memory, by their numbers
        self._sizes: dict[int, array[int]] = {}  # of a part with large arrays: bytes of what it is, and of each of them
        self._in_memory: dict[int, list[Any]] = {}  # the same of parts
        self._last: tuple[int, list[Any]] = (-1, [])

    @property
    def nbytes(self) -> int:
        """Bytes of all items, about."""
        return (self._ends[-1] if self._ends else 0) + self._weight

    def __len__(self) -> int:
        return (self._counts[-1] if self._counts else 0) + len(self._newest)

    def append(self, item: Any) -> None:
        """Put an item at the end."""
        found = as_value(item)
        if found is None:
            if not self._kept:
                warnings.warn(f"objects of {type(item).__name__} are kept in memory", stacklevel=3)
            self._kept[len(self)] = item
            found = None, 0
        form = (item.shape, item.dtype) if is_array(item) else None
        self.form = form if not len(self) or form == self.form else None
        self._newest.append(found[0])
        self._weight += found[1] + _LINK
        if self._weight >= _PART:
            self._write()

    def at(self, number: int) -> Any:
        """Give an item by its number, from 0."""
        if number in self._kept:
            return self._kept[number]
        part = bisect.bisect_right(self._counts, number)
        return self._part(part)[number - (self._counts[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Any]:
        for block in self.blocks():
            yield from block

    def blocks(self) -> Iterator[list[Any]]:
        """Give all items, a part at a time; those that come meanwhile, too."""
        number = 0
        while number < len(self):
            part = bisect.bisect_right(self._counts, number)
            first = self._counts[part - 1] if part else 0
            block = self._part(part)[number - first :]
            if self._kept:
                block = [self._kept.get(at, item) for at, item in enumerate(block, number)]
            number += len(block)
            yield block
            del block

    def _write(self) -> None:
        start, sizes, buffers = self._ends[-1] if self._ends else 0, array("q"), list[Any]()

        def stays(buffer: pickle.PickleBuffer) -> bool:
            large = buffer.raw().nbytes >= _LARGE
            if large:
                buffers.append(buffer.raw())
            return not large

        try:
            for one in (pickle.dumps(self._newest, protocol=5, buffer_callback=stays), *buffers):
                self._file.write(one, start + sum(sizes))
                sizes.append(len(one))
        except (OSError, AttributeError, TypeError, pickle.PicklingError) as error:  # a full disk; functions in a table
            if not self._in_memory:
                warnings.warn(f"items are kept in memory: {error}", stacklevel=4)
            self._in_memory[len(self._ends)] = self._newest
        if len(sizes) > 1:
            self._sizes[len(self._ends)] = sizes
        self._counts.append(len(self))
        self._ends.append(start + sum(sizes))
        self._newest, self._weight = [], 0

    def _part(self, part: int) -> list[Any]:
        if part == len(self._ends):
            return self._newest
        if part in self._in_memory:
            return self._in_memory[part]
        if self._last[0] != part:
            self._last = -1, []
            start, read = self._ends[part - 1] if part else 0, list[Any]()
            for size in self._sizes.get(part, (self._ends[part] - start,)):
                read.append(bytearray(size))
                self._file.read(read[-1], start)
                start += size
            # an array looks into what was read
            self._last = part, pickle.loads(read[0], buffers=[memoryview(one).toreadonly() for one in read[1:]])
        return self._last[1]
