"""Python itself: a MemoryError of the interpreter or of an extension, on the machine's own memory.

GPU libraries raise MemoryError as well (CuPy, RMM, Thrust): a text that speaks of a GPU is not taken here.
"""

from __future__ import annotations

import re

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
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.units import parse_bytes

name = "python"
module = "builtins"

_MESSAGE = 4_000  # characters of the text that an event keeps
_GPU = re.compile(r"cuda|gpu\b|\bhip|rmm|\bdevice|pool|out of memory allocating", re.IGNORECASE)
_ENOMEM = "[Errno 12]"  # fork, mmap and subprocess say so; a limit on address space does it too
_WRAPPED = re.compile(
    r"Caught \w{1,80} in [^\n]{1,80}\.\nOriginal Traceback"
)  # torch/_utils.py; the message comes last
_MALLOC = re.compile(r"malloc of size (\d{1,20}) failed")  # pyarrow.lib.ArrowMemoryError


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
    if exception_type == "OSError" and words.startswith(_ENOMEM):
        return _event(text, exception_type, "python.enomem", sure=False)
    if exception_type.rpartition(".")[2] not in {"MemoryError", "ArrowMemoryError"} or _GPU.search(words):
        return None
    malloc = _MALLOC.search(words)
    requested = parse_bytes(malloc[1]) if malloc else None
    return _event(text, exception_type, "python.memory", sure=not words or malloc is not None, requested=requested)


def _event(text: str, exception_type: str, form: str, *, sure: bool, requested: int | None = None) -> OomEvent:
    return OomEvent(
        framework=name,
        backend="host",
        exception_type=exception_type,
        message=text[:_MESSAGE],
        format=form,
        requested=requested,
        certainty="sure" if sure else "probable",
    )
