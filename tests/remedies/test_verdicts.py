"""When a cell is expected to run, and when nobody knows."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from nb_oomhelper.forecasting.batches import fitting_part
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.forecast import Band, Forecast
from nb_oomhelper.records.forecast import Verdict as Foreseen
from nb_oomhelper.records.remedy import FixPlan, Shortage
from nb_oomhelper.remedies.verdicts import judge, rank, with_more_to_come, without_idle
from nb_oomhelper.source.collecting import comprehends_at

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30
NEEDS = Shortage(needs=2 * GIB, measured=True, room=GIB)
FOUND = Diagnosis(requested=GIB, free=GIB, capacity=8 * GIB, short=0, rerun=2 * GIB, made=GIB)
DELETION = FixPlan(
    number=1,
    fix="delete-variable",
    code="",
    applicability="unsafe",
    predicted=2 * GIB,
    whole_cell_fits=True,
    room=3 * GIB,
    subject="raw",
)


@pytest.mark.parametrize(("hidden", "verdict"), [(0, "runs"), (GIB, "runs"), (GIB + 1, "may")])
def test_what_the_cell_may_have_made_unseen_needs_room_too(hidden: int, verdict: str) -> None:
    assert judge(DELETION, replace(NEEDS, hidden=hidden)).verdict == verdict


@pytest.mark.parametrize(
    ("requested", "midst", "hidden"),
    [(GIB, False, 0), (GIB, True, GIB), (GIB // 8, False, GIB), (GIB // 7, False, 0), (None, False, 0)],
)
def test_more_is_to_come_in_the_midst_of_the_work(requested: int | None, midst: bool, hidden: int) -> None:
    assert with_more_to_come(NEEDS, replace(FOUND, requested=requested), midst=midst).hidden == hidden


@pytest.mark.parametrize(("partly", "verdict"), [(False, "runs"), (True, "may")])
def test_a_mistake_beside_which_another_grows_is_half_a_cure(partly: bool, verdict: str) -> None:
    mend = replace(DELETION, reruns=True, predicted=None, explains=2 * GIB, in_cell=True, partly=partly)
    assert judge(mend, NEEDS).verdict == verdict


@pytest.mark.parametrize(("foreseen", "verdict"), [("fits", "runs"), ("tight", "may"), ("does_not", "again")])
def test_a_forecast_goes_before_what_was_estimated(foreseen: Foreseen, verdict: str) -> None:
    found = expected(1 * GIB, verdict=foreseen)
    assert judge(replace(DELETION, reruns=True, forecast=found), NEEDS).verdict == verdict
    unknown = replace(DELETION, forecast=expected(GIB, verdict="unknown"))
    assert judge(unknown, NEEDS).verdict == judge(DELETION, NEEDS).verdict


def test_the_part_of_a_size_that_fits_is_on_the_line_through_two() -> None:
    half, quarter = expected(5 * GIB), expected(3 * GIB)  # 1 GiB and 8 times the part; there is room for 4
    assert fitting_part((0.5, half), (0.25, quarter)) == fitting_part((0.25, quarter), (0.5, half)) == 0.375
    assert fitting_part((0.5, half), (0.25, half)) is None
    assert fitting_part((0.5, half), (0.25, replace(quarter, ended="raised"))) is None
    assert fitting_part((0.5, replace(half, room=None)), (0.25, quarter)) is None


def expected(most: int, verdict: Foreseen = "fits") -> Forecast:
    band = Band(low=most, likely=most, high=most)
    return Forecast(
        call="",
        device="cuda:0",
        verdict=verdict,
        allocated=band,
        reserved=band,
        kinds=(),
        place="",
        held=0,
        room=4 * GIB,
        ended="returned",
    )


def test_no_more_is_deleted_than_must_be() -> None:
    both = replace(DELETION, subject="raw, orders", predicted=3 * GIB, verdict="runs")
    one = replace(DELETION, verdict="runs")
    assert rank(one, 0) < rank(both, 0)
    assert rank(replace(both, verdict="may"), 0) < rank(replace(one, verdict="may"), 0)  # the more the likelier


def test_where_something_else_grows_with_every_step_others_come_first() -> None:
    shortage = Shortage(needs=2 * GIB, measured=True, room=GIB, grows=True)
    other = replace(DELETION, verdict="may", whole_cell_fits=None, reruns=True, in_cell=True, shortage=shortage)
    one = replace(other, partly=True, explains=2 * GIB)
    assert rank(other, 9) < rank(one, 0)
    still = replace(shortage, grows=False)
    assert rank(replace(one, shortage=still), 0) < rank(replace(other, shortage=still), 9)


def test_what_can_be_clicked_comes_before_what_is_only_shown_and_all_of_the_data_before_a_part() -> None:
    may = replace(DELETION, verdict="may", whole_cell_fits=None)
    shown = replace(may, applicability="display_only")
    assert rank(replace(may, guess=True), 9) < rank(shown, 0)
    assert rank(replace(shown, verdict="runs"), 9) < rank(may, 0)
    changed = replace(may, reruns=True)
    assert rank(changed, 9) < rank(replace(changed, partial=True), 0)
    assert rank(may, 0) < rank(replace(changed, partial=True), 9)  # to delete something, or to see a part: both lose
    assert rank(changed, 9) < rank(replace(changed, partial=True, verdict="runs"), 0)
    assert rank(replace(changed, partial=True, verdict="runs"), 9) < rank(replace(changed, guess=True), 0)
    slow = replace(changed, slow=True, verdict="runs")
    assert rank(changed, 9) < rank(slow, 0) < rank(replace(changed, partial=True, verdict="runs"), 0)


def test_a_comprehension_is_in_the_midst() -> None:
    tree = ast.parse("x = 1\ny = f([\n    g(i)\n    for i in x])\n")
    assert [comprehends_at(tree, line) for line in (None, 1, 2, 3, 4)] == [False, False, True, True, True]


def test_what_deletes_something_for_next_to_nothing_is_not_offered_where_nobody_knows_what_is_missing() -> None:
    little = replace(DELETION, verdict="may", predicted=MIB, whole_cell_fits=None, room=250 * MIB)
    assert without_idle([little]) == []
    for one in (
        replace(little, predicted=3 * MIB),
        replace(little, fits=True),
        replace(little, whole_cell_fits=True),
        replace(little, reruns=True),
        replace(little, applicability="safe"),
        replace(little, predicted=60 * MIB, room=20 * GIB),
    ):
        assert without_idle([one, little]) == [one]


@pytest.mark.parametrize(("put_by", "verdict"), [(0, "runs"), (100 * MIB, "may")])
def test_what_is_put_by_for_an_error_is_no_room_for_a_result(put_by: int, verdict: str) -> None:
    short = replace(NEEDS, put_by=put_by)
    mend = replace(DELETION, reruns=True, predicted=None, explains=short.saved(950 * MIB), in_cell=True)
    assert judge(mend, short).verdict == verdict
    assert short.saved(2 * GIB) is None
