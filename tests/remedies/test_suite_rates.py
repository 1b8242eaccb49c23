"""How often fixes helped in the suites, as it is packaged, and how sure that is."""

from __future__ import annotations

import pytest
from benchmarks import rates

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.remedies.suite_rates import advice_rate, suite_runs, wilson

pytestmark = pytest.mark.plain


def test_what_is_packaged_is_what_the_kept_runs_say() -> None:
    """Where it fails: `python -m benchmarks.rates`."""
    assert rates.FILE.read_text("utf-8") == rates.make()


def test_each_is_a_fix_of_ours() -> None:
    known = {fix.id for fix in load_catalog().fixes}
    assert {fix for run in suite_runs() for fix in run.rates} <= known
    assert {run.suite for run in suite_runs()} == {"advice", "recovery"}


def test_runs_of_the_advice_suite_are_added_up() -> None:
    runs = [run for run in suite_runs() if run.suite == "advice" and "delete-variable" in run.rates]
    found = advice_rate("delete-variable")
    assert found is not None
    assert found[1] == sum(run.rates["delete-variable"][1] for run in runs)
    assert found[3] == max(run.date for run in runs)
    assert advice_rate("no-such-fix") is None


@pytest.mark.parametrize(
    ("good", "total", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(good: int, total: int, low: float, high: float) -> None:
    """The last is the example that Newcombe (1998) gives for the score method."""
    assert list(wilson(good, total)) == pytest.approx([low, high], abs=1e-4)
