"""A real JupyterLab server with a real Chromium in front of it, used as a person uses it.

The server has folders of its own for notebooks, settings and kernels, so that nothing of the user's is read or changed.
Chromium is the one of the system: Playwright drives it and need not bring its own.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import nbformat
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright

from tests.kernel.driver import private_env

# Root needs --no-sandbox. The others keep Chromium from asking hosts of its own, which many machines refuse.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# User settings, below <config>/lab/user-settings. All cells stay in the page, so that a cell can be found by its index;
# the announcements and the update check would ask other hosts.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}

# JavaScript: the notebook in front; the cells that run or wait, however started; a command, counted while it runs.
PANEL = "window.jupyterapp.shell.currentWidget"
RUNNING = "[...document.querySelectorAll('.jp-InputPrompt')].filter(prompt => prompt.textContent.includes('*'))"
START = """name => {
    window.labCommands = (window.labCommands ?? 0) + 1;
    window.jupyterapp.commands.execute(name).finally(() => { window.labCommands -= 1; });
}"""

Theme = Literal["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]


def find_chromium() -> str | None:
    """Return the path of the system's Chromium or Chrome."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


def launch_chromium(playwright: Playwright, path: str) -> Browser:
    """Start Chromium without a window; Playwright makes and removes its profile folder."""
    return playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))


def write_notebook(path: Path, sources: Sequence[str]) -> None:
    """Write a notebook with one code cell a source."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


class LabServer:
    """A JupyterLab server process; a context manager that ends it and its kernels, by its own id.

    Args:
        home: an empty folder. `home / "work"` becomes the folder that the server shows: put notebooks there.
        python: the interpreter of the kernel "python3".
        env: environment variables for the kernel.
    """

    def __init__(self, home: Path, python: str | Path = sys.executable, env: Mapping[str, str] | None = None) -> None:
        self.work = home / "work"
        self.work.mkdir()
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._log = home / "server.log"
        environment = private_env(home)
        self._write_settings(Path(environment["JUPYTER_CONFIG_DIR"]))
        # JUPYTER_PATH comes before every other place, also the interpreter's own kernelspec.
        self._write_kernelspec(home / "kernels-first", python, env)
        environment["JUPYTER_PATH"] = str(home / "kernels-first")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_up(60)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask the server to end, which ends its kernels; kill it if it does not. May be called twice."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server and its kernels have printed."""
        return self._log.read_text(errors="replace")

    def _command(self) -> list[str]:
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": urlsplit(self.url).port,
            "ServerApp.port_retries": 0,
            "IdentityProvider.token": self.token,
            "ServerApp.root_dir": self.work,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "LabApp.expose_app_in_browser": True,
            "LabApp.extension_manager": "readonly",
        }
        return [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]

    @staticmethod
    def _write_settings(config: Path) -> None:
        for plugin, settings in SETTINGS.items():
            path = config / "lab" / "user-settings" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))

    @staticmethod
    def _write_kernelspec(data: Path, python: str | Path, env: Mapping[str, str] | None) -> None:
        folder = data / "kernels" / "python3"
        folder.mkdir(parents=True)
        argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Python 3", "language": "python", "env": dict(env or {})}
        (folder / "kernel.json").write_text(json.dumps(spec))

    def _wait_until_up(self, timeout: float) -> None:
        request = urllib.request.Request(f"{self.url}/api/status", headers={"Authorization": f"token {self.token}"})
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(request, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError(f"JupyterLab did not start:\n{self.log[-4000:]}")


class Lab:
    """JupyterLab in one page of Chromium.

    The attribute `page` is Playwright's page, for all that has no method here. `console_errors` has one row an error of
    the browser's console or an uncaught exception; only refused requests to other hosts than the server are left out.
    """

    def __init__(self, server: LabServer, browser: Browser, width: int = 1280, height: int = 900) -> None:
        self.server = server
        self.console_errors: list[str] = []
        self._context = browser.new_context(viewport={"width": width, "height": height})
        self.page: Page = self._context.new_page()
        self.page.on("console", self._take_console)
        self.page.on("pageerror", lambda error: self.console_errors.append(f"uncaught: {error}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """End the kernels and close the page; the server goes on."""
        if self.page.url.startswith(self.server.url):
            self.page.evaluate("window.jupyterapp?.serviceManager.sessions.shutdownAll()")
        self._context.close()

    def open(self, notebook: str, theme: Theme = "JupyterLab Light", timeout: float = 60) -> None:
        """Open a notebook of the server's folder, alone in a fresh workspace, and wait for its kernel."""
        self.page.goto(f"{self.server.url}/lab/tree/{notebook}?reset&token={self.server.token}", timeout=timeout * 1000)
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Notebook-cell", timeout=timeout * 1000)
        self._wait_for_splash(timeout)
        self.theme(theme)
        if self.page.evaluate("!window.jupyterapp.shell.leftCollapsed"):
            self.command("application:toggle-left-area")
        self.wait_idle(timeout)

    def command(self, name: str, **args: Any) -> Any:
        """Run one of JupyterLab's commands, such as `docmanager:save`, and wait for it."""
        return self.page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, args])

    def run_cell(self, index: int, timeout: float = 60) -> Locator:
        """Run the cell with that index, counted from 0, wait for its end, and return its output area."""
        self.start_cell(index)
        self.wait_idle(timeout)
        return self.output(index)

    def start_cell(self, index: int) -> None:
        """Run the cell with that index without waiting for its end."""
        self.page.evaluate(f"index => {{ {PANEL}.content.activeCellIndex = index }}", index)
        self.page.evaluate(START, "notebook:run-cell")

    def run_all(self, timeout: float = 120) -> None:
        """Run all cells; the run ends at the first error, as in JupyterLab."""
        self.page.evaluate(START, "notebook:run-all-cells")
        self.wait_idle(timeout)

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until the kernel is idle, no started command runs, and no cell has a star for its number."""
        kernel = f"{PANEL}?.sessionContext.session?.kernel?.status === 'idle'"
        idle = f"{kernel} && !window.labCommands && {RUNNING}.length === 0"
        self.page.wait_for_function(idle, timeout=timeout * 1000)

    def cell(self, index: int) -> Locator:
        """Return the cell with that index, counted from 0."""
        return self.page.locator(".jp-NotebookPanel .jp-Notebook-cell").nth(index)

    def output(self, index: int) -> Locator:
        """Return the output area of a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def save(self) -> dict[str, Any]:
        """Save the notebook and return what the file holds now."""
        self.command("docmanager:save")
        path = self.page.evaluate(f"{PANEL}.context.path")
        saved: dict[str, Any] = json.loads((self.server.work / path).read_text())
        return saved

    def theme(self, name: Theme) -> None:
        """Change the theme and wait until the page wears it; the server remembers it for pages opened later."""
        if self.page.evaluate("document.body.dataset.jpThemeName") != name:
            self.command("apputils:change-theme", theme=name)
            self.page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
            self._wait_for_splash()

    def viewport(self, width: int, height: int) -> None:
        """Change the size of the page, in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def screenshot(self, path: Path, selector: str | Locator | None = None) -> Path:
        """Write a PNG of an element, or of the whole page."""
        if selector is None:
            self.page.screenshot(path=path)
        else:
            element = self.page.locator(selector).first if isinstance(selector, str) else selector
            element.screenshot(path=path)
        return path

    def _wait_for_splash(self, timeout: float = 30) -> None:
        """Wait until the moons are gone, which cover the page at its start and while it changes its theme."""
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=timeout * 1000)

    def _take_console(self, message: ConsoleMessage) -> None:
        host = urlsplit(message.location.get("url", "")).netloc
        refused_outside = "net::ERR_" in message.text and host != urlsplit(self.server.url).netloc
        if message.type == "error" and not refused_outside:
            self.console_errors.append(message.text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
