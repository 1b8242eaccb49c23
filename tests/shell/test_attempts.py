"""What a new error of the same cell begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nb_oomhelper.case import Case
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.services import Services
from nb_oomhelper.shell.attempts import follow, note_run
from tests.cases import EVENT, OUTCOMES, rich_case

pytestmark = pytest.mark.plain

RELEASE = FixPlan(number=1, fix="release-failed-cell", code="x", applicability="safe", verdict="may")
DETACH = replace(RELEASE, number=2, fix="detach-list", subject="losses")
SERVICES = Services(driver=Driver(), catalog=load_catalog, history=lambda: None)
HOPELESS = replace(RELEASE, number=3, fix="autocast", verdict="again")


def new_case(**changes: object) -> Case:
    case = rich_case()
    case.plans, case.outcomes, case.earlier = (RELEASE, DETACH, HOPELESS), [], ()
    for name, value in changes.items():
        setattr(case, name, value)
    return case


def test_what_was_tried_goes_last() -> None:
    case = new_case()
    follow(case, new_case(outcomes=[OUTCOMES[0]], earlier=(OUTCOMES[1],)))
    assert case.earlier == (OUTCOMES[1], OUTCOMES[0])
    assert [(plan.fix, plan.number, plan.verdict, plan.tried) for plan in case.plans] == [
        ("detach-list", 1, "may", False),
        ("autocast", 2, "again", False),
        ("release-failed-cell", 3, "again", True),
    ]


@pytest.mark.parametrize(
    "before",
    [
        {"cell": "another()"},
        {"event": replace(EVENT, backend="host")},
        {"outcomes": [replace(OUTCOMES[0], ran=True)]},
    ],
)
def test_another_error_begins_anew(before: dict[str, object]) -> None:
    case = new_case()
    follow(case, new_case(**{"outcomes": [OUTCOMES[0]], **before}))
    assert (case.earlier, case.plans) == ((), (RELEASE, DETACH, HOPELESS))


def test_a_cell_that_is_not_known_is_no_other_cells_repeat() -> None:
    case = new_case(cell="")
    follow(case, new_case(cell="", outcomes=[OUTCOMES[0]]))
    assert case.earlier == ()


@pytest.mark.parametrize(("error", "ran"), [(None, True), ("NameError: x", False)])
def test_how_the_cell_fared(error: str | None, ran: bool) -> None:
    case = new_case(outcomes=[OUTCOMES[1], OUTCOMES[0]])
    note_run(case, error, SERVICES)
    assert case.outcomes == [OUTCOMES[1], replace(OUTCOMES[0], ran=ran, cell_error=error)]
    note_run(new_case(), error, SERVICES)  # nothing to add to


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "KeyboardInterrupt: stop", "it was cancelled"])
def test_a_run_that_was_stopped_tells_nothing(error: str) -> None:
    case = new_case(outcomes=[OUTCOMES[0]])
    note_run(case, error, SERVICES)
    assert case.outcomes == [OUTCOMES[0]]
