"""The panel in other places: Notebook 7, nbclassic, Voila, a terminal; and in two pages."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.browser.lab import Lab, LabServer, write_notebook
from tests.browser.panel import FAIL, LOAD, PANEL, PRINTED, SET_UP, VIEW, button, page_picture
from tests.conftest import missing
from tests.kernel.driver import private_env

pytestmark = pytest.mark.browser

RAN = "✓ The cell finished without an error."
TALL: ViewportSize = {"width": 1000, "height": 1300}  # Notebook 7 takes cells out of the page that are not in view
TERMINAL = """<style>
body { background: #16181d; color: #ddd; font: 13px/1.35 monospace; margin: 12px; } pre { margin: 0; }
.ansi-red-fg, .ansi-red-intense-fg { color: #ff7b72; } .ansi-green-fg, .ansi-green-intense-fg { color: #7ee787; }
.ansi-blue-fg, .ansi-blue-intense-fg { color: #79c0ff; } .ansi-cyan-fg, .ansi-cyan-intense-fg { color: #76e3ea; }
.ansi-yellow-fg, .ansi-yellow-intense-fg { color: #e3b341; } .ansi-bold { font-weight: bold; }
</style>"""
CALLBACK = """\
import ipywidgets
start, shown = ipywidgets.Button(description="Start"), ipywidgets.Output()
def work(_):
    global vectors
    with shown:
        vectors = embed(texts, size=2000)
start.on_click(work)
ipywidgets.VBox([start, shown])"""
# JavaScript: the kernel is there, and what shows widgets.
CLASSIC = "window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook.kernel.widget_manager"


def run_out(page: Page, kind: str) -> Locator:
    """Run three cells, the last of which runs out of memory."""
    if kind == "nbclassic":
        page.wait_for_function(CLASSIC, timeout=60_000)
        page.wait_for_timeout(3000)  # it asks the kernel for widgets first, and until then shows none
        page.evaluate("Jupyter.notebook.execute_all_cells()")
        return page.locator(PANEL).first
    expect(page.locator(".jp-Toolbar-kernelName")).to_contain_text("Python", timeout=60_000)  # before: a dialog asks
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=60_000)
    page.locator(".jp-Notebook-cell").first.locator(".cm-content").click()
    for _ in range(3):
        page.keyboard.press("Shift+Enter")
    return page.locator(PANEL).first


def fix_and_run(panel: Locator) -> None:
    """Click the first button; the old array would be gone even if the cell failed, so it asks."""
    button(panel, "Fix and run").click()
    button(panel, "Run anyway").click()
    expect(panel).to_contain_text(RAN, timeout=30_000)


@pytest.mark.parametrize("kind", ["notebook", pytest.param("nbclassic", marks=pytest.mark.thorough)])
def test_a_click_in_another_notebook(kind: str, lab_server: LabServer, chromium: Browser, tmp_path: Path) -> None:
    if find_spec(kind) is None:
        missing(f"{kind} is not installed")
    write_notebook(lab_server.work / f"{kind}.ipynb", [LOAD, SET_UP, FAIL])
    page = chromium.new_page(viewport=TALL)
    place = "nbclassic/notebooks" if kind == "nbclassic" else "notebooks"
    page.goto(f"{lab_server.url}/{place}/{kind}.ipynb?token={lab_server.token}")
    panel = run_out(page, kind)
    expect(panel).to_contain_text("Host memory exhausted", timeout=30_000)
    page.set_viewport_size(VIEW)
    page_picture(page, panel, f"front-{kind}.png", tmp_path)
    fix_and_run(panel)
    expect(panel).to_contain_text(PRINTED)
    page.close()


def test_voila_shows_each_failed_callback_and_its_kernel_lives(
    lab_server: LabServer, chromium: Browser, tmp_path: Path
) -> None:
    if find_spec("voila") is None:
        missing("Voila is not installed")
    write_notebook(lab_server.work / "voila.ipynb", [LOAD, SET_UP, CALLBACK])
    page = chromium.new_page(viewport=VIEW)
    page.goto(f"{lab_server.url}/voila/render/voila.ipynb?token={lab_server.token}")
    start = page.get_by_role("button", name="Start", exact=True)
    for count in (1, 2):
        start.click(timeout=60_000)
        expect(page.locator(PANEL)).to_have_count(count, timeout=30_000)
    panel = page.locator(PANEL).last
    page_picture(page, panel, "front-voila.png", tmp_path)
    button(panel, "Only the fix").click()
    button(panel, "Run anyway").click()
    expect(panel).to_contain_text(re.compile(r"Delete vectors: freed \d{3} MiB"), timeout=30_000)
    page.close()


def test_a_terminal(tmp_path: Path, chromium: Browser) -> None:
    """As a terminal of 100 columns shows it: drawn in a page, since there is no window here."""
    pexpect, ansi = pytest.importorskip("pexpect"), pytest.importorskip("nbconvert.filters.ansi")
    env = private_env(tmp_path, {"TERM": "xterm-256color", "LANG": "C.UTF-8", "HOME": str(tmp_path)})
    for name in ("COLUMNS", "LINES"):  # of where the tests run; no terminal sets them
        env.pop(name, None)
    args, prompt = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=Linux"], r"In \[\d+\]: "
    window = {"dimensions": (50, 100), "encoding": "utf-8", "timeout": 60, "echo": False}
    child = pexpect.spawn(sys.executable, args, env=env, **window)
    child.expect(prompt)
    (tmp_path / "set_up.py").write_text(SET_UP)
    for cell in (LOAD.partition("\n")[0], f"%run {tmp_path / 'set_up.py'}", FAIL):
        child.sendline(cell)
        child.expect(prompt)
    said = child.before.replace("\r\n", "\n")
    child.sendline("exit()")
    child.expect(pexpect.EOF)
    child.close()
    page = chromium.new_page(viewport=VIEW)
    page.set_content(f"{TERMINAL}<pre>{ansi.ansi2html(said)}</pre>")
    text = page.locator("pre").inner_text()
    assert text.index("Traceback") < text.index("─" * 100) < text.index("Host memory exhausted")
    title = page.locator("pre span", has_text="Host memory exhausted")
    expect(title).to_have_class(re.compile("ansi-red"))
    page_picture(page, title, "front-terminal.png", tmp_path)
    page.close()


@pytest.mark.thorough
def test_two_pages_on_one_kernel(lab: Lab, chromium: Browser, tmp_path: Path) -> None:
    write_notebook(lab.server.work / "both.ipynb", [LOAD, SET_UP, FAIL])
    lab.viewport(VIEW["width"], VIEW["height"])
    lab.open("both.ipynb")
    for index in range(3):
        lab.run_cell(index)
    panel = lab.output(2).locator(PANEL)
    expect(panel).to_be_visible()
    page_picture(lab.page, panel, "front-jupyterlab.png", tmp_path)
    lab.save()
    with Lab(lab.server, chromium) as other:
        other.open("both.ipynb")
        seen = other.output(2).locator(PANEL)
        expect(seen).to_be_visible()
        fix_and_run(panel)
        expect(seen).to_contain_text(RAN)  # the first click wins, and both say so
        expect(button(seen, "Fix and run")).not_to_be_visible()
    page_picture(lab.page, panel, "front-jupyterlab-solved.png", tmp_path)
