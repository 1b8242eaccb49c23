"""Fixtures for tests in a browser.

They live no longer than this folder's tests: Playwright keeps an event loop running in the main thread, which
jupyter_client would take for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import Lab, LabServer, find_chromium, launch_chromium
from tests.conftest import missing

StartLab = Callable[..., Lab]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, started once for the folder."""
    path = find_chromium()
    if path is None:
        missing("No Chromium on this machine; on Debian and Ubuntu `make chromium` as root installs it")
    with sync_playwright() as playwright, launch_chromium(playwright, path) as browser:
        yield browser


@pytest.fixture(scope="package")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A server for tests that need no kernel environment of their own; notebooks go into its `work` folder."""
    with LabServer(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def lab(lab_server: LabServer, chromium: Browser) -> Iterator[Lab]:
    """A page of its own for each test, on the common server."""
    with Lab(lab_server, chromium) as page:
        yield page


@pytest.fixture
def start_lab(chromium: Browser, tmp_path: Path) -> Iterator[StartLab]:
    """Start a server of the test's own with one page: `start_lab(python=sys.executable, env=None)`."""
    with ExitStack() as running:

        def start(**options: object) -> Lab:
            home = tmp_path / f"lab-{len(list(tmp_path.glob('lab-*')))}"
            home.mkdir()
            server = running.enter_context(LabServer(home, **options))  # type: ignore[arg-type]
            return running.enter_context(Lab(server, chromium))

        yield start
