"""What a worker answers is a text from outside: what makes sense of it is taken, the rest is unknown or told."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from nb_oomhelper import there
from nb_oomhelper.engines import answers, ask_all, ask_failed, code_for, functions_for
from nb_oomhelper.engines.answers import Answer, WorkerReply, reply_of, summed
from nb_oomhelper.records.event import OomEvent, Worker
from nb_oomhelper.records.note import note
from nb_oomhelper.showing.worker_table import say_reply, to_html, to_json, to_text

pytestmark = pytest.mark.plain

GIB = 1 << 30
ROW = {
    "device": "GPU 0",
    "ordinal": "cuda:0",
    "name": "H100",
    "rest": GIB,
    "others": 0,
    "free": GIB,
    "capacity": 2 * GIB,
}
TOLD = {"form": 1, "host": "node-1", "pid": 7, "rows": [ROW], "parts": [("process", GIB), ("free", GIB)]}
RELEASED = TOLD | {
    "backend": "host",
    "before": {"resident": 3 * GIB},
    "after": {"resident": GIB},
    "seconds": 0.5,
    "held": [("x", 5)],
}
EVENT = OomEvent(framework="pytorch", backend="cuda", device=1, exception_type="E", message="m", format="f")


def told(value: Any) -> WorkerReply:
    return reply_of("dask", Answer(id="tcp://a:1", value=value))


def test_both_sides_speak_of_the_same_form() -> None:
    assert there.FORM == answers._FORM


def test_what_a_worker_tells_of_itself_is_understood() -> None:
    for value in (there.read(), there.read(pids=[os.getpid()])):
        reply = told(value)
        assert reply.problem is None
        assert reply.pid == os.getpid()
        assert reply.usages[-1].device == "host"
        assert {part.kind for part in reply.parts} >= {"free"}
    reply = told(there.release())
    assert reply.outcome is not None
    assert reply.outcome.before.resident
    assert json.loads(to_json([reply]))["workers"][0]["usages"][-1]["capacity"]


@pytest.mark.parametrize("function", [there.read, there.release])
def test_another_process_than_is_meant_does_nothing(function: Any) -> None:
    assert told(function(pids=[1])).problem == note("engines.other")
    assert "before" not in function(pids=[1])


def test_figures_and_names() -> None:
    reply = told(RELEASED)
    assert (reply.host, reply.pid, reply.usages[0].rest, reply.parts[0].size) == ("node-1", 7, GIB, GIB)
    assert reply.outcome is not None
    assert (reply.outcome.freed, reply.outcome.seconds, reply.outcome.held) == (2 * GIB, 0.5, (("x", 5),))


@pytest.mark.parametrize("lie", [-1, 1 << 70, True, "5", 1.5, None, [5], {}])
def test_what_is_no_size_is_unknown(lie: Any) -> None:
    lies = {
        "pid": lie,
        "host": 5,
        "rows": [ROW | {"free": lie, "name": lie if type(lie) is not str else 5}, 3, {}, {"device": 3}],
        "parts": [("free", lie), ("nothing", 5), (["x"], 5), 4],
        "before": {"resident": lie},
        "after": lie,
        "seconds": "lie",
        "held": lie,
    }
    reply = told(RELEASED | lies)
    assert (reply.host, reply.pid) == (None, None)
    assert [(row.free, row.name, row.rest) for row in reply.usages] == [(None, None, GIB)]
    assert [(part.kind, part.size) for part in reply.parts] == [("free", None)]
    assert reply.outcome is not None
    assert (reply.outcome.freed, reply.outcome.seconds, reply.outcome.held) == (None, 0.0, ())
    assert "unknown" in to_text([reply], "en")
    assert say_reply(reply, "en").endswith("released; how much came back could not be read")


@pytest.mark.parametrize("value", [None, "x", 5, [], {}, {"form": 2}, {"form": "1"}, TOLD | {"form": None}])
def test_an_answer_of_another_form_is_none(value: Any) -> None:
    assert told(value) == WorkerReply(engine="dask", id="tcp://a:1", problem=note("engines.form"))


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        ("ModuleNotFoundError", "No module named 'nb_oomhelper'", "lacks"),
        ("ModuleNotFoundError", "No module named 'nb_oomhelper.there'", "older"),
        ("ModuleNotFoundError", "No module named 'numpy'", "failed"),
        ("EngineError", "Engine '1-a' died while running task '2-b'", "gone"),
        ("MemoryError", "", "full"),
        ("ValueError", "<b>`no`\n\x1b[31m" + "x" * 500, "failed"),
    ],
)
def test_why_it_has_failed_there(kind: str, text: str, key: str) -> None:
    reply = reply_of("ipyparallel", Answer(id="1", error=(kind, text)))
    assert reply.problem is not None
    assert reply.problem.key == f"engines.{key}"
    for language in ("en", "zh"):
        said = say_reply(reply, language)
        assert "\n" not in said
        assert "\x1b" not in said
        assert len(said) < 300


def test_names_from_outside_stay_text() -> None:
    reply = told(TOLD | {"host": "<img src=x onerror=y>\nb", "rows": [ROW | {"name": "<b>"}]})
    page = to_html([reply, reply_of("dask", Answer(id="<i>", error=("E", "<u>")))], "en")
    assert not {"<img", "<b>", "<i>", "<u>"} & {page[at : at + 4].rstrip(" ") for at in range(len(page))}
    assert "&lt;img src=x" in page
    assert "\n" not in page


def test_a_worker_that_does_not_answer_is_a_row_that_says_so() -> None:
    late = reply_of("dask", Answer(id="tcp://b:1", problem=answers.late(1.8)))
    lines = to_text([told(TOLD), late], "en").splitlines()
    assert len(lines) == 4
    assert re.match(r"the Dask worker tcp://b:1 +no answer( +–)+$", lines[2])
    assert lines[3] == "the Dask worker tcp://b:1: no answer within 1.8 s: it is busy, or gone."


def test_several_releases_add_up() -> None:
    assert summed([told(TOLD)]) is None
    one, other = told(RELEASED), told(RELEASED | {"before": {}})
    assert summed([one, told(TOLD)]) == one.outcome
    both = summed([one, one])
    assert both is not None
    assert (both.freed, both.before.resident, both.subject) == (4 * GIB, 6 * GIB, "tcp://a:1, tcp://a:1")
    unknown = summed([one, other])
    assert unknown is not None
    assert unknown.freed is None
    gpu = told(RELEASED | {"backend": "cuda", "before": {"allocated": GIB}, "after": {"allocated": 0}})
    mixed = summed([one, gpu])
    assert mixed is not None
    assert (mixed.before.backend, mixed.freed) == ("host", None)  # resident bytes of one of them only


def event(remote: Any, **worker: Any) -> OomEvent:
    from dataclasses import replace

    return replace(EVENT, remote=remote, worker=Worker(**worker))


def test_what_is_shown_is_what_runs_there() -> None:
    begun = '__import__("importlib").import_module("nb_oomhelper.there").'
    assert code_for("read") == f"{begun}read()"
    assert code_for("release", event("ipyparallel", each=(("1", "uuid"),))) == f"{begun}release('cuda', 1, 'pytorch')"
    code = code_for("release", event("dask", each=(("tcp://a:1", "12"), ("tcp://b:1", "13"))))
    assert code == f"{begun}release('cuda', 1, 'pytorch', pids=[12, 13])"
    assert "pids=[12])" in code_for("read", event("dask", each=(("tcp://a:1", "12"), ("tcp://b:1", ""))))
    assert eval(code) == {"form": 1, "other": os.getpid()}


def test_who_can_be_asked() -> None:
    assert functions_for(event("dask", alive=True)) == ("release", "read")
    assert functions_for(event("dask", alive=False)) == ()  # KilledWorker
    assert functions_for(event("ray", alive=False)) == ("read",)  # its machine
    assert functions_for(EVENT) == ()


def test_of_ray_the_machine_is_read_and_the_process_is_the_one_that_ran_out() -> None:
    code = code_for("read", event("ray", pid=7, host="10.0.0.1"))
    assert code.endswith(".read_node('cuda', 7)")
    assert code_for("read", event("ray", host="10.0.0.1")).endswith(".read_node()")
    ours = reply_of("ray", Answer(id="10.0.0.1", value=there.read_node("host", os.getpid())))
    assert (ours.pid, ours.usages[-1].rest, ours.parts) == (None, None, ())  # none of Ray's
    assert ours.usages[-1].others
    assert say_reply(ours, "en").startswith("Ray's machine 10.0.0.1: the process has ended")


def test_without_an_engine_nobody_is_asked() -> None:
    assert ask_all("read") == []
    assert [reply.problem for reply in ask_failed("release", event("ipyparallel"))] == [note("engines.no_client")]
