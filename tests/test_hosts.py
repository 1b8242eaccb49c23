"""Machines that lack what this one has: each loads, reports, releases, and says what is missing in `%oom status`."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.shells import in_shell

pytestmark = pytest.mark.plain

Play = Callable[..., list[Any]]

# Beside what IPython and psutil have of the system already: they have other code there, and we have not.
BREAK = """
import builtins, importlib, pkgutil, signal, mmap, psutil, subprocess, tempfile, time
import IPython.core.magics, IPython.lib.display
def take(modules, names):
    for name in modules:
        sys.modules[name] = None
    for module, lost in names.items():
        for name in [name for name in dir(module) if name in lost or name.startswith(tuple(lost))]:
            delattr(module, name)
"""
# https://docs.python.org/3/library/os.html and the others, by "Availability".
WINDOWS = """
shell.system = shell.getoutput = None
take(
    ["resource", "fcntl", "termios", "pwd", "grp", "pty", "tty", "curses", "readline", "syslog"],
    {
        os: {"getuid", "geteuid", "getgid", "getegid", "getgroups", "getlogin", "getpgid", "getpgrp", "getresuid",
             "getsid", "sysconf", "confstr", "uname", "fork", "register_at_fork", "killpg", "wait3", "wait4", "RTLD_",
             "sched_", "getloadavg", "mkfifo", "memfd_create", "posix_", "pread", "pwrite",
             "nice", "getpriority", "chown", "lchown", "fchown", "chroot", "setsid", "setuid", "O_CLOEXEC",
             "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "eventfd", "pidfd_open"},
        signal: {"SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR",
                 "SIGQUIT", "SIGRT", "alarm", "setitimer", "getitimer", "pthread_", "sigwait", "siginterrupt"},
        mmap: {"MAP_", "PROT_", "MADV_"},
        time: {"clock_", "CLOCK_"},
    },
)
"""
# It has a module `resource`, but the system keeps no process to RLIMIT_AS.
MACOS = """
import resource
take([], {
    os: {"memfd_create", "posix_fadvise", "sched_", "eventfd", "pidfd_open", "getresuid", "RTLD_DEEPBIND"},
    signal: {"SIGRT", "SIGPWR", "SIGSTKFLT", "sigtimedwait", "sigwaitinfo"},
    mmap: {"MADV_", "MAP_POPULATE", "MAP_DENYWRITE", "MAP_EXECUTABLE", "MAP_STACK"},
    resource: {"RLIMIT_AS", "prlimit", "RUSAGE_THREAD"},
})
"""
SYSTEMS = {"Windows": WINDOWS, "macOS": MACOS}
# Packages that no finder finds.
HIDE = """
class Without:
    def __init__(self, finder, names):
        self.finder, self.names = finder, names
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, *rest)
def hide(names):
    sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]
    assert not set(names) & set(sys.modules)
"""
IMPORT = """
import nb_oomhelper
failed, names = {}, [one.name for one in pkgutil.walk_packages(nb_oomhelper.__path__, "nb_oomhelper.")]
for name in names:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
"""
USE = """
told = {name: cell(source) for name, source in [
    ("load", "%load_ext nb_oomhelper"),
    ("error", "def f():\\n    batch = bytearray(1 << 20)\\n    raise MemoryError\\nf()"),
    ("fix", "%oom fix 1"),
    ("gpumem", "%gpumem"),
    ("metered", "%%gpumem\\n1"),
    ("holders", "%gpumem --by-variable"),
    ("plan", "%oom plan nothing/here"),
    ("release", "%oom release --history"),
    ("status", "%oom status"),
    ("unload", "%unload_ext nb_oomhelper"),
]}
"""


def check(told: dict[str, str]) -> None:
    """Check what each cell must say on whichever machine."""
    assert told["load"] == told["unload"] == ""
    assert told["error"].index("MemoryError") < told["error"].index("  1  Release the failed cell")
    assert told["fix"].startswith("Release the failed cell: ")
    assert "host" in told["gpumem"]
    assert told["metered"].startswith("host, seen every 0.1 s: peak ")
    assert "no such file or folder" in told["plan"]
    assert "exception handler: in place" in told["status"]
    assert not [name for name, text in told.items() if "Traceback" in text and name != "error"]


@pytest.fixture
def play(kernel_python: Path) -> Play:
    """Run code beside a shell of each pair."""
    return functools.partial(in_shell, python=kernel_python)


@functools.cache
def hides() -> Callable[[str], list[str]] | None:
    """Give the command under which a folder is hidden by another one, if this user may have mounts of his own."""
    for flags in (["-m"], ["-rm"]):
        command = ["unshare", *flags, "sh", "-c"]
        if shutil.which("unshare"):
            tried = subprocess.run([*command, "mount -t tmpfs none /proc"], capture_output=True, check=False)
            if tried.returncode == 0:
                return lambda mount, command=command: [*command, f'{mount} && exec "$@"', "sh"]  # type: ignore[misc]
    return None


@pytest.fixture
def hidden() -> Callable[[str], list[str]]:
    """The command under which something else is mounted: `hidden("mount …")`."""
    found = hides()
    if found is None:
        pytest.skip("this user may not mount anything, not even in a namespace of its own")
    return found


@pytest.mark.parametrize("system", SYSTEMS)
class TestSystems:
    def test_every_module_can_be_imported(self, system: str) -> None:
        code = IMPORT + "tell(names, failed, [hasattr(os, 'getuid'), hasattr(mmap, 'MADV_FREE')])"
        names, failed, lost = in_shell(BREAK + SYSTEMS[system] + code)
        files = list((ROOT / "src" / "nb_oomhelper").rglob("*.py"))
        assert len(names) == len(files) - 1  # but for the package itself
        assert failed == {}
        assert lost == [system == "macOS", False]

    def test_it_reports(self, play: Play, system: str) -> None:
        (told,) = play(BREAK + SYSTEMS[system] + USE + "tell(told)")
        check(told)

    def test_it_reports_without_proc(self, play: Play, system: str, hidden: Callable[[str], list[str]]) -> None:
        (told,) = play(BREAK + SYSTEMS[system] + USE + "tell(told)", under=hidden("mount -t tmpfs none /proc"))
        check(told)

    def test_a_folder_for_weights_is_found(self, system: str, tmp_path: Path) -> None:
        """On Windows nobody's number says whose a folder is, and the outcome is not lost for that."""
        code = """
            from pathlib import Path
            from nb_oomhelper.remedies import running
            from nb_oomhelper.loading import disk
            folder = Path(tempfile.mkdtemp(prefix="oom-offload-"))
            (folder / "weights").touch()
            tell(disk.scratch()[0] is None or running._folder_since(0.0) == str(folder))
        """
        assert in_shell(f"{BREAK}{SYSTEMS[system]}if True:{code}", env={"TMPDIR": str(tmp_path)}) == [True]


class TestMissing:
    @pytest.mark.parametrize("names", [["numpy"], ["torch"], ["numpy", "torch", "pynvml", "psutil", "ipywidgets"]])
    def test_packages(self, play: Play, names: list[str]) -> None:
        (told,) = play(f"{HIDE}hide({names})\n{USE}tell(told)")
        check(told)
        if "psutil" in names:
            assert "host memory: unknown: psutil cannot be imported (ModuleNotFoundError" in told["status"]
            assert "nvidia-ml-py is not installed" in told["status"]
            assert "unknown" in told["gpumem"]
        else:
            assert "host memory: can be read" in told["status"]

    def test_psutil_that_cannot_start(self, play: Play, tmp_path: Path) -> None:
        (tmp_path / "psutil.py").write_text("raise NotImplementedError('platform plan9 is not supported')")
        (told,) = play(USE + "tell(told)", env={"PYTHONPATH": str(tmp_path)})
        check(told)
        assert "psutil cannot be imported (NotImplementedError: platform plan9 is not supported)" in told["status"]

    def test_proc(self, play: Play, hidden: Callable[[str], list[str]]) -> None:
        (told,) = play(USE + "tell(told)", under=hidden("mount -t tmpfs none /proc"))
        check(told)
        assert "host memory: unknown in part: this system does not tell it" in told["status"]


class TestHome:
    @pytest.mark.parametrize("home", [None, "/nonexistent"])
    def test_there_is_none(self, play: Play, home: str | None, tmp_path: Path) -> None:
        gone = dict.fromkeys(("IPYTHONDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"))
        code = f"os.chdir({str(tmp_path)!r})\n{USE}tell(told, shell.ipython_dir)"
        told, folder = play(code, env={**gone, "HOME": home})
        check(told)
        assert "history: " in told["status"]
        assert folder

    def test_it_is_read_only(self, play: Play, tmp_path: Path, hidden: Callable[[str], list[str]]) -> None:
        """IPython takes a temporary folder then."""
        env = {"HOME": str(tmp_path), "IPYTHONDIR": None}
        code = USE + "tell(told, os.access(os.environ['HOME'], os.W_OK))"
        told, writable = play(code, env=env, under=hidden(f"mount -t tmpfs -o ro none '{tmp_path}'"))
        assert not writable
        check(told)
        assert "0 of 0 cells ran after a fix, in" in told["status"]

    def test_its_history_is_read_only(self, play: Play, tmp_path: Path, hidden: Callable[[str], list[str]]) -> None:
        code = f"""
cell("%load_ext nb_oomhelper")
cell("%config OOMHelper.history_path = '{tmp_path}/history.sqlite'")
{USE.replace("%load_ext", "%reload_ext")}tell(told)"""
        (told,) = play(code, under=hidden(f"mount -t tmpfs -o ro none '{tmp_path}'"))
        check(told)
        assert "last problem: the history history.sqlite cannot be used: " in told["status"]
