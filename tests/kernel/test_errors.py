"""The user's own traceback comes first and stays what it was; then one panel, whoever else handles errors."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, SETUP, VIEW, shown
from tests.kernel.conftest import SharedKernel
from tests.kernel.driver import Kernel, Reply

pytestmark = pytest.mark.kernel

ORDINARY = {
    "ValueError": "def f():\n    raise ValueError('no')\nf()",
    "RuntimeError": "def f():\n    raise RuntimeError('a bug')\nf()",
    "RecursionError": "raise RecursionError('too deep')",
    "NotImplementedError": "def f():\n    raise NotImplementedError\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('after') from error",
    "group": "raise ExceptionGroup('two', [ValueError('a'), RuntimeError('b')])",
    "SyntaxError": "x = = 1",
    "SyntaxError inside": "exec('x = = 1')",
    "IndentationError": "def f():\nreturn 1",
    "KeyboardInterrupt": "print('on')\nraise KeyboardInterrupt",
    "SystemExit": "raise SystemExit(3)",
    "UsageError": "%no_such_magic",
    "await": "import asyncio\nawait asyncio.sleep(0)\nraise RuntimeError('late')",
    "timeit": "%timeit -n1 -r1 {}['a']",
    "time": "%%time\n{}['a']",
    "capture": "%%capture seen\nprint(1)\n{}['a']",
    "repr": "class Odd:\n    def __repr__(self):\n        raise RuntimeError('odd')\nOdd()",
    "callback": "events = get_ipython().events\ndef f(info=None):\n    events.unregister('pre_run_cell', f)\n    1 / 0"
    "\nevents.register('pre_run_cell', f)",
    "xmode": "%xmode Plain\n1 / 0",
    "debugged": "%xmode Context\n%tb",
}
HANDLER = """
from IPython import get_ipython
calls = []
def handle(shell, etype, value, tb, tb_offset=None):
    calls.append(etype.__name__)
    {body}
get_ipython().set_custom_exc(({kinds},), handle)
"""
SHOWS = "shell.showtraceback((etype, value, tb), tb_offset=tb_offset)"


def content(reply: Reply) -> dict[str, Any]:
    """All that a front end gets of a cell, without what differs from process to process."""
    fields = dataclasses.asdict(reply) | {"comms": None}
    return {key: _same(value) for key, value in fields.items()}


def words(text: str) -> list[str]:
    """Give the words of a text without its colors."""
    return re.findall(r"\w+", re.sub(r"\x1b\[[\d;]*m", "", text))


def _same(value: Any) -> Any:
    return re.sub(r"0x[0-9a-f]+|at [0-9a-f]{8,}|ipykernel_\d+|CPU times.*|Wall time.*", "…", repr(value))


@pytest.mark.parametrize("name", ORDINARY)
def test_other_errors_are_untouched(shared: SharedKernel, name: str) -> None:
    bare, loaded = shared("bare"), shared("loaded")
    if "loaded" not in loaded.eval("[name for name in ('loaded',) if name in globals()]"):
        loaded.execute(f"{LOAD}\nloaded = True")
        bare.execute("pass\nloaded = True")
    for code in (ORDINARY[name], "1 + 1"):
        without, with_us = bare.execute(code), loaded.execute(code)
        assert content(with_us) == content(without)
    assert shown(with_us) == []


def test_interrupt_is_untouched(shared: SharedKernel) -> None:
    replies = []
    for kernel in (shared("bare"), shared("loaded")):
        msg_id = kernel.start("print('on', flush=True)\nfor _ in range(600):\n    __import__('time').sleep(0.1)")
        while "on" not in kernel.poll(0.2).stdout:
            pass
        kernel.interrupt()
        replies.append(kernel.finish(msg_id))
    assert [reply.ename for reply in replies] == ["KeyboardInterrupt"] * 2
    assert content(replies[0]) == content(replies[1])


def test_traceback_first_then_one_panel(start_kernel: StartKernel, kernel_python: Path) -> None:
    without, with_us = start_kernel(kernel_python), start_kernel(kernel_python)
    replies = []
    for kernel, first in ((without, "pass"), (with_us, LOAD)):
        kernel.execute(first)
        kernel.execute(SETUP)
        replies.append(kernel.execute("huge()"))
    bare, reply = replies
    for key in ("status", "ename", "evalue", "traceback", "errors", "stdout", "stderr", "execution_count"):
        assert _same(getattr(reply, key)) == _same(getattr(bare, key)), key
    assert reply.status == "error"
    assert reply.kinds.index("error") < reply.kinds.index("comm_open") < reply.kinds.index("display_data")
    (bundle,) = shown(reply)
    assert set(bundle) == {VIEW, "text/html", "text/plain", MIME}
    assert len(reply.displays) == 2  # the report, and the widgets
    assert bundle[VIEW]["model_id"] in with_us.widgets
    for text in (bundle["text/html"], bundle["text/plain"]):
        assert "1.00 PiB" in text
    last = "[type(sys.last_value).__name__, sys.last_type is type(sys.last_value), sys.last_traceback is not None]"
    assert with_us.eval(last) == without.eval(last)
    assert with_us.eval(last)[1:] == [True, True]
    again = with_us.execute("%tb")
    assert _same(again.errors or again.stdout) == _same([*without.execute("%tb").errors] or again.stdout)
    assert "huge" in words("".join(again.errors[0]["traceback"]))
    assert shown(again) == []


def test_error_that_cannot_be_printed(start_kernel: StartKernel, kernel_python: Path) -> None:
    """IPython then shows the error that came of printing it, and so it does with us."""
    without, kernel = start_kernel(kernel_python), start_kernel(kernel_python)
    kernel.execute(LOAD)
    odd = """
class Odd(MemoryError):
    def __str__(self):
        raise KeyError('odd')
    def __setattr__(self, name, value):
        raise KeyError(name)
raise Odd('Unable to allocate 4.00 GiB for an array with shape (4294967296,) and data type uint8')
"""
    bare = without.execute(odd)
    for _ in range(2):
        reply = kernel.execute(odd)
        assert (reply.status, reply.ename) == (bare.status, bare.ename) == ("error", "KeyError")
        assert [error["ename"] for error in reply.errors] == [error["ename"] for error in bare.errors]
        assert len(shown(reply)) == 1
        assert "4.00 GiB" in shown(reply)[0]["text/plain"]
        assert reply.stderr == ""
    assert "exception handler: in place" in kernel.execute("%oom status").stdout


class TestOtherHandlers:
    """IPython has one slot for handlers."""

    def test_one_that_was_there_before_is_called(self, kernel: Kernel) -> None:
        kernel.execute(SETUP)
        kernel.execute(HANDLER.format(kinds="MemoryError, ZeroDivisionError", body=f"print('theirs')\n    {SHOWS}"))
        kernel.execute(LOAD)
        reply = kernel.execute("huge()")
        assert kernel.eval("calls") == ["MemoryError"]
        assert reply.stdout == "theirs\n"
        assert len(reply.errors) == 1
        assert len(shown(reply)) == 1
        kernel.execute("1 / 0")
        assert kernel.eval("calls") == ["MemoryError", "ZeroDivisionError"]
        assert kernel.execute("raise RuntimeError('not theirs')").errors[0]["evalue"] == "not theirs"
        assert len(kernel.eval("calls")) == 2
        kernel.execute("%unload_ext nb_oomhelper")
        kernel.execute("1 / 0")
        assert len(kernel.eval("calls")) == 3

    def test_one_that_raises_loses_the_slot_and_we_stay(self, kernel: Kernel) -> None:
        kernel.execute(SETUP)
        kernel.execute(HANDLER.format(kinds="MemoryError", body="raise KeyError('broken handler')"))
        kernel.execute(LOAD)
        for _ in range(2):
            reply = kernel.execute("huge()")
            assert [error["ename"] for error in reply.errors] == [reply.ename]
            assert "huge" in words("".join(reply.traceback))
            assert len(shown(reply)) == 1
        assert kernel.eval("calls") == ["MemoryError"]
        assert "exception handler: in place" in kernel.execute("%oom status").stdout
        kernel.execute("%unload_ext nb_oomhelper")
        assert kernel.eval("[list(get_ipython().custom_exceptions), len(calls)]") == [[], 1]
        assert kernel.execute("huge()").status == "error"

    @pytest.mark.parametrize("body", ["pass", SHOWS])
    def test_one_that_takes_the_slot_after_us(self, kernel: Kernel, body: str) -> None:
        kernel.execute(SETUP)
        kernel.execute(LOAD)
        kernel.execute(HANDLER.format(kinds="BaseException", body=body))
        reply = kernel.execute("huge()")
        assert kernel.eval("calls") == ["MemoryError"]
        assert len(shown(reply)) == 1
        assert "taken by another extension" in kernel.execute("%oom status").stdout
        kernel.execute("%unload_ext nb_oomhelper")
        assert shown(kernel.execute("huge()")) == []
        assert len(kernel.eval("calls")) == 2

    def test_one_that_passes_on_to_us(self, kernel: Kernel) -> None:
        kernel.execute(SETUP)
        kernel.execute(LOAD)
        kernel.execute("before = get_ipython().CustomTB")
        kernel.execute(HANDLER.format(kinds="Exception", body="before(etype, value, tb, tb_offset)"))
        reply = kernel.execute("huge()")
        assert len(reply.errors) == 1
        assert len(shown(reply)) == 1
        kernel.execute("%unload_ext nb_oomhelper")
        reply = kernel.execute("huge()")
        assert len(reply.errors) == 1
        assert shown(reply) == []

    def test_showtraceback_that_was_replaced_is_kept(self, kernel: Kernel) -> None:
        kernel.execute(SETUP)
        replace = "shell = get_ipython()\nours = shell.showtraceback\ndef {0}(*args, **options):\n    print('{0}')\n"
        kernel.execute(replace.format("before") + "    return ours(*args, **options)\nshell.showtraceback = before")
        kernel.execute(LOAD)
        kernel.execute(replace.replace("ours", "loaded").format("after") + "    return loaded(*args, **options)")
        kernel.execute("shell.showtraceback = after")
        reply = kernel.execute("huge()")
        assert (reply.stdout, len(reply.errors), len(shown(reply))) == ("after\nbefore\n", 1, 1)
        kernel.execute("%unload_ext nb_oomhelper")
        reply = kernel.execute("huge()")
        assert (reply.stdout, len(reply.errors), len(shown(reply))) == ("after\nbefore\n", 1, 0)


class TestParts:
    """A part of ours that fails costs only itself, and never leaves an older error's fixes in place."""

    @pytest.fixture
    def kernel(self, kernel: Kernel) -> Kernel:
        for code in (SETUP, LOAD, "huge()", "import nb_oomhelper.case, nb_oomhelper.showing.frontends"):
            kernel.execute(code)
        kernel.execute("def broken(*args, **options):\n    raise KeyError('broken')")
        return kernel

    @pytest.mark.parametrize(
        "part",
        ["_failed_call", "inspect_notebook", "take_snapshot", "tell_phase", "diagnose", "study", "plan", "rates"],
    )
    def test_costs_itself(self, kernel: Kernel, part: str) -> None:
        kernel.execute(f"nb_oomhelper.case.{part} = broken")
        reply = kernel.execute("huge()")
        assert (len(reply.errors), reply.stderr, len(shown(reply))) == (1, "", 1)
        assert "The cell asked for" in shown(reply)[0]["text/plain"]
        status = kernel.execute("%oom status").stdout
        assert "last problem: KeyError: 'broken' (%oom status --traceback)" in status
        assert "in broken" in kernel.execute("%oom status --traceback").stdout

    def test_the_whole_case(self, kernel: Kernel) -> None:
        kernel.execute("nb_oomhelper.case.open_case = broken")
        reply = kernel.execute("numpy.ones(1 << 51, numpy.uint8)")
        assert (len(reply.errors), reply.stderr, len(shown(reply))) == (1, "", 1)
        assert "nb_oomhelper.release()" in shown(reply)[0]["text/plain"]
        assert kernel.eval("get_ipython()._nb_oomhelper.case.event.requested") == 1 << 51  # not the one before
        assert kernel.execute("%oom fix 1").stdout.startswith("Release the failed cell: ")  # a little more or less

    def test_every_way_of_showing_it(self, kernel: Kernel) -> None:
        kernel.execute("nb_oomhelper.showing.frontends.show = broken")
        reply = kernel.execute("huge()")
        assert (len(reply.errors), shown(reply)) == (1, [])
        assert reply.stderr == "nb_oomhelper: out of memory; `%oom release` gives back what the failed cell keeps\n"

    def test_an_interrupt_while_we_look(self, kernel: Kernel) -> None:
        """The stop button says that somebody does not want to wait, not that he wants no panel, or an older one's."""
        kernel.execute("def slow(*args, **options):\n    raise KeyboardInterrupt")
        kernel.execute("nb_oomhelper.case.take_snapshot = slow")
        reply = kernel.execute("numpy.ones(1 << 51, numpy.uint8)")
        assert [row["ename"] for row in reply.errors] == ["MemoryError"]
        assert len(shown(reply)) == 1
        assert kernel.eval("get_ipython()._nb_oomhelper.case.event.requested") == 1 << 51
        assert kernel.execute("1 + 1").status == "ok"


def test_the_phase_is_known_before_it_is_used(kernel: Kernel) -> None:
    """A training loop at top level has no function that tells it; causes, dead ends and the entry want to know."""
    pytest.importorskip("torch")
    for code in (SETUP, LOAD, "import torch", "class Loss:\n    def backward(self):\n        pass"):
        assert kernel.execute(code).status == "ok"
    kernel.execute("for step in range(2):\n    loss = Loss()\n    loss.backward()\n    huge()")
    found = kernel.eval(
        "[(c.event.phase, [d.kind for d in c.diagnosis.dead_ends]) for c in [get_ipython()._nb_oomhelper.case]]"
    )
    ((phase, ends),) = found
    assert phase == "train"
    assert "no_grad" in ends
