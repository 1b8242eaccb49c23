"""One fix, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.render import fill
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.forecast import Forecast
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.showing.markup import code
from nb_oomhelper.showing.outcome_text import blanks, fix_title, places, texts
from nb_oomhelper.showing.rate_text import said_rates
from nb_oomhelper.showing.repeat_text import say_gone, say_repeats
from nb_oomhelper.showing.wording import is_noise, knows, say, say_row, say_size


@dataclass(frozen=True, slots=True, kw_only=True)
class FixRow:
    """One fix as it is shown; `plan` is what runs, `origin` whose it is, "" for what is packaged; `done`: it ran.

    `asks`: it costs more than another run of the cell as it stands in the panel.
    """

    plan: FixPlan
    title: str
    origin: str
    note: str
    effect: str
    verdict: str
    label: str
    loses: str
    rates: str
    asks: bool = False
    done: bool = False


def say_fix(case: Case, plan: FixPlan, catalog: Catalog, language: Language) -> FixRow:
    """Put a fix into words.

    Args:
        case: What it is a fix of.
        plan: The fix, made ready.
        catalog: The knowledge, which has its texts.
        language: "en" or "zh".
    """
    fix = catalog.fix(plan.fix)
    fields = blanks(plan.subject, case) | {"steps": str(plan.steps)}
    title, note, loses = (fill(text, fields) for text in texts(catalog, plan.fix, language))
    twice = say_repeats(case, plan, language)
    return FixRow(
        plan=plan,
        title=title,
        origin=say_origin(fix.origin, language),
        note=say_row((_obstacle(plan, fix, language), note, "" if loses else twice), language),
        effect=_effect(plan, case, language),
        verdict="" if _is_done(plan, case) else _verdict(plan, case, language),
        label=_risk(plan, bool(loses), language),
        loses=say_row((loses, say_gone(plan, language), twice), language) if plan.applicability == "unsafe" else "",
        asks=plan.applicability == "unsafe" and (fix.asks or bool(twice)),
        rates=said_rates(plan.fix, catalog, case.rates, language, case.match, ours=plan.verdict != "again"),
        done=_is_done(plan, case),
    )


_RISKS = {
    "delete-variable": "risk_deletes",
    "forget-output-history": "risk_clears_out",
    "empty-container": "risk_empties",
    "drop-gradients": "risk_gradients",
    "detach-list": "risk_detaches",
    "detach-tensor": "risk_detaches",
}


def _risk(plan: FixPlan, loses: bool, language: Language) -> str:
    """What it does to what the user has."""
    key: str = plan.applicability
    if key == "unsafe":
        key = _RISKS.get(plan.fix, "unsafe_reruns" if plan.reruns and loses else "risk_loads" if plan.loads else key)
    return say(f"fix.{key}", language, name=code(plan.subject))


def _obstacle(plan: FixPlan, fix: Fix, language: Language) -> str:
    if plan.obstacle == "untrusted":
        return say("obstacle.untrusted", language, file=code(str(fix.origin), whole=True))
    if not plan.obstacle:
        return ""
    key = f"obstacle.{plan.obstacle}"
    return say(key if knows(key) else "obstacle.unwritable", language)


def say_stale(case: Case, number: int, catalog: Catalog, language: Language) -> str:
    """Say why a fix was not run: what it is about is gone, or has changed.

    Args:
        case: The case.
        number: The fix's own.
        catalog: The knowledge, which has its texts.
        language: "en" or "zh".
    """
    plan = next(one for one in case.plans if one.number == number)
    title = fix_title(plan.fix, plan.subject, case, catalog, language)
    return say(f"not_run.{plan.obstacle}", language, title=title)


def _effect(plan: FixPlan, case: Case, language: Language) -> str:
    if _is_done(plan, case):
        return say("fix.done", language)
    if plan.placement is not None:
        return places(plan.placement, language) or say("fix.places_unknown", language)
    if plan.predicted is None and plan.forecast is not None:  # which says what is needed in all
        return ""
    if plan.predicted is None and plan.explains is not None:
        return say("fix.saves", language, size=say_size(plan.explains, language))
    if plan.predicted is None:
        return say("fix.frees_unknown", language)
    emptied = case.snapshot.releasable or 0
    if plan.predicted == 0 and plan.fits and emptied:  # nothing is let go of, but for what was cached
        return say("fix.gives_back", language, size=say_size(emptied, language))
    if is_noise(plan.predicted):
        return say("fix.nothing", language)
    return _frees(plan, plan.predicted, case, language)


def _frees(plan: FixPlan, predicted: int, case: Case, language: Language) -> str:
    """What comes back: every fix releases the failed cell as well, and what that alone gives is told apart."""
    alone = next((one.predicted for one in case.plans if one.fix == "release-failed-cell"), None) or 0
    if plan.fix == "release-failed-cell" or is_noise(alone) or is_noise(predicted - alone) or predicted < alone:
        return say("fix.frees", language, size=say_size(predicted, language))
    sizes = {"own": say_size(predicted - alone, language), "released": say_size(alone, language)}
    return say("fix.frees_with", language, **sizes)


def _is_done(plan: FixPlan, case: Case) -> bool:
    """Whether it was run here already: what it would free once more is no longer the point."""
    return any(
        (outcome.fix, outcome.subject, outcome.error) == (plan.fix, plan.subject, None) for outcome in case.outcomes
    )


def _verdict(plan: FixPlan, case: Case, language: Language) -> str:
    """Whether the cell runs then; where nobody knows, or it does not, why."""
    if plan.forecast is not None and not plan.tried:
        return _foreseen(plan.forecast, language)
    if plan.verdict == "runs":
        return say(f"verdict.runs{'_load' * plan.loads}{'_partly' * plan.partial}", language)
    why = _may if plan.verdict == "may" else _again
    needs, room = _needs(plan, case), _room(plan, case)
    said = {"needs": say_size(needs, language), "room": say_size(room, language)}
    if said["needs"] == said["room"]:  # short by less than is shown
        needs = None if plan.verdict == "again" else needs
    return say(f"verdict.{why(plan, needs, room)}", language, **said)


def _foreseen(found: Forecast, language: Language) -> str:
    if found.verdict == "unknown":
        key = "late" if found.ended == "deadline" else "unknown"
        return say(f"forecast_fix.{key}", language, line=found.line or "?", error=found.error)
    likely = (found.reserved or found.allocated).likely
    sizes = {"likely": say_size(likely, language), "room": say_size(found.room, language)}
    return say(f"forecast_fix.{found.verdict}", language, **sizes)


def _may(plan: FixPlan, needs: int | None, room: int | None) -> str:
    if plan.loads:
        return "may_tight" if plan.placement and plan.placement.gpu is not None else "may"
    if plan.partly:
        own = f"may_partly_{plan.fix.replace('-', '_')}"
        return own if knows(f"verdict.{own}") else "may_partly"
    if plan.explains is not None and needs is not None and room is not None:
        return "may_tight"
    if plan.reruns or plan.predicted is None:  # the effect beside it reads "unknown"
        return "may"
    if needs is None:
        return "may_needs_unknown"
    return "may_room_unknown" if room is None else "may_needs"


def _again(plan: FixPlan, needs: int | None, room: int | None) -> str:
    shortage = plan.shortage
    if plan.tried:
        return "again_tried"
    if shortage is not None and not plan.loads and (shortage.impossible or shortage.grows):
        return "again_impossible" if shortage.impossible else "again_grows"
    return "again" if needs is None or room is None or room >= needs else "again_needs"


def _needs(plan: FixPlan, case: Case) -> int | None:
    """Bytes that must be there at least; with what is put by for an error where it fails for that alone."""
    if plan.loads:
        return case.diagnosis.load
    needs = case.diagnosis.rerun
    enough = needs is not None and plan.room is not None and plan.room >= needs
    return plan.shortage.needs if enough and plan.shortage is not None else needs


def _room(plan: FixPlan, case: Case) -> int | None:
    if plan.loads:
        return case.diagnosis.room
    return plan.shortage.room if plan.room is None and plan.shortage is not None else plan.room


def say_origin(file: Path | None, language: Language) -> str:
    """Say whose a fix or an entry is.

    Args:
        file: Where it was read; None for what is packaged, of which nothing is said.
        language: "en" or "zh".
    """
    if file is None:
        return ""
    return say("fix.origin", language, file=code(file.name), folder=code(str(file.parent), whole=True))
