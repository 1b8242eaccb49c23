"""Which out-of-memory errors a text tells of: each once, with its place, by the rules that exceptions are read by."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.failure.documents import Document, Piece
from nb_oomhelper.failure.phase import read_phase, read_stage
from nb_oomhelper.failure.places import Place, user_location
from nb_oomhelper.failure.printed import Group, Raised, Row, groups_of, rows_of
from nb_oomhelper.failure.remote import is_log_of, is_named_in, is_printed_by
from nb_oomhelper.failure.workers import read_worker
from nb_oomhelper.frameworks import TELLS_NO_MEMORY, messages
from nb_oomhelper.frameworks._messages import SIZE
from nb_oomhelper.records.event import FailedCall, OomEvent, Remote
from nb_oomhelper.records.told import Reading, Spot, Told

_FOUND = 50  # errors that are told one by one
_NAMED = 12  # sizes, and kinds of other errors, that are told where there is none
_IN_A_ROW = 40  # of one group of rows
_SIZES = re.compile(SIZE)
_PASSED_ON = frozenset(rule.format for known in messages.GENERAL for rule in known.rules)
_PACKAGE = re.compile(r"[/\\](?:site|dist)-packages[/\\](\w{1,80})[/\\]")
_STANDARD = re.compile(r"/lib/python\d[\w.]{0,8}/(?!(?:site|dist)-packages/)")  # of whatever machine the text is from


def read_told(document: Document) -> Reading:
    """Search a text for errors for lack of memory.

    Args:
        document: As it was read.

    Returns:
        What was found; or, where nothing was, what else the text tells.
    """
    search = _Search()
    lines = 0
    for piece in document.pieces:
        lines += piece.text.rstrip("\n").count("\n") + 1
        search.add(piece)
    found = search.sure or search.vague
    reading = Reading(found=tuple(found[:_FOUND]), more=max(0, len(found) - _FOUND), lines=lines)
    reading = replace(reading, skipped=document.skipped)
    if found:
        return reading
    return replace(reading, others=tuple(search.others.items())[-_NAMED:], sizes=_sizes(document.pieces))


class _Search:
    """What was found so far. Vague is what only speaks of it, and is no error that was raised."""

    def __init__(self) -> None:
        self.sure: list[Told] = []
        self.vague: list[Told] = []
        self.others: dict[str, Spot] = {}

    def add(self, piece: Piece) -> None:
        for group in groups_of(rows_of(piece.text, piece.spot.line)):
            found = _raised_in(group) if group.errors else _loose_in(group.loose)
            for told in found:
                self._put(replace(told, spot=replace(piece.spot, line=told.spot.line)), raised=bool(group.errors))
            last = group.errors[-1] if group.errors else None
            if last is not None and last.kind and not found:
                self.others.pop(last.kind, None)
                self.others[last.kind] = replace(piece.spot, line=last.rows[0].line)

    def _put(self, told: Told, *, raised: bool) -> None:
        into = self.sure if raised or told.event.certainty == "sure" else self.vague
        for place in range(len(into) - 1, max(-1, len(into) - 1 - 4 * _FOUND), -1):
            merged = _merged(into[place], told)
            if merged is not None:
                into[place] = merged
                return
        into.append(told)


def _merged(known: Told, told: Told) -> Told | None:
    """Both as one, where they are the same error: with equal figures, and not from two places of the code."""
    if known.spot == told.spot:  # a row that was searched twice: the second time with more after it
        return replace(told, times=known.times)
    same = known.spot.cell == told.spot.cell and _figures(known.event) == _figures(told.event)
    if not same or (known.file and told.file and _place(known) != _place(told)):
        return None
    fuller = known if known.file or not told.file else replace(told, spot=known.spot)
    return replace(fuller, times=known.times + told.times)


def _figures(event: OomEvent) -> tuple[object, ...]:
    sizes = (event.requested, event.free, event.capacity, event.allocated, event.reserved, event.limit)
    return (event.framework, event.backend, event.device, event.remote, *sizes)


def _place(told: Told) -> tuple[object, ...]:
    return told.file, told.event.function, told.event.line


def _raised_in(group: Group) -> list[Told]:
    """The error that a traceback, with those that it is linked to, is about: the one nearest the root."""
    found: list[tuple[tuple[bool, bool, int], Told]] = []
    beside: list[Told] = []  # what a log says right after an error
    remote: Remote | None = None
    for place, error in enumerate(group.errors):
        text = _text(error.rows)
        told = is_named_in(error.kind, text)
        remote = remote or told
        events = _events(error.rows, error.kind.partition("(")[0])
        for event, row in events[:1]:
            figures = event.requested is not None  # a class alone makes it one, whatever its text
            found.append(((event.certainty == "sure", figures, -place), _located(event, row, error)))
        beside += [Told(event=event, spot=Spot(line=row.line)) for event, row in events[1:]]
    if not found:
        return []
    best = max(found, key=lambda one: one[0])[1]
    before = next((row.printed_by for error in group.errors for row in error.rows if row.printed_by), "")
    texts = "\n".join(_text(error.rows) for error in group.errors)
    return [replace(best, event=_elsewhere(best.event, remote, before, texts)), *beside]


def _elsewhere(event: OomEvent, remote: Remote | None, before: str, texts: str) -> OomEvent:
    """Add whose process it was, where it was another's: by the message, by the classes, or by what stands before."""
    remote = event.remote or remote or is_printed_by(before) or is_log_of(texts)
    if remote is None:
        return event
    return replace(event, remote=remote, worker=read_worker(remote, (), before + texts))


def _located(event: OomEvent, row: Row, error: Raised) -> Told:
    """Add what the traceback says."""
    places = [one for one in error.places if not _STANDARD.search(one.file)]
    function, line = user_location(places)
    if event.format in TELLS_NO_MEMORY and error.places and "pin_memory" in error.places[-1].function:
        event = replace(event, backend="host", device=None, format="pt.pinned")
    phase, stage = read_phase(error.places), read_stage(error.places)
    event = replace(event, phase=phase, stage=stage, function=function, line=line, call=_loader(error.places))
    return Told(event=event, spot=Spot(line=row.line), file=_file(places, function, line))


def _loader(places: Sequence[Place]) -> FailedCall | None:
    """A package's `from_pretrained`, by the file that it stands in."""
    for one in places:
        package = _PACKAGE.search(one.file)
        if package is not None and one.function.rpartition(".")[2] == "from_pretrained":
            return FailedCall(loader="from_pretrained", module=package[1])
    return None


def _file(places: Sequence[Place], function: str | None, line: int | None) -> str | None:
    named = [one.file for one in places if one.line == line and one.function == (function or "<module>")]
    return named[-1] if named and line is not None else None


def _loose_in(rows: Sequence[Row]) -> list[Told]:
    return [
        Told(event=_elsewhere(event, None, row.printed_by, event.message), spot=Spot(line=row.line))
        for event, row in _events(rows, "")
    ]


def _events(rows: Sequence[Row], kind: str) -> list[tuple[OomEvent, Row]]:
    """The messages in some rows, first to last, each with the row where it begins.

    Args:
        rows: Of an error, or of none.
        kind: The error's class; "" for none.
    """
    texts = tuple(row.text for row in rows)
    found = list(_messages(texts))
    if kind:
        place = found[0][1] if found else 0
        own = _of_class(texts[: found[1][1] if len(found) > 1 else None], kind)
        found = [(own, place), *found[1:]] if own is not None else found
    return [(event, rows[place]) for event, place in found]


@functools.lru_cache(64)  # a log says the same again and again
def _of_class(texts: tuple[str, ...], kind: str) -> OomEvent | None:
    """The message of an error of a class that may tell by itself, whatever a log has said after it."""
    read = [detect_text("\n".join(texts), kind), detect_text("\n".join(texts[:1]), kind)]
    events = [event for event in read if event is not None]
    return max(events, key=lambda event: (event.certainty == "sure", _known(event)), default=None)


@functools.lru_cache(64)
def _messages(texts: tuple[str, ...]) -> tuple[tuple[OomEvent, int], ...]:
    """The messages in some lines, with the place of the line where each begins.

    The rules find one message of a text, and of a framework's the last. It begins in the last line without which it is
    not found; what stands before that line is read again, and what stands after it, for a message of another framework.
    """
    found: list[tuple[OomEvent, int]] = []
    end = len(texts)
    while end > 0 and len(found) < _IN_A_ROW:
        event = detect_text("\n".join(texts[:end]))
        if event is None:
            break
        begin = _begin(texts[:end], event)
        later = [(one, begin + at) for one, at in _later(texts[begin:end]) if not _is_rest(one, event)]
        own = detect_text("\n".join(texts[begin : later[0][1] if later else end])) or event
        found = [*later, *found]
        if not (found and (_is_passed_on(own, found[0][0]) or _goes_on(own, begin, *found[0]))):
            found = [(own, begin), *found]
        end = begin
    return tuple(found)


def _later(texts: tuple[str, ...]) -> list[tuple[OomEvent, int]]:
    """Further messages in some lines, beside the one that begins in the first of them."""
    found = []
    for one, after in _messages(texts[1:]):
        own = detect_text("\n".join(texts[: after + 1]))  # without the figures of what comes then
        if own is not None and _is_another(one, own):
            found.append((one, after + 1))
    return found


def _is_rest(later: OomEvent, event: OomEvent) -> bool:
    """Whether a message is only the end of one above it, whose first line stands by itself."""
    return later.format.endswith(".cut") and (later.framework, later.requested) == (event.framework, event.requested)


def _is_another(later: OomEvent, event: OomEvent) -> bool:
    """Whether a message tells of another failure than one above it.

    A program may say the same once more: in its own words, or in those of CUDA or C++ that it passes on.
    """
    if later.backend != event.backend:
        return True
    if _is_passed_on(event, later):
        return True
    if later.framework == event.framework or later.format in _PASSED_ON:
        return False
    return later.requested is None or later.requested != event.requested


def _is_passed_on(event: OomEvent, later: OomEvent) -> bool:
    """Whether a message is only what CUDA or C++ has said, of what a program then tells in its own words."""
    general = event.format in _PASSED_ON and later.format not in _PASSED_ON
    return general and event.backend == later.backend and event.requested in (None, later.requested)


def _goes_on(event: OomEvent, begin: int, later: OomEvent, after: int) -> bool:
    """Whether the next line of the same program has the figures that a message lacks."""
    same = (event.framework, event.backend) == (later.framework, later.backend)
    return same and after == begin + 1 and _known(event) < _known(later)


def _begin(texts: tuple[str, ...], event: OomEvent) -> int:
    """The last line from which a message is found as it is in all of them."""
    low, high = 0, len(texts) - 1
    while low < high:
        middle = (low + high + 1) // 2
        again = detect_text("\n".join(texts[middle:]))
        if again is not None and _same(again, event):
            low = middle
        else:
            high = middle - 1
    return low


def _known(event: OomEvent) -> int:
    """How many figures a message gives."""
    return sum(figure is not None for figure in _figures(event))


def _same(again: OomEvent, event: OomEvent) -> bool:
    return (again.format, _figures(again)) == (event.format, _figures(event))


def _text(rows: Iterable[Row]) -> str:
    return "\n".join(row.text for row in rows)


def _sizes(pieces: Sequence[Piece]) -> tuple[tuple[str, Spot], ...]:
    """The sizes that a text names, each once."""
    found: dict[str, Spot] = {}
    for piece in pieces:
        for row in rows_of(piece.text, piece.spot.line):
            for size in _SIZES.findall(row.text):
                found.setdefault(size, replace(piece.spot, line=row.line))
            if len(found) >= _NAMED:
                return tuple(found.items())[:_NAMED]
    return tuple(found.items())
