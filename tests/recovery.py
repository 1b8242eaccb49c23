"""Trials of the recovery suite, run in the background of the tests that look at them."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from benchmarks.recovery import scenario, suite
from benchmarks.recovery.methods import ENOUGH
from benchmarks.recovery.scenario import Scenario

Trials = tuple[suite.Run, Generator[Scenario, None, None]]


def start(request: pytest.FixtureRequest, device: str) -> Iterator[Trials]:
    """The trials of the tests that were chosen, several at a time; they go on while the first are checked."""
    pytest.importorskip("torch")
    tests = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    chosen = {item.callspec.id for item in tests if "release" in item.fixturenames}
    scenarios = [one for one in scenario.load_all().values() if one.name in chosen]
    run = suite.prepare("new", device, [ENOUGH], scenarios)
    done = suite.run_all(run, suite.default_jobs())
    yield run, done
    done.close()


def check(trials: Trials, name: str) -> None:
    """All is back, the smaller twin ran, and nothing of the user's is lost."""
    run, done = trials
    if name not in {one.name for one in run.scenarios}:
        pytest.skip("a package of this scenario is not installed")
    key = name, ENOUGH.name
    while key not in run.trials and key not in run.failed:
        next(done)
    assert run.failed.get(key) is None
    one = run.trials[key]
    assert one.share >= 0.95
    assert one.twin
    assert one.lost == ()
