"""The panel in the page: a notebook that brings it, its buttons, pictures of it, and what does not fit in it."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from playwright.sync_api import Locator, Page, ViewportSize

from tests.browser.lab import Lab
from tests.conftest import ROOT, missing

LOAD = "%load_ext nb_oomhelper\n%config OOMHelper.refresh_seconds = 0.5"
PANEL = ".oomh:not(.oomh-static)"  # the one with buttons
REPORT = ".oomh-static"  # what is saved
VIEW: ViewportSize = {"width": 1000, "height": 720}
# An ordinary notebook, whose first button makes the cell run. One GiB of room is where panels once took a Voila kernel
# with them.
SET_UP = """\
import resource, psutil
import numpy as np
limit = psutil.Process().memory_info().vms + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

texts = [f"review {number}" for number in range(50_000)]
def embed(texts, size):
    vectors = np.zeros((len(texts), size))
    for row, text in enumerate(texts):
        vectors[row, hash(text) % size] = 1
    return vectors

vectors = embed(texts, size=1200)"""
FAIL = """\
vectors = embed(texts, size=2000)
print(vectors.shape)"""
PRINTED = "(50000, 2000)"


def button(panel: Locator, name: str, nth: int = 0) -> Locator:
    return panel.get_by_role("button", name=name, exact=True).locator("visible=true").nth(nth)


def picture(lab: Lab, panel: Locator, name: str, folder: Path) -> Path:
    """Take a picture; with PICTURES=docs/images it is kept there, for the README."""
    path = lab.screenshot(folder / name, panel)
    if kept := os.environ.get("PICTURES"):
        shutil.copy(path, ROOT / kept / name)
    return path


def page_picture(page: Page, shown: Locator, name: str, folder: Path) -> None:
    """Take a picture of what is seen of a page, scrolled to something; it is kept like the others, in few colors."""
    shown.evaluate("node => node.scrollIntoView({block: 'end'})")
    page.wait_for_timeout(300)
    page.screenshot(path=folder / name)
    if kept := os.environ.get("PICTURES"):
        from PIL import Image

        Image.open(folder / name).quantize(160).save(ROOT / kept / name, optimize=True)


def faults(panel: Locator) -> list[str]:
    """What axe-core finds wrong for people who do not see well, or use no mouse; contrast included."""
    if find_spec("axe_playwright_python") is None:
        missing("axe-core is not here: pip install axe-playwright-python")
    script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    panel.evaluate(f"() => {{ if (!window.axe) {{ {script} }} }}")
    # JupyterLab's body has no height, and axe takes all that is in it for hidden
    found = panel.evaluate("panel => { document.body.style.height = '100vh'; return axe.run(panel); }")
    assert "color-contrast" in [rule["id"] for rule in found["passes"]]
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]


def cut_off(panel: Locator) -> list[str]:
    """Texts that are wider than the place they stand in."""
    script = """panel => [...panel.querySelectorAll('div, span, td, li, button, pre')]
        .filter(node => node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0
            && getComputedStyle(node).display !== 'inline')
        .map(node => `${node.className}: ${node.textContent.slice(0, 60)}`)"""
    found: list[str] = panel.evaluate(script)
    return found
