"""The frameworks whose memory we understand, and what an exception says about a lack of it.

To add one: write `_name.py` with the members of `Framework`, those that it has nothing for out of `_nothing`, and
put it into `FRAMEWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from nb_oomhelper.frames import Place, raised_with, read_phase, read_places, user_location
from nb_oomhelper.frameworks import _cupy, _jax, _numpy, _python, _pytorch
from nb_oomhelper.frameworks._remote import came_from, is_carried
from nb_oomhelper.introspection import cause_of, exception_args
from nb_oomhelper.records.event import OomEvent, Remote
from nb_oomhelper.records.memory import AllocatorMemory
from nb_oomhelper.records.remedy import StepKind


class Framework(Protocol):
    """What we need of a framework. A module that has these names is one.

    Nothing here imports the framework, starts it, or creates a CUDA context, and only `recognize` works
    where it is not loaded.
    """

    name: str
    """As events name it, e.g. "pytorch"."""
    module: str
    """Its key in `sys.modules`."""

    def loaded(self) -> bool:
        """Whether someone has imported it."""

    def recognize(self, text: str, exception_type: str) -> OomEvent | None:
        """Read one of its messages; None where the text is another's, or not about a lack of memory."""

    def allocator(self, backend: str, device: int | None) -> AllocatorMemory | None:
        """Its allocator's figures; None where it has none, or was not started. Never raises."""

    def largest_free_block(self, backend: str, device: int | None) -> int | None:
        """Bytes of the largest cached block on a device, or None; slower than `allocator`. Never raises."""

    def private_pools(self, backend: str, device: int | None) -> int:
        """Bytes in use in pools of its allocator's that no tensor need show, such as those of CUDA graphs."""

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
FRAMEWORKS: tuple[Framework, ...] = (_pytorch, _cupy, _jax, _numpy, _python)


def detect(error: BaseException) -> OomEvent | None:
    """Read an exception, and those behind it: causes, contexts, members of groups.

    Of several the one nearest the root counts, since wrappers repeat its text in part; one that is
    sure goes before one that is probable. What failed here while another process's error was handled
    goes before that.

    Returns:
        The event with phase, function and line off the traceback, and whose process it was; None where
        memory did not run out. It refers to nothing of the exception.
    """
    links = raised_with(error)
    found = []
    for place, (inner, _) in enumerate(links):
        event = detect_text(_text(inner), _type_name(inner))
        if event is not None:
            rank = (not is_carried(inner), event.certainty == "sure", len(_way_to(links, place)), -place)
            found.append((rank, place, replace(event, remote=_remote(links, place))))
    if any(event.remote for _, _, event in found):  # what failed here meanwhile goes before it
        here = [one for one in found if one[2].remote is None and _is_own(links[one[1]][0])]
        found = here or found
    if not found:
        return None
    _, place, event = max(found, key=lambda one: one[0])
    return _located(event, links, place)


def detect_text(text: str, exception_type: str = "") -> OomEvent | None:
    """Read an error's text.

    Args:
        text: Of any length; of a very long one both ends are read.
        exception_type: As a traceback prints it, "torch.OutOfMemoryError"; "" where it is not known.
    """
    probable = None
    for framework in FRAMEWORKS:
        event = framework.recognize(text, exception_type)
        if event is not None and event.certainty == "sure":
            return event
        probable = probable or event
    return probable


def _remote(links: list[tuple[BaseException, int]], place: int) -> Remote | None:
    """Which kind of process an exception came from; the cause of one that came here has come with it."""
    error, outer = links[place]
    told = came_from(error)
    if told is None and outer >= 0 and cause_of(links[outer][0]) is error:
        return _remote(links, outer)
    return told


def _is_own(error: BaseException) -> bool:
    """Whether it was raised for a lack of memory in itself, and does not only pass on another's text."""
    return cause_of(error) is None and _type_name(error).endswith(("MemoryError", "OutOfMemoryError"))


def _located(event: OomEvent, links: list[tuple[BaseException, int]], place: int) -> OomEvent:
    """Add what the tracebacks on the way to an exception say, the outermost exception's first."""
    places: list[Place] = []
    for index in _way_to(links, place):
        places.extend(read_places(links[index][0]))
    function, line = user_location(places)
    return replace(event, phase=read_phase(places), function=function, line=line)


def _way_to(links: list[tuple[BaseException, int]], place: int) -> list[int]:
    """Indexes of the exceptions from the outermost to this one."""
    way = []
    while place >= 0:
        way.append(place)
        place = links[place][1]
    return way[::-1]


def _text(error: BaseException) -> str:
    """What the exception prints; of one that cannot, the texts among its arguments."""
    try:
        return str(error)
    except Exception:  # any code may stand in a __str__
        return " ".join(one for one in exception_args(error) if type(one) is str)


def _type_name(error: BaseException) -> str:
    """The class as a traceback prints it: with its module, but for builtins."""
    kind = type(error)
    home = str(kind.__module__)
    return kind.__qualname__ if home in {"builtins", "__main__"} else f"{home}.{kind.__qualname__}"
