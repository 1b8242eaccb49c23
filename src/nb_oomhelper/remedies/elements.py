"""What the notebook keeps, as it really is: read by the interpreter's own means, past any code of the user's."""

from __future__ import annotations

import functools
import itertools
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

from nb_oomhelper.failure.places import at_top, is_users
from nb_oomhelper.holders.roots import named
from nb_oomhelper.introspection import class_dict, class_mro, class_name, instance_dict
from nb_oomhelper.remedies.arrays import form_of, is_array, is_mapped, is_tensor
from nb_oomhelper.remedies.cell_needs import is_main
from nb_oomhelper.remedies.disk_items import is_value
from nb_oomhelper.remedies.model_weights import describe_model, goes_row_by_row, is_model, measure_weights
from nb_oomhelper.remedies.windows import is_even, size_joined
from nb_oomhelper.source.element import Element, ElementKind, merged

_LISTS = (list, tuple, set, deque)
_DICTS = (dict, defaultdict, OrderedDict)
_CACHE = type(functools.lru_cache(lambda: None))
_DEPTH = 2  # attributes below a name
_PLAIN = (int, float, complex, bool, type(None))
_FEW = 64  # attributes of one object, and parts of one element
_SIZED, _PARTS = 1_000, 16  # members of a container, and parts of one, that are measured; these stand for all


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Something that the notebook keeps: a tensor, or a container with what is in it.

    Attributes:
        call: What empties it, "clear", "cache_clear" or "close"; "" where nothing does.
        element: What it is; of a container, what is in it, or None where that cannot be told.
        size: Bytes of the tensors and arrays right in it, by backend.
        owners: Names of the classes of the object whose attribute it is.
        shape, dtype: Of a tensor or an array.
        cuts: Rows can be taken of it, and no gradient goes back through them.
        items: How many there are in a list; None of anything else.
        windows: Of windows of one array in a list: the bytes and the dtype that they have as one copy; else None.
        even: Of an array: it has whole numbers at equal steps.
        mapped: Of a container: its arrays lie in mappings of their own, which go back to the system with each.
        plain: Of a container: there is nothing in it but numbers, as far as it was looked at.
        texts, values: Of a container: the same of texts; and of what a copy is as good as.
        apart, evaluates: Of a model's layers: each row goes through them by itself, as it seems; `eval()` was called.
    """

    call: str = ""
    element: Element | None = None
    size: Mapping[str, int] | None = None
    owners: frozenset[str] = frozenset()
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    cuts: bool = True
    items: int | None = None
    windows: tuple[int, str] | None = None
    even: bool = False
    mapped: bool = False
    plain: bool = False
    texts: bool = False
    values: bool = False
    apart: bool = True
    evaluates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A call on the way to the error, in the user's own code.

    Attributes:
        function: Its name; "" at the top level of a cell.
        file: As the code object names it.
        first: The first line of the code.
        line: The line that was running.
    """

    function: str
    file: str
    first: int
    line: int


def read_steps(frames: Iterable[tuple[FrameType, int]]) -> tuple[Step, ...]:
    """Give the calls of the user's code on the way to an error, as names and numbers.

    Args:
        frames: Frames with the lines that failed in them, outermost first.
    """
    codes = [(frame.f_code, line) for frame, line in frames if is_users(frame.f_code.co_filename.replace("\\", "/"))]
    return tuple(_step(code, line) for code, line in codes)


def line_at_top(steps: Iterable[Step]) -> int | None:
    """Give the line of the failed cell that was running, from 1 in its source; None where that is not known.

    Args:
        steps: As of `read_steps`.
    """
    return next((one.line for one in steps if not one.function), None)


def is_iterator(thing: object) -> bool:
    """Tell whether something can be gone through once only: a generator, a file, a reader of chunks.

    Args:
        thing: Anything.
    """
    return any("__next__" in class_dict(kind) for kind in class_mro(type(thing)))


def _step(code: CodeType, line: int) -> Step:
    name = "" if at_top(code) else code.co_name
    return Step(function=name, file=code.co_filename, first=code.co_firstlineno, line=line)


def find_kept(names: Mapping[str, object]) -> dict[str, Kept]:
    """Find what is kept under some names and right below them.

    Args:
        names: Names and their objects.

    Returns:
        By path, as the user would write it: "losses", "trainer.outputs", "history['loss']".
    """
    return {path: kept for name, thing in names.items() for path, kept in _below(name, thing, _DEPTH, frozenset())}


def find_local(frames: Iterable[tuple[FrameType, int]]) -> dict[tuple[str, int], dict[str, Kept]]:
    """Find what the failed cell's functions keep in their own names.

    Args:
        frames: As of `read_steps`.

    Returns:
        As `find_kept`, for each function of the user's by the file and first line of its code.
    """
    own = [frame for frame, _ in frames if is_users(frame.f_code.co_filename.replace("\\", "/"))]
    return {
        (frame.f_code.co_filename, frame.f_code.co_firstlineno): find_kept(dict(named(frame)))
        for frame in own
        if not at_top(frame.f_code)
    }


def _below(path: str, thing: object, depth: int, owners: frozenset[str]) -> Iterator[tuple[str, Kept]]:
    kind = type(thing)
    if any(kind is one for one in (*_LISTS, *_DICTS)):
        yield path, _container(thing, owners)
        if any(kind is one for one in _DICTS):
            for key, part in _items(thing):
                if type(key) is str and any(type(part) is one for one in _LISTS) and "'" not in key:
                    yield f"{path}[{key!r}]", _container(part, owners)
    elif kind is _CACHE or kind is GeneratorType:
        yield path, Kept(call="close" if kind is GeneratorType else "cache_clear", owners=owners)
    elif is_tensor(thing) or is_array(thing):
        yield path, Kept(element=describe(thing), owners=owners, even=is_even(thing), **form_of(thing))
    elif depth and not issubclass(kind, (type, ModuleType, FunctionType)):
        yield from _attributes(path, thing, depth)


def _attributes(path: str, thing: object, depth: int) -> Iterator[tuple[str, Kept]]:
    kinds = class_mro(type(thing))
    for one in kinds:  # a cache around a method
        if is_main(class_dict(one).get("__module__")):
            made = [(name, made) for name, made in list(class_dict(one).items()) if type(made) is _CACHE]
            yield from ((f"{path}.{name}", Kept(call="cache_clear")) for name, _ in made)
    names = instance_dict(thing)
    apart, evaluates = not is_model(thing) or goes_row_by_row(thing), names.get("training") is False
    owners = frozenset(class_name(one) for one in kinds)
    for name, part in list(names.items()) if len(names) <= _FEW else ():
        if type(name) is str and name.isidentifier():
            for below, kept in _below(f"{path}.{name}", part, depth - 1, owners):
                yield below, replace(kept, apart=apart, evaluates=evaluates) if name == "_modules" else kept


def _container(thing: Any, owners: frozenset[str]) -> Kept:
    kind = type(thing)
    keyed = any(kind is one for one in _DICTS)
    some = [part for _, part in _items(thing)] if keyed else _members(thing)
    lists = [one for one in some if type(one) is list and one] if keyed else []
    listed = bool(lists) and all(type(one) is list for one in some)
    ends = [*lists[:2], *lists[-2:]] if listed else [*some[:2], *some[-2:]]
    element = functools.reduce(merged, map(_listed if listed else _inner, ends)) if ends else None
    sizes, met = dict[str, int](), set[int]()
    for part in itertools.chain.from_iterable(lists) if listed and sum(map(len, lists)) <= _SIZED else some:
        _measure(part, sizes, met, 2)
    if len(thing) > len(some):
        sizes = {backend: size * len(thing) // len(some) for backend, size in sizes.items()}
    items = len(thing) if kind is list else None
    return Kept(
        call="" if kind is tuple else "clear",
        element=element,
        size=sizes,
        owners=owners,
        items=items,
        windows=None if items is None else size_joined(thing),
        mapped=all(map(is_mapped, ends)),
        texts=bool(some) and all(type(one) is str for one in some),
        values=all(map(is_value, ends)),
        plain=all(type(one) in _PLAIN for one in (itertools.chain.from_iterable(lists) if listed else some)),
    )


def _listed(things: Any) -> Element:
    """What the members of a list are that is an item: `history[key].append(loss)`."""
    return replace(functools.reduce(merged, map(describe, [*things[:2], things[-1]])), listed=True)


def _inner(thing: object) -> Element:
    """What an item of a container is; of many in a list, what they are."""
    many = type(thing) is list and len(thing) > 8
    return functools.reduce(merged, map(describe, [thing[0], thing[-1]])) if many else describe(thing)  # type: ignore[index]


def _items(thing: Any) -> list[tuple[object, object]]:
    return list(itertools.islice(dict.items(thing), _SIZED))


def _members(thing: Any) -> list[object]:
    return list(itertools.islice(thing, _SIZED))  # the iterators of these classes are the interpreter's own


def describe(thing: object, depth: int = 3) -> Element:
    """Say what a thing is.

    Args:
        thing: Anything.
        depth: How many tuples and dicts to go into.
    """
    kind = type(thing)
    if is_tensor(thing):
        base = sys.modules["torch"]._C.TensorBase
        graph = base.requires_grad.__get__(thing) and not base.is_leaf.__get__(thing)
        told: ElementKind = ("graph" if base.ndim.__get__(thing) else "number") if graph else "other"
        on_device = base.device.__get__(thing).type != "cpu"
        told = "leaf" if on_device and not graph and base.requires_grad.__get__(thing) else told
        return Element(told, on_device=on_device)
    if is_array(thing):
        return Element("float64" if str(sys.modules["numpy"].ndarray.dtype.__get__(thing)) == "float64" else "other")
    if issubclass(kind, BaseException):
        return Element("error")
    if depth and (kind is tuple or kind is list) and len(thing) <= 8:  # type: ignore[arg-type]
        return Element("parts", {at: describe(one, depth - 1) for at, one in enumerate(thing)})  # type: ignore[arg-type, var-annotated]
    if depth and (kind is dict or kind is OrderedDict):
        keyed = [(key, one) for key, one in _items(thing) if type(key) in (str, int)]
        return Element("parts", {key: describe(one, depth - 1) for key, one in keyed[:_FEW]})
    fields = list(_fields(thing)) if depth else []
    if fields:  # by their places and by their names: both ways are written in a call
        parts = [(name, describe(one, depth - 1)) for name, one in fields]
        return Element("parts", {**dict(enumerate(one for _, one in parts)), **dict(parts)}, maker=class_name(kind))
    return describe_model(thing)


def _fields(thing: Any) -> Iterator[tuple[str, object]]:
    """What an object of a class of the notebook's was made of, in the order in which a call of the class gives it."""
    kind = type(thing)
    known = class_dict(kind) if is_main(class_dict(kind).get("__module__")) else {}
    if issubclass(kind, tuple):
        names = known.get("_fields")
        if type(names) is tuple and len(names) == tuple.__len__(thing) <= _FEW:
            yield from zip(names, tuple.__iter__(thing), strict=True)
        return
    made, values = known.get("__init__"), instance_dict(thing)  # a dataclass has one, too
    names = made.__code__.co_varnames[1 : made.__code__.co_argcount] if type(made) is FunctionType else ()
    if len(names) <= _FEW and all(name in values for name in names):
        yield from ((name, values[name]) for name in names)


def _measure(thing: object, sizes: dict[str, int], met: set[int], depth: int) -> None:
    """Add up the storages of the tensors and arrays in a thing."""
    kind = type(thing)
    if is_tensor(thing):
        base = sys.modules["torch"]._C.TensorBase
        storage = base.untyped_storage(thing)
        place, size, where = storage.data_ptr(), storage.nbytes(), base.device.__get__(thing).type
    elif is_array(thing):
        array = sys.modules["numpy"].ndarray
        base = array.base.__get__(thing)
        place, size, where = id(thing if base is None else base), array.nbytes.__get__(thing), "cpu"
    elif kind is bytes or kind is bytearray:
        place, size, where = id(thing), len(thing), "cpu"  # type: ignore[arg-type]
    else:
        parts: list[object] = []
        if depth and any(kind is one for one in _DICTS):
            parts = [part for _, part in _items(thing)[:_PARTS]]
        elif depth and any(kind is one for one in _LISTS):
            parts = _members(thing)[:_PARTS]
        else:
            measure_weights(thing, sizes, met)
        for part in parts:
            _measure(part, sizes, met, depth - 1)
        return
    if place not in met:
        met.add(place)
        name = "host" if where == "cpu" else where
        sizes[name] = sizes.get(name, 0) + size
