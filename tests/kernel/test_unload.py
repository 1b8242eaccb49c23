"""Every load has its unload; settings from both places; files that are written, and files that cannot be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, SETUP, Panel, shown, wait_for
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

UNLOAD = "%unload_ext nb_oomhelper"
STATE = """
import builtins, logging, os, signal, sys, threading, warnings
shell = get_ipython()
def state():
    manager = shell.magics_manager
    # attributes that IPython itself changes from cell to cell, or makes when they are first read
    own = {key: value for key, value in vars(shell).items() if callable(value) or key.startswith("_nb")}
    hooks = [shell.custom_exceptions, shell.CustomTB, own, dict(shell.events.callbacks)]
    hooks[-1] = {event: list(callbacks) for event, callbacks in hooks[-1].items()}
    hooks.append(shell.kernel.io_loop.asyncio_loop.get_exception_handler())
    tables = [dict(table) for table in manager.magics.values()] + [dict(manager.registry)]
    streams = [sys.excepthook, sys.displayhook, sys.stdout, sys.stderr, sys.unraisablehook, threading.excepthook]
    printing = [shell.displayhook, shell.display_pub, shell.InteractiveTB, list(shell.display_formatter.formatters)]
    return {
        "hooks": hooks,
        "keys": sorted(vars(shell)),
        "tables": tables,
        "configurables": [id(one) for one in shell.configurables],
        "config": repr(shell.config),
        "streams": streams,
        "printing": printing,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": [list(logging.root.handlers), logging.root.level],
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "builtins": sorted(vars(builtins)),
        "names": sorted(name for name in shell.user_ns if not name.startswith("_")),
    }
def changes():
    now = state()
    print([key for key in before if before[key] != now[key]])
"""
ENTRY_PROBLEM = "entries/broken.toml: "


def remember(kernel: Kernel) -> None:
    """Take the state, after IPython has made all that it makes late, and the code of a fix has been run."""
    for cell in (SETUP, STATE, "%unload_ext no_such", "import nb_oomhelper, time\nbefore = None", "before = state()"):
        assert kernel.execute(cell).status == "ok"
    assert kernel.execute("changes()").stdout == "[]\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The IPYTHONDIR of the kernels that a test starts itself."""
    (tmp_path / "ipython" / "profile_default").mkdir(parents=True)
    return tmp_path / "ipython"


def configure(home: Path, text: str) -> dict[str, str]:
    """Write ipython_config.py, and give the environment in which it is found."""
    (home / "profile_default" / "ipython_config.py").write_text(text, encoding="utf-8")
    return {"IPYTHONDIR": str(home)}


class TestUnload:
    def test_everything_is_as_it_was(self, kernel: Kernel) -> None:
        kernel.execute("import ipywidgets\nipywidgets.HTML()")
        remember(kernel)
        for round_ in range(2):
            kernel.execute(LOAD)
            changed = kernel.execute("changes()").stdout
            assert all(name in changed for name in ("hooks", "keys", "tables", "configurables"))
            reply = kernel.execute("huge()")
            Panel(kernel, reply).only()
            Panel(kernel, reply).click("Run the cell again")
            for line in ("%gpumem", "%%gpumem\n1 + 1", "%gpumem --live", "%oom", "%oom status", "%oom fix 1"):
                assert kernel.execute(line).status == "ok"
            assert kernel.execute(UNLOAD).status == "ok"
            assert kernel.execute("changes()").stdout == "[]\n", f"round {round_}"
        assert shown(kernel.execute("huge()")) == []
        assert "UsageError" in kernel.execute("%oom").stderr

    def test_at_once(self, kernel: Kernel) -> None:
        remember(kernel)
        kernel.execute(f"{LOAD}\n{UNLOAD}")
        assert kernel.execute("changes()").stdout == "[]\n"
        kernel.poll(1.5)
        assert kernel.eval("'ipywidgets' in sys.modules") is False

    def test_loaded_twice_is_loaded_once(self, kernel: Kernel) -> None:
        remember(kernel)
        kernel.execute(LOAD)
        kernel.execute("nb_oomhelper.load_ipython_extension(get_ipython())")
        assert len(shown(kernel.execute("huge()"))) == 1
        kernel.execute(UNLOAD)
        kernel.execute(UNLOAD)
        assert kernel.execute("changes()").stdout == "[]\n"

    def test_reload(self, kernel: Kernel) -> None:
        kernel.execute(SETUP)
        kernel.execute(LOAD)
        first = Panel(kernel, kernel.execute("huge()"))
        assert kernel.execute("%reload_ext nb_oomhelper").status == "ok"
        assert "stopped at" in first.text
        assert kernel.execute("%oom").stdout == "no out-of-memory error since nb_oomhelper was loaded\n"
        assert len(shown(kernel.execute("huge()"))) == 1

    def test_panel_of_before_can_still_be_used(self, kernel: Kernel) -> None:
        kernel.execute(SETUP)
        kernel.execute(LOAD)
        kernel.execute("limit(370 << 20)")
        panel = Panel(kernel, kernel.execute("train_step(128 << 20)"))
        kernel.execute(UNLOAD)
        before = kernel.eval("resident()")
        reply = panel.only()
        assert reply.errors == []
        assert before - kernel.eval("resident()") > 240 << 20
        assert "freed 25" in panel.text

    def test_what_others_put_on_top_stays(self, kernel: Kernel) -> None:
        kernel.execute(f"{LOAD}\nimport threading")
        kernel.execute("ours = threading.excepthook\ndef theirs(args):\n    ours(args)\nthreading.excepthook = theirs")
        kernel.execute("def oom(line):\n    print('theirs')\nget_ipython().register_magic_function(oom)")
        kernel.execute(UNLOAD)
        assert kernel.eval("threading.excepthook is theirs")
        assert kernel.execute("%oom").stdout == "theirs\n"
        reply = kernel.execute("thread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()")
        assert "ZeroDivisionError" in reply.stderr


class TestSettings:
    def test_from_the_profile(self, start_kernel: StartKernel, kernel_python: Path, home: Path) -> None:
        text = (
            'c.InteractiveShellApp.extensions = ["nb_oomhelper"]\n'
            'c.OOMHelper.language = "zh"\nc.OOMHelper.refresh_seconds = 0.3\nc.OOMHelper.live_minutes = 3\n'
            "c.OOMHelper.history = False\n"
        )
        kernel = start_kernel(kernel_python, configure(home, text))
        lines = kernel.execute("%oom status").stdout.splitlines()
        assert "语言：zh（设置：zh）" in lines
        assert "实时读数：每 0.3 秒，持续 3 分钟" in lines
        assert "历史记录：关闭" in lines
        kernel.execute(SETUP)
        panel = Panel(kernel, kernel.execute("huge()"))
        assert "主机内存不足" in panel.text
        wait_for(kernel, lambda: "实时，每 0.3 秒" in panel.text)
        panel.unfold()
        panel.click("仅修复")
        assert not (home / "nb_oomhelper").exists()

    def test_by_config(self, kernel: Kernel) -> None:
        kernel.execute(LOAD)
        assert "OOMHelper" in kernel.execute("%config").stdout
        shown_help = kernel.execute("%config OOMHelper").stdout
        for name in ("language", "refresh_seconds", "live_minutes", "history", "history_path", "knowledge_dir"):
            assert f"OOMHelper.{name}=" in shown_help
        kernel.execute("%config OOMHelper.refresh_seconds = 0.5")
        assert "every 0.5 s" in kernel.execute("%oom status").stdout
        for wrong in ("refresh_seconds = 0", "language = 'fr'", "live_minutes = -1"):
            assert "trait of an OOMHelper instance" in kernel.execute(f"%config OOMHelper.{wrong}").stderr
        assert "every 0.5 s" in kernel.execute("%oom status").stdout

    def test_language_of_the_environment(self, start_kernel: StartKernel, kernel_python: Path) -> None:
        kernel = start_kernel(kernel_python, {"LC_ALL": "zh_CN.UTF-8"})
        kernel.execute(LOAD)
        assert "语言：zh（设置：auto）" in kernel.execute("%oom status").stdout


class TestHistory:
    def test_is_shared_by_kernels(self, start_kernel: StartKernel, kernel_python: Path, home: Path) -> None:
        path = home / "nb_oomhelper" / "history.sqlite"
        for total in (0, 1):
            kernel = start_kernel(kernel_python, configure(home, ""))
            for cell in (LOAD, SETUP, "limit(370 << 20)"):
                kernel.execute(cell)
            assert path.exists() == (total > 0)
            assert (
                f"history: {total} of {total} cell{'s' * (total != 1)} ran after a fix, in {path}"
                in kernel.execute("%oom status").stdout
            )
            panel = Panel(kernel, kernel.execute("train_step(128 << 20)"))
            panel.click("Code")
            assert ("here 1 of 1 cell ran" in panel.text) == (total == 1)
            panel.only()
            kernel.execute("limit(1 << 30)")
            assert kernel.execute("train_step(128 << 20)").status == "ok"
            kernel.end()
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT fix, backend, requested, fits, failed, ran FROM outcome").fetchall()
        assert rows == [("release-failed-cell", "host", 128 << 20, 1, 0, 1)] * 2

    def test_elsewhere(self, kernel: Kernel, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "down" / "mine.sqlite"
        for cell in (LOAD, f"%config OOMHelper.history_path = {str(path)!r}", SETUP):
            kernel.execute(cell)
        kernel.execute("huge()")
        assert kernel.execute("%oom fix 1").status == "ok"
        assert path.exists()
        assert kernel.eval("__import__('os').path.exists(get_ipython().ipython_dir + '/nb_oomhelper')") is False

    @pytest.mark.parametrize("kind", ["folder", "text", "nowhere"])
    def test_that_cannot_be_used_is_told(self, kernel: Kernel, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "mine"
        if kind == "folder":
            path.mkdir()
        elif kind == "text":
            path.write_text("this is no database, and long enough to be read as one" * 50)
        else:
            path = Path("/proc/self/nowhere/mine.sqlite")
        for cell in (LOAD, f"%config OOMHelper.history_path = {str(path)!r}", SETUP):
            kernel.execute(cell)
        panel = Panel(kernel, kernel.execute("huge()"))
        assert panel.only().errors == []
        assert "Release the failed cell" in panel.text
        status = kernel.execute("%oom status").stdout
        assert f"last problem: the history {path.name} cannot be used" in status


class TestKnowledgeOfOnesOwn:
    def test_broken_file_is_told_and_left_out(self, start_kernel: StartKernel, kernel_python: Path, home: Path) -> None:
        entries = home / "nb_oomhelper" / "entries"
        entries.mkdir(parents=True)
        (entries / "broken.toml").write_text('code = "MY-1"\ntitle = ', encoding="utf-8")
        kernel = start_kernel(kernel_python, configure(home, ""))
        for cell in (LOAD, SETUP):
            kernel.execute(cell)
        (line,) = [row for row in kernel.execute("%oom status").stdout.splitlines() if row.startswith("left out")]
        assert line.startswith(f"left out: {ENTRY_PROBLEM}")
        reply = kernel.execute("huge()")
        panel = Panel(kernel, reply)
        assert f"Left out: {ENTRY_PROBLEM}" in panel.text
        assert ENTRY_PROBLEM in panel.bundle["text/plain"]
        panel.only()
        assert "Release the failed cell: freed" in panel.text
        assert "CUDA-OOM-001" in kernel.execute("%oom entry").stdout

    def test_entry_of_ones_own(self, kernel: Kernel, tmp_path: Path) -> None:
        packaged = Path(__file__).parents[2] / "src/nb_oomhelper/knowledge/entries/CUDA-OOM-001.toml"
        text = packaged.read_text(encoding="utf-8").replace("CUDA-OOM-001", "MY-1").replace('id = "llm/', 'id = "my/')
        (tmp_path / "own" / "entries").mkdir(parents=True)
        (tmp_path / "own" / "entries" / "my.toml").write_text(text, encoding="utf-8")
        kernel.execute(LOAD)
        assert "MY-1" not in kernel.execute("%oom entry").stdout
        kernel.execute(f"%config OOMHelper.knowledge_dir = {str(tmp_path / 'own')!r}")
        assert "MY-1" in kernel.execute("%oom entry").stdout
        assert "left out" not in kernel.execute("%oom status").stdout
