"""A case in words: the one structure that every way of showing it draws.

Texts hold no markup but backticks around code and `**` around what is to be bold.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.room import tightest
from nb_oomhelper.memory.segments import is_told, segments_of
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import Segment
from nb_oomhelper.showing.advice_text import say_advice, say_beside, say_spot
from nb_oomhelper.showing.cause_text import CauseRow, say_cause, say_dead_end
from nb_oomhelper.showing.entry_text import Aside, say_advised, say_claims, say_entry, say_others
from nb_oomhelper.showing.fix_text import FixRow, say_fix
from nb_oomhelper.showing.headline import say_headline, say_verdict, say_who
from nb_oomhelper.showing.markup import plain, short
from nb_oomhelper.showing.notes import say_note, say_notes
from nb_oomhelper.showing.outcome_text import is_solved, next_plan, say_tried, tell
from nb_oomhelper.showing.wording import is_noise, say, say_row, say_size

_CUDAS = re.compile(r"cuda|cu(?:blas|dnn|fft|sparse|solver|rand)|hipblas", re.IGNORECASE)
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the bar: its kind, label, bytes as text, and its width in percent."""

    kind: str
    label: str
    size: str
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A case in words, in one language.

    Attributes:
        fixes: After which the cell is expected to run, or may; and those that were run.
        not_enough: Fixes after which it runs out again.
        asides: What the matching entry advises, in this case's order; and the entries that were passed over.
        tried: What was run for the same error of the same cell before, in one line, or "".
        here: Whether it was this process that ran out.
        advice: What to do about an error that a text tells of.
        solved: Whether the cell, or the load in it, has run to its end since.
        verdict: Whether the cell can run, in one sentence, where the headline does not say it; or "".
        seen: When this was seen, as local date and time, or "".
        first: Number of the fix to try now, or None.
    """

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
    asides: tuple[Aside, ...] = ()
    not_enough: tuple[FixRow, ...] = ()
    tried: str = ""
    here: bool = True
    advice: tuple[str, ...] = ()
    solved: bool = False
    verdict: str = ""
    seen: str = ""
    first: int | None = None

    @property
    def rows(self) -> tuple[FixRow, ...]:
        """All fixes."""
        return (*self.fixes, *self.not_enough)

    @property
    def lead(self) -> FixRow | None:
        """The fix to try now."""
        return next((row for row in self.rows if row.plan.number == self.first), None)

    @property
    def others(self) -> tuple[FixRow, ...]:
        """The fixes but the one to try now."""
        return tuple(row for row in self.rows if row.plan.number != self.first)

    @property
    def fold(self) -> str:
        """The key of what the others are called, folded away: more fixes, or none that is enough."""
        return "fold.more" if self.lead or self.fixes else "section.not_enough"

    @property
    def main_cause(self) -> CauseRow | None:
        """What holds most; where nobody holds anything, the first cause."""
        return max(self.cause_rows, key=lambda row: row.share, default=None)


def write(case: Case, catalog: Catalog, language: Language) -> Report:
    """Put a case into words.

    What cannot be said in a language is said in English, and what cannot be said at all is left out.

    Args:
        case: One error, with all that is known of it.
        catalog: The knowledge, which has the fixes' texts.
        language: "en" or "zh".
    """

    def one(say_it: Callable[[Language], _T], otherwise: _T) -> _T:
        return _said(say_it, otherwise, language)

    def each(items: Iterable[_T], say_it: Callable[[_T, Language], _Row]) -> tuple[_Row, ...]:
        nothing: list[_Row] = []
        return tuple(row for item in items for row in _said(partial(_listed, say_it, item), nothing, language))

    solved = is_solved(case)
    rows = each(case.plans, lambda plan, spoken: say_fix(case, plan, catalog, spoken))
    return Report(
        language=language,
        title=one(lambda spoken: _title(case, solved, spoken), ""),
        place=one(lambda spoken: _place(case, spoken), ""),
        headline=one(lambda spoken: say_headline(case, spoken), ""),
        parts=one(lambda spoken: _bar(case, spoken), ()),
        cause_rows=each(case.diagnosis.causes, lambda cause, spoken: say_cause(cause, case, spoken)),
        fixes=tuple(row for row in rows if row.plan.verdict != "again" or row.done),
        not_enough=tuple(row for row in rows if row.plan.verdict == "again" and not row.done),
        dead_ends=each(case.diagnosis.dead_ends, lambda end, spoken: say_dead_end(case, end, spoken)),
        outcomes=each(case.outcomes, lambda outcome, spoken: say_row(tell(outcome, case, catalog, spoken), spoken)),
        entry=one(lambda spoken: say_entry(case, spoken), ""),
        claims=one(lambda spoken: say_claims(case.match, spoken), ""),
        asides=one(lambda spoken: _asides(case, catalog, spoken), ()),
        notes=one(lambda spoken: _notes(case, catalog, spoken), ()),
        tried=one(lambda spoken: say_tried(case, catalog, spoken), ""),
        here=case.event.remote is None and case.told is None,
        advice=one(lambda spoken: say_advice(case, spoken), ()),
        solved=solved,
        verdict=one(lambda spoken: say_verdict(case, spoken), ""),
        seen=time.strftime("%Y-%m-%d %H:%M", time.localtime(case.snapshot.taken_at)) if case.told is None else "",
        first=None if solved else _first(case, rows),
    )


def _first(case: Case, rows: Iterable[FixRow]) -> int | None:
    """The fix to try now; where none makes the cell run, what costs nothing and makes room for a smaller cell."""
    chosen = next_plan(case)
    if chosen is not None:
        return chosen.number
    left = [row.plan for row in rows if not row.done]
    shown = (plan for plan in left if plan.verdict != "again")
    safe = (plan for plan in left if plan.applicability == "safe" and not plan.tried)
    frees = (plan for plan in safe if plan.predicted and not is_noise(plan.predicted))
    return next((plan.number for plan in (*shown, *frees)), None)


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
    if case.event.remote is not None and case.told is None:  # it is not this process's memory that ran out
        return ()
    parts = segments_of(case.event, case.snapshot, case.diagnosis.requested)
    return bar(tuple(part for part in parts if part.size or part.kind == "free"), language)


def bar(parts: tuple[Segment, ...], language: Language) -> tuple[Part, ...]:
    """Draw up the parts of the memory bar.

    Args:
        parts: In drawing order.
        language: "en" or "zh".

    Returns:
        Those whose bytes are known, with widths that add up to 100 %.
    """
    known = [(part, part.size) for part in parts if part.size is not None]
    whole = sum(size for _, size in known) or 1
    return tuple(_part(part, size, whole, language) for part, size in known)


def _title(case: Case, solved: bool, language: Language) -> str:
    if solved:
        return say("title.solved", language, title=_title(case, False, language))
    if case.event.remote is not None:
        key = "remote.title_probable" if case.event.certainty == "probable" else "remote.title"
        return say(key, language, who=say_who(case.event, language))
    if case.event.certainty == "probable":
        return say("title.probable", language)
    key = case.event.backend if case.event.backend in ("cuda", "host") else "other"
    return say(f"title.{key}", language, backend=case.event.backend.upper())


def _place(case: Case, language: Language) -> str:
    where = _where(case, language)
    if case.told is None:
        return where
    return " · ".join(part for part in (where, say_spot(case.told.spot, language)) if part)


def _where(case: Case, language: Language) -> str:
    """Which memory it is; of a cell's own the device, and the bound."""
    event, device = case.event, case.snapshot.device
    if event.remote is not None and case.told is None:
        return ""
    if event.backend == "host":
        name, _, bound = tightest(case.snapshot.host)
        if name == "machine":
            return say("title.host_place", language)
        return say("title.host_limit", language, limit=name, size=say_size(bound, language))
    ordinal = event.backend if event.device is None else f"{event.backend}:{event.device}"
    capacity = case.diagnosis.capacity
    named = short(device.name) if device and device.name else None
    parts = [ordinal, named, say_size(capacity, language) if capacity else None]
    return " · ".join(part for part in parts if part)


def _part(part: Segment, size: int, whole: int, language: Language) -> Part:
    label = say(f"part.{part.kind}", language)
    return Part(kind=part.kind, label=label, size=say_size(size, language), width=100 * size / whole)


def _asides(case: Case, catalog: Catalog, language: Language) -> tuple[Aside, ...]:
    found = (say_advised(case, catalog, language), say_others(case, language))
    return tuple(one for one in found if one.lines)


def _is_of_cudas(event: OomEvent) -> bool:
    """Whether CUDA or one of its libraries said it: an earlier call may have failed, which a synchronous run shows."""
    return event.backend in ("cuda", "hip") and _CUDAS.search(event.message) is not None


def _notes(case: Case, catalog: Catalog, language: Language) -> tuple[str, ...]:
    held, notes, here = case.snapshot.holdings, [], case.event.remote is None and case.told is None
    if here and not held.complete:
        key, seconds = "note.no_room" if held.no_room else "note.left_out", f"{held.seconds:.1f}"
        notes.append(say(key, language, seconds=seconds, searched=held.searched, total=held.total))
    notes.extend(say_beside(case, language))
    if case.event.certainty == "probable":
        notes.append(say("note.probable" if _is_of_cudas(case.event) else "note.probable_text", language))
    if (
        why := next((plan.placement.why for plan in case.plans if plan.placement and plan.placement.why), None)
    ) is not None:
        notes.append(say("note.no_size", language, why=say_note(why, language)))
    device = case.snapshot.device
    if here and is_told(case.event, case.snapshot) and case.event.backend != "cuda":
        notes.append(say("note.told", language, backend=case.event.backend.upper()))
    if here:
        notes.extend(say_notes((case.snapshot.driver.note, device.note if device else None), language))
    notes.extend(say("note.knowledge", language, problem=plain(problem)) for problem in catalog.problems)
    return tuple(notes)
