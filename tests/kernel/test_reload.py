"""A model that does not fit, for real, and the user's own statement changed so that it does."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import CASE, LOAD, MIB, SETUP, Panel, run_of, shown
from tests.kernel.driver import Kernel
from tests.kernel.models import SIZE, SYNC, make_llama

pytestmark = pytest.mark.kernel

# Each tensor of the model in a mapping of its own, and few arenas: what one test frees is free for the next one. And
# transformers' own threads do not go on loading after the error, into the room that the panel needs.
ENV = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_ARENA_MAX": "2", **SYNC}
MODELS = """
import ctypes, gc, os, resource
import psutil, torch
import nb_oomhelper, nb_oomhelper.case, nb_oomhelper.loading.reload
from transformers import AutoModelForCausalLM
def mapped():
    return psutil.Process().memory_info().vms
def resident():
    return psutil.Process().memory_info().rss
def limit(room):
    resource.setrlimit(resource.RLIMIT_AS, (base + room, resource.RLIM_INFINITY))
def held():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # the loader's threads may free their last after an error has come by
    found = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    return [sum(one.nbytes for one in found), resident()]
def sits():
    rows = [(one.device.type == "meta", one.nbytes) for one in (*model.parameters(), *model.buffers())]
    return [sum(size for away, size in rows if away is there) for there in (False, True)]
def answer():
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, 3]])).logits
    return [list(logits.shape), bool(torch.isfinite(logits).all())]
"""
# Time for the searches that a panel waits for, however busy the machine is; then what loads import and map for good.
WARM = """
nb_oomhelper.loading.reload.DEADLINE = nb_oomhelper.case.DEADLINE = 10
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
answer()
del model
gc.collect()
base = mapped()
"""
ROOM = 1700 << 20  # bytes: the model in 16 bits and its mapped files fit with what a plan leaves free, float64 does not
CALL = "AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float64)"
FAIL = f"model = {CALL}"
# Lists first, millions of them: to list them all takes more than an error gives up. Then all the rest; at last 4 MiB
# are given back, for the kernel's own threads and for Python to make the traceback in.
FULL = """
def pieces(size):
    while True:
        yield bytearray(size)
def fill():
    waits = pieces(4 << 20)
    spare = next(waits)
    kept = []
    gc.disable()
    try:
        for more in (iter(list, None), *(pieces(1 << power) for power in range(24, 15, -2))):
            try:
                kept.extend(more)
            except MemoryError:
                pass
        del spare
        kept.extend(pieces(1 << 24))
    finally:
        gc.enable()
fill()
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    return make_llama(tmp_path_factory, pytestconfig)


@pytest.fixture(scope="module")
def loaded(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """The file's kernel: only the newest packages have transformers beside them."""
    with Kernel(sys.executable, tmp_path_factory.mktemp("reload"), ENV) as kernel:
        for code in (LOAD, "%config OOMHelper.refresh_seconds = 0.5", f"MODEL = {str(llama)!r}", MODELS, WARM):
            reply = kernel.execute(code, timeout=120)
            assert reply.status == "ok", reply
        yield kernel


@pytest.fixture
def kernel(loaded: Kernel) -> Kernel:
    """That kernel, with all memory given back and room for the model in 16 bits."""
    loaded.execute("limit(1 << 40)\nfor name in ('model', 'mine', 'taken'):\n    globals().pop(name, None)")
    loaded.execute("nb_oomhelper.release(deep=True, history=True);")
    assert loaded.execute(f"limit({ROOM})").status == "ok"
    return loaded


def fail(kernel: Kernel, code: str = FAIL) -> Panel:
    """Run a load that dies, and give its panel."""
    reply = kernel.execute(code)
    assert reply.status == "error"
    assert len(shown(reply)) == 1
    return Panel(kernel, reply)


def plans(kernel: Kernel) -> dict[str, dict[str, Any]]:
    """The fixes of the last panel by their ids, best first."""
    names = ("number", "fix", "code", "applicability", "fits", "after", "obstacle", "loads")
    rows = kernel.eval(f"[[getattr(plan, name) for name in {names!r}] for plan in {CASE}.plans]")
    return {row[1]: dict(zip(names, row, strict=True)) for row in rows}


def outcome(kernel: Kernel) -> dict[str, Any]:
    """The last outcome; where the weights are and were to be as [host, disk] in bytes."""
    kernel.execute(f"last = {CASE}.outcomes[-1]")
    places = "[[one.host, one.disk] if one else None for one in (last.planned, last.placed)]"
    error, done, folder, (planned, placed) = kernel.eval(f"[last.error, last.loaded, last.folder, {places}]")
    return {"error": error, "loaded": done, "folder": folder, "planned": planned, "placed": placed}


def near(measured: list[int], expected: list[int]) -> bool:
    """Whether sizes are the same, within 5 % of all of them."""
    return all(abs(one - other) <= sum(expected) / 20 for one, other in zip(measured, expected, strict=True))


def assert_given_back(before: list[int], after: list[int]) -> None:
    """Of `held()`: bytes of tensors, which are the same to the last one, and resident bytes."""
    assert after[0] == before[0]
    assert after[1] < 1.1 * before[1]


class TestHalf:
    CELL = "model = AutoModelForCausalLM.from_pretrained(\n    MODEL,  # the one we made\n    dtype=torch.float64,\n)"

    def test_the_users_statement_with_one_argument_changed(self, kernel: Kernel) -> None:
        panel = fail(kernel, self.CELL)
        changed = self.CELL.replace("float64", "bfloat16")
        found = plans(kernel)
        assert found["reload-half"]["after"] == changed
        assert found["reload-half"]["code"].endswith(f"nb_oomhelper.release()\n{changed}")
        assert (found["reload-half"]["applicability"], found["reload-half"]["fits"]) == ("safe", True)
        assert "reload-disk" in found
        assert next(iter(found)) == "reload-half"  # to release is not enough
        assert re.search(
            r"The whole load takes 1\.\d\d GiB; even once .* there is room for [\d.]+ [MG]iB only", panel.text
        )
        assert "reload-offload" not in found  # in 16 bits nothing would go to disk: it would be the same once more
        for plan in found.values():
            assert "trust_remote_code" not in plan["code"]
            assert "# the one we made" in plan["code"] or not plan["loads"]
        panel.click("Code")
        assert "your code" in panel.text
        assert "what runs instead" in panel.text
        marks = re.findall("<(del|ins)>(.*?)</", "".join(str(state.get("value")) for state in panel.visible()))
        assert marks == 2 * [("del", "float64"), ("ins", "bfloat16")]  # in one line, and with all that runs

    def test_a_click_loads_it(self, kernel: Kernel) -> None:
        kernel.execute("mine = torch.arange(1 << 20)")
        before = kernel.eval("held()")
        panel = fail(kernel, self.CELL)
        reply = panel.click("Fix and run", run_of(panel, "reload-half"))
        assert reply.errors == []
        told = outcome(kernel)
        assert (told["error"], told["loaded"], told["folder"]) == (None, True, None)
        sits = kernel.eval("sits()")
        assert near(sits, [SIZE // 2, 0])
        assert near(told["placed"], sits)
        assert near(told["planned"], sits)
        assert "✓ The cell finished without an error" in panel.text  # for it ends with the statement
        assert re.search(r"model is placed on: host (32\d MiB) \(planned: host \1\)", panel.text)
        assert kernel.eval("[str(model.dtype), mine.sum().item()]") == ["torch.bfloat16", (1 << 19) * ((1 << 20) - 1)]
        assert kernel.eval("answer()") == [[1, 3, 8000], True]
        kernel.execute("del model")  # it is the user's alone: neither the panel nor the outcome holds on to it
        assert_given_back(before, kernel.eval("held()"))

    def test_a_cell_that_is_timed_is_read_as_well(self, kernel: Kernel) -> None:
        fail(kernel, f"%%time\n{FAIL}  # slow")
        assert plans(kernel)["reload-half"]["after"] == f"{FAIL.replace('float64', 'bfloat16')}  # slow"
        number = plans(kernel)["reload-half"]["number"]
        told = kernel.execute(f"%oom fix {number}").stdout
        assert told.startswith("✓ The cell finished without an error.")
        assert re.search(r"`model` is placed on: host (32\d\sMiB) \(planned: host \1\)", told)
        assert kernel.eval("answer()") == [[1, 3, 8000], True]


class TestDisk:
    def test_what_does_not_fit_stays_on_disk(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        assert plans(kernel)["reload-disk"]["fits"] is True
        panel.click("Fix and run", run_of(panel, "reload-disk"))
        told = outcome(kernel)
        assert (told["error"], told["loaded"]) == (None, True)
        assert near(kernel.eval("sits()"), told["planned"])
        assert near(told["placed"], told["planned"])
        assert near([sum(told["planned"])], [2 * SIZE])
        assert min(told["planned"]) > 200 * MIB
        assert set(kernel.eval("list(model.hf_device_map.values())")) == {"cpu", "disk"}
        assert kernel.eval("str(model.dtype)") == "torch.float64"
        # transformers reads them from the model's own files, and puts nothing into the folder: it is not named
        assert told["folder"] is None
        code = plans(kernel)["reload-disk"]["code"]
        assert 'offload_folder=tempfile.mkdtemp(prefix="oom-offload-")' in code
        assert kernel.eval("answer()") == [[1, 3, 8000], True]  # layers on disk are fetched one by one


class TestOldModel:
    def test_asks_and_lets_the_old_one_go_first(self, kernel: Kernel) -> None:
        kernel.execute("import weakref\nmodel = torch.nn.Linear(4096, 4096)\nold = weakref.ref(model)")
        panel = fail(kernel)
        plan = plans(kernel)["reload-half"]
        assert plan["applicability"] == "unsafe"
        lines = plan["code"].splitlines()
        assert lines.index("model = None") < lines.index("nb_oomhelper.release()")
        panel.click("Fix and run", run_of(panel, "reload-half"))
        assert "What it costs: What model holds now, even if the load fails again." in panel.text
        assert kernel.eval(f"[len({CASE}.outcomes), old() is model]") == [0, True]
        assert "--yes" in kernel.execute(f"%oom fix {plan['number']}").stdout
        assert kernel.eval("old() is model") is True
        panel.click("Run anyway")
        assert outcome(kernel)["loaded"] is True
        assert kernel.eval("[old() is None, str(model.dtype)]") == [True, "torch.bfloat16"]


SHOWN_ONLY = {
    "function": f"def get():\n    return {CALL}\nmodel = get()",
    "loop": f"for _ in range(1):\n    model = {CALL}",
    "starred": "more = {}\n" + FAIL.replace(")", ", **more)"),
    "block": f"with torch.no_grad():\n    {FAIL}",
    "no_target": f"print({CALL})",
    "no_source": f"%timeit -n1 -r1 {FAIL}",
}


class TestOnlyShown:
    @pytest.mark.parametrize("obstacle", SHOWN_ONLY)
    def test_a_plain_form_that_never_runs(self, kernel: Kernel, obstacle: str) -> None:
        panel = fail(kernel, SHOWN_ONLY[obstacle])
        found = plans(kernel)
        loads = [plan for plan in found.values() if plan["loads"]]
        assert {"reload-half", "reload-disk"} <= {plan["fix"] for plan in loads}
        assert {(plan["applicability"], plan["obstacle"]) for plan in loads} == {("display_only", obstacle)}
        assert "Not run automatically" in panel.text
        panel.unfold()
        assert panel.buttons.count("Only the fix") == len(found) - len(loads)
        said = kernel.execute(f"%oom fix {found['reload-half']['number']} --yes").stdout
        assert "is only shown" in said
        assert kernel.eval(f"[len({CASE}.outcomes), 'model' in globals()]") == [0, False]


class TestNoRoomToMap:
    def test_the_error_is_known(self, kernel: Kernel) -> None:
        kernel.execute("limit(300 << 20)")  # not even the files can be mapped
        reply = kernel.execute(FAIL)
        assert reply.evalue.startswith("unable to mmap ")
        (bundle,) = shown(reply)
        panel = Panel(kernel, reply)
        assert "Host memory exhausted" in panel.text
        assert "Host memory exhausted" in bundle["text/plain"]
        assert "The cell asked for 1" in panel.text
        fixes = plans(kernel)
        assert next(iter(fixes)) == "release-failed-cell"
        assert not [plan for plan in fixes.values() if plan["loads"] and plan["fits"]]


class TestFailsAgain:
    def test_says_so_gives_back_and_names_the_next(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        kernel.execute("nb_oomhelper.release();")
        kernel.execute("taken = torch.empty(850 << 20, dtype=torch.uint8)")  # beside it the files fit, not the weights
        before = kernel.eval("held()")
        reply = panel.click("Fix and run", run_of(panel, "reload-half"))
        assert len(reply.errors) == 1
        assert shown(reply) == []
        told = outcome(kernel)
        assert told["error"].startswith("RuntimeError: ")
        assert (told["loaded"], told["placed"]) == (False, None)
        text = panel.text
        assert "The code raised an error: RuntimeError: " in text
        assert "finished without an error" not in text
        assert "Next to try: fix " in text
        assert_given_back(before, kernel.eval("held()"))
        assert kernel.eval("'model' in globals()") is False


class TestMemoryComesBack:
    def test_a_panel_keeps_nothing_of_the_model(self, kernel: Kernel) -> None:
        before = kernel.eval("held()")
        fail(kernel)
        assert kernel.eval("resident()") - before[1] > 600 * MIB
        kernel.execute("%oom release")
        assert_given_back(before, kernel.eval("held()"))


@pytest.mark.parametrize("way", ["%oom release", "click"])
def test_released_where_next_to_nothing_is_left(start_kernel: StartKernel, way: str) -> None:
    """A generator's frame among the failed ones makes the release list all objects, which takes memory itself."""
    kernel = start_kernel()
    for code in (LOAD, "%config OOMHelper.refresh_seconds = 60", SETUP):
        assert kernel.execute(code).status == "ok"
    kernel.execute("huge()")  # what a panel imports takes address space, too
    kernel.execute("limit(480 << 20)")
    before = kernel.eval("resident()")
    reply = kernel.execute(FULL)
    assert reply.ename == "MemoryError"
    assert kernel.eval("resident()") - before > 300 * MIB
    if way == "click":
        panel = Panel(kernel, reply)
        assert panel.only().errors == []
        said = panel.text
    else:
        said = kernel.execute(way).stdout
    assert re.search(r"freed [345]\d\d MiB", said), said
    assert "MemoryError" not in said
    assert kernel.eval("resident()") - before < 40 * MIB
    assert kernel.execute("fresh = bytearray(300 << 20)").status == "ok"
