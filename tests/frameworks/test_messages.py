"""Each framework's messages, one file of them a framework: what is read of each, and what only looks like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks import detect

from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.frameworks import FRAMEWORKS, RECOGNIZERS, messages
from nb_oomhelper.frameworks._messages import Messages

pytestmark = pytest.mark.plain

FOLDER = Path(__file__).parent / "messages"
ROWS = detect.read(FOLDER)
REAL = [row for row in ROWS if row["kind"] != "not_oom"]
OTHERS = [row for row in ROWS if row["kind"] == "not_oom"]


def name_of(row: dict[str, Any]) -> str:
    return f"{row['framework']}-{row.get('format', 'none')}"


@pytest.mark.parametrize("row", REAL, ids=name_of)
def test_a_message_is_read(row: dict[str, Any]) -> None:
    event = detect_text(row["message"], detect.class_of(row))
    assert event is not None
    assert (event.format, event.certainty) == (row["format"], "probable" if row.get("probable") else "sure")
    judged = detect.judge(row)
    assert (judged.memory, judged.wrong) == (True, ())


@pytest.mark.parametrize("row", OTHERS, ids=name_of)
def test_what_looks_like_one_is_none(row: dict[str, Any]) -> None:
    assert detect_text(row["message"], detect.class_of(row)) is None


@pytest.mark.parametrize("row", REAL, ids=name_of)
def test_a_console_that_wraps_and_colors_changes_nothing(row: dict[str, Any]) -> None:
    wrapped = "\r\n" + row["message"].replace(" ", " \x1b[0m\r\n> ").replace("memory", "\x1b[0;31mmemory[0m")
    event, plain = detect_text(wrapped, detect.class_of(row)), detect_text(row["message"], detect.class_of(row))
    assert event is not None
    assert plain is not None
    figures = ("format", "backend", "device", "requested", "capacity", "free", "allocated", "limit", "figures")
    assert [getattr(event, one) for one in figures] == [getattr(plain, one) for one in figures]


def test_each_file_of_messages_is_listed_and_has_its_tests() -> None:
    folder = Path(messages.__file__).parent
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert files <= {row["framework"] for row in REAL}
    assert files <= {row["framework"] for row in OTHERS}
    listed = [*messages.ALL, *messages.GENERAL]
    assert len(listed) == len(files)
    assert {*map(id, listed), *map(id, FRAMEWORKS)} == set(map(id, RECOGNIZERS))


@pytest.mark.parametrize("known", [*messages.ALL, *messages.GENERAL], ids=lambda one: one.rules[0].format)
def test_each_format_has_a_message(known: Messages) -> None:
    assert {rule.format for rule in known.rules} <= {row["format"] for row in REAL}
