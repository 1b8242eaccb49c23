"""Follow a pickle without running it: which storages it names, and which tensors it makes of them.

`pickletools.genops` splits a pickle into its operations; here each is carried out on stand-ins. A class or
function stays a name, a call stays a note of what would be called: nothing is imported, looked up or run.
No stand-in is ever hashed, compared or printed, since shared parts can make that take for ever.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

_MOST_OPERATIONS = 2_000_000  # a checkpoint has some thirty a tensor
_BETWEEN = 512  # operations between two looks at the clock
_LONGEST_NAME = 300  # characters
# Attributes that hold the parts of a pickled torch.nn.Module; state_dict() leaves them out of its names.
_SILENT = {"_modules", "_parameters", "_buffers", ""}


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function, by its name."""

    module: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """What torch keeps beside the pickle: the name of the storage's class, its key, its number of values."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that would be made of a storage; `dtype` is None where the storage's class tells it."""

    storage: Storage
    shape: tuple[int, ...]
    dtype: str | None


@dataclass(slots=True, eq=False)
class Node:
    """Anything with parts: a list, a dict, an object; each part under its key, or under ""."""

    parts: list[tuple[str, Any]] = field(default_factory=list)


class Follower:
    """Carries out the operations of one pickle on stand-ins.

    Attributes:
        storages: Those that were named, by key.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self.storages: dict[str, Storage] = {}
        self._tick = tick
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def follow(self, file: IO[bytes]) -> Any:
        """Follow the pickle that starts here, up to its end.

        Args:
            file: What to read from; it bounds what is read.

        Returns:
            A stand-in of what the pickle would give.

        Raises:
            ValueError: It is no pickle, or none that can be followed.
            Whatever `tick` raises, which is called again and again.
        """
        try:
            for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
                if number % _BETWEEN == 0:
                    self._tick()
                if number > _MOST_OPERATIONS:
                    raise ValueError("the pickle is too long")
                self._take(operation.name, argument)
            return self._stack.pop()
        except (IndexError, KeyError, AttributeError, TypeError, OverflowError):
            raise ValueError("the pickle is broken") from None

    def _take(self, name: str, argument: Any) -> None:
        if name in _ARGUMENT:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _PUT:
            self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]
        elif name in _GET:
            self._stack.append(self._memo[int(argument)])
        elif name in _TUPLES:
            items = [self._stack.pop() for _ in range(_TUPLES[name])]
            self._stack.append(tuple(reversed(items)))
        elif name not in _NOTHING:
            _HANDLERS[name](self, argument)

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _push(self, item: Any) -> None:  # not self._stack.append(…): that list may be another one by then
        self._stack.append(item)

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _empty(self, _: Any) -> None:
        self._stack.append(Node())

    def _tuple(self, _: Any) -> None:
        self._push(tuple(self._since_mark()))

    def _list(self, _: Any) -> None:
        self._push(Node(_listed(self._since_mark())))

    def _dict(self, _: Any) -> None:
        self._push(Node(_paired(self._since_mark())))

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._add([("", item)], numbered=True)

    def _appends(self, _: Any) -> None:
        self._add([("", item) for item in self._since_mark()], numbered=True)

    def _set_item(self, _: Any) -> None:
        value = self._stack.pop()
        self._add(_paired([self._stack.pop(), value]))

    def _set_items(self, _: Any) -> None:
        self._add(_paired(self._since_mark()))

    def _build(self, _: Any) -> None:
        self._add([("", self._stack.pop())])

    def _add(self, parts: list[tuple[str, Any]], numbered: bool = False) -> None:
        target = self._stack[-1]
        if isinstance(target, Node):
            start = len(target.parts)
            target.parts += [(str(start + i), item) for i, (_, item) in enumerate(parts)] if numbered else parts
        elif not isinstance(target, (Tensor, Storage, Global)):  # a tensor's own attributes do not matter
            raise ValueError("the pickle adds to something that has no parts")

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Global(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("the pickle has a name that is none")
        self._stack.append(Global(module, name))

    def _call(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(_called(function, arguments))

    def _call_with_names(self, _: Any) -> None:
        names, arguments, function = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._stack.append(_called(function, (arguments, names)))

    def _call_since_mark(self, _: Any) -> None:
        self._push(_called(None, tuple(self._since_mark())))

    def _persistent(self, _: Any) -> None:
        told = self._stack.pop()
        if not isinstance(told, tuple) or len(told) < 2:
            raise ValueError("the pickle refers to something that is not torch's")
        if told[0] == "module":  # torch's legacy files name a class so, with its source
            self._stack.append(told[1])
            return
        kind, key, count = told[1], told[2], told[4]
        if told[0] != "storage" or type(kind) is not Global or type(key) is not str or type(count) is not int:
            raise ValueError("the pickle has a storage that is none")
        storage = self.storages.setdefault(key, Storage(kind.name, key, count))
        if storage.count != count or storage.kind != kind.name:
            raise ValueError("the pickle has one storage in two sizes")
        self._stack.append(storage)


def _listed(items: list[Any]) -> list[tuple[str, Any]]:
    return [(str(i), item) for i, item in enumerate(items)]


def _paired(items: list[Any]) -> list[tuple[str, Any]]:
    if len(items) % 2:
        raise ValueError("the pickle has a key without a value")
    return [(_label(items[i]), items[i + 1]) for i in range(0, len(items), 2)]


def _label(key: Any) -> str:
    if type(key) is int and abs(key) < 1 << 63:
        return str(key)
    return key if type(key) is str else ""


def _called(function: Any, arguments: Any) -> Any:
    """Stand for what a call gives: a tensor where it makes one of a storage (torch/_utils.py, 2.13)."""
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    name = function.name if isinstance(function, Global) else ""
    if name.startswith("_rebuild_parameter") and parts:
        return parts[0]
    if len(parts) >= 3 and isinstance(parts[0], Storage) and isinstance(parts[2], tuple):
        shape = parts[2]
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("the pickle has a shape that is none")
        told = parts[6] if len(parts) > 6 else None
        return Tensor(parts[0], shape, told.name if isinstance(told, Global) and told.module == "torch" else None)
    return Node([("", part) for part in parts])


def walk(root: Any) -> Iterator[tuple[str, Tensor]]:
    """Give all tensors in a stand-in with their names, "layer.0.weight", in order, each part once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, Tensor):
            yield name, one
        elif isinstance(one, (Node, tuple)) and id(one) not in seen:
            seen.add(id(one))
            parts = one.parts if isinstance(one, Node) else [("", part) for part in one]
            waiting += [(_joined(name, label), part) for label, part in reversed(parts)]


def _joined(name: str, label: str) -> str:
    if label in _SILENT:
        return name
    return (f"{name}.{label}" if name else label)[:_LONGEST_NAME]


_ARGUMENT = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()} | dict.fromkeys(
    ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
)
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = {"PROTO", "FRAME", "STOP"}
_HANDLERS: dict[str, Callable[[Follower, Any], None]] = {
    "MARK": Follower._mark,
    "POP": Follower._pop,
    "POP_MARK": Follower._pop_mark,
    "DUP": Follower._duplicate,
    "EMPTY_LIST": Follower._empty,
    "EMPTY_DICT": Follower._empty,
    "EMPTY_SET": Follower._empty,
    "TUPLE": Follower._tuple,
    "LIST": Follower._list,
    "DICT": Follower._dict,
    "FROZENSET": Follower._list,
    "APPEND": Follower._append,
    "APPENDS": Follower._appends,
    "ADDITEMS": Follower._appends,
    "SETITEM": Follower._set_item,
    "SETITEMS": Follower._set_items,
    "BUILD": Follower._build,
    "GLOBAL": Follower._global,
    "STACK_GLOBAL": Follower._stack_global,
    "INST": Follower._call_since_mark,
    "OBJ": Follower._call_since_mark,
    "REDUCE": Follower._call,
    "NEWOBJ": Follower._call,
    "NEWOBJ_EX": Follower._call_with_names,
    "BINPERSID": Follower._persistent,
}
