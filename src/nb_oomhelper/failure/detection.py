"""What an exception says about a lack of memory: read once, for all that comes after it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from linecache import getline
from types import FrameType

from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.failure.phase import read_phase, read_stage
from nb_oomhelper.failure.places import Place, read_places, user_location
from nb_oomhelper.failure.remote import answer_of, came_from, is_carried
from nb_oomhelper.failure.replaced import replaced_by, says_why
from nb_oomhelper.failure.retained import frames_of
from nb_oomhelper.failure.workers import read_worker
from nb_oomhelper.frameworks import TELLS_NO_MEMORY, has_rules, recognize
from nb_oomhelper.introspection import cause_of, class_mro, exception_args
from nb_oomhelper.records.event import OomEvent, Remote

# Of a script it is all of the code, which may well have an error's words in it.
_COMMAND = re.compile(r"\ACommand '.*?'(?= (?:returned non-zero exit status|died with) )", re.DOTALL)
_REPR = re.compile(r"(\w{0,80}MemoryError)\((.{0,4000}?)\)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as it was read. It refers to exceptions, and so to the user's frames: pass it on, never keep it.

    Attributes:
        errors: The exception and those behind it, outermost first.
        event: What failed; None where memory did not run out. It refers to nothing of the exceptions.
    """

    errors: tuple[BaseException, ...]
    event: OomEvent | None

    def frames(self) -> list[tuple[FrameType, int]]:
        """List the failed cell's frames, each once with the line that failed in it, as `frames_of` does."""
        return frames_of(self.errors)


def detect(error: BaseException) -> OomEvent | None:
    """Read an exception, and those behind it: causes, contexts, members of groups.

    Of several the one nearest the root counts, since wrappers repeat its text in part; one that is
    sure goes before one that is probable. What failed here while another process's error was handled
    goes before that.

    Returns:
        The event with phase, function and line off the traceback, and whose process it was; None where
        memory did not run out. It refers to nothing of the exception.
    """
    return read_failure(error).event


def read_failure(error: BaseException) -> Failure:
    """Read an exception as `detect` does, and give what was read with the event."""
    links = raised_with(error)
    event = _event_of(links)
    if event is None:
        links, event = _replaced(links)
    return Failure(errors=tuple(one for one, _ in links), event=event)


def _replaced(links: list[tuple[BaseException, int]]) -> tuple[list[tuple[BaseException, int]], OomEvent | None]:
    """The same with the errors that the first one has taken the place of, where one of those is ours."""
    more = list(links)
    for kept in replaced_by(links[0][0]):
        start = len(more)
        more += [(one, 0 if outer < 0 else start + outer) for one, outer in raised_with(kept)]
    event = _event_of(more) if len(more) > len(links) else None
    if event is None:
        return links, None
    return more, event if says_why(_text(links[0][0])) else replace(event, certainty="probable")


def _event_of(links: list[tuple[BaseException, int]]) -> OomEvent | None:
    found = []
    for place, (inner, _) in enumerate(links):
        event = _read(inner) or _unsendable(inner)
        if event is not None:
            rank = (not is_carried(inner), event.certainty == "sure", len(_way_to(links, place)), -place)
            found.append((rank, place, replace(event, remote=_whose(links, place, event))))
    if any(event.remote for _, _, event in found):  # what failed here meanwhile goes before it
        here = [one for one in found if one[2].remote is None and _is_own(links[one[1]][0])]
        found = here or found
    if not found:
        return None
    _, place, event = max(found, key=lambda one: one[0])
    return _located(event, links, place)


def _read(error: BaseException) -> OomEvent | None:
    """Read one exception, first by the rules of the package of its class, or of a class that this one derives from."""
    names = [_name_of(kind) for kind in class_mro(type(error))]
    kind = next((name for name in names if has_rules(name)), names[0])
    event = detect_text(_text(error), kind)
    return event if event is None or kind == names[0] else replace(event, exception_type=names[0])


def _unsendable(error: BaseException) -> OomEvent | None:
    """Read what Dask makes of an error that cannot be pickled: `Exception(repr(error))`."""
    told = _REPR.match(_text(error)) if type(error) is Exception and came_from(error) == "dask" else None
    return None if told is None else detect_text(told[2], told[1])


def detect_text(text: str, exception_type: str = "") -> OomEvent | None:
    """Read an error's text.

    Args:
        text: Of any length; of a very long one both ends are read.
        exception_type: As a traceback prints it, "torch.OutOfMemoryError"; "" where it is not known.

    Returns:
        The event, without what only a traceback tells; None where the text is about no lack of memory.
    """
    if exception_type.endswith("CalledProcessError"):
        text = _COMMAND.sub("Command '…'", text)
    return recognize(text, exception_type)


def _whose(links: list[tuple[BaseException, int]], place: int, event: OomEvent) -> Remote | None:
    """Which kind of process it was: by what brought the exception here, or by its text where that tells more."""
    told = _remote(links, place)
    return event.remote or told if told == "other" else told or event.remote


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
    if event.format in TELLS_NO_MEMORY and _pins(places):
        event = replace(event, backend="host", device=None, format="pt.pinned")
    if event.remote is not None:
        way = [links[index][0] for index in _way_to(links, place)]
        event = replace(event, worker=read_worker(event.remote, way, event.message))
    return replace(event, phase=read_phase(places), stage=read_stage(places), function=function, line=line)


def _pins(places: list[Place]) -> bool:
    """Whether the call that failed was to pin memory of the host, by its function's name or the line it stands in."""
    if not places:
        return False
    last = places[-1]
    return "pin_memory" in last.function or "pin_memory" in getline(last.file, last.line or 0)


def _way_to(links: list[tuple[BaseException, int]], place: int) -> list[int]:
    """Indexes of the exceptions from the outermost to this one."""
    way = []
    while place >= 0:
        way.append(place)
        place = links[place][1]
    return way[::-1]


def _text(error: BaseException) -> str:
    """What the exception prints, and a server's answer; of one that cannot print, the texts among its arguments."""
    try:
        text = str(error)
    except Exception:  # any code may stand in a __str__
        text = " ".join(one for one in exception_args(error) if type(one) is str)
    answer = answer_of(error)
    return f"{text}\n{answer}" if answer else text


def _type_name(error: BaseException) -> str:
    """The class as a traceback prints it: with its module, but for builtins."""
    return _name_of(type(error))


def _name_of(kind: type) -> str:
    home = str(kind.__module__)
    return kind.__qualname__ if home in {"builtins", "__main__"} else f"{home}.{kind.__qualname__}"
