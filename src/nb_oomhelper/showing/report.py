"""A case in words: the one structure that every way of showing it draws.

Texts hold no markup but backticks around code and `**` around what is to be bold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog, Match
from nb_oomhelper.knowledge.entry import DeadEndClaim
from nb_oomhelper.knowledge.render import fill
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.room import tightest
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.records.diagnosis import Cause, CauseKind, DeadEnd
from nb_oomhelper.records.memory import MemorySnapshot, Segment
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.outcome_text import blanks, code, places, plain, said_rates, tell, texts
from nb_oomhelper.showing.wording import knows, say
from nb_oomhelper.units import format_bytes

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Row = TypeVar("_Row")
_STARTED = ("dataloader worker", "process pool", "launcher")  # processes that this one has started, on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseRow:
    """One cause: its bytes, its share of the largest (0 to 1), and a sentence."""

    kind: CauseKind
    size: str
    share: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FixRow:
    """One fix as it is shown; `plan` is what runs, and `origin` whose it is, "" for what is packaged."""

    plan: FixPlan
    title: str
    origin: str
    note: str
    effect: str
    verdict: str
    label: str
    loses: str
    rates: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the bar: its kind, label, bytes as text, and its width in percent."""

    kind: str
    label: str
    size: str
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A case in words, in one language; `here` is False where another process ran out."""

    language: Language
    title: str
    place: str
    headline: str
    parts: tuple[Part, ...]
    cause_rows: tuple[CauseRow, ...]
    fixes: tuple[FixRow, ...]
    dead_ends: tuple[str, ...]
    outcomes: tuple[str, ...]
    entry: str
    claims: str
    notes: tuple[str, ...]
    here: bool = True


def write(case: Case, catalog: Catalog, language: Language) -> Report:
    """Put a case into words.

    What cannot be said in a language is said in English, and what cannot be said at all is left out.
    """

    def one(say_it: Callable[[Language], _T], otherwise: _T) -> _T:
        return _said(say_it, otherwise, language)

    def each(items: Iterable[_T], say_it: Callable[[_T, Language], _Row]) -> tuple[_Row, ...]:
        nothing: list[_Row] = []
        return tuple(row for item in items for row in _said(partial(_listed, say_it, item), nothing, language))

    return Report(
        language=language,
        title=one(lambda spoken: _title(case, spoken), ""),
        place=one(lambda spoken: _place(case, spoken), ""),
        headline=one(lambda spoken: _headline(case, spoken), ""),
        parts=one(lambda spoken: _bar(case, spoken), ()),
        cause_rows=each(case.diagnosis.causes, lambda cause, spoken: _why(cause, case, spoken)),
        fixes=each(case.plans, lambda plan, spoken: _fix(case, plan, catalog, spoken)),
        dead_ends=each(case.diagnosis.dead_ends, lambda end, spoken: _dead_end(case, end, spoken)),
        outcomes=each(case.outcomes, lambda outcome, spoken: " ".join(tell(outcome, case, catalog, spoken))),
        entry=one(lambda spoken: _entry(case.match, spoken), ""),
        claims=one(lambda spoken: _claims(case.match, spoken), ""),
        notes=one(lambda spoken: _notes(case, catalog, spoken), ()),
        here=case.event.remote is None,
    )


def _listed(say_it: Callable[[_T, Language], _Row], item: _T, language: Language) -> list[_Row]:
    return [say_it(item, language)]


def _said(say_it: Callable[[Language], _T], otherwise: _T, language: Language) -> _T:
    """A part of the report; a missing word or a record that breaks the rules must not cost the others."""
    languages: tuple[Language, ...] = (language,) if language == "en" else (language, "en")
    for spoken in languages:
        try:
            return say_it(spoken)
        except Exception:
            _log.debug("a part of the report failed", exc_info=True)
    return otherwise


def _bar(case: Case, language: Language) -> tuple[Part, ...]:
    if case.event.remote is not None:  # it is not this process's memory that ran out
        return ()
    return bar(case.snapshot, case.event.backend, language, case.diagnosis.requested)


def bar(snapshot: MemorySnapshot, backend: str, language: Language, requested: int | None = None) -> tuple[Part, ...]:
    """The parts of the memory bar whose bytes are known, with widths that add up to 100 %."""
    known = [(part, part.size) for part in segments(snapshot, backend, requested) if part.size is not None]
    whole = sum(size for _, size in known) or 1
    return tuple(_part(part, size, whole, language) for part, size in known)


def _title(case: Case, language: Language) -> str:
    if case.event.remote is not None:
        return say("remote.title", language, who=say(f"remote.{case.event.remote}", language))
    if case.event.certainty == "probable":
        return say("title.probable", language)
    key = case.event.backend if case.event.backend in ("cuda", "host") else "other"
    return say(f"title.{key}", language, backend=case.event.backend.upper())


def _place(case: Case, language: Language) -> str:
    event, device = case.event, case.snapshot.device
    if event.remote is not None:
        return ""
    if event.backend == "host":
        name, _, bound = tightest(case.snapshot.host)
        if name == "machine":
            return say("title.host_place", language)
        return say("title.host_limit", language, limit=name, size=format_bytes(bound))
    ordinal = event.backend if event.device is None else f"{event.backend}:{event.device}"
    capacity = case.diagnosis.capacity
    parts = [ordinal, device.name if device else None, format_bytes(capacity) if capacity else None]
    return " · ".join(part for part in parts if part)


def _headline(case: Case, language: Language) -> str:
    if case.event.remote is not None:
        return _headline_elsewhere(case, language)
    found, host_limit = case.diagnosis, tightest(case.snapshot.host)[0]
    known = {"requested": found.requested, "free": found.free, "short": found.short, "capacity": found.capacity}
    large = next((cause for cause in found.causes if cause.kind == "too_large"), None)
    if large is not None:
        key, known["capacity"] = f"headline.too_large{_bound(case)}", large.largest
    elif found.requested is None:
        key = "headline.none" if found.free is None else "headline.free"
    elif found.free is None:
        key = "headline.requested"
    else:
        key = "headline.full" if found.short else "headline.enough"
    sizes = {name: f"**{format_bytes(size)}**" for name, size in known.items()}
    asked = say(key, language, limit=_limit((large and large.limit) or host_limit, language), **sizes)
    return f"{asked} {load}" if (load := _whole_load(case, language)) else asked


def _headline_elsewhere(case: Case, language: Language) -> str:
    """Of another process: whose memory it was, and what its text tells."""
    found, started = case.diagnosis, case.event.remote in _STARTED
    told = say("remote.started" if started else "remote.elsewhere", language)
    if found.requested is None:
        return told
    key = "remote.asked" if found.free is None else "remote.asked_free"
    sizes = {name: f"**{format_bytes(getattr(found, name))}**" for name in ("requested", "free")}
    return f"{told} {say(key, language, **sizes)}"


def _bound(case: Case) -> str:
    """What a request can be larger than: the device, the machine, or a limit; the end of a sentence's key."""
    if case.event.backend != "host":
        return "_limit" if any(cause.kind == "too_large" and cause.limit for cause in case.diagnosis.causes) else ""
    return "_machine" if tightest(case.snapshot.host)[0] == "machine" else "_limit"


def _limit(name: str, language: Language) -> str:
    return say(f"limit.{name}", language) if knows(f"limit.{name}") else name


def _whole_load(case: Case, language: Language) -> str:
    """What a load takes in all, where it is known: the request that failed was one of many."""
    found = case.diagnosis
    if found.load is None:
        return ""
    key = "headline.load_alone"
    if found.room is not None:
        key = "headline.load_not" if found.load > found.room else "headline.load"
    return say(key, language, load=f"**{format_bytes(found.load)}**", room=f"**{format_bytes(found.room)}**")


def _part(part: Segment, size: int, whole: int, language: Language) -> Part:
    label = say(f"part.{part.kind}", language)
    return Part(kind=part.kind, label=label, size=format_bytes(size), width=100 * size / whole)


def _why(cause: Cause, case: Case, language: Language) -> CauseRow:
    held = (one.size or 0 for one in case.diagnosis.causes if one.kind not in ("limit", "too_large"))
    largest = max(held, default=0) or 1
    return CauseRow(
        kind=cause.kind,
        size=format_bytes(cause.size),
        share=min(1.0, (cause.size or 0) / largest),
        text=_cause(cause, case, language),
    )


def _cause(cause: Cause, case: Case, language: Language) -> str:
    key = cause.kind + {
        "other_process": "" if cause.process else "_unknown",
        "fragmentation": "" if cause.largest is None else "_largest",
        "too_large": _bound(case),
        "failed_cell": "" if cause.user_line is None else "_library",
        "variable": "_shared"
        if len(cause.names) > 1
        else "_path"
        if cause.path
        else "_role"
        if cause.role is not None and knows(f"role.{cause.role}")
        else "",
    }.get(cause.kind, "")
    return say(
        f"cause.{key}",
        language,
        names=", ".join(code(name) for name in cause.names),
        plain=plain(", ".join(cause.names)),
        function=plain(cause.function or "?"),
        line=cause.line,
        user_line=cause.user_line,
        role=say(f"role.{cause.role}", language) if knows(f"role.{cause.role}") else "",
        path=code(cause.path),
        pid=cause.pid,
        process=plain(cause.process or ""),
        capacity=format_bytes(cause.largest or case.diagnosis.capacity),
        limit=_limit(cause.limit or tightest(case.snapshot.host)[0], language),
        largest=format_bytes(cause.largest),
    )


def _fix(case: Case, plan: FixPlan, catalog: Catalog, language: Language) -> FixRow:
    fields = blanks(plan.subject, case)
    title, note, loses = (fill(text, fields) for text in texts(catalog, plan.fix, language))
    return FixRow(
        plan=plan,
        title=title,
        origin=_origin(catalog.fix(plan.fix).origin, language),
        note=" ".join(part for part in (_obstacle(plan, language), note) if part),
        effect=_effect(plan, case, language),
        verdict="" if _is_done(plan, case) else _verdict(plan, case, language),
        label=say(f"fix.{plan.applicability}", language),
        loses=loses if plan.applicability == "unsafe" else "",
        rates=said_rates(plan.fix, catalog, case.rates, language, case.match),
    )


def _origin(file: Path | None, language: Language) -> str:
    """Whose it is, where it is not packaged."""
    return "" if file is None else say("fix.origin", language, file=code(file.name), folder=code(str(file.parent)))


def _obstacle(plan: FixPlan, language: Language) -> str:
    if not plan.obstacle:
        return ""
    key = f"obstacle.{plan.obstacle}"
    return say(key if knows(key) else "obstacle.unwritable", language)


def _effect(plan: FixPlan, case: Case, language: Language) -> str:
    if _is_done(plan, case):
        return say("fix.done", language)
    if plan.placement is not None:
        return places(plan.placement, language) or say("fix.places_unknown", language)
    if plan.predicted is None:
        return say("fix.frees_unknown", language)
    emptied = case.snapshot.releasable or 0
    if plan.predicted == 0 and plan.fits and emptied:  # nothing is let go of, but for what was cached
        return say("fix.gives_back", language, size=format_bytes(emptied))
    return say("fix.frees", language, size=format_bytes(plan.predicted))


def _is_done(plan: FixPlan, case: Case) -> bool:
    """Whether it was run here already: what it would free once more is no longer the point."""
    return any(
        (outcome.fix, outcome.subject, outcome.error) == (plan.fix, plan.subject, None) for outcome in case.outcomes
    )


def _verdict(plan: FixPlan, case: Case, language: Language) -> str:
    if plan.placement is not None:
        known = plan.placement.gpu is not None
        return say("fix.load_fits" if plan.fits else "fix.load_tight", language) if plan.fits or known else ""
    if plan.fits is None:
        return ""
    if plan.fits:
        key = "fix.fits_part" if plan.whole_cell_fits is False else "fix.fits"  # that the cell runs, nobody knows
        return say(key, language, needed=format_bytes(case.diagnosis.rerun))
    never = any(cause.kind == "too_large" for cause in case.diagnosis.causes)
    return say("fix.fits_never" if never else "fix.fits_not", language)


def _dead_end(case: Case, end: DeadEnd, language: Language) -> str:
    found = case.diagnosis
    pinned = next((cause.size for cause in found.causes if cause.kind == "failed_cell"), None)
    key = "empty_cache_only" if end.reason == "empty_cache_short" and not found.short else end.reason
    text = say(
        f"dead_end.{key}",
        language,
        frees=format_bytes(end.frees),
        short=format_bytes(found.short),
        pinned=format_bytes(pinned),
        half=format_bytes(found.requested // 2 if found.requested else None),
        free=format_bytes(found.free),
        requested=format_bytes(found.requested),
    )
    claim = _claim(case.match, end)
    if case.match is None or claim is None:
        return text
    return f"{text} · {say('dead_end.claimed', language, rate=claim.rate, entry=plain(case.match.entry.code))}"


def _claim(match: Match | None, end: DeadEnd) -> DeadEndClaim | None:
    """What the entry says of this dead end, where the entry is about this error."""
    if match is None or match.relation != "match":
        return None
    return next((claim for claim in match.entry.dead_ends if claim.check == end.kind), None)


def _entry(match: Match | None, language: Language) -> str:
    if match is None:
        return say("entry.none", language)
    entry = match.entry
    written = [
        say(key, language)
        for kind, values in (("backend", entry.match.backends), ("phase", entry.match.phases))
        if kind in match.differs
        for key in (f"entry.{kind}_{value}" for value in values)
        if knows(key)
    ]
    title = plain(entry.title.get(language))
    said = say(f"entry.{match.relation}", language, code=plain(entry.code), title=title, written=", ".join(written))
    return " ".join(part for part in (said, _origin(entry.origin, language)) if part)


def _claims(match: Match | None, language: Language) -> str:
    if match is None:
        return ""
    entry = match.entry
    figures = {"fix_rate": entry.fix_rate, "confidence": entry.confidence, "evidence": entry.evidence}
    said = say("entry.claims", language, first_seen=entry.first_seen.isoformat(), **figures)
    return f"{said} · {plain(entry.source.get(language))}"


def _notes(case: Case, catalog: Catalog, language: Language) -> tuple[str, ...]:
    held, notes, here = case.snapshot.holdings, [], case.event.remote is None
    if here and not held.complete:
        seconds = f"{held.seconds:.1f}"
        notes.append(say("note.left_out", language, seconds=seconds, searched=held.searched, total=held.total))
    if case.event.certainty == "probable":
        notes.append(say("note.probable_host" if case.event.backend == "host" else "note.probable", language))
    if (
        why := next((plan.placement.why for plan in case.plans if plan.placement and plan.placement.why), None)
    ) is not None:
        notes.append(say("note.no_size", language, why=plain(why)))
    if here and case.snapshot.driver.note:
        notes.append(plain(case.snapshot.driver.note))
    if here and case.snapshot.device and case.snapshot.device.note:
        notes.append(plain(case.snapshot.device.note))
    notes.extend(say("note.knowledge", language, problem=plain(problem)) for problem in catalog.problems)
    return tuple(notes)
