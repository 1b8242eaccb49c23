"""The advice suite: its notebooks are well formed, it counts right, and its user sees and clicks a real panel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks.advice import notebook, report, suite, trial
from benchmarks.advice.notebook import FOLDER, KINDS, Notebook, NotebookError
from benchmarks.advice.place import HOST
from benchmarks.advice.trial import Trial
from IPython.core.inputtransformer2 import TransformerManager

FILES = sorted(FOLDER.glob("*.toml"))
WELL_FORMED = """
title = "t"
kind = "kept"
cells = ["x = 1"]
fail = "1 / 0"
answer = "x"
room = 100
good = "g"
"""


def compiles(cell: str) -> bool:
    """Whether IPython would run it, as far as it can be told without running it."""
    compile(TransformerManager().transform_cell(cell), "<cell>", "exec", dont_inherit=True)
    return True


@pytest.mark.plain
class TestFiles:
    @pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
    def test_is_well_formed(self, path: Path) -> None:
        one = notebook.load(path)
        assert all(compiles(cell) for cell in (*one.cells, *one.earlier, one.fail, one.answer))
        assert all(compile(check, name, "eval") for name, check in one.survives.items())
        assert compile(one.done, "done", "eval")
        assert re.compile(one.says)
        assert not {"comment" for cell in (*one.cells, one.fail) if "#" in cell}  # it might tell the answer
        assert not one.half or all(compiles(cell) for cell in one.halved)

    def test_there_are_enough_of_every_kind(self) -> None:
        notebooks = notebook.load_all().values()
        assert len(notebooks) >= 40
        assert {one.kind for one in notebooks} == set(KINDS)
        assert len({one.title for one in notebooks}) == len(notebooks)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (WELL_FORMED.replace('good = "g"', ""), "has no good"),
            (WELL_FORMED.replace("100", '"much"'), "room"),
            (WELL_FORMED.replace("room = 100", ""), "neither room nor device"),
            (WELL_FORMED.replace("kept", "odd"), "no kind odd"),
            (WELL_FORMED + "cure = false", "what the panel says"),
            (WELL_FORMED + "twice = true", "not the last"),
            (WELL_FORMED + "[half]\nb = 'c'", "no cell has"),
            (WELL_FORMED + "surprise = 1", "surprise"),
            (WELL_FORMED + "title", "bad.toml"),
        ],
    )
    def test_bad_one_is_refused(self, tmp_path: Path, text: str, told: str) -> None:
        path = tmp_path / "bad.toml"
        path.write_text(text)
        with pytest.raises(NotebookError, match=told):
            notebook.load(path)


def made(**keys: object) -> Notebook:
    known = {"name": "n", "title": "t", "kind": "kept", "cells": ("a = 8",), "fail": "b = a", "good": "g", "room": 1}
    return Notebook(**(known | keys))  # type: ignore[arg-type]


@pytest.mark.plain
class TestNotebook:
    def test_half_runs_from_the_first_cell_that_changes(self) -> None:
        one = made(cells=("import os", "a = 8", "c = 1"), half={"a = 8": "a = 4"})
        assert one.halved == ("a = 4", "c = 1", "b = a")

    def test_a_cell_that_is_run_twice_is_there_once(self) -> None:
        assert made(cells=("a = 8", "b = a"), twice=True).whole == ("a = 8", "b = a")
        assert made().whole == ("a = 8", "b = a")

    def test_names_that_a_cell_binds(self) -> None:
        assert trial.bound("a, (b, *c) = d\nfor e in f:\n    g.h = 1\ndel i") == {"a", "b", "c", "e", "i"}
        assert trial.bound("!ls") == set()


@pytest.mark.plain
class TestRight:
    def test_with_a_cure_the_cell_has_to_run(self) -> None:
        assert suite.is_right(made(), Trial(ran=True))
        assert not suite.is_right(made(), Trial(ran=False))

    def test_without_one_the_first_line_has_to_say_so_and_nothing_may_be_offered(self) -> None:
        one = made(cure=False, says="3 rows")
        assert suite.is_right(one, Trial(ran=False, offered=False, headline="It makes 3 rows"))
        assert not suite.is_right(one, Trial(ran=False, offered=False, headline="It is full"))
        assert not suite.is_right(one, Trial(ran=False, headline="It makes 3 rows"))

    def test_counts(self) -> None:
        notebooks = [made(name="x"), made(name="y"), made(name="z")]
        run = suite.Run(place=HOST, ways=("first", "second"), notebooks=notebooks, skipped={}, facts={})
        run.trials = {
            ("x", "first"): Trial(ran=True),
            ("y", "first"): Trial(ran=False, title="t"),
            ("y", "second"): Trial(ran=True, lost=("mine",)),
            ("z", "first"): Trial(ran=False, offered=False),
        }
        sums = report.summarize(run)
        assert (sums["right_first"], sums["right_three"], sums["harm"]) == (1, 2, 1)
        assert sums["ran"] == {"first": 1, "second": 1}
        assert report.to_record(run)["notebooks"][1]["ways"]["second"]["lost"] == ["mine"]


@pytest.mark.kernel
class TestUser:
    """With a notebook of its own: what the product advises is not asked here, only whether the suite sees it."""

    TEXT = """
title = "two arrays in Out"
kind = "kept"
needs = ["numpy"]
room = 250
good = "forget the displayed results"
cells = ["import numpy", "numpy.ones(40_000_000)", "small = numpy.ones(3)"]
fail = "big = numpy.ones(50_000_000)"
answer = "import nb_oomhelper\\nnb_oomhelper.release(history=True)\\nbig = numpy.ones(50_000_000)"
done = "big.size == 50_000_000"
[survives]
small = "small.size == 3"
"""

    @pytest.fixture
    def one(self, tmp_path: Path) -> Notebook:
        path = tmp_path / "two_arrays.toml"
        path.write_text(self.TEXT)
        return notebook.load(path)

    def test_is_what_it_says(self, one: Notebook) -> None:
        assert trial.prove(one, HOST) == []

    def test_what_does_not_hold_is_told(self, one: Notebook) -> None:
        too_much = Notebook(**{key: getattr(one, key) for key in one.__slots__} | {"room": 600 << 20})
        (told,) = trial.prove(too_much, HOST)
        assert "did not run out of memory" in told

    def test_ways(self, one: Notebook) -> None:
        nothing, restart = (trial.run(one, way, HOST) for way in ("nothing", "restart"))
        assert nothing is not None
        assert not nothing.ran
        assert "Unable to allocate" in nothing.error
        assert restart is not None
        assert trial.run(one, "half", HOST) is None

    def test_clicks_the_first_fix(self, one: Notebook) -> None:
        found = trial.run(one, "first", HOST)
        assert found is not None
        assert found.offered
        assert found.fix
        assert found.title
        assert found.headline
        assert found.lost == ()
        assert found.ran == (found.error == "")
