"""Follow a pickle without running it: which storages it names, and which tensors it makes of them.

The standard library's own unpickler, the one in Python, does it, with every operation replaced that would look
something up, run it or hash it: a class or function stays a name, a call stays a note of what would be called. An
operation that is not listed here is refused. Stand-ins are never hashed, compared or printed: shared parts can make
that last for ever.

`torch.load(map_location="meta", weights_only=True)` is no way: it refuses whole modules, reads a file from before zip
from end to end, makes as large a bytearray as a file of 1 KiB asks for, does not stop when the time is up, and a
crafted file could run code in it before torch 2.6 and damage memory before 2.10 (CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

_LONGEST_NAME = 300  # characters
# Attributes that hold the parts of a pickled torch.nn.Module; state_dict() leaves them out of its names.
_SILENT = {"_modules", "_parameters", "_buffers", ""}
_BROKEN = (IndexError, KeyError, AttributeError, TypeError, OverflowError, EOFError, struct.error)
_UNPICKLER: Any = pickle._Unpickler


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
    """A dict, a set or an object: each part under its key or number, or under "". The unpickler fills it."""

    parts: list[tuple[str, Any]] = field(default_factory=list)

    def append(self, item: Any) -> None:
        """Add a part by number."""
        self.parts.append((str(len(self.parts)), item))

    add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        named = type(key) is str or (type(key) is int and abs(key) < 1 << 63)
        self.parts.append((str(key) if named else "", value))


def follow(file: IO[bytes], storages: dict[str, Storage]) -> Any:
    """Follow the pickle that starts here, up to its end.

    Args:
        file: What to read from; it bounds how much and how long is read.
        storages: Gets those that are named, by key.

    Returns:
        A stand-in of what the pickle would give.

    Raises:
        ValueError: It is no pickle, or none that can be followed.
    """
    try:
        return _Follower(file, storages).load()
    except (*_BROKEN, pickle.UnpicklingError):
        raise ValueError("the pickle is broken") from None


class _Follower(_UNPICKLER):  # type: ignore[misc]
    """Carries out the operations of one pickle on stand-ins."""

    def __init__(self, file: IO[bytes], storages: dict[str, Storage]) -> None:
        super().__init__(file, encoding="latin-1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Global:
        return Global(module, name)

    def persistent_load(self, told: Any) -> Any:
        if not isinstance(told, tuple) or len(told) < 2:
            raise ValueError("the pickle refers to something that is not torch's")
        if told[0] == "module":  # torch's legacy files name a class so, with its source
            return told[1]
        kind, key, count = told[1], told[2], told[4]
        if told[0] != "storage" or type(kind) is not Global or type(key) is not str or type(count) is not int:
            raise ValueError("the pickle has an invalid storage")
        storage = self._storages.setdefault(key, Storage(kind.name, key, count))
        if storage.count != count or storage.kind != kind.name:
            raise ValueError("the pickle has one storage in two sizes")
        return storage

    def _instantiate(self, _: Any, arguments: list[Any]) -> None:
        self.append(Node([("", part) for part in arguments]))

    def _node(self) -> None:
        self.append(Node())

    def _dict(self) -> None:
        items, node = self.pop_mark(), Node()
        for i in range(0, len(items), 2):
            node[items[i]] = items[i + 1]
        self.append(node)

    def _set(self) -> None:
        items = self.pop_mark()  # on a line of its own: it changes what `append` appends to
        self.append(items)

    def _build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Node):  # a tensor's own attributes do not matter
            self.stack[-1].parts.append(("", state))

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(_called(function, arguments))

    def _call_with_names(self) -> None:
        names, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(_called(function, (arguments, names)))

    def _frame(self) -> None:
        self.read(8)  # its length: what is in it is read from the file as if there were none

    def _bytes(self) -> None:
        self.read(*struct.unpack("<Q", self.read(8)))
        self.append(None)

    dispatch: ClassVar = {
        getattr(pickle, name)[0]: _UNPICKLER.dispatch[getattr(pickle, name)[0]]
        for name in (
            *("PROTO", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "BINPERSID"),
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
            *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
            *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL"),
            *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS", "INST", "OBJ"),
        )
    }
    dispatch |= {pickle.EMPTY_DICT[0]: _node, pickle.EMPTY_SET[0]: _node, pickle.DICT[0]: _dict}
    dispatch |= {pickle.FROZENSET[0]: _set, pickle.BUILD[0]: _build, pickle.FRAME[0]: _frame}
    dispatch |= {pickle.REDUCE[0]: _call, pickle.NEWOBJ[0]: _call, pickle.NEWOBJ_EX[0]: _call_with_names}
    dispatch |= {pickle.BYTEARRAY8[0]: _bytes}


def _called(function: Any, arguments: Any) -> Any:
    """Stand for what a call gives: a tensor where it makes one of a storage (torch/_utils.py, 2.13)."""
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    name = function.name if isinstance(function, Global) else ""
    if name.startswith("_rebuild_parameter") and parts:
        return parts[0]
    if len(parts) >= 3 and isinstance(parts[0], Storage) and isinstance(parts[2], tuple):
        shape = parts[2]
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("the pickle has an invalid shape")
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
        elif isinstance(one, (Node, list, tuple)) and id(one) not in seen:
            seen.add(id(one))
            waiting += [(_joined(name, label), part) for label, part in reversed(_parts(one))]


def _parts(one: Any) -> list[tuple[str, Any]]:
    if isinstance(one, Node):
        return one.parts
    return [(str(number) if isinstance(one, list) else "", part) for number, part in enumerate(one)]


def _joined(name: str, label: str) -> str:
    if label in _SILENT:
        return name
    return (f"{name}.{label}" if name else label)[:_LONGEST_NAME]
