"""The driver itself: a test that passes because the driver sees nothing would be worth nothing."""

from __future__ import annotations

import psutil
import pytest

from tests.conftest import StartKernel
from tests.kernel.driver import Kernel, KernelError

pytestmark = pytest.mark.kernel

BUTTON = """
import ipywidgets
button = ipywidgets.Button(description="Add")
slider = ipywidgets.IntSlider(value=3)
def add(_):
    print("added", slider.value)
    button.description = "Added"
    1 / 0
button.on_click(add)
display(button)
"""


def test_driver_sees_an_error(kernel: Kernel) -> None:
    reply = kernel.execute("print('before')\ndef f():\n    raise MemoryError('none left')\nf()")
    assert (reply.status, reply.ename, reply.evalue) == ("error", "MemoryError", "none left")
    assert reply.stdout == "before\n"
    assert reply.errors[0]["ename"] == "MemoryError"
    assert any("none left" in line for line in reply.traceback)
    assert kernel.execute("1 + 1").execution_count == 2


def test_driver_sees_displays(kernel: Kernel) -> None:
    reply = kernel.execute("display({'text/plain': 'p', 'text/html': '<i>h</i>'}, raw=True, metadata={'k': 1})\n6 * 7")
    assert [row["type"] for row in reply.displays] == ["display_data", "execute_result"]
    assert reply.displays[0]["metadata"] == {"k": 1}
    assert reply.mime("text/plain") == ["p", "42"]
    assert kernel.eval("[1, _]") == [1, 42]


def test_driver_clicks_buttons(kernel: Kernel) -> None:
    assert kernel.execute(BUTTON).status == "ok"
    (button,) = kernel.find_buttons("Add")
    (slider,) = kernel.find_widgets(_model_name="IntSliderModel")
    kernel.set_state(slider, {"value": 8})
    reply = kernel.click(button)
    assert reply.stdout == "added 8\n"
    assert "ZeroDivisionError" in reply.stderr + str(reply.errors)
    assert kernel.widgets[button]["description"] == "Added"


def test_driver_polls_what_comes_late(kernel: Kernel) -> None:
    late = "import threading\nthreading.Timer(0.4, lambda: setattr(slider, 'value', 9)).start()"
    kernel.execute(f"import ipywidgets\nslider = ipywidgets.IntSlider()\n{late}")
    (slider,) = kernel.find_widgets(_model_name="IntSliderModel")
    assert kernel.widgets[slider]["value"] == 0
    assert kernel.poll(2).comms
    assert kernel.widgets[slider]["value"] == 9


def test_driver_clicks_beside_a_busy_cell(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    subshell = kernel.create_subshell()
    kernel.finish(kernel.start(BUTTON.replace("1 / 0", "pass"), subshell=subshell))
    (button,) = kernel.find_buttons("Add")
    cell = kernel.start("import time\ntime.sleep(2)\nprint(button.description)")
    assert kernel.finish(kernel.start_click(button, subshell), timeout=1.5).stdout == "added 3\n"
    assert kernel.finish(cell).stdout == "Added\n"


def test_driver_notices_a_dead_kernel(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    with pytest.raises(KernelError, match="died"):
        kernel.execute("import os; os._exit(1)")


def test_driver_leaves_no_process(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    assert psutil.pid_exists(kernel.pid)
    kernel.end()
    assert not psutil.pid_exists(kernel.pid)
