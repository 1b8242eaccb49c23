"""A notebook that programs have run, as other pages show it: nbconvert, papermill, VS Code, Colab, and GitHub's cut."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from nb_oomhelper.showing.case_record import MIME
from tests.browser.lab import write_notebook
from tests.browser.panel import FAIL, LOAD, REPORT, SET_UP, VIEW, page_picture
from tests.conftest import missing
from tests.kernel.driver import private_env
from tests.page import Page as Markup

pytestmark = pytest.mark.browser

ADVICE = "Let the old vectors go before the new one is made"
WIDGET = "application/vnd.jupyter.widget-view+json"
# VS Code: the order of an output's types (microsoft/vscode, extensions/ipynb); one without a renderer is passed over.
ORDER = ("application/vnd.", "application/vdom.", "application/geo+json", "text/html", "image/", "text/plain")
# JavaScript: what GitHub leaves of HTML; no style sheets, scripts, classes, nor drawings.
CUT = """() => {
    document.querySelectorAll('style, script, svg').forEach(node => node.remove());
    for (const name of ['style', 'class', 'id'])
        document.querySelectorAll(`[${name}]`).forEach(node => node.removeAttribute(name));
}"""


def run(home: Path, *command: str, fails: bool = False) -> None:
    """Run a program of Jupyter's on the notebook that runs out of memory."""
    write_notebook(home / "notebook.ipynb", [LOAD, SET_UP, FAIL])
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=home, env=private_env(home), capture_output=True, timeout=120, text=True
    )
    assert (ended.returncode != 0) == fails, ended.stderr


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook as nbclient leaves it, with the state of its widgets."""
    home = tmp_path_factory.mktemp("saved")
    how = ("--to", "notebook", "--execute", "--allow-errors", "--output", "ran.ipynb")
    run(home, "nbconvert", *how, "notebook.ipynb")
    return home / "ran.ipynb"


@pytest.fixture
def offline(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport=VIEW, offline=True)
    yield context.new_page()
    context.close()


def bundles(notebook: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report and the view of the widgets, as they lie in the file."""
    cell = nbformat.read(notebook, as_version=4).cells[-1]
    report, view = (output.data for output in cell.outputs if output.output_type == "display_data")
    return report, view


def panel_of(notebook: Path) -> str:
    """What stands in a page where the widgets live: their root, with the classes that it has in the kernel."""
    state = nbformat.read(notebook, as_version=4).metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    root = state[bundles(notebook)[1][WIDGET]["model_id"]].state
    return f'<div class="{" ".join(root["_dom_classes"])}">the live panel</div>'


def test_a_page_of_nbconvert(executed: Path, offline: Page, tmp_path: Path) -> None:
    run(executed.parent, "nbconvert", "--to", "html", executed.name)
    offline.goto(executed.with_suffix(".html").as_uri())
    report = offline.locator(REPORT)
    expect(report).to_contain_text(ADVICE)
    expect(report).to_be_visible()
    expect(report.get_by_role("button").locator("visible=true")).to_have_count(0)
    page_picture(offline, report, "front-nbconvert.png", tmp_path)


def test_papermill_saves_the_report(tmp_path: Path) -> None:
    if find_spec("papermill") is None:
        missing("papermill is not installed")
    run(tmp_path, "papermill", "notebook.ipynb", "ran.ipynb", fails=True)  # as it does at every error
    report, view = bundles(tmp_path / "ran.ipynb")
    assert set(view) == {WIDGET}
    assert ADVICE in Markup(report["text/html"]).text
    assert "Let the old `vectors` go before the new one is made" in report["text/plain"]


def seen_in_vs_code(bundle: dict[str, Any], *, trusted: bool, widgets: bool) -> str | None:
    """Which type of an output it shows: in an untrusted folder no HTML, without the model of a widget no widget."""
    takes = {"text/html": trusted, "text/plain": True, WIDGET: widgets}
    order = sorted(bundle, key=lambda one: next(place for place, name in enumerate(ORDER) if one.startswith(name)))
    return next((one for one in order if takes.get(one)), None)


def test_what_vs_code_takes_of_each_output(executed: Path) -> None:
    report, view = bundles(executed)
    assert MIME in report  # its order has this one first, and nothing there draws it
    for widgets in (True, False):
        assert seen_in_vs_code(report, trusted=True, widgets=widgets) == "text/html"
        assert seen_in_vs_code(report, trusted=False, widgets=widgets) == "text/plain"
        assert seen_in_vs_code(view, trusted=True, widgets=widgets) == (WIDGET if widgets else None)
    assert Markup(report["text/html"]).wrong == []  # whole by itself, and so is the text
    for text in (Markup(report["text/html"]).text, report["text/plain"].replace("`", "")):
        assert ADVICE in text
        assert "the cell should run then" in text


def colab(cells: list[list[str]]) -> str:
    """One frame a cell, in which all of its outputs are."""
    frames = (f'<iframe srcdoc="{escape("".join(cell))}" width="940" height="420"></iframe>' for cell in cells)
    return "".join(frames)


def vs_code(cells: list[list[str]]) -> str:
    """One page for all outputs, each in boxes of its own."""
    boxes = (f'<div class="output_container"><div class="output">{one}</div></div>' for cell in cells for one in cell)
    return f'<div id="container">{"".join(boxes)}</div>'


@pytest.mark.parametrize("place", [colab, vs_code])
def test_one_of_both_is_seen_in_pages_of_another_make(place: Any, executed: Path, offline: Page) -> None:
    """A cell whose widgets live, below one that was saved with another case: its report, and nothing in its place."""
    html, panel = bundles(executed)[0]["text/html"], panel_of(executed)
    name = panel.split("oomh-live-")[1].split('"')[0].split()[0]
    offline.set_content(place([[html.replace(name, "0" * 12), ""], [html, panel]]))
    inside = [frame for frame in offline.frames if frame.parent_frame or len(offline.frames) == 1]
    first, last = inside[0].locator(f".oomh-saved-{'0' * 12}"), inside[-1].locator(f".oomh-saved-{name}")
    expect(first).to_be_visible()
    expect(inside[-1].get_by_text("the live panel")).to_be_visible()
    expect(last).not_to_be_visible()
    offline.set_content(place([[html, ""]]))  # opened again
    expect(offline.frames[-1].locator(REPORT)).to_be_visible()


def test_it_reads_without_style_and_script(executed: Path, offline: Page) -> None:
    offline.set_content(bundles(executed)[0]["text/html"])
    offline.evaluate(CUT)
    offline.locator("summary", has_text="Why").click()
    text = " ".join(offline.locator("body").inner_text().split())
    for part in ("Host memory exhausted", ADVICE, "saves 458 MiB", "%oom fix 1", "your variable vectors (array)"):
        assert part in text
    assert "{" not in text
