"""A model that does not fit, as a person meets it: the changed statement beside one's own, a click, and the model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import Lab, write_notebook
from tests.browser.panel import LOAD, PANEL, button, cut_off, picture
from tests.kernel.models import SYNC, make_llama

pytestmark = pytest.mark.browser

# What a load imports and maps for good is there before the limit is set. The searches that a panel waits for have time
# enough, however busy the machine is, and no thread of the loader's goes on after the error.
SET_UP = f"""
import os, resource, psutil, torch
os.environ.update({SYNC!r})
import nb_oomhelper.case, nb_oomhelper.loading.reload
from transformers import AutoModelForCausalLM
nb_oomhelper.loading.reload.DEADLINE = nb_oomhelper.case.DEADLINE = 10
AutoModelForCausalLM.from_pretrained("llama", dtype=torch.bfloat16)(torch.tensor([[1]]))
model = torch.nn.Linear(2000, 2000)
limit = psutil.Process().memory_info().vms + (1700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
"""
FAIL = """
model = AutoModelForCausalLM.from_pretrained(
    "llama",  # the one we made last week
    dtype=torch.float64,
)
""".strip()
USE = "print(model.dtype, tuple(model(torch.tensor([[1, 2, 3]])).logits.shape))"
HALF = "Load llama in 16 bits"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    return make_llama(tmp_path_factory, pytestconfig)


def row_of(panel: Locator, title: str) -> int:
    """Which of the fixes has this title, from 0: its buttons have the same place among those that say the same."""
    return panel.locator(".oomh-fix b").all_inner_texts().index(title)


def box(place: Locator) -> tuple[float, float, float, float]:
    """Left, top, right and bottom on the page, in CSS pixels."""
    found = place.bounding_box()
    assert found is not None
    return found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"]


def is_inside(inner: Locator, outer: Locator) -> bool:
    here, around = box(inner), box(outer)
    return around[0] <= here[0] and around[1] <= here[1] and here[2] <= around[2] and here[3] <= around[3]


@pytest.mark.thorough
def test_the_change_is_seen_and_run(lab: Lab, llama: Path, tmp_path: Path) -> None:
    (lab.server.work / "llama").symlink_to(llama)
    write_notebook(lab.server.work / "reload.ipynb", [LOAD, SET_UP, FAIL, USE])
    lab.viewport(1280, 1800)
    lab.open("reload.ipynb")
    for index in range(3):
        lab.run_cell(index)
    panel = lab.output(2).locator(PANEL).first
    expect(panel.get_by_text("live, every 0.5 s")).to_be_visible()
    half = row_of(panel, HALF)
    button(panel, "Code", half).click()
    statements = panel.locator(".oomh-diff pre:visible")
    expect(statements).to_have_count(2)
    mine, changed = statements.all()
    expect(mine.locator("del")).to_have_text("float64")
    expect(changed.locator("ins")).to_have_text("bfloat16")
    assert box(mine)[2] <= box(changed)[0]  # side by side
    assert box(mine)[1] == box(changed)[1]
    assert is_inside(mine, panel)
    assert is_inside(changed, panel)
    assert cut_off(panel) == []
    picture(lab, panel, "reload-light.png", tmp_path)

    lab.viewport(620, 2400)  # a narrow page: one above the other, and nothing cut there either
    lab.page.wait_for_timeout(500)
    assert box(mine)[3] <= box(changed)[1]
    assert cut_off(panel) == []
    lab.screenshot(tmp_path / "reload-narrow.png", panel)
    lab.viewport(1280, 1800)

    button(panel, "Fix and run", half).click()
    expect(panel).to_contain_text("What it costs: What model holds now, even if the load fails again.")
    expect(panel).to_contain_text("model = None")
    lab.screenshot(tmp_path / "reload-asks.png", panel)
    button(panel, "Run anyway").click()
    expect(panel).to_contain_text("✓ The cell finished without an error.", timeout=60_000)
    expect(panel).to_contain_text(re.compile(r"model is placed on: host (32\d\sMiB) \(planned: host \1\)"))
    lab.wait_idle()
    assert cut_off(panel) == []
    button(panel, "Details").click()  # the fixes, folded once it is solved
    panel.get_by_role("button", name=re.compile("more fix")).click()
    picture(lab, panel, "reload-outcome.png", tmp_path)
    assert lab.run_cell(3).inner_text().strip() == "torch.bfloat16 (1, 3, 8000)"
    assert lab.console_errors == []
