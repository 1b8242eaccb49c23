"""What is said around the entry of a case: why others were passed over, and what it advises in this case."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.choosing import Choice, Match, choose
from nb_oomhelper.knowledge.entry import Scope
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.diagnosis import Cause, DeadEnd, Diagnosis
from nb_oomhelper.records.holdings import Holding, Holdings
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies.advised import rank_workarounds, weigh_dead_ends
from nb_oomhelper.showing.case_record import record_of
from nb_oomhelper.showing.entry_text import say_advised, say_entry, say_others, why_not
from nb_oomhelper.showing.frontends import _html, _static, _text
from nb_oomhelper.showing.report import write
from tests.cases import EVENT, GIB, SCRIPT, SNAPSHOT, STARS, TICKS, catalog, rich_case

pytestmark = pytest.mark.plain

LANGUAGES: tuple[Language, ...] = get_args(Language)
KNOWN = load_catalog()
FIRST = KNOWN.entry("CUDA-OOM-001")
BARE = Diagnosis(requested=2 * GIB, free=GIB, capacity=8 * GIB, short=GIB)


def plans(**verdicts: Any) -> tuple[FixPlan, ...]:
    """One plan for each of these fixes."""
    return tuple(
        FixPlan(number=number, fix=fix.replace("_", "-"), code="pass", applicability="safe", verdict=verdict)
        for number, (fix, verdict) in enumerate(verdicts.items(), 1)
    )


# -- workarounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"reload_offload": "again", "clear_then_reload": "runs"}, [(3, "runs"), (2, "not_here"), (1, "again")]),
        ({"reload_offload": "may", "gradient_checkpointing": "runs"}, [(2, "runs"), (1, "may"), (3, "not_here")]),
        ({}, [(1, "not_here"), (2, "not_here"), (3, "not_here")]),
    ],
)
def test_workarounds_stand_by_what_their_fixes_promise(verdicts: Any, expected: Any) -> None:
    found = rank_workarounds(FIRST, plans(**verdicts))
    assert [(one.number, one.standing) for one in found] == expected


def test_of_several_plans_of_a_fix_the_best_counts() -> None:
    two = plans(reload_offload="again") + tuple(replace(one, number=2) for one in plans(reload_offload="runs"))
    first = rank_workarounds(FIRST, two)[0]
    assert (first.number, first.plan and first.plan.number) == (1, 2)


def test_what_is_done_by_hand_is_neither_first_nor_last() -> None:
    rows = (replace(FIRST.workarounds[0], fix=None), *FIRST.workarounds[1:])
    entry = replace(FIRST, workarounds=rows)
    found = rank_workarounds(entry, plans(gradient_checkpointing="again", clear_then_reload="may"))
    assert [(one.number, one.standing) for one in found] == [(3, "may"), (1, "by_hand"), (2, "again")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_runs_out_again_is_said_and_last(language: Language) -> None:
    case = rich_case()
    case.outcomes, case.earlier = [], ()
    case.plans = tuple(
        replace(plan, verdict="again", tried=True) for plan in case.plans if plan.fix == "reload-offload"
    )
    lines = say_advised(case, catalog(), language).lines
    assert [line for line in lines if "✗" in line] == [lines[len(FIRST.workarounds) - 1]]
    assert "✓" not in "".join(lines)


# -- dead ends -------------------------------------------------------------------------------------------------------


def holds(snapshot: Any = SNAPSHOT, event: Any = EVENT, diagnosis: Diagnosis = BARE, check: Any = "empty_cache") -> Any:
    entry = replace(FIRST, dead_ends=(replace(FIRST.dead_ends[0], check=check),))
    (found,) = weigh_dead_ends(entry, event, snapshot, diagnosis)
    return found.holds, found.size


def test_a_dead_end_that_the_diagnosis_has_found_holds() -> None:
    found = replace(BARE, dead_ends=(DeadEnd(kind="empty_cache", frees=0, reason="empty_cache_short"),))
    assert holds(diagnosis=found) == ("here", None)
    assert holds(check=None) == ("unchecked", None)


def test_the_cache_helps_where_another_library_needs_room() -> None:
    """What PyTorch has cached is nothing to PyTorch's own request, and all that cuBLAS needs."""
    assert SNAPSHOT.allocator is not None
    cached = replace(SNAPSHOT, allocator=replace(SNAPSHOT.allocator, allocated=GIB, reserved=5 * GIB))
    assert holds(cached, diagnosis=replace(BARE, requested=None, short=None)) == ("not_here", 4 * GIB)
    assert holds(cached, diagnosis=replace(BARE, short=5 * GIB)) == ("unchecked", None)
    assert holds(cached, event=replace(EVENT, backend="host")) == ("unchecked", None)
    assert holds(cached, event=replace(EVENT, remote="ray")) == ("unchecked", None)  # it is not this cache


def test_garbage_fragments_and_phases() -> None:
    rows = (Holding(kind="unreachable", name="", backend="cuda", own=2 * GIB),)
    garbage = replace(SNAPSHOT, holdings=Holdings(rows=rows, shares=(((0,), 2 * GIB),)))
    assert holds(garbage, check="gc_collect") == ("not_here", 2 * GIB)
    assert holds(garbage, diagnosis=replace(BARE, short=3 * GIB), check="gc_collect") == ("unchecked", None)
    fragmented = replace(BARE, causes=(Cause(kind="fragmentation", size=GIB),))
    assert holds(diagnosis=fragmented, check="expandable_segments") == ("not_here", None)
    assert holds(check="expandable_segments") == ("unchecked", None)
    training, inference = replace(EVENT, phase="train"), replace(EVENT, phase="infer")
    assert holds(event=training, check="checkpointing") == ("not_here", None)
    assert holds(event=inference, check="checkpointing") == ("unchecked", None)
    assert holds(event=inference, check="no_grad") == ("not_here", None)
    assert holds(event=training, check="smaller_batch") == ("not_here", GIB)
    assert holds(check="smaller_batch") == ("unchecked", None)  # a load has no batch
    assert holds(check="restart_unchanged") == ("unchecked", None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_dead_end_that_is_none_here_is_last_and_says_so(language: Language) -> None:
    case = rich_case()
    assert case.snapshot.allocator is not None
    allocator = replace(case.snapshot.allocator, allocated=GIB, reserved=5 * GIB)
    case.snapshot = replace(case.snapshot, allocator=allocator)
    case.diagnosis = replace(
        case.diagnosis, dead_ends=tuple(end for end in case.diagnosis.dead_ends if end.kind != "empty_cache")
    )
    *_, last = say_advised(case, catalog(), language).lines
    assert "4.00 GiB" in last
    assert "empty_cache" in last


def test_only_what_matches_advises() -> None:
    case = rich_case()
    assert case.match is not None
    case.choice = Choice(best=replace(case.match, relation="related"))
    assert not say_advised(case, catalog(), "en").lines


# -- what was passed over --------------------------------------------------------------------------------------------

CONDITIONS = {
    "framework": Scope(frameworks=("jax",)),
    "backend": Scope(backends=("host",)),
    "phase": Scope(phases=("train",)),
    "stage": Scope(stages=("backward",)),
    "remote": Scope(remotes=("ray",)),
    "format": Scope(formats=("other.format",)),
    "says": Scope(says=("something else",)),
    "cause": Scope(causes=("fragmentation",)),
    "module": Scope(modules=("diffusers",)),
    "call": Scope(calls=("concat",)),
}


def test_every_condition_is_here() -> None:
    assert len(CONDITIONS) == len(fields(Scope)) - len(("mends", "hint"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_does_not_hold_is_said(name: str, language: Language) -> None:
    """Beside one that holds and tells problems apart; with what was read, and without."""
    scope = replace(CONDITIONS[name], says=("cuda out of memory",) if name != "says" else ("something else",))
    mine = replace(FIRST, code="MINE-1", id="mine", match=replace(scope, calls=scope.calls or ("load",)))
    event = replace(EVENT, stage="optimizer") if name == "stage" else EVENT
    found = choose([mine], event, BARE, "model = load()")
    (other,) = found.others
    assert (other.relation, other.differs) == ("passed", (name,))
    for known in (dict(found.read), {}):
        (line,) = why_not(other, known, language)
        assert not {"{", "None"} & set(line.split())
        assert len(line) > 5


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("differs", [(), ("others",), ("hint",), ("phase", "cause"), ("hint", "module", "call")])
def test_what_is_only_likely_is_said(differs: tuple[str, ...], language: Language) -> None:
    relation: Any = "related" if differs else "match"
    lines = list(why_not(Match(entry=FIRST, relation=relation, differs=differs), {}, language))
    assert len(lines) == 1 + ("hint" in differs and len(differs) > 1)


def test_runners_up_are_folded_and_three_at_most() -> None:
    case = rich_case()
    case.choice = replace(case.choice, others=case.choice.others * 2)
    found = say_others(case, "en")
    assert len(found.lines) == 3
    assert found.title == "Other entries considered: CUDA-OOM-015, CUDA-OOM-029, HOST-OOM-009"
    assert found.lines[2].endswith(": it is about host memory, and here it was a CUDA device")
    report = write(case, catalog(), "en")
    shown = _html.folds(report)
    assert "<summary>Other entries considered: CUDA-OOM-015" in shown
    assert "<summary>What CUDA-OOM-001 advises" in shown
    saved, text = _static.render(report), _text.render(report)
    assert "<summary>What CUDA-OOM-001 advises" in saved
    assert "considered" not in saved + text
    assert "`%oom entry CODE` shows what an entry advises." in text


def test_what_was_considered_is_said_where_no_entry_matches() -> None:
    case = rich_case()
    case.choice = replace(case.choice, best=None)
    assert "<summary>Other entries considered" in _static.render(write(case, catalog(), "en"))


def hostile(case: Case) -> Case:
    text = replace(FIRST.title, en=f"{SCRIPT} {STARS} {TICKS}")
    mine = replace(
        FIRST,
        code=TICKS,
        title=text,
        workarounds=(replace(FIRST.workarounds[0], text=text),),
        dead_ends=(replace(FIRST.dead_ends[0], tried=text),),
        match=replace(FIRST.match, says=(SCRIPT.lower(), TICKS)),
        origin=Path("/tmp/mine.toml"),
    )
    other = Match(entry=mine, relation="passed", differs=("says",))
    case.choice = Choice(best=Match(entry=mine, relation="match"), others=(other,), read=(("module", STARS + TICKS),))
    return case


def test_what_an_entry_of_somebody_else_says_has_no_markup() -> None:
    case = hostile(rich_case())
    found = write(case, catalog(), "en")
    assert len(found.asides) == 2
    for line in (line for aside in found.asides for line in aside.lines):
        assert "`code`" not in line.replace("`'code'`", "")
        assert "***" not in line
    assert SCRIPT not in _static.render(found)
    case.choice = replace(case.choice, best=None)
    assert "`'code'`" not in say_entry(case, "en").replace("`*bold*'code'`", "")


def test_where_none_is_clearly_the_one_that_is_said() -> None:
    case = rich_case()
    assert case.match is not None
    near = replace(case.match, relation="related", differs=("phase",))
    case.choice = Choice(others=(near,), read=(("framework", "pytorch"), ("cause", "failed_cell, variable")))
    said = say_entry(case, "en")
    assert said.startswith("No entry of the knowledge base is clearly about this error. What was read of it: ")
    assert "cause: what the failed cell keeps, what a variable holds" in said
    assert "not told: the phase." in said


def test_the_record_has_all_of_it() -> None:
    case = rich_case()
    found = record_of(case, catalog())
    assert [one["workaround"] for one in found["entry"]["workarounds"]] == [1, 3, 2]
    assert {one["holds"] for one in found["entry"]["dead_ends"]} == {"here"}
    assert [one["code"] for one in found["others"]] == [one.entry.code for one in case.choice.others]
    assert all(one["why"] and "`" not in one["why"] for one in found["others"])
    assert {"condition": "framework", "value": "pytorch"} in found["read"]
