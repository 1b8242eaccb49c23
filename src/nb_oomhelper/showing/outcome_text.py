"""What a fix did, in sentences; and what every sentence about fixes is made of."""

from __future__ import annotations

from nb_oomhelper.case import Case
from nb_oomhelper.engines import RELEASE_THERE
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.render import fill
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import FixPlan, Outcome, Placement, Step
from nb_oomhelper.showing.markup import code, plain, short
from nb_oomhelper.showing.repeat_text import say_gone, say_repeats
from nb_oomhelper.showing.wording import is_noise, say, say_freed, say_list, say_row, say_size


def tell(outcome: Outcome, case: Case, catalog: Catalog, language: Language) -> list[str]:
    """Put an outcome into sentences: what was freed, what was promised, whether the request would fit, and each step.

    Args:
        outcome: What came of a fix.
        case: What it was a fix of.
        catalog: The knowledge, which has the fix's texts.
        language: "en" or "zh".
    """
    if outcome.ran is not None or outcome.error is not None:
        return _of_cell(outcome, case, catalog, language)
    lines = [_did(outcome, case, catalog, language)]
    if outcome.predicted is not None:
        lines.append(say("outcome.predicted", language, predicted=say_freed(outcome.predicted, language)))
    lines += [*_driver(outcome, language), *_held(outcome, language)]
    if outcome.loaded:
        lines.extend([say("outcome.loaded", language), *_placed(outcome, language)])
    else:
        lines.extend(_fits(outcome, language))
    if outcome.whole_cell_fits is not None and case.diagnosis.rerun != outcome.requested:
        key = "outcome.again_fits" if outcome.whole_cell_fits else "outcome.again_not"
        lines.append(say(key, language, needed=say_size(case.diagnosis.rerun, language)))
    return [*lines, *say_steps(outcome, language)]


def say_steps(outcome: Outcome, language: Language) -> list[str]:
    """Say what each step of a release gave back, where the outcome does not say how the cell fared.

    Args:
        outcome: What came of a fix.
        language: "en" or "zh".

    Returns:
        One line; none where nothing came back.
    """
    worth = [step for step in outcome.steps if step.error or not is_noise(max(_fallen(step), default=0))]
    if not worth or outcome.ran is not None or outcome.error is not None:
        return []
    steps = say_list((_step(step, language) for step in worth), language, "list.then")
    return [say("outcome.steps", language, steps=steps)]


def is_solved(case: Case) -> bool:
    """Whether the cell, or the load in it, has run to its end since.

    Args:
        case: The case, with what was run.
    """
    return any(outcome.ran or outcome.loaded for outcome in case.outcomes[-1:])


def say_tried(case: Case, catalog: Catalog, language: Language) -> str:
    """Say what was run for the same error of the same cell before.

    Args:
        case: The case, with its earlier outcomes.
        catalog: The knowledge, which has the fixes' texts.
        language: "en" or "zh".

    Returns:
        One line; "" where nothing was.
    """
    if not case.earlier:
        return ""
    tried = say_list(dict.fromkeys(_tried(one, case, catalog, language) for one in case.earlier), language)
    return say("outcome.tried", language, tried=tried)


def _tried(outcome: Outcome, case: Case, catalog: Catalog, language: Language) -> str:
    title = fix_title(outcome.fix, outcome.subject, case, catalog, language)
    key = "tried_nothing" if outcome.freed is None or is_noise(outcome.freed) or outcome.freed < 0 else "tried_freed"
    key = key if outcome.error is None else "tried_failed"
    return say(f"outcome.{key}", language, title=title, freed=say_size(outcome.freed, language))


def _of_cell(outcome: Outcome, case: Case, catalog: Catalog, language: Language) -> list[str]:
    """Where the cell was run, or nothing: how it went, in place of what would fit; and what else there is."""
    did = _did(outcome, case, catalog, language)
    if outcome.error is not None:
        how = say("outcome.error", language, error=plain(outcome.error))
    elif outcome.ran:
        return [say("outcome.again_done", language), did, *_placed(outcome, language)]
    else:
        how = say("outcome.again_failed", language, error=plain(outcome.cell_error or ""))
    fits = [] if outcome.ran is not None or outcome.planned is not None else _fits(outcome, language)
    return [how, did, *_held(outcome, language), *fits, *_next(outcome, case, catalog, language)]


def _did(outcome: Outcome, case: Case, catalog: Catalog, language: Language) -> str:
    """What was freed."""
    seconds = _seconds(outcome)
    title = fix_title(outcome.fix, outcome.subject, case, catalog, language)
    if outcome.freed is None:
        return say("outcome.unknown", language, title=title, seconds=seconds)
    return _freed(outcome, title, seconds, language)


def _driver(outcome: Outcome, language: Language) -> list[str]:
    before, after = outcome.before.device_used, outcome.after.device_used
    if before is None or after is None:
        return []
    return [say("outcome.driver", language, before=say_size(before, language), after=say_size(after, language))]


def _fits(outcome: Outcome, language: Language) -> list[str]:
    """Whether what had failed would fit."""
    if outcome.fits is None:
        return []
    key = "outcome.fits" if outcome.fits else "outcome.fits_not"
    requested, free = say_size(outcome.requested, language), say_size(outcome.after.free, language)
    return [say(key, language, requested=requested, free=free)]


def _placed(outcome: Outcome, language: Language) -> list[str]:
    """Where a loaded model's weights are, beside where they were to go, and in which folder of ours; else nothing."""
    lines: list[str] = []
    name = short(outcome.subject)
    here = places(outcome.placed, language) if outcome.placed else ""
    planned = places(outcome.planned, language) if outcome.planned else ""
    if here:
        key = "outcome.placed_planned" if planned else "outcome.placed"
        lines.append(say(key, language, name=name, places=here, planned=planned))
    if outcome.folder is not None:
        lines.append(say("outcome.folder", language, name=name, folder=plain(outcome.folder)))
    return lines


def _next(outcome: Outcome, case: Case, catalog: Catalog, language: Language) -> list[str]:
    """After a fix that failed: the next one that was not tried yet."""
    plan = next_plan(case, outcome)
    if plan is None:
        return []
    title = fix_title(plan.fix, plan.subject, case, catalog, language)
    return [say("outcome.next", language, number=plan.number, title=title)]


def next_plan(case: Case, outcome: Outcome | None = None) -> FixPlan | None:
    """Find the fix to try next; after a load another load.

    Args:
        case: The case, with what was run.
        outcome: The one that has failed; None where it does not matter which.

    Returns:
        The first that can be run and was not, and after which the cell runs, or may.
    """
    tried = {(one.fix, one.subject) for one in case.outcomes}
    left = [one for one in case.plans if (one.fix, one.subject) not in tried and one.applicability != "display_only"]
    fitting = [one for one in left if one.loads] if outcome is not None and outcome.planned is not None else left
    return next((one for one in fitting if one.verdict != "again"), None)


def places(placement: Placement, language: Language) -> str:
    """Say where a model's bytes are or would go.

    Args:
        placement: Bytes on the GPU, in host memory and on disk.
        language: "en" or "zh".

    Returns:
        Those that are not zero; "" where nothing is known.
    """
    sizes = {"on_gpu": placement.gpu, "on_host": placement.host, "on_disk": placement.disk}
    # a size does not break over two lines
    known = {key: say_size(size, language).replace(" ", "\u00a0") for key, size in sizes.items() if size}
    return " + ".join(say(f"fix.{key}", language, size=size) for key, size in known.items())


def summary(outcome: Outcome, language: Language) -> list[str]:
    """Say what `release()` did: the bytes, each step, and who keeps the rest.

    Args:
        outcome: What came of it.
        language: "en" or "zh".
    """
    freed = _freed(outcome, "release()", _seconds(outcome), language)
    steps = [f"- {_step(step, language)}" for step in outcome.steps]
    return [freed, *_driver(outcome, language), *steps, *_held(outcome, language)]


def _step(step: Step, language: Language) -> str:
    """What one step did, and what it gave back: the allocator's and the driver's figures apart."""
    if step.error is not None:
        return say(f"step.{step.done}_failed", language, error=step.error)
    done = say(f"step.{step.done}", language, count=step.count, name=code(step.name or ""))
    if step.allocated is None and step.device_used is None:
        return say("step.host", language, done=done, resident=say_freed(step.resident, language))
    sizes = {name: say_freed(getattr(step, name), language) for name in ("allocated", "device_used")}
    return say("step.gpu", language, done=done, **sizes)


def _fallen(step: Step) -> list[int]:
    gpu = [size for size in (step.allocated, step.device_used) if size is not None]
    return gpu or [step.resident or 0]


def _held(outcome: Outcome, language: Language) -> list[str]:
    held = [(name, size) for name, size in outcome.held if not (outcome.loaded and name == outcome.subject)]
    if not held:
        return []
    names = say_list((f"{code(name)} {say_size(size, language)}" for name, size in held), language)
    return [say("outcome.held", language, names=names)]


def fix_title(fix: str, subject: str, case: Case, catalog: Catalog, language: Language) -> str:
    """Find a fix's title, with its subject filled in.

    Args:
        fix: Its id.
        subject: The name, pid or model that it is about.
        case: What it is a fix of.
        catalog: The knowledge, which has its texts.
        language: "en" or "zh".
    """
    if fix == RELEASE_THERE:  # no fix of the knowledge: it runs on workers
        return say("engines.title", language)
    return fill(texts(catalog, fix, language)[0], blanks(subject, case))


def fix_loses(plan: FixPlan, case: Case, catalog: Catalog, language: Language) -> str:
    """Say what a fix costs.

    Args:
        plan: The fix, made ready.
        case: What it is a fix of.
        catalog: The knowledge, which has its texts.
        language: "en" or "zh".
    """
    loses = fill(texts(catalog, plan.fix, language)[2], blanks(plan.subject, case))
    parts = (loses, say_gone(plan, language), say_repeats(case, plan, language))
    return say("fix.loses", language, loses=say_row(parts, language))


def _freed(outcome: Outcome, title: str, seconds: str, language: Language) -> str:
    host = outcome.before.backend == "host"
    figure = "resident" if host else "allocated"
    before = outcome.before.resident if host else outcome.before.allocated
    after = outcome.after.resident if host else outcome.after.allocated
    freed = outcome.freed  # a load can leave more behind than the release before it gave back, and so can the cell
    took = "outcome.took_ran" if outcome.ran else "outcome.took"
    level = "outcome.level_ran" if outcome.ran else "outcome.freed_nothing"
    return say(
        level if is_noise(freed) else took if freed and freed < 0 else "outcome.freed",
        language,
        title=title,
        freed=say_size(None if freed is None else abs(freed), language),
        before=say_size(before, language),
        after=say_size(after, language),
        figure=say(f"outcome.{figure}", language),
        seconds=seconds,
    )


def _seconds(outcome: Outcome) -> str:
    return f"{outcome.seconds:.1f}" if outcome.seconds >= 0.05 else "< 0.1"


def texts(catalog: Catalog, fix: str, language: Language) -> tuple[str, str, str]:
    """Find a fix's title, note, and what it loses, with their blanks.

    Args:
        catalog: The knowledge.
        fix: Its id.
        language: "en" or "zh".
    """
    found = catalog.fix(fix)
    return found.title.get(language), found.note.get(language), found.loses.get(language)


def blanks(subject: str, case: Case) -> dict[str, str]:
    """Find what a fix's texts fill their blanks with.

    Args:
        subject: The name, pid or model that the fix is about.
        case: What it is a fix of.

    Returns:
        Text without markup, by the blanks' names: name, pid, device, target, model, loader, module.
    """
    call = case.event.call
    fields = {
        "name": subject,
        "pid": subject,
        "device": _device(case),
        "target": (call and call.target) or "model",
        "model": (call and (call.value or call.model or call.target)) or "your-model",
        "loader": (call and call.loader) or "",
        "module": (call and call.module) or "",
    }
    return {name: short(text) for name, text in fields.items()}


def _device(case: Case) -> str:
    """The other GPU that a load could go to."""
    own = case.event.device or 0
    others = [one.placement.device for one in case.plans if one.placement and one.placement.device not in (None, own)]
    return f"cuda:{others[0]}" if others else "cuda:1"
