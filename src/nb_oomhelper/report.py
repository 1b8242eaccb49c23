"""A case in words: the one structure that every way of showing it draws.

Texts hold no markup but backticks around code and `**` around what is to be bold.
"""

from __future__ import annotations

from dataclasses import dataclass

from nb_oomhelper.case import Case
from nb_oomhelper.catalog import Catalog, DeadEndClaim, Entry, Match, fill, installed_version
from nb_oomhelper.diagnose import segments, tightest
from nb_oomhelper.export import to_markdown
from nb_oomhelper.model import Cause, CauseKind, DeadEnd, FixPlan, MemorySnapshot, Segment
from nb_oomhelper.outcomes import blanks, code, places, plain, said_rates, tell, texts
from nb_oomhelper.units import format_bytes
from nb_oomhelper.wording import Language, knows, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """One cause: its bytes, its share of the largest (0 to 1), and a sentence."""

    kind: CauseKind
    size: str
    share: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FixRow:
    """One fix as it is shown; `plan` is what runs."""

    plan: FixPlan
    title: str
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
    """A case in words, in one language."""

    language: Language
    title: str
    place: str
    headline: str
    parts: tuple[Part, ...]
    whys: tuple[Why, ...]
    fixes: tuple[FixRow, ...]
    dead_ends: tuple[str, ...]
    outcomes: tuple[str, ...]
    entry: str
    claims: str
    notes: tuple[str, ...]


def write(case: Case, catalog: Catalog, language: Language) -> Report:
    """Put a case into words."""
    return Report(
        language=language,
        title=_title(case, language),
        place=_place(case, language),
        headline=_headline(case, language),
        parts=bar(case.snapshot, case.event.backend, language, case.diagnosis.requested),
        whys=_whys(case, language),
        fixes=tuple(_fix(case, plan, catalog, language) for plan in case.plans),
        dead_ends=tuple(_dead_end(case, end, language) for end in case.diagnosis.dead_ends),
        outcomes=tuple(" ".join(tell(outcome, case, catalog, language)) for outcome in case.outcomes),
        entry=_entry(case.match, language),
        claims=_claims(case.match, language),
        notes=_notes(case, catalog, language),
    )


def bar(snapshot: MemorySnapshot, backend: str, language: Language, requested: int | None = None) -> tuple[Part, ...]:
    """The parts of the memory bar whose bytes are known, with widths that add up to 100 %."""
    known = [(part, part.size) for part in segments(snapshot, backend, requested) if part.size is not None]
    whole = sum(size for _, size in known) or 1
    return tuple(_part(part, size, whole, language) for part, size in known)


def entry_page(entry: Entry, language: Language) -> str:
    """An entry as Markdown, with the versions that are installed here beside its own."""
    installed = {row.package: installed_version(row.package) for row in entry.versions}
    return to_markdown(entry, language, installed)


def _title(case: Case, language: Language) -> str:
    if case.event.certainty == "probable":
        return say("title.probable", language)
    key = case.event.backend if case.event.backend in ("cuda", "host") else "other"
    return say(f"title.{key}", language, backend=case.event.backend.upper())


def _place(case: Case, language: Language) -> str:
    event, device = case.event, case.snapshot.device
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
    found = case.diagnosis
    known = {"requested": found.requested, "free": found.free, "short": found.short}
    if found.requested is None:
        key = "headline.none" if found.free is None else "headline.free"
    elif found.free is None:
        key = "headline.requested"
    else:
        key = "headline.full" if found.short else "headline.enough"
    asked = say(key, language, **{name: f"**{format_bytes(size)}**" for name, size in known.items()})
    return f"{asked} {load}" if (load := _whole_load(case, language)) else asked


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


def _whys(case: Case, language: Language) -> tuple[Why, ...]:
    held = (cause.size or 0 for cause in case.diagnosis.causes if cause.kind not in ("limit", "too_large"))
    largest = max(held, default=0) or 1
    return tuple(
        Why(
            kind=cause.kind,
            size=format_bytes(cause.size),
            share=min(1.0, (cause.size or 0) / largest),
            text=_cause(cause, case, language),
        )
        for cause in case.diagnosis.causes
    )


def _cause(cause: Cause, case: Case, language: Language) -> str:
    key = cause.kind + {
        "other_process": "" if cause.process else "_unknown",
        "fragmentation": "" if cause.largest is None else "_largest",
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
        role=say(f"role.{cause.role}", language) if knows(f"role.{cause.role}") else "",
        path=code(cause.path),
        pid=cause.pid,
        process=plain(cause.process or ""),
        capacity=format_bytes(case.diagnosis.capacity),
        limit=say(f"limit.{cause.limit}", language) if knows(f"limit.{cause.limit}") else cause.limit,
        largest=format_bytes(cause.largest),
    )


def _fix(case: Case, plan: FixPlan, catalog: Catalog, language: Language) -> FixRow:
    fields = blanks(plan.subject, case)
    title, note, loses = (fill(text, fields) for text in texts(catalog, plan.fix, language))
    return FixRow(
        plan=plan,
        title=title,
        note=" ".join(part for part in (_obstacle(plan, language), note) if part),
        effect=_effect(plan, case, language),
        verdict="" if _is_done(plan, case) else _verdict(plan, case, language),
        label=say(f"fix.{plan.applicability}", language),
        loses=loses if plan.applicability == "unsafe" else "",
        rates=said_rates(plan.fix, catalog, case.rates, language),
    )


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
        key = "fix.fits_part" if plan.again is False else "fix.fits"
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
    return say(f"entry.{match.relation}", language, code=plain(entry.code), title=title, written=", ".join(written))


def _claims(match: Match | None, language: Language) -> str:
    if match is None:
        return ""
    entry = match.entry
    figures = {"fix_rate": entry.fix_rate, "confidence": entry.confidence, "evidence": entry.evidence}
    said = say("entry.claims", language, first_seen=entry.first_seen.isoformat(), **figures)
    return f"{said} · {plain(entry.source.get(language))}"


def _notes(case: Case, catalog: Catalog, language: Language) -> tuple[str, ...]:
    held, notes = case.snapshot.holdings, []
    if not held.complete:
        seconds = f"{held.seconds:.1f}"
        notes.append(say("note.left_out", language, seconds=seconds, searched=held.searched, total=held.total))
    if case.event.certainty == "probable":
        notes.append(say("note.probable_host" if case.event.backend == "host" else "note.probable", language))
    if (
        why := next((plan.placement.why for plan in case.plans if plan.placement and plan.placement.why), None)
    ) is not None:
        notes.append(say("note.no_size", language, why=plain(why)))
    if case.snapshot.driver.note:
        notes.append(plain(case.snapshot.driver.note))
    if case.snapshot.device and case.snapshot.device.note:
        notes.append(plain(case.snapshot.device.note))
    notes.extend(say("note.knowledge", language, problem=plain(problem)) for problem in catalog.problems)
    return tuple(notes)
