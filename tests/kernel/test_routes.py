"""Every way in which an out-of-memory error reaches a person gives one panel, and one only (facts.md, 4.4)."""

from __future__ import annotations

import pytest

from tests.kernel.cells import LOAD, SETUP, Panel, shown
from tests.kernel.conftest import SharedKernel
from tests.kernel.driver import Kernel, Reply

pytestmark = pytest.mark.kernel

MORE = """
import asyncio, threading
import ipywidgets
from pathlib import Path
class Odd:
    def __repr__(self):
        huge()
class OddHtml:
    def _repr_html_(self):
        huge()
async def later():
    await asyncio.sleep(0)
    huge()
Path("script.py").write_text("import numpy\\ndef work():\\n    numpy.ones(1 << 50, numpy.uint8)\\nwork()\\n")
"""
# The cell, and the status of its reply where that is the same in both pairs.
CELLS = {
    "plain": ("huge()", "error"),
    "nested": ("def outer():\n    return [huge() for _ in range(1)]\nouter()", "error"),
    "class body": ("class Body:\n    huge()", "error"),
    "await": ("await later()", "error"),
    "gather": ("await asyncio.gather(later(), asyncio.sleep(0))", "error"),
    "%time": ("%time huge()", None),
    "%%time": ("%%time\nhuge()", None),
    "%timeit": ("%timeit -n1 -r1 huge()", "error"),
    "%prun": ("%prun huge()", "error"),
    "%%capture": ("%%capture --no-display seen\nhuge()", "ok"),
    "%run": ("%run script.py", "ok"),
    "%gpumem": ("%%gpumem\nhuge()", "error"),
    "from": ("try:\n    huge()\nexcept MemoryError as error:\n    raise ValueError('wrapped') from error", "error"),
    "from None": ("try:\n    huge()\nexcept MemoryError as error:\n    raise ValueError('wrapped') from None", "error"),
    "while handling": ("try:\n    huge()\nfinally:\n    {}['missing']", "error"),
    "group": (
        "try:\n    huge()\nexcept MemoryError as error:\n"
        "    raise ExceptionGroup('all', [ValueError('a'), ExceptionGroup('some', [error])])",
        "error",
    ),
    "__repr__": ("Odd()", None),
    "_repr_html_": ("OddHtml()", None),
    "display": ("display(Odd())", None),
    "Output": ("with ipywidgets.Output():\n    huge()", "ok"),
    "hidden by a handler": ("try:\n    huge()\nexcept MemoryError:\n    get_ipython().showtraceback()", "ok"),
}


@pytest.fixture
def kernel(shared: SharedKernel) -> Kernel:
    """The file's kernel of each pair, with the extension and without a case."""
    kernel = shared("routes")
    if not kernel.eval("'huge' in globals()"):
        for code in (LOAD, SETUP, MORE):
            assert kernel.execute(code).status == "ok"
    return kernel


def panels(kernel: Kernel, reply: Reply, seconds: float = 0.0) -> int:
    """Count the panels of a reply and of the time after it."""
    late = kernel.poll(seconds)
    count = len({row["application/vnd.jupyter.widget-view+json"]["model_id"] for row in shown(reply) + shown(late)})
    assert "could not show" not in reply.stderr + late.stderr
    return count


@pytest.mark.parametrize("name", CELLS)
def test_cell_gives_one_panel(kernel: Kernel, name: str) -> None:
    code, status = CELLS[name]
    reply = kernel.execute(code)
    assert panels(kernel, reply) == 1
    assert status in (None, reply.status)
    assert "1.00 PiB" in Panel(kernel, reply).text
    after = kernel.execute("1 + 1")
    assert (panels(kernel, reply), panels(kernel, after)) == (1, 0)  # nothing comes late, nothing comes twice


@pytest.mark.parametrize("event", ["pre_execute", "pre_run_cell", "post_execute", "post_run_cell"])
def test_callback_around_a_cell(kernel: Kernel, event: str) -> None:
    once = f"events.unregister('{event}', once)\n        huge()"
    kernel.execute(f"events, armed = get_ipython().events, False\ndef once(*args):\n    if armed:\n        {once}")
    kernel.execute(f"events.register('{event}', once)")
    replies = [kernel.execute("armed = True"), kernel.execute("armed")]
    assert [reply.status for reply in replies] == ["ok", "ok"]
    assert [panels(kernel, reply) for reply in replies] == ([1, 0] if event.startswith("post") else [0, 1])


def test_widget_callback(kernel: Kernel) -> None:
    kernel.execute("button = ipywidgets.Button(description='Go')\nbutton.on_click(lambda _: huge())\nbutton")
    (button,) = kernel.find_buttons("Go")
    for _ in range(2):  # a second error is another case
        assert panels(kernel, kernel.click(button)) == 1
    kernel.execute("button.close()")


def test_widget_callback_with_an_output(kernel: Kernel) -> None:
    kernel.execute(
        "output = ipywidgets.Output()\nbutton = ipywidgets.Button(description='Go on')\n"
        "@output.capture()\ndef go(_):\n    huge()\nbutton.on_click(go)\ndisplay(button, output)"
    )
    (button,) = kernel.find_buttons("Go on")
    assert panels(kernel, kernel.click(button)) == 1


def test_interact(kernel: Kernel) -> None:
    kernel.execute("ipywidgets.interact(lambda x: huge() if x > 5 else None, x=(0, 9));")
    slider = kernel.find_widgets(_model_name="IntSliderModel")[-1]
    assert panels(kernel, kernel.set_state(slider, {"value": 8})) == 1


def test_thread(kernel: Kernel) -> None:
    reply = kernel.execute("thread = threading.Thread(target=huge)\nthread.start()\nthread.join()")
    assert panels(kernel, reply, 0.3) == 1
    assert "Thread" in reply.stderr


def test_thread_that_outlives_its_cell(kernel: Kernel) -> None:
    """Nobody keeps its frames, and the cell that runs by then is not the one that failed."""
    kernel.execute("threading.Timer(0.3, lambda: train_step(1 << 45)).start()")
    kernel.execute("def train_step(size):\n    batch = numpy.ones(200 << 20, numpy.uint8)\n    huge()")
    reply = kernel.execute("import time\ntime.sleep(1)\nthe_other_cell = True")
    assert panels(kernel, reply, 0.5) == 1
    panel = Panel(kernel, reply)
    held = [line for line in panel.text.splitlines() if "held by the failed cell" in line]
    assert "train_step" not in "".join(held)  # an earlier test's error may still be kept
    panel.only()
    assert "Run the cell again" not in panel.buttons


def test_thread_pool_is_a_plain_error(kernel: Kernel) -> None:
    kernel.execute("from concurrent.futures import ThreadPoolExecutor")
    reply = kernel.execute("with ThreadPoolExecutor() as pool:\n    list(pool.map(lambda _: huge(), range(2)))")
    assert reply.status == "error"
    assert panels(kernel, reply) == 1


def test_task_that_nobody_awaits(kernel: Kernel) -> None:
    """Asyncio tells of it when the task is collected; whoever has set the loop's handler before is still called."""
    kernel.execute("loop, told, logged = asyncio.get_running_loop(), [], []\nimport logging")
    kernel.execute("logging.getLogger('asyncio').addFilter(lambda row: logged.append(row.getMessage()) or False)")
    reply = kernel.execute("task = loop.create_task(later())")
    assert panels(kernel, reply, 0.3) == 0
    reply = kernel.execute("del task")
    assert panels(kernel, reply, 0.5) == 1
    assert "Task exception was never retrieved" in kernel.eval("logged[0]")
    kernel.execute("logging.getLogger('asyncio').filters.clear()")
    for cell in (
        "%unload_ext nb_oomhelper",
        "loop.set_exception_handler(lambda _, context: told.append(str(context)))",
        LOAD,
    ):
        assert kernel.execute(cell).status == "ok"
    reply = kernel.execute("task = loop.create_task(later())\nawait asyncio.sleep(0.1)\ndel task")
    assert panels(kernel, reply, 0.5) == 1
    assert kernel.eval("len(told)") == 1
    kernel.execute("%unload_ext nb_oomhelper")
    assert kernel.eval("loop.get_exception_handler().__name__") == "<lambda>"
    kernel.execute(f"loop.set_exception_handler(None)\n{LOAD}")
    assert panels(kernel, kernel.execute("task = loop.create_task(later())\nawait task")) == 1


def test_a_task_that_is_collected_in_a_thread(kernel: Kernel) -> None:
    """The panel waits for the loop, and the error's frames do not wait for the panel."""
    kernel.execute("import gc, weakref\nclass Held: pass")
    kernel.execute("async def keep():\n    global ref\n    held = Held()\n    ref = weakref.ref(held)\n    huge()")
    kernel.execute("cycle = [asyncio.get_running_loop().create_task(keep())]\ncycle.append(cycle)")
    reply = kernel.execute(
        "del cycle\nthread = threading.Thread(target=gc.collect)\nthread.start()\nthread.join()\nprint(ref() is None)"
    )
    assert "True" in reply.stdout
    assert panels(kernel, reply, 0.5) == 1


def test_two_errors_give_two_panels(kernel: Kernel) -> None:
    first, second = kernel.execute("huge()"), kernel.execute("huge()")
    assert (panels(kernel, first), panels(kernel, second)) == (1, 1)
    assert Panel(kernel, first).root != Panel(kernel, second).root


def test_handled_errors_give_none(kernel: Kernel) -> None:
    reply = kernel.execute("for _ in range(3):\n    try:\n        huge()\n    except MemoryError:\n        pass")
    assert reply.status == "ok"
    assert panels(kernel, reply) == 0
    assert panels(kernel, kernel.execute("raise ValueError('after')")) == 0
