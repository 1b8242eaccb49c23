"""The panel in the page: its buttons, pictures of it, and what does not fit in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from playwright.sync_api import Locator

from tests.browser.lab import Lab
from tests.conftest import ROOT

LOAD = "%load_ext nb_oomhelper\n%config OOMHelper.refresh_seconds = 0.5"
PANEL = ".oomh:not(.oomh-static)"  # the one with buttons
REPORT = ".oomh-static"  # what is saved


def button(panel: Locator, name: str, nth: int = 0) -> Locator:
    return panel.get_by_role("button", name=name, exact=True).locator("visible=true").nth(nth)


def picture(lab: Lab, panel: Locator, name: str, folder: Path) -> Path:
    """Take a picture; with PICTURES=docs/images it is kept there, for the README."""
    path = lab.screenshot(folder / name, panel)
    if kept := os.environ.get("PICTURES"):
        shutil.copy(path, ROOT / kept / name)
    return path


def cut_off(panel: Locator) -> list[str]:
    """Texts that are wider than the place they stand in."""
    script = """panel => [...panel.querySelectorAll('div, span, td, li, button, pre')]
        .filter(node => node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0
            && getComputedStyle(node).display !== 'inline')
        .map(node => `${node.className}: ${node.textContent.slice(0, 60)}`)"""
    found: list[str] = panel.evaluate(script)
    return found
