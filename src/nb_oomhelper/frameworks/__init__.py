"""The frameworks whose memory we understand, and whose messages.

To add one: write `_name.py` with the members of `Framework`, those that it has nothing for out of `_nothing`, and
put it into `FRAMEWORKS`. One of which only the messages are known is a file in `messages/`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from nb_oomhelper.frameworks import _arrow, _cupy, _jax, _numpy, _pillow, _polars, _python, _pytorch, messages
from nb_oomhelper.frameworks._messages import line_starts, squeeze
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import AllocatorMemory, CachedBlocks
from nb_oomhelper.records.remedy import StepKind


class Recognizer(Protocol):
    """What reads a framework's messages, whether or not it is loaded."""

    @property
    def name(self) -> str:
        """As events name it, e.g. "pytorch"."""

    @property
    def module(self) -> str:
        """Its key in `sys.modules`; errors of classes of that package are read by it first."""

    def recognize(self, text: str, exception_type: str) -> OomEvent | None:
        """Read one of its messages; None where the text is another's, or not about a lack of memory.

        Args:
            text: The error's own.
            exception_type: Its class, as a traceback prints it.
        """


class Framework(Recognizer, Protocol):
    """What we need of a framework. A module that has these names is one.

    Nothing here imports the framework, starts it, or creates a CUDA context, and only `recognize` works
    where it is not loaded.
    """

    def loaded(self) -> bool:
        """Whether someone has imported it."""

    def allocator(self, backend: str, device: int | None) -> AllocatorMemory | None:
        """Its allocator's figures; None where it has none, or was not started. Never raises.

        Args:
            backend: "cuda", "host", …
            device: The framework's ordinal; None is its current one.
        """

    def cached_blocks(self, backend: str, device: int | None) -> CachedBlocks | None:
        """What of its cache can be had, block by block, or None; slower than `allocator`. Never raises.

        Args:
            backend: "cuda", "host", …
            device: The framework's ordinal; None is its current one.
        """

    def private_pools(self, backend: str, device: int | None) -> int:
        """Bytes in use in pools of its allocator's that no tensor need show, such as those of CUDA graphs.

        Args:
            backend: "cuda", "host", …
            device: The framework's ordinal; None is its current one.
        """

    def pinned(self) -> int | None:
        """Bytes of host memory that it keeps pinned for copies to a GPU; None where there is none."""

    def device_uuids(self) -> dict[int, str | None]:
        """Uuid of each device that it sees, by its ordinal, None where it does not tell; empty until it was started."""

    def storages(self, objects: Iterable[object]) -> Iterator[tuple[int, Hashable, str, int | None, int]]:
        """Index of the object, key, backend, device and bytes of the memory that its tensors keep.

        Keys of views of one storage are equal, across frameworks too; where their bytes differ, the
        largest is right. No code of the user's runs, and the device is not waited for.
        """

    def beyond(self, objects: Sequence[object], nodes: dict[int, object]) -> Iterable[tuple[object, str]]:
        """Objects that these lead to unseen by the garbage collector, and objects whose part is known.

        Parts are "parameters", "gradients", "buffers", "optimizer state" and "graph". `nodes` has what
        was met in graphs: pass the same dict while one search goes on, and drop it then.

        Args:
            objects: Any objects.
            nodes: Graph nodes that were met, by id; what the search keeps alive.
        """

    def label(self, obj: object) -> str | None:
        """Type and shape of one of its tensors, "float32 (3, 4)"; None for anything else."""

    def role(self, obj: object) -> str | None:
        """What an object is to it, by class: "model", "pretrained model", "optimizer", "tensor", "array"."""

    def array_classes(self) -> tuple[type, ...]:
        """The classes of its tensors and arrays; those derived from them count as well."""

    def caches(self, *, deep: bool) -> list[tuple[StepKind, Callable[[], object]]]:
        """Its caches, if it was started, each with what empties it. That may raise; asking for it never does.

        With `deep` also what takes time to make again, such as compiled functions.
        """


# Python comes last: it takes what is a MemoryError to everyone.
FRAMEWORKS: tuple[Framework, ...] = (
    _pytorch,
    _cupy,
    _jax,
    _numpy,
    _arrow,
    _polars,
    _pillow,
    _python,
)
TELLS_NO_MEMORY = _pytorch.TELLS_NO_MEMORY
"""Formats of a call that was refused on a GPU or for pinned memory of the host: the text is the same."""
RECOGNIZERS: tuple[Recognizer, ...] = (*messages.ALL, *FRAMEWORKS[:-1], *messages.GENERAL, _python)
"""Who is asked what a text says, in this order."""


# Mistakes in code, whose texts are names and quote anything; and those that quote what was compared.
_NEVER = frozenset({"KeyError", "IndexError", "NameError", "UnboundLocalError", "AttributeError", "SyntaxError"})
_QUOTES = frozenset({"AssertionError", "TypeError"})


def recognize(text: str, exception_type: str) -> OomEvent | None:
    """Ask all of them what a text says: first the one whose class the error is of; who is sure goes before who is not.

    Args:
        text: The error's own.
        exception_type: Its class, as a traceback prints it; "" where it is not known.

    Returns:
        The event, without what only a traceback tells; None where the text is about no lack of memory.
    """
    if exception_type in _NEVER:
        return None
    package = _package(exception_type)
    probable = None
    try:
        for one in sorted(RECOGNIZERS, key=lambda one: not _is_of(package, one.module)):
            event = one.recognize(text, exception_type)
            if event is not None and event.certainty == "sure":
                return replace(event, certainty="probable") if exception_type in _QUOTES else event
            probable = probable or event
    finally:
        squeeze.cache_clear()
        line_starts.cache_clear()
    return probable


def has_rules(exception_type: str) -> bool:
    """Whether a class is of a package whose messages are known.

    Args:
        exception_type: As a traceback prints it.
    """
    package = _package(exception_type)
    return any(_is_of(package, one.module) for one in RECOGNIZERS)


def _package(exception_type: str) -> str:
    return exception_type.partition(".")[0].strip("_") if "." in exception_type else ""


def _is_of(package: str, module: str) -> bool:
    """Whether a class of that package is a framework's: "jaxlib" and "cupy_backends" belong to "jax" and "cupy"."""
    root = module.partition(".")[0].strip("_")
    return bool(root) and package.startswith(root)
