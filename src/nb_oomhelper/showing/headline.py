"""The line under the title: what was asked for, what the cell needs, and whether anything here makes it run."""

from __future__ import annotations

import math
import re

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.room import tightest
from nb_oomhelper.records.event import OomEvent, Remote, Worker
from nb_oomhelper.showing.cause_text import bound_of, limit_name
from nb_oomhelper.showing.markup import plain, short
from nb_oomhelper.showing.outcome_text import is_solved
from nb_oomhelper.showing.wording import knows, say, say_row, say_size

_STARTED = ("dataloader worker", "process pool", "launcher")  # processes that this one has started, on this machine
_ARRAY = re.compile(r"with\sshape\s\(([\d, ]+)\)\sand\sdata\stype\s(\w+)")  # NumPy's words
_JOINS = re.compile(r"\bmerge\(|\.join\(")
_WIDENS = re.compile(r"\bpivot(_table)?\(|\bunstack\(|\bcrosstab\(|\bget_dummies\(")


def say_headline(case: Case, language: Language) -> str:
    """Put the case into one line.

    Args:
        case: One error, with all that is known of it.
        language: "en" or "zh".
    """
    if case.told is not None:
        return _told(case, language)
    if case.event.remote is not None:
        return _elsewhere(case, language)
    parts = [_asked(case, language), _whole_load(case, language) or _whole_cell(case, language)]
    if has_no_cure(case):
        return _no_cure(case, parts, language)
    return say_row(parts, language)


def say_verdict(case: Case, language: Language) -> str:
    """Say in one sentence whether the cell can run.

    Args:
        case: One error, with its plans.
        language: "en" or "zh".

    Returns:
        "" where the headline says it, where nobody can say it, and where the cell has run.
    """
    best = next((plan for plan in case.plans if plan.verdict != "again"), None)
    if best is None or case.told is not None or case.event.remote is not None:
        return ""
    if is_solved(case):
        return ""
    if best.verdict == "may":
        needs = None if best.loads or best.explains is not None else case.diagnosis.rerun
        key = "may_load" if best.loads else "may" if needs is None else "may_needs"
        return say(f"headline.{key}", language, needs=_bold(needs, language))
    if best.loads:
        return say("headline.can_load", language)
    if best.partial:
        return say("headline.can_partly", language)
    if best.explains is not None and not best.steps:  # a smaller size needs less; nothing was kept in vain
        mended = f"mended.{best.fix.replace('-', '_')}"  # what is needed, though not in that form or at that place
        return say(mended if knows(mended) else "headline.can_mend", language, size=_bold(best.explains, language))
    needs, room = case.diagnosis.rerun, best.room
    if best.reruns or needs is None or room is None or room < needs:
        return say("headline.can", language)
    return say("headline.can_room", language, needs=_bold(needs, language), room=_bold(room, language))


def say_who(event: OomEvent, language: Language) -> str:
    """Name the other process that ran out.

    Args:
        event: One with `remote`.
        language: "en" or "zh".
    """
    return say_worker(event.remote or "other", event.worker or Worker(), language)


def say_worker(kind: Remote, worker: Worker, language: Language) -> str:
    """Name a process of another program's.

    Args:
        kind: Whose.
        worker: Which one it is, as far as that is known.
        language: "en" or "zh".
    """
    numbered = worker.id is not None and knows(f"remote.{kind}_id")
    who = say(f"remote.{kind}{'_id' if numbered else ''}", language, id=short(worker.id or ""))
    if worker.pid is None and worker.host is None:
        return who
    key = "at" if worker.pid and worker.host else "at_pid" if worker.pid else "at_host"
    return say(f"remote.{key}", language, who=who, pid=worker.pid, host=short(worker.host or ""))


def has_no_cure(case: Case) -> bool:
    """Whether the cell runs out again after each fix that there is; False where nobody could plan any.

    Args:
        case: One error, with its plans.
    """
    return bool(case.plans) and all(plan.verdict == "again" for plan in case.plans)


def _asked(case: Case, language: Language) -> str:
    """What the error says of one allocation."""
    found, host_limit = case.diagnosis, tightest(case.snapshot.host)[0]
    known = {"requested": found.requested, "free": found.free, "short": found.short, "capacity": found.capacity}
    large = next((cause for cause in found.causes if cause.kind == "too_large"), None)
    if large is not None:
        key, known["capacity"] = f"headline.too_large{bound_of(case)}", large.largest
    elif found.requested is None:
        key = "headline.none" if found.free is None else "headline.free"
    elif found.free is None:
        key = "headline.requested"
    else:
        key = "headline.full" if found.short else "headline.enough"
    sizes = {name: _bold(size, language) for name, size in known.items()}
    return say(key, language, limit=limit_name((large and large.limit) or host_limit, language), **sizes)


def _elsewhere(case: Case, language: Language) -> str:
    """Of another process: whose memory it was, what its text tells, and what helps there."""
    found, started = case.diagnosis, case.event.remote in _STARTED
    parts = [say("remote.started" if started else "remote.elsewhere", language)]
    if found.requested is not None:
        key = "remote.asked" if found.free is None else "remote.asked_free"
        sizes = {name: _bold(getattr(found, name), language) for name in ("requested", "free")}
        parts.append(say(key, language, **sizes))
    if knows(helps := f"advice.{case.event.remote}"):
        parts.append(say(helps, language))
    return say_row([*parts, *_log(case.event, language)], language)


def _log(event: OomEvent, language: Language) -> list[str]:
    """What shows the worker's log, where its engine keeps one and that worker is known."""
    worker, key = event.worker, f"remote_log.{event.remote}"
    if worker is None or not knows(key):
        return []
    names: list[str | None] = [name for name, _ in worker.each] or [worker.id]
    needed = names if event.remote == "dask" else [worker.host, worker.pid]
    if None in needed:
        return []
    return [say(key, language, names=plain(str(names)), host=plain(worker.host or ""), pid=worker.pid)]


def _told(case: Case, language: Language) -> str:
    """Of an error in a text: whose memory it was, and what the text tells of it."""
    found, event = case.diagnosis, case.event
    if event.remote == "command":
        whose = say("told.command", language)
    elif event.remote == "java" and not event.exception_type:  # it may have printed this itself
        whose = say("told.java", language, who=say_who(event, language))
    elif event.remote is not None:
        whose = say("told.remote", language, who=say_who(event, language))
    else:
        whose = say("told.printed", language)
    known = {"requested": found.requested, "free": found.free, "short": found.short or None}
    key = "_".join(["asked", *(name for name, size in known.items() if size is not None and name != "requested")])
    key = "none" if found.requested is None else key
    asked = say(f"told.{key}", language, **{name: _bold(size, language) for name, size in known.items()})
    return say_row([asked, whose], language)


def _whole_load(case: Case, language: Language) -> str:
    """What a load takes in all, where it is known: the request that failed was one of many."""
    found = case.diagnosis
    if found.load is None:
        return ""
    key = "headline.load_alone"
    if found.room is not None:
        key = "headline.load_not" if found.load > found.room else "headline.load"
    return say(key, language, load=_bold(found.load, language), room=_bold(found.room, language))


def _whole_cell(case: Case, language: Language) -> str:
    """What the cell takes in all, where that is more than the request."""
    needs, requested = case.diagnosis.rerun, case.diagnosis.requested
    if needs is None or requested is None or needs <= requested or _is_too_large(case):
        return ""
    size = say_size(needs, language)
    if size in say_verdict(case, language):
        return ""
    return say("headline.needs", language, needs=f"**{size}**")


def _no_cure(case: Case, parts: list[str], language: Language) -> str:
    """That nothing helps, why not, and what would have to be another."""
    grows = any(plan.shortage.grows for plan in case.plans if plan.shortage)
    room = max((plan.room for plan in case.plans if plan.room is not None), default=None)
    needs = case.diagnosis.rerun
    if grows and not _is_too_large(case):
        parts = [say("headline.no_cure_grows", language)]
    elif needs is not None and room is not None and room < needs and case.diagnosis.load is None:
        sizes = {"needs": _bold(needs, language), "room": _bold(room, language)}
        if _is_too_large(case):
            parts = parts[:1]
        elif sizes["needs"] != sizes["room"]:  # else it is short by less than is shown
            parts = [say("headline.no_cure_needs", language, **sizes)]
    change = _change(case, language, grows=grows)
    return say("headline.no_cure", language, why=say_row(parts, language), change=change)


def _change(case: Case, language: Language, *, grows: bool) -> str:
    """What would have to be another: in the user's terms where the error or the cell tells them."""
    array = _ARRAY.search(case.event.message)
    if array is not None:
        shape = [int(number) for number in re.findall(r"\d+", array[1])]
        key = "change_table" if _WIDENS.search(case.cell) else "change_array" if len(shape) > 1 else "change_values"
        key = "change_rows" if _JOINS.search(case.cell) else key
        count = f"{math.prod(shape):,}"
        sides = " × ".join(f"{number:,}" for number in shape)
        return say(f"headline.{key}", language, count=count, shape=sides, dtype=array[2])
    if case.diagnosis.load is not None:
        return say("headline.change_load", language)
    return say("headline.change_grows" if grows else "headline.change_smaller", language)


def _is_too_large(case: Case) -> bool:
    return any(cause.kind == "too_large" for cause in case.diagnosis.causes)


def _bold(size: int | None, language: Language) -> str:
    return f"**{say_size(size, language)}**"
