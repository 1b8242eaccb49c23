"""The panel as a person meets it: JupyterLab in Chromium, a real out-of-memory, clicks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from nb_oomhelper.showing.case_record import MIME
from tests.browser.lab import Lab, Theme, write_notebook
from tests.browser.panel import LOAD, PANEL, REPORT, button, cut_off, faults, picture
from tests.conftest import ROOT

pytestmark = pytest.mark.browser

# Host memory stands in for a small device: four and a quarter GiB beyond what is mapped already.
SET_UP = """
import resource, psutil, torch
limit = psutil.Process().memory_info().vms + (17 << 28)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
model = torch.nn.Linear(8000, 8000)
optimizer = torch.optim.Adam(model.parameters())
validation = torch.ones(1600 << 18)
def train_step(size):
    batch = torch.ones(size >> 2)
    outputs = batch * 2
    return (batch + outputs).sum().item()
"""
FAIL = "train_step(1000 << 20)"


def open_panel(lab: Lab, name: str, *more: str, function: str = "train_step") -> Locator:
    """Run out of memory in a fresh notebook and give the panel under the traceback."""
    cells = [cell.replace("train_step", function) for cell in (SET_UP, FAIL)]
    write_notebook(lab.server.work / name, [LOAD, *cells, *more])
    lab.open(name)
    for index in range(3):
        lab.run_cell(index)
    panel = lab.output(2).locator(PANEL).first
    expect(panel.get_by_text("live, every 0.5 s")).to_be_visible()
    return panel


def test_explains_frees_and_runs_again(lab: Lab, tmp_path: Path) -> None:
    lab.viewport(1280, 1400)
    panel = open_panel(lab, "story.ipynb", "print(batch_free := torch.ones(100 << 18).numel())")
    output = lab.output(2)
    text = output.inner_text()
    assert text.index("RuntimeError") < text.index("Host memory exhausted")  # the traceback comes first
    expect(panel).to_contain_text("The cell asked for 0.977 GiB")
    expect(panel).to_contain_text("still held by the failed cell: batch, outputs (train_step, line 10)")
    expect(panel).to_contain_text("your variable validation (tensor)")
    expect(panel).to_contain_text("shared by your variables model, optimizer")
    assert cut_off(panel) == []
    assert height(panel) <= 320
    expect(lab.output(2).locator(REPORT)).not_to_be_visible()
    light = picture(lab, panel, "panel-light.png", tmp_path).read_bytes()
    lab.theme("JupyterLab Dark")
    assert picture(lab, panel, "panel-dark.png", tmp_path).read_bytes() != light
    lab.theme("JupyterLab Light")

    release(panel)  # safe, so it asks nothing
    expect(panel).to_contain_text(re.compile(r"Release the failed cell: freed 1\.9\d GiB"))
    expect(panel).to_contain_text("That is enough for the failed request of 0.977 GiB now")
    expect(panel).to_contain_text("make it smaller before you run it again")  # the whole cell needs 2.93 GiB
    picture(lab, panel, "panel-outcome.png", tmp_path)

    button(panel, "Fix and run").click()  # this loses something: it says what, and asks once more
    expect(panel).to_contain_text("What it costs: validation and everything that only it holds.")
    picture(lab, panel, "panel-asks.png", tmp_path)
    button(panel, "Run anyway").click()
    expect(panel).to_contain_text("✓ The cell finished without an error.", timeout=30_000)
    picture(lab, panel, "panel-solved.png", tmp_path)
    assert lab.run_cell(3).inner_text().strip() == str(100 << 18)
    assert lab.console_errors == []


def release(panel: Locator) -> None:
    """Release the failed cell, and no more: alone it is not enough, so it is among the other fixes."""
    unfold(panel)
    click_release(panel)


def unfold(panel: Locator) -> None:
    panel.get_by_role("button", name=re.compile("more fix")).click()
    expect(panel).to_contain_text(re.compile("▾ . more fix"))


def click_release(panel: Locator) -> None:
    only = panel.page.get_by_role("button", name="Only the fix", exact=True)
    rows = panel.locator("div").filter(has_text="Release the failed cell").filter(has=only)
    button(rows.last, "Only the fix").click()  # the innermost box of both


TRAIN = """
import resource, psutil, torch
from torch import nn
net = nn.Sequential(nn.Linear(32, 1024), nn.ReLU(), nn.Linear(1024, 4))
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))(torch.ones(9, 9)).sum().backward()
limit = psutil.Process().memory_info().vms + (900 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
"""
THEMES: tuple[Theme, ...] = ("JupyterLab Dark High Contrast", "JupyterLab Dark", "JupyterLab Light")
LOOP = """
losses = []
for step in range(40):
    x = torch.randn(8192, 32)
    loss = net(x).pow(2).mean()
    loss.backward(retain_graph=True)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss)
print(f"{len(losses)} steps")
"""


def test_a_training_loop_runs_after_one_click(lab: Lab, tmp_path: Path) -> None:
    lab.viewport(1280, 1400)
    write_notebook(lab.server.work / "training.ipynb", [LOAD, TRAIN, LOOP])
    lab.open("training.ipynb")
    for index in range(3):
        lab.run_cell(index)
    panel = lab.output(2).locator(PANEL).first
    expect(panel).to_contain_text("losses.append(loss.item())")
    expect(panel).to_contain_text("✓ the cell should run then")
    assert cut_off(panel) == []
    assert height(panel) <= 320
    picture(lab, panel, "training-light.png", tmp_path)
    lab.theme("JupyterLab Dark")
    picture(lab, panel, "training-dark.png", tmp_path)
    lab.theme("JupyterLab Light")
    assert faults(panel) == []
    button(panel, "中文").click()
    expect(panel.get_by_role("button", name="English", exact=True)).to_be_visible()
    expect(panel).to_contain_text("出错时")
    assert height(panel) <= 320
    picture(lab, panel, "training-chinese.png", tmp_path)
    button(panel, "English").click()
    lab.viewport(620, 1400)
    lab.page.wait_for_timeout(500)
    assert cut_off(panel) == []
    picture(lab, panel, "training-narrow.png", tmp_path)
    lab.viewport(1280, 1400)

    unfold(panel)
    for theme in THEMES:
        lab.theme(theme)
        assert faults(panel) == []
    button(panel, "Fix and run").first.click()  # what it changes stands beside it: nothing is left to ask
    expect(panel).to_contain_text("✓ The cell finished without an error.", timeout=60_000)
    expect(panel).to_contain_text("40 steps")
    expect(button(panel, "Details")).to_be_visible()  # the rest is folded by then
    assert height(panel) <= 110  # title, outcome, and what the cell has printed
    output = panel.locator(".oomh-output")  # a long traceback of the cell scrolls in it, and covers nothing below
    assert output.evaluate("node => getComputedStyle(node).overflowY") == "auto"
    picture(lab, panel, "training-solved.png", tmp_path)
    assert lab.console_errors == []


@pytest.mark.thorough
def test_the_same_error_again_is_shown_in_the_same_panel(lab: Lab, tmp_path: Path) -> None:
    lab.viewport(1280, 1400)
    panel = open_panel(lab, "repeat.ipynb")
    release(panel)
    expect(panel).to_contain_text("freed 1.9")
    button(panel, "Run the cell again").click()
    expect(panel).to_contain_text("Tried before: Release the failed cell", timeout=30_000)
    expect(lab.output(2).locator(PANEL)).to_have_count(1)
    expect(panel.get_by_text("your variable validation")).not_to_be_visible()
    picture(lab, panel, "repeat-folded.png", tmp_path)
    panel.locator("summary", has_text="Why").click()
    expect(panel.get_by_text("your variable validation")).to_be_visible()
    picture(lab, panel, "repeat-details.png", tmp_path)
    assert lab.console_errors == []


@pytest.mark.thorough
def test_chinese_entry_and_narrow_page(lab: Lab, tmp_path: Path) -> None:
    lab.viewport(1280, 1400)
    panel = open_panel(lab, "chinese.ipynb", function="step_" + "x" * 195)  # what is too long for a line is cut
    button(panel, "中文").click()
    expect(panel).to_contain_text("主机内存不足")
    panel.get_by_role("button", name=re.compile("另有")).click()
    expect(panel).to_contain_text("释放出错单元格占用的内存")
    panel.get_by_role("button", name=re.compile("另有")).click()
    button(panel, "▸ 条目").click()
    expect(panel).to_contain_text("根本原因")
    assert cut_off(panel) == []
    lab.screenshot(tmp_path / "panel-chinese.png", panel)
    button(panel, "▾ 条目").click()
    expect(panel).not_to_contain_text("根本原因")
    button(panel, "English").click()
    button(panel, "▸ Entry").click()
    button(panel, "JSON").click()
    expect(panel).to_contain_text('"code": "CUDA-OOM-007"')
    button(panel, "Markdown").click()
    expect(panel).to_contain_text("# CUDA-OOM-007")
    unfold(panel)
    lab.viewport(620, 1200)
    lab.page.wait_for_timeout(500)
    assert cut_off(panel) == []
    assert lab.console_errors == []


@pytest.mark.thorough
def test_a_click_during_a_cell_waits_and_the_readout_goes_on(lab: Lab) -> None:
    lab.viewport(1280, 1400)
    more = "import time\ntime.sleep(2)\nmore = torch.ones(100 << 18)\ntime.sleep(3)\nended = time.time()"
    panel = open_panel(lab, "busy.ipynb", more)
    bar = panel.locator(".oomh-spark polyline")
    unfold(panel)
    lab.start_cell(3)
    expect(panel).to_contain_text("A cell is running: a click is carried out when it ends.")
    before = bar.get_attribute("points")
    click_release(panel)
    expect(panel).not_to_contain_text("Release the failed cell: freed")
    expect(bar).not_to_have_attribute("points", before or "")  # readings come while the cell runs
    expect(panel).to_contain_text("Release the failed cell: freed", timeout=20_000)
    lab.wait_idle()
    expect(panel).not_to_contain_text("A cell is running")
    assert lab.console_errors == []


@pytest.mark.thorough
def test_keyboard_alone(lab: Lab) -> None:
    panel, keys = open_panel(lab, "keyboard.ipynb"), lab.page.keyboard
    run = button(panel, "Fix and run")
    run.focus()
    assert run.evaluate("node => getComputedStyle(node).outlineStyle") != "none"
    keys.press("Enter")
    expect(panel).to_contain_text("What it costs: validation")
    expect(button(panel, "Cancel")).to_be_focused()
    keys.press("Enter")  # a key that is pressed twice loses nothing
    expect(run).to_be_focused()
    keys.press("Enter")
    expect(button(panel, "Cancel")).to_be_focused()
    keys.press("Shift+Tab")
    keys.press("Enter")
    expect(panel.get_by_role("alert")).to_contain_text("✓ The cell finished without an error.", timeout=30_000)
    expect(button(panel, "中文")).to_be_focused()  # it is always there
    keys.press("Tab")
    keys.press("Enter")
    expect(button(panel, "Less")).to_be_visible()
    assert lab.console_errors == []


def test_a_saved_notebook_keeps_the_report(lab: Lab) -> None:
    open_panel(lab, "saved.ipynb")
    report, view = (output["data"] for output in lab.save()["cells"][2]["outputs"][-2:])
    assert set(report) == {"text/html", "text/plain", MIME}
    assert set(view) == {"application/vnd.jupyter.widget-view+json"}  # no front end may take it for the report
    assert "Release the failed cell" in "".join(report["text/html"])
    assert "Host memory exhausted" in "".join(report["text/plain"])


def test_a_restarted_kernel_leaves_a_calm_panel(lab: Lab) -> None:
    panel = open_panel(lab, "restarted.ipynb")
    lab.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    gone = panel.get_by_text(re.compile(r"The kernel has gone; this was seen at \d\d:\d\d\."))
    expect(gone).to_be_visible(timeout=30_000)
    expect(panel.get_by_role("button").locator("visible=true")).to_have_count(0)
    expect(panel.get_by_text("live, every")).not_to_be_visible()
    icons = "nodes => nodes.map(node => getComputedStyle(node, '::before').content)"
    assert set(panel.locator(".jupyter-widgets-disconnected").evaluate_all(icons)) <= {"none", "normal"}
    panel.locator("summary", has_text="Why").click()  # what is folded needs no kernel
    expect(panel.get_by_text("your variable validation")).to_be_visible()


@pytest.mark.parametrize("trusted", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_a_notebook_that_is_opened_again_shows_the_report(lab: Lab, trusted: bool, tmp_path: Path) -> None:
    open_panel(lab, "first.ipynb")
    saved = lab.save()
    lab.page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    name = "first.ipynb"
    if not trusted:  # one of somebody else's
        name = "theirs.ipynb"
        saved["cells"][2]["source"] += "  # theirs"
        (lab.server.work / name).write_text(json.dumps(saved))
    lab.open(name)
    report = lab.output(2).locator(REPORT)
    expect(report).to_be_visible()
    expect(report).to_contain_text("still held by the failed cell: batch, outputs")
    expect(lab.output(2).get_by_text("Error displaying widget")).not_to_be_visible()
    report.locator("summary", has_text="Why").click()
    expect(report.get_by_text("your variable validation")).to_be_visible()
    lab.screenshot(tmp_path / f"reopened-{trusted}.png", lab.output(2))


def height(panel: Locator) -> float:
    box = panel.bounding_box()
    assert box is not None
    assert box["width"] == 900
    return box["height"]


def test_quickstart_from_top_to_bottom(lab: Lab) -> None:
    lab.viewport(1280, 1400)
    shutil.copy(ROOT / "notebooks" / "quickstart.ipynb", lab.server.work)
    lab.open("quickstart.ipynb")
    lab.run_all()
    page = lab.page.locator(".jp-Notebook")
    expect(page).to_contain_text("Host memory exhausted")
    expect(page).to_contain_text("still out of memory")
    expect(page).to_contain_text(re.compile(r"Release the failed cell: freed 2\.\d\d GiB"))
    expect(page).to_contain_text("A Hugging Face model does not fit on the GPU while it is loaded", timeout=60_000)
    assert lab.console_errors == []
