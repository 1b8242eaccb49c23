"""What a worker has answered, as far as it makes sense: an answer is a text from outside like any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from nb_oomhelper.memory.peaks import Peak
from nb_oomhelper.memory.usage import MemoryUsage
from nb_oomhelper.records.event import Remote
from nb_oomhelper.records.memory import Measure, Segment
from nb_oomhelper.records.note import Note, note
from nb_oomhelper.records.remedy import Outcome, decrease
from nb_oomhelper.untrusted import one_line

RELEASE_THERE = "release-there"
"""The id that an outcome has in place of a fix's: a release on workers."""

_FORM = 1  # of what `there` tells
_LONGEST = 120  # characters of a name
_MOST = 64  # GPUs of a machine
_HUGE = 1 << 60  # bytes: more is no size
_PARTS = get_args(get_type_hints(Segment)["kind"])
_SIZES = ("allocated", "cached", "rest", "others", "free", "capacity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back of one worker through its engine.

    Attributes:
        id: What the engine calls it.
        value: What the function has returned there; None where it has not.
        error: Class and text of the error that it ended with there, or None.
        problem: Why there is no answer, or None.
    """

    id: str
    value: object = None
    error: tuple[str, str] | None = None
    problem: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReply:
    """The memory of one worker, or why nobody knows it.

    Attributes:
        engine: "ipyparallel", "dask" or "ray".
        id: What the engine calls it: a number, an address, of Ray its machine's; "" where it is about no single one.
        host: Its machine, or None.
        pid: Its process there, or None.
        usages: How full its GPUs and its machine are; "this process" is the worker, of Ray the one that ran out.
        parts: The memory bar, in drawing order.
        peaks: What was taken there meanwhile, where that was measured.
        outcome: What a release there did, or None.
        problem: Why there is nothing of all that, or None.
    """

    engine: Remote
    id: str
    host: str | None = None
    pid: int | None = None
    usages: tuple[MemoryUsage, ...] = ()
    parts: tuple[Segment, ...] = ()
    peaks: tuple[Peak, ...] = ()
    outcome: Outcome | None = None
    problem: Note | None = None


def late(seconds: float) -> Note:
    """Say that a worker has not answered in time."""
    return note("engines.late", seconds=f"{seconds:g}")


def reply_of(engine: Remote, answer: Answer) -> WorkerReply:
    """Take of an answer what makes sense.

    Args:
        engine: Which engine's it is.
        answer: What came back.

    Returns:
        A figure that is no size is unknown; an answer that is none of ours is a problem.
    """
    reply = WorkerReply(engine=engine, id=answer.id)
    if answer.problem is not None:
        return replace(reply, problem=answer.problem)
    if answer.error is not None:
        return replace(reply, problem=_told(*answer.error))
    value = answer.value
    if type(value) is not dict or value.get("form") != _FORM:
        return replace(reply, problem=note("engines.form"))
    if "other" in value:
        return replace(reply, problem=note("engines.other"))
    return replace(
        reply,
        host=_text(value.get("host")),
        pid=_size(value.get("pid")),
        usages=tuple(_usages(value.get("rows"))),
        parts=tuple(_parts(value.get("parts"))),
        peaks=tuple(_peaks(value.get("peaks"))),
        outcome=_outcome(answer.id, value),
    )


def summed(replies: Iterable[WorkerReply]) -> Outcome | None:
    """Add up what releases on several workers did; None where none did anything."""
    done = [reply.outcome for reply in replies if reply.outcome is not None]
    if len(done) < 2:
        return done[0] if done else None
    host = any(one.before.backend == "host" for one in done)
    before, after = (_sum([getattr(one, side) for one in done], host) for side in ("before", "after"))
    return _between(", ".join(one.subject for one in done), before, after, max(one.seconds for one in done))


def _sum(measures: list[Measure], host: bool) -> Measure:
    def total(name: str) -> int | None:
        sizes = [getattr(one, name) for one in measures]
        return None if None in sizes else sum(sizes)

    return Measure(
        backend="host" if host else measures[0].backend, resident=total("resident"), allocated=total("allocated")
    )


def _told(kind: str, text: str) -> Note:
    """Why a function of ours has failed on a worker."""
    if kind in ("ModuleNotFoundError", "ImportError", "AttributeError") and "nb_oomhelper" in text:
        return note("engines.older" if "nb_oomhelper." in text else "engines.lacks")
    if kind == "EngineError":  # ipyparallel's, of an engine that has died meanwhile
        return note("engines.gone")
    if kind == "MemoryError":
        return note("engines.full")
    return note("engines.failed", error=_cut(f"{kind}: {text}".removesuffix(": ")))


def _outcome(subject: str, value: dict[Any, Any]) -> Outcome | None:
    if "before" not in value or "after" not in value:
        return None
    backend = "cuda" if value.get("backend") == "cuda" else "host"
    before, after = (_measure(backend, value[side]) for side in ("before", "after"))
    return _between(
        subject,
        before,
        after,
        _seconds(value.get("seconds")),
        tuple(_held(value.get("held"))),
    )


def _between(
    subject: str, before: Measure, after: Measure, seconds: float, held: tuple[tuple[str, int], ...] = ()
) -> Outcome:
    figure = "resident" if before.backend == "host" else "allocated"
    freed = decrease(getattr(before, figure), getattr(after, figure))
    return Outcome(
        fix=RELEASE_THERE, subject=subject, before=before, after=after, freed=freed, seconds=seconds, held=held
    )


def _measure(backend: str, figures: object) -> Measure:
    known = figures if type(figures) is dict else {}
    names = ("resident", "allocated", "device_used")
    return Measure(backend=backend, **{name: _size(known.get(name)) for name in names})


def _usages(rows: object) -> Iterator[MemoryUsage]:
    for row in _rows(rows):
        device = _text(row.get("device")) if type(row) is dict else None
        if device is not None:
            sizes: dict[str, Any] = {name: _size(row.get(name)) for name in _SIZES}
            yield MemoryUsage(device=device, ordinal=_text(row.get("ordinal")), name=_text(row.get("name")), **sizes)


def _parts(rows: object) -> Iterator[Segment]:
    for row in _rows(rows):
        if type(row) in (list, tuple) and len(row) == 2 and row[0] in _PARTS:
            yield Segment(kind=row[0], size=_size(row[1]))


def _peaks(rows: object) -> Iterator[Peak]:
    for row in _rows(rows):
        if type(row) in (list, tuple) and len(row) == 6 and row[0] in ("cuda", "host"):
            device = _size(row[1]) if row[0] == "cuda" else None
            before, peak, after = map(_size, row[2:5])
            yield Peak(
                backend=row[0], device=device, before=before, peak=peak, after=after, sampled=row[5] is not False
            )


def _held(rows: object) -> Iterator[tuple[str, int]]:
    for row in _rows(rows)[:3]:
        if type(row) in (list, tuple) and len(row) == 2 and (name := _text(row[0])) and (size := _size(row[1])):
            yield name, size


def _rows(rows: object) -> list[Any]:
    return list(rows)[:_MOST] if isinstance(rows, list | tuple) else []


def _size(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _HUGE else None


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < _HUGE else 0.0


def _text(value: object) -> str | None:
    return _cut(value) if type(value) is str and value.strip() else None


def _cut(text: str) -> str:
    line = one_line(text[: 10 * _LONGEST])  # it may be of any length
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
