"""Never worse with us than without: threads, interrupts, forks, full screens, and a shell that comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, MIB, NO_ROOM, SETUP, Panel, shown, wait_for
from tests.kernel.conftest import needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

THREADS = "[one.name for one in __import__('threading').enumerate()].count('nb_oomhelper')"
OURS = "get_ipython()._nb_oomhelper"
MANY = """
import threading
def many(count):
    threads = [threading.Thread(target=huge) for _ in range(count)]
    for one in threads: one.start()
    for one in threads: one.join()
"""


@pytest.fixture
def kernel(kernel: Kernel) -> Kernel:
    """A kernel of each environment with the extension loaded, and what an error needs started."""
    for code in (SETUP, LOAD, "%config OOMHelper.refresh_seconds = 0.2", MANY):
        assert kernel.execute(code).status == "ok"
    wait_for(kernel, lambda: kernel.eval(THREADS) == 1)
    return kernel


class TestOneThread:
    def test_serves_every_panel_and_ends_with_us(self, kernel: Kernel) -> None:
        for _ in range(3):
            kernel.execute(NO_ROOM)
        assert kernel.eval(THREADS) == 1
        kernel.execute("%unload_ext nb_oomhelper")
        wait_for(kernel, lambda: kernel.eval(THREADS) == 0)

    def test_errors_of_many_threads_at_once_leave_one_live_panel(self, kernel: Kernel) -> None:
        for _ in range(3):
            reply = kernel.execute("many(20)")
            assert reply.status == "ok"
            assert 1 <= len(shown(reply)) <= 5
            assert kernel.eval(THREADS) == 1
        assert kernel.eval(f"[one.live for one in {OURS}.panels.screen._shown].count(True)") <= 1
        reply = kernel.execute(NO_ROOM)
        assert len(shown(reply)) == 1
        kernel.execute("%unload_ext nb_oomhelper")
        wait_for(kernel, lambda: kernel.eval(THREADS) == 0)
        assert kernel.poll(1.0).comms == []

    def test_a_panel_reads_nothing_when_it_ends(self, kernel: Kernel) -> None:
        """What it shows then is of when it was read, and a driver that hangs cannot hang who closes it."""
        first = Panel(kernel, kernel.execute(NO_ROOM))
        wait_for(kernel, lambda: "live, every" in first.text)
        repeat = f"{OURS}.panels.screen._shown[-1]._body.readout._repeat"
        for code in (
            "import nb_oomhelper.case\nread = nb_oomhelper.case.take_snapshot\ncalls = []",
            "nb_oomhelper.case.take_snapshot = lambda *a, **k: calls.append(1) or read(*a, **k)",
            f"{repeat}.active = False",  # the thread is out of the way
            "import time; time.sleep(0.5)",
            f"calls.clear(); {repeat}.active = True; {OURS}.panels.screen.close()",
        ):
            assert kernel.execute(code).status == "ok"
        assert kernel.eval("calls") == []
        assert "stopped at" in first.text


class TestScreen:
    def test_older_panels_become_pictures_and_give_their_widgets_back(self, kernel: Kernel) -> None:
        replies = [kernel.execute(NO_ROOM) for _ in range(6)]
        count = len(kernel.widgets)
        replies += [kernel.execute(NO_ROOM) for _ in range(5)]
        assert len(kernel.widgets) == count
        pictures = [row["data"] for row in replies[-1].displays if row["type"] == "update_display_data"]
        assert [set(picture) for picture in pictures] == [
            {"text/html", "text/plain", MIME},
            {"text/html", "text/plain"},
        ]
        assert set(pictures[1].values()) == {""}  # where the widgets were
        assert pictures[0]["text/plain"] == shown(replies[5])[0]["text/plain"]

    def test_the_last_five_can_be_clicked(self, kernel: Kernel) -> None:
        panels = [Panel(kernel, kernel.execute(NO_ROOM)) for _ in range(5)]
        for panel in panels:
            panel.only()
            assert "Release the failed cell: freed" in panel.text


class TestInterrupts:
    def test_of_a_click_end_it(self, kernel: Kernel) -> None:
        """What a front end sends as SIGINT may come anywhere in a click."""
        panel = Panel(kernel, kernel.execute(NO_ROOM))
        kernel.execute(
            "ip = get_ipython()\ndef bad(*args, **options):\n    del ip.transform_cell\n    raise KeyboardInterrupt"
        )
        kernel.execute("ran = []")
        panel.only()
        kernel.execute("ip.transform_cell = bad", silent=True)
        panel.click("Run the cell again")
        assert "Running" not in panel.text
        assert "KeyboardInterrupt" in panel.text
        assert "Run the cell again" in panel.buttons
        panel.click("Run the cell again")
        assert "Tried before: Release the failed cell" in panel.text

    @pytest.mark.parametrize("error", ["KeyboardInterrupt", "MemoryError", "SystemError('odd')"])
    def test_what_fails_in_a_click_is_told_as_itself(self, kernel: Kernel, error: str) -> None:
        panel = Panel(kernel, kernel.execute(NO_ROOM))
        kernel.execute(f"import nb_oomhelper.shell.panels\ndef bad(*args, **options):\n    raise {error}")
        kernel.execute("nb_oomhelper.shell.panels.run_fix = bad")
        panel.only()
        assert error.split("(")[0] in panel.text
        assert "UnboundLocalError" not in panel.text
        assert "Only the fix" in panel.buttons

    def test_a_click_whose_end_fails_still_ends(self, kernel: Kernel) -> None:
        """It sends messages, which is what fails in a full process; another thread may be waiting for it."""
        panel = Panel(kernel, kernel.execute(NO_ROOM))
        kernel.execute(
            "from nb_oomhelper.showing.frontends._clicks import Clicks\nend = Clicks._end\n"
            "def bad(self):\n    Clicks._end = end\n    self.running = False\n    raise OSError('full')\n"
            "Clicks._end = bad"
        )
        panel.only()
        assert kernel.execute("1 + 1").status == "ok"
        assert "freed" in kernel.execute("%oom fix 1").stdout

    def test_of_a_traceback_leave_no_running_cell(self, kernel: Kernel) -> None:
        """What leaves IPython's own code ends the cell under another info than it began with."""
        kernel.execute("class E(MemoryError):\n    def _render_traceback_(self):\n        raise KeyboardInterrupt")
        for _ in range(3):
            kernel.execute("raise E()")
        assert kernel.execute("1 + 1").status == "ok"
        assert kernel.eval(f"len({OURS}.cells._running)") == 0
        assert kernel.eval(f"{OURS}.cells.busy()") is False

    def test_at_any_moment_leave_the_kernel_sane(self, kernel: Kernel) -> None:
        for tenths in range(12):
            kernel.start(NO_ROOM, stop_on_error=False)
            kernel.poll(0.05 * tenths)
            kernel.interrupt()
            kernel.poll(0.5)  # an early interrupt costs the reply itself, also without us
            assert kernel.execute("1 + 1").status == "ok"
        kernel.poll(0.5)
        assert kernel.eval(f"len({OURS}.cells._running)") == 0
        reply = kernel.execute("numpy.ones(1 << 51, numpy.uint8)")
        assert len(shown(reply)) == 1
        assert kernel.eval(f"{OURS}.case.event.requested") == 1 << 51


def test_an_error_that_cannot_be_read_leaves_no_older_case(kernel: Kernel) -> None:
    kernel.execute(NO_ROOM)
    kernel.execute("import nb_oomhelper.failure.detection as detection\nread = detection.read_failure")
    kernel.execute("def bad(error):\n    raise MemoryError\ndetection.read_failure = bad")
    reply = kernel.execute("numpy.ones(1 << 51, numpy.uint8)")
    assert [error["ename"] for error in reply.errors] == ["MemoryError"] or reply.ename
    assert reply.stderr == "nb_oomhelper: out of memory; `%oom release` gives back what the failed cell keeps\n"
    kernel.execute("detection.read_failure = read")
    assert "no out-of-memory error" in kernel.execute("%oom fix 1").stdout


def test_run_again_releases_first(kernel: Kernel) -> None:
    """What the failed cell keeps is in the way of a smaller one."""
    kernel.execute("room = 160 << 20")
    kernel.execute("limit(470 << 20)")
    reply = kernel.execute("y = train_step(room).size")  # two arrays and a panel have room
    assert reply.status == "error"
    kernel.execute("%oom fix 1")
    panel = Panel(kernel, kernel.execute("y = train_step(room).size"))
    panel.only()
    kernel.execute("y = train_step(room).size")  # it keeps two arrays again
    before = kernel.eval("resident()")
    kernel.execute("room = 1 << 20")
    panel.click("Run the cell again")
    assert before - kernel.eval("resident()") > 250 * MIB
    assert "finished without an error" in panel.text


def test_a_forked_process_shows_nothing_in_our_name(kernel: Kernel) -> None:
    code = """
import os, threading
child = os.fork()
if not child:
    thread = threading.Thread(target=huge)
    thread.start(); thread.join()
    os._exit(0)
os.waitpid(child, 0)
"""
    reply = kernel.execute(code)
    assert reply.status == "ok"
    assert (shown(reply), reply.comms) == ([], [])
    assert len(shown(kernel.execute(NO_ROOM))) == 1


GROWS = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Linear(1024, 1024))
x = torch.randn(2048, 1024)
room(0.35)
"""
LOOP = """
total = 0.0
for step in range(60):
    loss = net(x).square().mean()
    total = total + loss
"""
ROOM = """
import resource
def room(gib):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + int(gib * (1 << 30)), resource.RLIM_INFINITY))
"""


@pytest.mark.thorough
def test_an_ordinary_loop_that_fails_again_and_again(start_kernel: StartKernel, kernel_python: Path) -> None:
    """A thread that was started in such a process hung it in two of eight tries."""
    kernel = start_kernel(kernel_python, {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"})
    needs(kernel, "torch")
    kernel.execute(f"{LOAD}\n{ROOM}")
    kernel.execute("import torch, numpy")
    kernel.poll(2.5)
    kernel.execute(GROWS)
    for _ in range(2):
        reply = kernel.execute(LOOP, timeout=120)
        assert reply.status == "error"
        assert shown(reply) or "nb_oomhelper" in reply.stderr
        kernel.execute("%oom fix 1 --yes", timeout=120)
        assert kernel.execute("1 + 1").status == "ok"


def test_what_frees_nothing_is_not_offered_to_a_loop_that_fills_memory(
    start_kernel: StartKernel, kernel_python: Path
) -> None:
    """ "Release: frees nothing · may be enough" was its first fix; the cell would have filled memory once more."""
    kernel = start_kernel(kernel_python)
    kernel.execute(f"{LOAD}\n{ROOM}")
    kernel.poll(2.5)
    kernel.execute("room(0.3)")
    reply = kernel.execute("texts = []\nfor n in range(10**9):\n    texts.append('a' * 100_000 + str(n))", timeout=120)
    assert reply.status == "error"
    plans = "[[one.fix, one.verdict] for one in get_ipython()._nb_oomhelper.case.plans]"
    assert kernel.eval(plans) == [["empty-container", "again"], ["delete-variable", "again"]]
    assert "frees nothing" not in shown(reply)[0]["text/plain"]
