"""The harness itself: a click that reaches the kernel, both themes, and errors of the page that are noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import Lab, write_notebook

pytestmark = pytest.mark.browser

BUTTON = """
import ipywidgets
from IPython.display import display
out = ipywidgets.Output()
button = ipywidgets.Button(description="释放 Release")
def clicked(_):
    with out:
        print("clicked")
button.on_click(clicked)
display(button, out)
"""


def test_lab_clicks_and_changes_theme(lab: Lab, tmp_path: Path) -> None:
    write_notebook(lab.server.work / "button.ipynb", [BUTTON, "1 / 0"])
    lab.open("button.ipynb")
    output = lab.run_cell(0)
    output.get_by_role("button", name="Release").click()
    output.get_by_text("clicked").wait_for()
    assert "ZeroDivisionError" in lab.run_cell(1).inner_text()
    light = lab.screenshot(tmp_path / "light.png").read_bytes()
    lab.theme("JupyterLab Dark")
    assert lab.screenshot(tmp_path / "dark.png").read_bytes() != light
    assert lab.save()["cells"][1]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert lab.console_errors == []
    lab.page.evaluate("console.error('seen')")
    assert lab.console_errors == ["seen"]
