"""Hundreds of workers, some of them slow, silent, gone or talking nonsense: one row each, and nobody waits for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nb_oomhelper import engines, there
from nb_oomhelper.engines import _dask, _ipyparallel
from nb_oomhelper.engines.answers import Answer, reply_of
from tests.played_workers import Played, played

pytestmark = pytest.mark.plain

TOLD = there.read()


@pytest.fixture
def clusters() -> Iterator[Played]:
    with played() as found:
        yield found


def kinds(answers: list[Answer]) -> dict[str | None, int]:
    replies = [reply_of("dask", answer) for answer in answers]
    keys = [reply.problem.key if reply.problem else None for reply in replies]
    return {key: keys.count(key) for key in keys}


def asked(wanted: list[tuple[str, str]] | None = None) -> list[Answer]:
    wait = _dask.begin(wanted, "there", 1.0)
    assert wait is not None
    return wait()


@pytest.mark.parametrize("count", [4, 64, 512])
def test_each_is_a_row(clusters: Played, count: int) -> None:
    clusters.add("dask", "tcp://a", count, TOLD)
    share = count // 4
    assert kinds(asked()) == {
        "engines.late": share,
        "engines.unreachable": share,
        "engines.form": share,
        None: share,
    }


@pytest.mark.parametrize("count", [4, 64, 512])
def test_each_engine_is_a_row_and_what_is_silent_is_taken_back(clusters: Played, count: int) -> None:
    clusters.add("ipyparallel", "a", count, TOLD)
    wait = _ipyparallel.begin(None, "there", 1.0)
    assert wait is not None
    share = count // 4
    assert kinds(wait()) == {"engines.late": share, "engines.gone": share, "engines.form": share, None: share}
    assert clusters.engines[0].aborted == list(range(0, count, 4))


def test_all_engines_have_one_deadline(clusters: Played) -> None:
    clusters.add("dask", "tcp://a", 64, TOLD)
    clusters.add("ipyparallel", "b", 64, TOLD)
    replies = engines.ask_all("read")
    assert [sum(one.engine == name for one in replies) for name in ("ipyparallel", "dask")] == [64, 64]
    assert sum(one.problem is None for one in replies) == 32


def test_a_scheduler_that_does_not_answer_does_not_cost_the_others(clusters: Played) -> None:
    clusters.add("dask", "tcp://a", 4, TOLD)
    clusters.add("dask", "tcp://silent", 0, TOLD)
    answers = {answer.id: answer for answer in asked()}
    assert len(answers) == 5
    assert answers["tcp://silent"].problem is not None
    assert answers["tcp://a/3"].value


def test_those_that_are_wanted_are_asked_and_no_other(clusters: Played) -> None:
    clusters.add("dask", "tcp://a", 8, TOLD)
    clusters.add("dask", "tcp://b", 8, TOLD)
    found = asked([("tcp://b/3", "1"), ("tcp://b/9", "1"), ("tcp://a/2", "1"), ("tcp://a/3", "")])
    assert [answer.id for answer in found] == ["tcp://b/3", "tcp://b/9", "tcp://a/2", "tcp://a/3"]
    assert kinds(found) == {None: 1, "engines.gone": 2, "engines.form": 1}  # the last one had left at its error


def test_a_worker_of_a_scheduler_that_does_not_answer_is_late_not_gone(clusters: Played) -> None:
    clusters.add("dask", "tcp://silent", 0, TOLD)
    assert kinds(asked([("tcp://x", "1")])) == {"engines.late": 1}


def test_two_clients_of_one_cluster_ask_once(clusters: Played) -> None:
    clusters.add("dask", "tcp://a", 4, TOLD)
    clusters.add("dask", "tcp://a", 4, TOLD)
    assert len(asked()) == 4
    assert _dask.clusters() == 1
