"""What a text tells, in words and for programs."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from nb_oomhelper.case import Case
from nb_oomhelper.failure.documents import read_pasted
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.records.told import Reading
from nb_oomhelper.services import Services
from nb_oomhelper.showing import explanation
from nb_oomhelper.showing.explanation import to_json, to_text
from nb_oomhelper.showing.frontends import _static
from nb_oomhelper.showing.report import write
from tests.cases import HOSTILE, catalog

pytestmark = pytest.mark.plain

LANGUAGES: tuple[Language, ...] = get_args(Language)
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB of which 1.20 GiB is free."
    " Process 4711 has 4.00 GiB memory in use. Including non-PyTorch memory, this process has 18.40 GiB memory in use."
    " Of the allocated memory 16.00 GiB is allocated by PyTorch, and 1.90 GiB is reserved by PyTorch but unallocated."
)
LOAD = f"""Traceback (most recent call last):
  File "/x/site-packages/transformers/modeling_utils.py", line 309, in from_pretrained
torch.OutOfMemoryError: {CUDA}
"""
WORKER = f"""torch.OutOfMemoryError: Caught OutOfMemoryError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "d.py", line 5, in __getitem__
torch.OutOfMemoryError: {CUDA}
"""


def explained(text: str) -> tuple[Reading, list[Case]]:
    services = Services(driver=Driver(), catalog=catalog, history=lambda: None)
    reading, cases = explanation.explained(read_pasted(text), services)
    assert services.problem is None
    return reading, cases


def text_of(text: str, language: Language = "en", name: str = "") -> str:
    return to_text(*explained(text), name, catalog(), language)


def test_bytes_and_whose() -> None:
    said = text_of(LOAD, name="train.log")
    assert "One out-of-memory error in train.log" in said
    assert "CUDA out of memory · cuda:0 · 23.7 GiB · line 3" in said
    assert "It asked for 2.00 GiB; 1.20 GiB was free: 819 MiB too little." in said
    assert "the memory of the process that printed it" in said
    assert "allocated 16.0 GiB" in said
    assert "process 4711" in said


def test_the_entry_and_what_to_do() -> None:
    """The entry is about loads on a GPU: what it says helps is told, and its rates are not."""
    (case,) = explained(LOAD)[1]
    advice = write(case, catalog(), "en").advice
    assert case.match is not None
    assert case.match.relation == "match"
    assert "while a model was loading" in advice[1]
    assert "device_map" in advice[2]
    assert not any("95" in line for line in advice)


def test_another_process_is_named_and_nothing_is_to_be_run() -> None:
    (case,) = explained(WORKER)[1]
    report = write(case, catalog(), "en")
    assert "worker 0 of a DataLoader" in report.title
    assert (report.fixes, report.not_enough, report.here) == ((), (), False)
    assert any("num_workers" in line for line in report.advice)
    assert report.parts


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", [LOAD, WORKER, "MemoryError", "step\nValueError: 3.2 GB", LOAD + WORKER + LOAD])
def test_every_sentence_is_filled_in(text: str, language: Language) -> None:
    said = text_of(text, language)
    assert not any(mark in said for mark in ("{", "$", "None", "unknown"))
    assert any("\u4e00" <= letter <= "\u9fff" for letter in said) == (language == "zh")


def test_html_has_the_same_parts() -> None:
    (case,) = explained(LOAD)[1]
    drawn = _static.render(write(case, catalog(), "en"))
    assert all(words in drawn for words in ("What to do", "process 4711", "819 MiB", "oomh-bar", "line 3"))
    assert "%oom fix" not in drawn


@pytest.mark.parametrize("hostile", [*HOSTILE, "\x1b[2J\u202e", "a\tb"])
def test_what_comes_from_the_text_is_no_markup(hostile: str) -> None:
    file = hostile.replace('"', "'").replace("<", "")  # what has no file is no code of the user's
    text = f'Traceback (most recent call last):\n  File "/home/{file}", line 3, in {hostile}\nMemoryError\n'
    (case,) = explained(text)[1]
    report = write(case, catalog(), "en")
    assert case.told is not None
    assert case.told.file is not None
    assert "<script>" not in _static.render(report)
    assert not set("\x1b\u202e") & set(text_of(text, name=hostile))
    assert all(line.count("**") % 2 == line.count("`") % 2 == 0 for line in report.notes)


def test_for_programs() -> None:
    told = json.loads(to_json(*explained(LOAD + WORKER), "a.log"))
    assert [(row["line"], row["cell"], row["times"]) for row in told["found"]] == [(3, None, 1), (7, None, 1)]
    row = told["found"][0]
    assert row["event"]["requested"] == 2 << 30
    assert row["entry"] == "CUDA-OOM-001"
    assert row["short"] == row["event"]["requested"] - row["event"]["free"]
    assert {"kind": "other_process", "size": 4 << 30} in row["causes"]
    assert told["found"][1]["event"]["remote"] == "dataloader worker"


def test_for_programs_where_there_is_none() -> None:
    told = json.loads(to_json(*explained("we held 2 GiB\nValueError: x"), ""))
    assert told["found"] == []
    assert told["other_errors"] == [{"type": "ValueError", "line": 2, "cell": None, "execution_count": None}]
    assert told["sizes"][0]["bytes"] == 2 << 30


YARN = "ERROR YarnScheduler: Container killed by YARN for exceeding memory limits. 9.3 GB of 9 GB physical memory used."
DUCKDB = (
    "duckdb.OutOfMemoryException: Out of Memory Error: failed to allocate data of size 2.0 MiB (99 MiB/100 MiB used)"
)


def test_a_limit_on_the_host_is_none_of_pytorchs() -> None:
    for text, in_advice in ((YARN, "spark.executor.memory"), (DUCKDB, "The library has a limit of its own: raise it")):
        (case,) = explained(text)[1]
        report = write(case, catalog(), "en")
        assert any(row.kind == "limit" for row in report.cause_rows)
        assert any(in_advice in line for line in report.advice)
        assert not any("torch.cuda" in line for line in report.advice)
        assert ("that process" in report.cause_rows[0].text) is (text is YARN)


def test_a_java_virtual_machine_may_have_printed_it_itself() -> None:
    error = "java.lang.OutOfMemoryError: Java heap space"
    assert "such as Spark's." in text_of(error)
    assert "not of the process that printed it" not in text_of(error)
    assert "not of the process that printed it" in text_of(f"py4j.protocol.Py4JJavaError: o1.fit.\n: {error}")
