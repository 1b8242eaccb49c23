"""Python itself: a MemoryError of the interpreter or of an extension, on the machine's own memory.

GPU libraries raise MemoryError as well (CuPy, RMM, Thrust): a text that speaks of a GPU is not taken here.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import re
import sys
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from nb_oomhelper.frameworks._messages import squeeze
from nb_oomhelper.frameworks._nothing import allocator as allocator
from nb_oomhelper.frameworks._nothing import array_classes as array_classes
from nb_oomhelper.frameworks._nothing import beyond as beyond
from nb_oomhelper.frameworks._nothing import cached_blocks as cached_blocks
from nb_oomhelper.frameworks._nothing import caches as caches
from nb_oomhelper.frameworks._nothing import device_uuids as device_uuids
from nb_oomhelper.frameworks._nothing import label as label
from nb_oomhelper.frameworks._nothing import pinned as pinned
from nb_oomhelper.frameworks._nothing import private_pools as private_pools
from nb_oomhelper.frameworks._nothing import role as role
from nb_oomhelper.frameworks._nothing import storages as storages
from nb_oomhelper.introspection import class_dict
from nb_oomhelper.records.event import OomEvent

name = "python"
module = "builtins"

CONTAINERS: tuple[type, ...] = (list, tuple, dict, set, frozenset, deque, OrderedDict, defaultdict, Counter)
ATOMS: tuple[type, ...] = (
    str,
    bytes,
    bytearray,
    int,
    float,
    complex,
    array,
    io.BytesIO,
    io.StringIO,
    mmap.mmap,
)  # what has bytes and refers to nothing
_SIZED = frozenset(map(id, (*CONTAINERS, *ATOMS)))  # exactly these: a class that is derived may say anything
_STEP = 16  # bytes: Python's allocator gives out multiples of it
_SMALL = 512  # bytes: more comes from the C library
_BYTES_HEAD = bytes.__basicsize__ - 1  # the contents follow
_COLLECTOR, _ATTRIBUTES = 16, 64  # bytes of an instance beside its basic size; of attributes, three or four
_basic_size: Callable[[type], int] = class_dict(type)["__basicsize__"].__get__  # type: ignore[attr-defined]
_dict_offset: Callable[[type], int] = class_dict(type)["__dictoffset__"].__get__  # type: ignore[attr-defined]
_MAPS = Path("/proc/self/maps")  # proc(5)
_MESSAGE = 4_000  # characters of the text that an event keeps
_GPU = re.compile(r"cuda|gpu\b|\bhip|rmm|\bdevice|pool|out of memory allocating", re.IGNORECASE)
_LAST = re.compile(r"(?:^|Traceback \(most recent call last\).* )MemoryError:?$")  # of a traceback that was pasted
# Another error's text that is this one's, with the calls that led to it; and a line of code with what came of it.
_CARRIED = re.compile(r"^MemoryError:?(?:$| (?:at|in|File|Traceback)\b)|\) MemoryError:?[\"'`](?!\w)")
_ENOMEM = "[Errno 12]"  # fork, mmap and subprocess say so; a limit on address space does it too
_WRAPPED = re.compile(
    r"Caught \w{1,80} in [^\n]{1,80}\.\nOriginal Traceback"
)  # torch/_utils.py; the message comes last


def loaded() -> bool:
    """Python always is."""
    return True


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Read a MemoryError, which mostly has no text, or an OSError for lack of memory.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it.
    """
    words = squeeze(text)
    if _WRAPPED.match(text):  # lines of the user's code stand before the message, and may hold any word
        words = squeeze(text.rstrip().rpartition("\n")[2]).removeprefix("MemoryError").lstrip(": ")
    if exception_type in ("OSError", "") and words.startswith(_ENOMEM):
        return _event(text, exception_type, "python.enomem", sure=False)
    if not exception_type and _LAST.search(words):
        return _event(text, exception_type, "python.memory", sure=True)
    if not exception_type.endswith("MemoryError") and _CARRIED.search(words) and not _GPU.search(words):
        return _event(text, exception_type, "python.memory", sure=False)
    if exception_type.rpartition(".")[2] != "MemoryError" or _GPU.search(words):
        return None
    return _event(text, exception_type, "python.memory", sure=not words and exception_type == "MemoryError")


def _event(text: str, exception_type: str, form: str, *, sure: bool) -> OomEvent:
    return OomEvent(
        framework=name,
        backend="host",
        exception_type=exception_type,
        message=text[:_MESSAGE],
        format=form,
        certainty="sure" if sure else "probable",
    )


def size_of(thing: object) -> int:
    """Bytes of one object itself, as they come back with it; of an instance without its attributes' names.

    Only what is exactly of a class of Python's own is asked.
    """
    kind = type(thing)
    if id(kind) not in _SIZED:
        return _basic_size(kind) + _COLLECTOR + (_ATTRIBUTES if _dict_offset(kind) else 0)
    if kind is mmap.mmap:
        return _anonymous(thing)
    size = sys.getsizeof(thing)
    return size if size > _SMALL else -(-size // _STEP) * _STEP


def key_of(thing: object) -> Hashable:
    """What tells an object's memory from all other: where its contents lie, so that an array over them has the same."""
    kind = type(thing)
    if kind is bytes:
        return "host", None, id(thing) + _BYTES_HEAD
    if kind is array:
        return "host", None, array.buffer_info(thing)[0] or id(thing)  # type: ignore[arg-type]
    if kind is bytearray and thing:
        return "host", None, _start(thing, _IN_BYTEARRAY) or id(thing)
    return "host", None, id(thing)


def _start(thing: object, place: int | None) -> int:
    """Where the contents of a bytearray or a mapping begin.

    To ask for them by its buffer would hold up another thread that makes it longer or closes it.
    """
    return 0 if place is None else ctypes.c_void_p.from_address(id(thing) + place).value or 0


def _find_start(probe: Any) -> int | None:
    """How far into an object of this class the address of its contents stands; None where it cannot be found."""
    try:
        wanted = ctypes.addressof(ctypes.c_char.from_buffer(probe))
        places = range(0, _basic_size(type(probe)) - 7, 8)
        found = [at for at in places if ctypes.c_void_p.from_address(id(probe) + at).value == wanted]
        return found[-1] if found else None  # of a bytearray the first is where its memory begins
    except Exception:  # another interpreter, or no room
        return None


_IN_BYTEARRAY, _IN_MAPPING = _find_start(bytearray(64)), _find_start(mmap.mmap(-1, 1))


def _anonymous(mapping: Any) -> int:
    """Bytes of memory that is mapped without a file: the system takes back a file's pages when it needs them."""
    start = _start(mapping, _IN_MAPPING)
    if not start:
        return 0
    try:
        with _MAPS.open("rb") as lines:
            for line in lines:
                span, _, _, _, _, *path = line.split(maxsplit=5)
                first, end = (int(edge, 16) for edge in span.split(b"-"))
                if first <= start < end:
                    return len(mapping) if not path or path[0].startswith(b"/dev/zero") else 0
    except (OSError, ValueError):  # another system; or it was closed meanwhile
        pass
    return 0
