"""The template of an entry: its own reader takes it, and it matches the case that it was made from."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.choosing import Choice, choose
from nb_oomhelper.knowledge.entry import read_entry
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.event import Phase, Remote, Stage
from nb_oomhelper.showing.entry_template import entry_template
from tests.cases import EVENT, rich_case

pytestmark = pytest.mark.plain

DAY = date(2026, 11, 27)
CASE = rich_case()


@pytest.mark.parametrize("language", get_args(Language))
def test_it_matches_the_case_that_it_is_from(language: Language) -> None:
    case = rich_case()
    entry = read_entry(entry_template(case, language, DAY))
    found = choose([entry], case.event, case.diagnosis, case.cell)
    assert found.best is not None
    assert (found.best.relation, found.best.entry.first_seen) == ("match", DAY)
    assert entry.match.phases == ("load",)
    (example,) = entry.examples
    assert (example.text, example.format, example.causes) == ("CUDA out of memory.", EVENT.format, entry.match.causes)


def test_a_folder_takes_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "entries").mkdir()
    (tmp_path / "entries" / "mine.toml").write_text(entry_template(rich_case(), "en", DAY), "utf-8")
    catalog = load_catalog(tmp_path)
    assert catalog.problems == ()
    assert catalog.entry("MINE-001").origin == tmp_path / "entries" / "mine.toml"


def test_nothing_secret_and_no_name_of_the_users() -> None:
    case = rich_case()
    message = "CUDA out of memory in /home/somebody/model, token=hf_abcdefghijklmnopqrstuvwxyz"
    cell = "secret_project = load()\ntoken = 'hf_abcdefghijklmnopqrstuvwxyz'"
    case.event, case.cell = replace(case.event, message=message), cell
    assert case.event.call is not None
    case.event = replace(case.event, call=replace(case.event.call, target="secret_project"))
    text = entry_template(case, "en", DAY)
    for hidden in ("somebody", "hf_abc", "secret_project"):
        assert hidden not in text, hidden


@settings(deadline=None)
@given(
    st.text(),
    st.text(),
    st.sampled_from(get_args(Phase)),
    st.sampled_from(get_args(Stage)),
    st.one_of(st.none(), st.sampled_from(get_args(Remote))),
    st.text(min_size=1),
)
@example("\n\x00", "", "load", "", None, " ")
@example("'\"\\", '"""\x7f', "train", "backward", "ray", "\x85")
def test_whatever_failed_its_reader_takes_it(
    message: str, cell: str, phase: Phase, stage: Stage, remote: Remote | None, kind: str
) -> None:
    event = replace(EVENT, message=message, phase=phase, stage=stage, remote=remote, exception_type=kind, call=None)
    case = replace(CASE, event=event, cell=cell, choice=Choice())
    read_entry(entry_template(case, "en", DAY))
