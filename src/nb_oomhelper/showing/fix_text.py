"""One fix, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.render import fill
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.markup import code
from nb_oomhelper.showing.outcome_text import blanks, places, said_rates, texts
from nb_oomhelper.showing.wording import is_noise, knows, say, say_size


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


def say_fix(case: Case, plan: FixPlan, catalog: Catalog, language: Language) -> FixRow:
    """Put a fix into words.

    Args:
        case: What it is a fix of.
        plan: The fix, made ready.
        catalog: The knowledge, which has its texts.
        language: "en" or "zh".
    """
    fields = blanks(plan.subject, case) | {"steps": str(plan.steps)}
    title, note, loses = (fill(text, fields) for text in texts(catalog, plan.fix, language))
    return FixRow(
        plan=plan,
        title=title,
        origin=say_origin(catalog.fix(plan.fix).origin, language),
        note=" ".join(part for part in (_obstacle(plan, language), note) if part),
        effect=_effect(plan, case, language),
        verdict="" if _is_done(plan, case) else _verdict(plan, case, language),
        label=say("fix.unsafe_reruns" if plan.reruns and loses else f"fix.{plan.applicability}", language),
        loses=loses if plan.applicability == "unsafe" else "",
        rates=said_rates(plan.fix, catalog, case.rates, language, case.match),
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
        return say("fix.gives_back", language, size=say_size(emptied, language))
    if is_noise(plan.predicted):
        return say("fix.nothing", language)
    return say("fix.frees", language, size=say_size(plan.predicted, language))


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
        return say(key, language, needed=say_size(case.diagnosis.rerun, language))
    never = any(cause.kind == "too_large" for cause in case.diagnosis.causes)
    return say("fix.fits_never" if never else "fix.fits_not", language)


def say_origin(file: Path | None, language: Language) -> str:
    """Say whose a fix or an entry is.

    Args:
        file: Where it was read; None for what is packaged, of which nothing is said.
        language: "en" or "zh".
    """
    return "" if file is None else say("fix.origin", language, file=code(file.name), folder=code(str(file.parent)))
