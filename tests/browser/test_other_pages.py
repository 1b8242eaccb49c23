"""The panel where it is no JupyterLab: Notebook 7, nbclassic and Voila; and in two pages on one kernel."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.lab import Lab, LabServer, write_notebook
from tests.browser.panel import LOAD, PANEL, button
from tests.conftest import missing

pytestmark = pytest.mark.browser

# One GiB of room, which is where panels once took a Voila kernel with them.
SET_UP = """
import resource, psutil, numpy
limit = psutil.Process().memory_info().vms + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
def fill(size):
    batch = numpy.ones(size, numpy.uint8)
    return numpy.concatenate([batch] * 3)
"""
FAIL = "fill(400 << 20)"
FREED = re.compile(r"Release the failed cell: freed \d{3} MiB")
CALLBACK = """
import ipywidgets
start, shown = ipywidgets.Button(description="Start"), ipywidgets.Output()
def work(_):
    with shown:
        fill(400 << 20)
start.on_click(work)
ipywidgets.VBox([start, shown])
"""
# JavaScript: the kernel is there, and what shows widgets.
CLASSIC = "window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook.kernel.widget_manager"


def run_out(page: Page, kind: str) -> Locator:
    """Run three cells, the last of which runs out of memory."""
    if kind == "nbclassic":
        page.wait_for_function(CLASSIC, timeout=60_000)
        page.wait_for_timeout(3000)  # it asks the kernel for widgets first, and until then shows none
        page.evaluate("Jupyter.notebook.execute_all_cells()")
        return page.locator(PANEL).first
    first = page.locator(".jp-Notebook-cell").first
    while "1" not in first.locator(".jp-InputPrompt").inner_text(timeout=60_000):  # no kernel yet: nothing ran
        first.locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(500)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    return page.locator(PANEL).first


@pytest.mark.parametrize("kind", ["notebook", "nbclassic"])
def test_a_click_in_another_notebook(kind: str, lab_server: LabServer, chromium: Browser) -> None:
    if find_spec(kind) is None:
        missing(f"{kind} is not installed")
    write_notebook(lab_server.work / f"{kind}.ipynb", [LOAD, SET_UP, FAIL])
    page = chromium.new_page(viewport={"width": 1100, "height": 1300})
    place = "nbclassic/notebooks" if kind == "nbclassic" else "notebooks"
    page.goto(f"{lab_server.url}/{place}/{kind}.ipynb?token={lab_server.token}")
    panel = run_out(page, kind)
    expect(panel).to_contain_text("Host memory exhausted", timeout=30_000)
    button(panel, "Only the fix").click()
    expect(panel).to_contain_text(FREED, timeout=30_000)
    page.close()


def test_voila_shows_each_failed_callback_and_its_kernel_lives(lab_server: LabServer, chromium: Browser) -> None:
    if find_spec("voila") is None:
        missing("Voila is not installed")
    write_notebook(lab_server.work / "voila.ipynb", [LOAD, SET_UP, CALLBACK])
    page = chromium.new_page(viewport={"width": 1100, "height": 1300})
    page.goto(f"{lab_server.url}/voila/render/voila.ipynb?token={lab_server.token}")
    start = page.get_by_role("button", name="Start", exact=True)
    for count in (1, 2):
        start.click(timeout=60_000)
        expect(page.locator(PANEL)).to_have_count(count, timeout=30_000)
    panel = page.locator(PANEL).last
    button(panel, "Only the fix").click()
    expect(panel).to_contain_text(FREED, timeout=30_000)
    page.close()


def test_two_pages_on_one_kernel(lab: Lab, chromium: Browser) -> None:
    write_notebook(lab.server.work / "both.ipynb", [LOAD, SET_UP, FAIL])
    lab.open("both.ipynb")
    for index in range(3):
        lab.run_cell(index)
    panel = lab.output(2).locator(PANEL)
    expect(panel).to_be_visible()
    lab.save()
    with Lab(lab.server, chromium) as other:
        other.open("both.ipynb")
        seen = other.output(2).locator(PANEL)
        expect(seen).to_be_visible()
        button(panel, "Only the fix").click()
        expect(panel).to_contain_text(FREED)
        expect(seen).to_contain_text(FREED)  # the first click wins, and both say so
        seen.get_by_role("button", name="1 more fix").click()
        expect(seen.get_by_role("button", name="✓ Only the fix")).to_be_disabled()
