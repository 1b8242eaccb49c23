"""The panel's clicks, as a front end sends them, and what comes of them in the kernel."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from benchmarks import many_panels

from nb_oomhelper.showing.case_record import MIME
from nb_oomhelper.units import format_bytes
from tests.conftest import StartKernel
from tests.kernel.cells import CASE, FAIL, LOAD, LOADER, MIB, SETUP, Panel, run_of, shown, start_busy, wait_for
from tests.kernel.conftest import SharedKernel
from tests.kernel.driver import Kernel, Reply

pytestmark = pytest.mark.kernel

FIX = """
id = "{id}"
order = {order}
applicability = "safe"
subject = "none"
code = '''{code}'''
[en]
title = "{id}"
note = "a fix of one's own"
loses = ""
[zh]
title = "{id}"
note = "自己的修复"
loses = ""
[[example]]
code = '''{code}'''
"""

# what is put by for an error is mapped already when `limit` is called, and is given up when one comes by
EXACT = """
def limit(room, unheld=limit):
    unheld(room - get_ipython()._nb_oomhelper._reserve.held)
"""


@pytest.fixture
def kernel(shared: SharedKernel) -> Kernel:
    """The file's kernel of each pair, with the extension, all memory given back and room for two arrays."""
    kernel = shared("panel")
    if not kernel.eval("'huge' in globals()"):
        refresh = "%config OOMHelper.refresh_seconds = 0.2"
        for code in (LOAD, refresh, SETUP, EXACT, "import time\nimport nb_oomhelper"):
            assert kernel.execute(code).status == "ok"
        kernel.execute("huge()")  # what a panel imports takes address space, too
    kernel.execute("for name in ('numbers', 'x', 'model', 'cube'):\n    globals().pop(name, None)")
    kernel.execute("nb_oomhelper.release(deep=True, history=True);")
    kernel.execute("get_ipython()._nb_oomhelper.panels._last = None")  # what other tests have tried
    assert kernel.execute("limit(370 << 20)").status == "ok"
    return kernel


def fail(kernel: Kernel, code: str = FAIL) -> Panel:
    reply = kernel.execute(code)
    assert reply.status == "error"
    panel = Panel(kernel, reply)
    panel.unfold()
    return panel


class TestRun:
    def test_tells_what_it_freed(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        assert "Nothing here makes this cell run. It needs at least" in panel.text
        assert "still held by the failed cell: batch, outputs (train_step, line" in panel.text
        assert panel.buttons == ["中文", "Only the fix", "Code", "▸ Entry"]
        reply = panel.only()
        (outcome,) = kernel.eval(
            "[[o.freed, o.predicted, o.before.resident, o.after.resident, o.fits, o.whole_cell_fits] "
            f"for o in {CASE}.outcomes]"
        )
        freed, predicted, before, after, fits, again = outcome
        assert predicted == 256 * MIB
        assert abs(freed - predicted) < 16 * MIB
        assert freed == before - after
        assert (fits, again) == (True, False)
        text = panel.text
        sizes = [format_bytes(size) for size in (freed, before, after)]
        assert "freed {} ({} → {} resident)".format(*sizes) in text
        assert "That is enough for the failed request of 128 MiB now" in text
        assert panel.buttons == [
            "中文",
            "Run the cell again",
            "▸ 1 more fix",
            "▸ Entry",
        ]  # what was done is offered no more
        panel.unfold()
        assert panel.buttons[3:] == ["▸ Entry", "[✓ Only the fix]", "Code"]
        assert (reply.stdout, reply.stderr, reply.errors, shown(reply)) == ("", "", [], [])
        assert {row["type"] for row in reply.displays} == {"update_display_data"}  # the saved report says it, too
        assert kernel.eval("[3 for name in ('_',) if not isinstance(_, (str, float, int))]") == []

    def test_two_clicks_that_wait_run_it_once(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        clicks = [kernel.start_click(panel.button("Only the fix")) for _ in range(2)]
        for click in clicks:
            assert kernel.finish(click).errors == []
        assert kernel.eval(f"len({CASE}.outcomes)") == 1
        panel.unfold()
        assert panel.buttons.count("[✓ Only the fix]") == 1

    def test_click_waits_for_the_cell(self, kernel: Kernel, go_on: Path) -> None:
        panel = fail(kernel)
        cell = start_busy(kernel, go_on, f"ran = len({CASE}.outcomes)")
        click = kernel.start_click(panel.button("Only the fix"))
        wait_for(kernel, lambda: "A cell is running" in panel.text)
        go_on.touch()
        kernel.finish(cell)
        kernel.finish(click)
        assert kernel.eval(f"[ran, len({CASE}.outcomes)]") == [0, 1]
        wait_for(kernel, lambda: "A cell is running" not in panel.text)

    def test_older_panels_can_still_be_used(self, kernel: Kernel) -> None:
        first, second = fail(kernel), fail(kernel, "huge()")
        first.only()
        assert "enough for the failed request" in first.text
        assert "stopped at" in first.text
        assert second.buttons == ["中文", "Only the fix", "Code", "▸ Entry"]


class TestUnsafe:
    def test_asks_first(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nlimit(370 << 20)")
        panel = fail(kernel)
        nth = run_of(panel, "delete-variable")
        panel.only(nth)
        assert "What it costs: numbers and everything that only it holds." in panel.text
        assert "nb_oomhelper.release(names=['numbers'])" in panel.text
        assert kernel.eval("'numbers' in globals()")
        panel.click("Cancel")
        assert "What it costs" not in panel.text
        assert "Cancel" not in panel.buttons
        assert kernel.eval(f"[len({CASE}.outcomes), 'numbers' in globals()]") == [0, True]
        panel.only(nth)
        before = kernel.eval("resident()")
        panel.click("Run anyway")
        assert not kernel.eval("'numbers' in globals()")
        assert before - kernel.eval("resident()") > 310 * MIB  # with the failed cell's 256 MiB
        assert "Delete numbers: freed 3" in panel.text

    def test_two_clicks_on_sure_run_it_once(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nlimit(370 << 20)")
        panel = fail(kernel)
        panel.only(run_of(panel, "delete-variable"))
        clicks = [kernel.start_click(panel.button("Run anyway")) for _ in range(2)]
        for click in clicks:
            kernel.finish(click)
        assert kernel.eval(f"[outcome.error for outcome in {CASE}.outcomes]") == [None]

    def test_forgets_displayed_results(self, kernel: Kernel) -> None:
        kernel.execute("numpy.ones(64 << 20, numpy.uint8)")
        kernel.execute("limit(370 << 20)")
        panel = fail(kernel)
        assert "displayed results: Out[" in panel.text
        panel.only(run_of(panel, "forget-output-history"))
        before = kernel.eval("resident()")
        panel.click("Run anyway")
        assert kernel.eval("len(Out)") == 0
        assert before - kernel.eval("resident()") > 310 * MIB

    @pytest.mark.parametrize(
        ("meanwhile", "why", "asked"),
        [
            ("del numbers", "is gone", True),
            ("del numbers", "is gone", False),
            ("numbers = numbers[:10]", "is not what it was", True),
            ("del numbers\nnumbers = numpy.ones(64 << 20, numpy.uint8)", "is not what it was", True),
        ],
    )
    def test_what_it_was_for_has_gone_meanwhile(self, kernel: Kernel, meanwhile: str, why: str, asked: bool) -> None:
        """Between the error and the click, or between the question and the answer."""
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nlimit(370 << 20)")
        panel = fail(kernel)
        if asked:
            panel.only(run_of(panel, "delete-variable"))
        kernel.execute(meanwhile)
        there = kernel.eval("'numbers' in globals() and id(numbers)")
        if not asked:
            panel.only(run_of(panel, "delete-variable"))
        reply = panel.click("Run anyway")
        assert f"Nothing was done. Delete numbers: what this is about {why}" in panel.text
        assert "freed" not in panel.text
        assert "No longer applies: what it was for" in panel.text
        assert kernel.eval(f"[{CASE}.outcomes, 'numbers' in globals() and id(numbers)]") == [[], there]
        assert (reply.errors, reply.stdout, shown(reply)) == ([], "", [])
        assert panel.buttons.count("Only the fix") == 1  # the release
        panel.only()
        assert "Release the failed cell: freed" in panel.text

    def test_what_it_was_for_has_gone_tells_the_magic(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nlimit(370 << 20)")
        fail(kernel)
        numbers = dict(kernel.eval(f"[[plan.fix, plan.number] for plan in {CASE}.plans]"))
        kernel.execute("del numbers")
        reply = kernel.execute(f"%oom fix {numbers['delete-variable']} --yes")
        assert "Nothing was done. Delete `numbers`: what this is about is gone." in reply.stdout + reply.stderr
        assert "freed" not in reply.stdout


class TestFixAndRun:
    """One click runs the fix, and then the cell."""

    def prepared(self, kernel: Kernel, cell: str = "done = train_step(128 << 20).size") -> Panel:
        kernel.execute("numbers = numpy.ones(128 << 20, numpy.uint8)\ndone = 0\nlimit(370 << 20)")
        panel = fail(kernel, cell)
        assert "✓ the cell should run then" in panel.text
        panel.click("Fix and run")
        assert "What it costs: numbers and everything that only it holds." in panel.text
        assert "Then the cell runs again from its first line." in panel.text
        assert kernel.eval("['numbers' in globals(), done]") == [True, 0]
        return panel

    def test_the_cell_runs(self, kernel: Kernel) -> None:
        panel = self.prepared(kernel)
        reply = panel.click("Run anyway")
        said = [row["data"].get("state", {}).get("value", "") for row in reply.comms]
        steps = [n for n in ("Step 1 of 2: ", "Step 2 of 2: ") if any(n in str(text) for text in said)]
        assert steps == ["Step 1 of 2: ", "Step 2 of 2: "]
        assert kernel.eval("[done, 'numbers' in globals()]") == [128 * MIB, False]
        assert panel.text.splitlines()[1].startswith("✓ The cell finished without an error.")
        assert len(panel.text.splitlines()) == 2  # title and outcome
        assert kernel.eval(f"[[o.fix, o.ran, o.cell_error] for o in {CASE}.outcomes]") == [
            ["delete-variable", True, None]
        ]
        assert panel.buttons == ["中文", "Details"]
        panel.unfold()
        assert "Delete numbers" in panel.text
        assert "[✓ Only the fix]" in panel.buttons

    def test_another_error_of_the_cell_is_told_and_the_next_fix_offered(self, kernel: Kernel) -> None:
        cell = "if 'numbers' not in globals():\n    raise KeyError('x')\ndone = train_step(128 << 20).size"
        panel = self.prepared(kernel, cell)
        reply = panel.click("Run anyway")
        assert reply.errors[0]["ename"] == "KeyError"
        assert "✗ The cell failed: KeyError: 'x'" in panel.text
        assert "Delete numbers: freed 38" in panel.text
        assert kernel.eval(f"[[o.ran, o.cell_error] for o in {CASE}.outcomes]") == [[False, "KeyError: 'x'"]]
        assert "Run the cell again" in panel.buttons

    def test_out_of_memory_again_is_shown_in_the_same_panel(self, kernel: Kernel) -> None:
        panel = self.prepared(kernel, "done = train_step((128 if 'numbers' in globals() else 256) << 20).size")
        reply = panel.click("Run anyway")
        assert shown(reply) == []
        assert "Tried before: Delete numbers" in panel.text
        assert kernel.eval(f"[{CASE}.earlier[0].ran, {CASE}.outcomes]") == [False, []]

    def test_by_the_magic(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(128 << 20, numpy.uint8)\nlimit(370 << 20)")
        fail(kernel, "done = train_step(128 << 20).size\nprint('ran')")
        numbers = dict(kernel.eval(f"[[plan.fix, plan.number] for plan in {CASE}.plans]"))
        line = f"%oom fix {numbers['delete-variable']} --run"
        assert f"To run it: {line} --yes" in kernel.execute(line).stdout
        reply = kernel.execute(f"{line} --yes")
        assert reply.stdout.startswith("ran\n✓ The cell finished without an error.\n")
        assert kernel.eval("done") == 128 * MIB


class TestRepeats:
    def test_what_was_tried_comes_first(self, kernel: Kernel) -> None:
        fail(kernel).only()
        kernel.execute("limit(370 << 20)")
        panel = Panel(kernel, kernel.execute(FAIL))
        assert "Tried before: Release the failed cell (freed 2" in panel.text.splitlines()[0]

    def test_another_cell_begins_anew(self, kernel: Kernel) -> None:
        fail(kernel).only()
        kernel.execute("limit(370 << 20)")
        assert "Tried before" not in fail(kernel, "y = " + FAIL).text


class TestRunAgain:
    def again(self, kernel: Kernel, code: str, prepare: str) -> tuple[Panel, Reply, str, int]:
        kernel.execute("room = 128 << 20")
        panel = fail(kernel, code)
        count = kernel.eval("get_ipython().execution_count")
        panel.only()
        kernel.execute(prepare)
        return panel, panel.click("Run the cell again"), code, count + 1

    @pytest.mark.parametrize(
        "code", ["x = train_step(room)\nx.size", "import asyncio\nawait asyncio.sleep(0)\ntrain_step(room).size"]
    )
    def test_runs_the_same_source(self, kernel: Kernel, code: str) -> None:
        panel, _, code, count = self.again(kernel, code, "room = 1 << 20")
        wait_for(
            kernel, lambda: "finished without an error" in panel.text
        )  # a cell that awaits goes on after the click
        assert kernel.eval("In[-1]") == code
        assert kernel.eval("get_ipython().execution_count") == count + 1
        assert kernel.eval("Out[max(Out)]") == 1 << 20
        assert panel.buttons == ["中文", "Details"]
        assert kernel.eval("get_ipython()._nb_oomhelper.cells.busy()") is False
        assert kernel.eval("get_ipython()._nb_oomhelper.cells._running") == []

    @pytest.mark.parametrize("code", ["train_step(room)", "import asyncio\nawait asyncio.sleep(0)\ntrain_step(room)"])
    def test_fails_again(self, kernel: Kernel, code: str) -> None:
        panel, reply, _, _ = self.again(kernel, code, "pass")
        wait_for(kernel, lambda: "Tried before" in panel.text)
        assert "Tried before: Release the failed cell (freed 2" in panel.text
        assert shown(reply) == []  # no panel in a panel
        assert "still held by the failed cell" in panel.text
        assert "✗ tried already" not in panel.text
        panel.unfold()
        assert "✗ tried already: the cell ran out again" in panel.text
        panel.only()
        assert "freed 2" in panel.text
        assert kernel.eval("get_ipython()._nb_oomhelper.cells._running") == []

    def test_windows_are_joined_without_copies(self, kernel: Kernel) -> None:
        make = "def make(values, w):\n    parts = [values[i:i + w] for i in range(len(values) - w + 1)]\n"
        kernel.execute(make + "    return numpy.stack(parts)\nseries = numpy.arange(60_000.)\nlimit(370 << 20)")
        panel = fail(kernel, "table = make(series, 2000)\ndone = table.shape")
        assert "This cell can run: as a view, its windows take 885 MiB less." in panel.text
        panel.click("Fix and run")  # it costs no more than another run, and asks nothing
        assert kernel.eval("[done, table[57, 3], table[-1, -1]]") == [[58001, 2000], 60.0, 59999.0]
        assert kernel.eval("[make(numpy.ones(3), 2).tolist(), table.flags.writeable]") == [[[1, 1], [1, 1]], False]
        assert kernel.eval(f"[[o.fix, o.ran, o.cell_error] for o in {CASE}.outcomes]") == [
            ["windows-as-view", True, None]
        ]

    def test_parts_are_joined_as_they_are_made(self, kernel: Kernel) -> None:
        kernel.execute("def part(k):\n    return numpy.full((500, 2000), k)\nlimit(600 << 20)\nks = numpy.arange(50.)")
        panel = fail(kernel, "cube = numpy.stack([part(k) for k in ks], axis=-1)\ndone = cube.shape")
        assert "This cell can run: joined as its parts are made, it takes 366 MiB less." in panel.text
        panel.click("Fix and run")
        assert kernel.eval("[done, cube[7, 9, 33], cube.flags.c_contiguous]") == [[500, 2000, 50], 33.0, True]
        assert kernel.eval(f"[[o.fix, o.ran, o.cell_error] for o in {CASE}.outcomes]") == [
            ["joined-as-made", True, None]
        ]


class TestShows:
    def test_both_languages(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        panel.click("中文")
        assert "主机内存不足" in panel.text
        assert panel.buttons == ["English", "仅修复", "代码", "▸ 条目"]
        assert "Why" not in panel.text
        panel.click("仅修复")
        assert "释放了" in panel.text
        kernel.execute("huge()")  # its panel is the live one now, and nobody writes the other's reading anew
        assert "停止更新" in panel.text
        panel.click("English")
        assert "stopped at" in panel.text
        assert "Host memory exhausted" in panel.text
        assert "Release the failed cell: freed" in panel.text

    def test_entry_in_its_forms(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        assert "HOST-OOM-010" in panel.text
        assert panel.page == []
        panel.click("▸ Entry")
        assert set(panel.page[0]["data"]) == {"text/plain", "text/markdown"}
        panel.click("JSON")
        (page,) = panel.page
        assert json.loads(page["data"]["text/plain"])["code"] == "HOST-OOM-010"
        panel.click("Markdown")
        (page,) = panel.page
        assert page["data"]["text/plain"].startswith("# HOST-OOM-010")
        panel.click("Markdown")
        panel.click("中文")
        assert "超出了内存" in panel.page[0]["data"]["text/markdown"]
        panel.click("▾ 条目")
        assert panel.page == []

    def test_code_can_be_opened_and_closed(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        assert "nb_oomhelper.release()" not in panel.text
        panel.click("Code")
        assert "nb_oomhelper.release()" in panel.text
        panel.click("Code")
        assert "nb_oomhelper.release()" not in panel.text
        panel.click("Code")
        assert "nb_oomhelper.release()" in panel.text

    def test_fix_that_is_only_to_be_copied_has_no_run(self, kernel: Kernel) -> None:
        panel = fail(kernel, LOADER.replace("model = ", ""))
        plans = kernel.eval(f"[[plan.number, plan.applicability] for plan in {CASE}.plans]")
        copied = [number for number, applicability in plans if applicability == "display_only"]
        runs = [label for label in panel.buttons if label in ("Only the fix", "Fix and run")]
        assert len(runs) >= len(plans) - len(copied)
        for number in copied:
            assert f"fix {number} is only shown" in kernel.execute(f"%oom fix {number} --yes").stdout


class TestLive:
    def test_follows_while_a_cell_runs(self, kernel: Kernel, go_on: Path) -> None:
        panel = fail(kernel)
        cell = start_busy(kernel, go_on, grow="kept = [numpy.ones(int(time.time() * 4) % 5 << 23, numpy.uint8)]")
        bars: set[str] = set()

        def follow() -> bool:
            bars.update(state["value"] for state in panel.visible() if "oomh-spark" in str(state.get("value")))
            return len(bars) >= 3

        wait_for(kernel, follow)
        assert "live, every 0.2 s" in panel.text
        go_on.touch()
        kernel.finish(cell)

    def test_ends(self, kernel: Kernel) -> None:
        kernel.execute("%config OOMHelper.live_minutes = 0.02")
        panel = fail(kernel)
        kernel.execute("%config OOMHelper.live_minutes = 10")
        wait_for(kernel, lambda: "stopped at" in panel.text)
        assert kernel.poll(0.6).comms == []
        assert panel.only().errors == []

    def test_says_nothing_while_nothing_changes(self, kernel: Kernel) -> None:
        panel = fail(kernel)
        wait_for(kernel, lambda: "live, every 0.2 s" in panel.text)
        kernel.poll(1.0)
        assert kernel.poll(1.0).comms == []

    def test_one_panel_is_live_at_a_time(self, kernel: Kernel) -> None:
        panels = [fail(kernel, "huge()") for _ in range(3)]
        wait_for(kernel, lambda: "live, every" in panels[-1].text)
        assert ["stopped at" in panel.text for panel in panels] == [True, True, False]
        names = kernel.eval("[thread.name for thread in __import__('threading').enumerate()]")
        assert names.count("nb_oomhelper") == 1


def test_click_on_a_subshell_runs_on_the_main_thread(start_kernel: StartKernel, go_on: Path) -> None:
    """JupyterLab sends clicks to a subshell; then they must not run beside a cell."""
    kernel = start_kernel()
    for code in (LOAD, "%config OOMHelper.refresh_seconds = 0.2", SETUP, "import threading, time\nlog = []"):
        kernel.execute(code)
    kernel.execute(
        "class Told:\n    def __del__(self):\n        log.append([threading.current_thread().name, running])\n"
        "numbers, running = numpy.ones(64 << 20, numpy.uint8).view(type('Array', (numpy.ndarray,), {})), False\n"
        "numbers.told = Told()"
    )
    subshell = kernel.create_subshell()
    kernel.execute("huge()")
    kernel.execute("limit(370 << 20)")
    reply = kernel.finish(kernel.start(FAIL, subshell=subshell))
    panel = Panel(kernel, reply)
    panel.unfold()
    kernel.finish(kernel.start_click(panel.button("Only the fix", run_of(panel, "delete-variable")), subshell))
    kernel.execute("running = True")
    begun = go_on.with_name("begun")
    cell = start_busy(kernel, go_on, "running = False", grow=f"open({str(begun)!r}, 'w').close()")
    wait_for(kernel, begun.exists)  # a click that comes while the cell is still being prepared goes before it
    sure = kernel.start_click(panel.button("Run anyway"), subshell)
    with suppress(AssertionError):  # ipykernel may choose the main shell for it: then it has not come through yet
        wait_for(kernel, lambda: "[Only the fix]" in panel.buttons, 10)
    wait_for(kernel, lambda: "A cell is running: a click is carried out when it ends" in panel.text)
    assert kernel.poll(0.5).displays == []
    go_on.touch()
    kernel.finish(cell)
    kernel.finish(sure)
    assert kernel.eval("log") == [["MainThread", False]]
    assert "Delete numbers: freed" in panel.text
    again = kernel.finish(kernel.start_click(panel.button("Run the cell again"), subshell))
    assert kernel.eval("In[-1]") == FAIL
    assert "Tried before" in panel.text or "finished without an error" in panel.text
    assert shown(again) == []


class TestFixesOfOnesOwn:
    @pytest.fixture
    def own(self, start_kernel: StartKernel, kernel_python: Path, tmp_path: Path) -> Kernel:
        fixes = tmp_path / "own" / "fixes"
        fixes.mkdir(parents=True)
        codes = {
            "prints": 'import sys\nprint("from the fix")\nprint("to stderr", file=sys.stderr)\n41 + 1',
            "raises": 'raise KeyError("from the fix")',
            "fails": "huge()",
            "exits": "raise SystemExit",
            "sleeps": "import time\ntime.sleep(60)",
            "closes": "import ipywidgets\nipywidgets.Widget.close_all()",
            "unloads": "get_ipython().run_line_magic('unload_ext', 'nb_oomhelper')",
        }
        for order, (name, code) in enumerate(codes.items(), 1):
            (fixes / f"{name}.toml").write_text(FIX.format(id=name, order=order, code=code), encoding="utf-8")
        kernel = start_kernel(kernel_python)
        folder = str(tmp_path / "own")
        for cell in (LOAD, f"%config OOMHelper.knowledge_dir = {folder!r}", f"%oom trust {folder!r}", SETUP):
            assert kernel.execute(cell).status == "ok"
        return kernel

    def test_output_and_errors(self, own: Kernel) -> None:
        panel = fail(own, "huge()")
        reply = panel.only(run_of(panel, "prints"))
        assert (reply.stdout, reply.stderr) == ("from the fix\n", "to stderr\n")
        captured = [row["data"]["state"]["msg_id"] for row in reply.comms if "msg_id" in row["data"].get("state", {})]
        assert captured[-1] == ""  # the output widget took what was printed, and only that
        assert captured[-2] != ""
        assert reply.kinds.index("comm_msg") < reply.kinds.index("stream")
        assert "prints:" in panel.text
        panel.unfold()
        reply = panel.only(run_of(panel, "raises"))
        assert reply.errors[0]["ename"] == "KeyError"
        assert "The code raised an error: KeyError: 'from the fix'" in panel.text
        assert shown(reply) == []
        assert panel.buttons.count("[✓ Only the fix]") == 1

    def test_one_that_is_stopped(self, own: Kernel) -> None:
        panel = fail(own, "huge()")
        click = own.start_click(panel.button("Only the fix", run_of(panel, "sleeps")))
        wait_for(own, lambda: "Running: sleeps" in panel.text)
        own.interrupt()
        own.finish(click)
        assert "The code raised an error: KeyboardInterrupt" in panel.text
        assert "Running" not in panel.text
        assert "Only the fix" in panel.buttons

    def test_one_that_takes_the_panel_or_us_away(self, own: Kernel) -> None:
        panel = fail(own, "huge()")
        reply = panel.only(run_of(panel, "closes"))
        assert (reply.errors, reply.stderr) == ([], "")
        panel = fail(own, "huge()")
        reply = panel.only(run_of(panel, "unloads"))
        assert (reply.errors, reply.stderr) == ([], "")
        panel.only()  # what was shown can still be used
        assert own.execute("1 + 1").status == "ok"

    def test_fix_that_runs_out_of_memory_has_no_panel(self, own: Kernel) -> None:
        panel = fail(own, "huge()")
        reply = panel.only(run_of(panel, "fails"))
        assert "The code raised an error: MemoryError: Unable to allocate" in panel.text
        assert shown(reply) == []
        assert len(shown(own.execute("huge()"))) == 1

    def test_magic(self, own: Kernel) -> None:
        fail(own, "huge()")
        numbers = dict(own.eval(f"[[plan.fix, plan.number] for plan in {CASE}.plans]"))
        reply = own.execute(f"%oom fix {numbers['prints']}")
        assert reply.stdout.startswith("from the fix\n")
        reply = own.execute(f"%oom fix {numbers['raises']}")
        assert "The code raised an error: KeyError: 'from the fix'" in reply.stdout
        reply = own.execute(f"%oom fix {numbers['exits']}")
        assert "SystemExit" in reply.stdout
        assert own.execute("1 + 1").status == "ok"


class TestCost:
    """Each message is a journey to a browser that may be far away; near the limit, one may fail half-way."""

    @pytest.mark.parametrize(("room", "threads"), [(300, 0), (4000, 1)])
    def test_few_messages(self, kernel_python: Path, start_kernel: StartKernel, room: int, threads: int) -> None:
        kernel = start_kernel(kernel_python)
        for code in (SETUP, "import threading", LOAD, f"limit({room} << 20)"):
            kernel.execute(code)
        reply = kernel.execute("huge()")
        assert len(kernel.widgets) <= 20
        assert len(reply.comms) + len(reply.displays) <= 40
        assert kernel.eval("[one.name for one in threading.enumerate()].count('nb_oomhelper')") == threads

    def test_one_message_where_there_is_no_room(self, kernel_python: Path, start_kernel: StartKernel) -> None:
        kernel = start_kernel(kernel_python)
        size = "size = psutil.Process().memory_info().vms + (50 << 20)"
        for code in (SETUP, LOAD, size, "resource.setrlimit(resource.RLIMIT_AS, (size, size))"):
            kernel.execute(code)
        reply = kernel.execute("huge()")
        assert reply.comms == []
        assert [set(row["data"]) for row in reply.displays] == [{"text/html", "text/plain"}]

    @pytest.mark.thorough
    def test_what_many_panels_take_comes_back(self) -> None:
        """Five keep their widgets, so that from the sixth on nothing grows."""
        levels = ("widgets", "comms", "threads", "descriptors")
        rows = [[row[name] for name in levels] for row in many_panels.measure(errors=18, every=6)]
        assert rows[0] == rows[1] == rows[2]
        assert rows[0][0] > 0


class TestOtherFrontEnds:
    def test_without_ipywidgets(self, kernel_python: Path, start_kernel: StartKernel) -> None:
        kernel = start_kernel(kernel_python)
        kernel.execute("import sys\nsys.modules['ipywidgets'] = None")
        for code in (LOAD, SETUP, "import nb_oomhelper", "limit(370 << 20)"):
            kernel.execute(code)
        reply = kernel.execute(FAIL)
        assert len(reply.errors) == 1
        (bundle,) = shown(reply)
        assert set(bundle) == {"text/html", "text/plain", MIME}
        assert "freed 25" in kernel.execute("%oom fix 1").stdout
        assert set(shown(kernel.execute("%oom"))[0]) == {"text/html", "text/plain", MIME}
        live = kernel.execute("%gpumem --live")
        assert set(live.displays[0]["data"]) == {"text/plain", "text/html"}

    def test_in_a_terminal(self, kernel_python: Path, tmp_path: Path) -> None:
        cells = [LOAD, SETUP, "limit(370 << 20)", FAIL, "%oom fix 1", "%oom status", "%unload_ext nb_oomhelper", "exit"]
        script = "\n".join(f"shell.run_cell({cell!r}, store_history=True)" for cell in cells[:-1])
        head = "from IPython.terminal.interactiveshell import TerminalInteractiveShell as Shell\nshell = Shell()\n"
        done = subprocess.run(
            [kernel_python, "-c", head + script],
            env={"PATH": "/usr/bin:/bin", "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        out = done.stdout
        assert done.returncode == 0, done.stderr
        assert out.index("Unable to allocate") < out.index("Host memory exhausted") < out.index("freed 25")
        assert "exception handler: in place" in out
        assert "\x1b" not in out[out.index("Host memory exhausted") : out.index("freed 25")]

    @pytest.mark.parametrize("colors", ["Linux", "NoColor"])
    def test_in_a_window_of_sixty_columns(self, kernel_python: Path, tmp_path: Path, colors: str) -> None:
        pexpect = pytest.importorskip("pexpect")
        env = {name: os.environ.get(name, "") for name in ("PATH", "PYTHONPATH")}
        env |= {"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        args = ["-m", "IPython", "--simple-prompt", "--no-banner", f"--colors={colors}"]
        window = {"dimensions": (50, 60), "encoding": "utf-8", "timeout": 60, "echo": False}
        child, prompt, said = pexpect.spawn(str(kernel_python), args, env=env, **window), r"In \[\d+\]: ", []
        child.expect(prompt)
        for cell in (LOAD, "raise MemoryError", "%gpumem --live"):
            child.sendline(cell)
            child.expect(prompt)
            said.append(child.before.replace("\r\n", "\n"))
        child.sendline("exit()")
        child.expect(pexpect.EOF)
        child.close()
        _, error, live = said
        report = error[error.index("─" * 60) :]
        assert error.index("Traceback") < error.index("─" * 60)
        assert ("\x1b[1m\x1b[31mHost memory exhausted" in report) == (colors == "Linux")
        lines = re.sub(r"\x1b\[\d+m", "", report).split("\n")
        assert max(len(line) for line in lines if "| " not in line) == 60  # code is to be copied, and not broken
        assert not re.search(r"(HTML|VBox)\(", live)  # never a widget's repr

    def test_nobody_listens(self, kernel_python: Path, start_kernel: StartKernel) -> None:
        """A notebook may be closed while its cells run on."""
        kernel = start_kernel(kernel_python)
        for code in (LOAD, "%config OOMHelper.refresh_seconds = 0.2", SETUP):
            kernel.execute(code)
        kernel._client.iopub_channel.stop()
        kernel.start("huge()")
        kernel.start("%oom")
        kernel.start("%oom fix 1")
        answers = [kernel._client.get_shell_msg(timeout=30)["content"]["status"] for _ in range(3)]
        assert answers == ["error", "ok", "ok"] or answers == ["error", "aborted", "aborted"]
        assert kernel.alive
