"""What is watched only where it was switched on, in real kernels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import CUDA, LOAD, shown, start_busy, wait_for
from tests.kernel.driver import Kernel, KernelError, Reply

pytestmark = pytest.mark.kernel

ON = "%config OOMHelper.watch_output = True"
SCRIPT = f"""
import sys
def step():
    raise RuntimeError({CUDA!r})
print("epoch 1")
step() if len(sys.argv) < 2 else print(sys.argv)
"""


@pytest.fixture
def watched(kernel: Kernel, tmp_path: Path) -> Kernel:
    (tmp_path / "train.py").write_text(SCRIPT)
    for cell in (LOAD, ON, f"import subprocess\npython, script = {sys.executable!r}, {str(tmp_path / 'train.py')!r}"):
        assert kernel.execute(cell).status == "ok"
    return kernel


def panel(reply: Reply) -> str:
    (bundle,) = shown(reply)
    text: str = bundle["text/plain"]
    return text


ROUTES = {
    "system": "!{python} {script}",
    "a function's": "def run(path):\n    !{python} $path\nrun(script)",
    "bash": "%%bash -s {python} {script}\n$1 $2",
    "script": "%%script {python}\nraise RuntimeError('CUDA' + '" + CUDA.removeprefix("CUDA") + "')",
    "subprocess": "subprocess.run([python, script], check=True, capture_output=True)",
    "subprocess, text": "subprocess.check_output([python, script], text=True, stderr=subprocess.STDOUT)",
    "behind another error": (
        "try:\n    subprocess.run([python, script], check=True, capture_output=True)\n"
        "except Exception as error:\n    raise ValueError('no') from error"
    ),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_failed_commands_output_is_explained(watched: Kernel, route: str) -> None:
    reply = watched.execute(ROUTES[route], stop_on_error=False)
    text = panel(reply)
    assert "Out of memory in another process: a command that has ended" in text
    assert "It asked for 2.00 GiB; 205 MiB was free" in text
    assert "there is nothing to release here" in text
    assert "%oom fix" not in text
    assert "2.00 GiB" in watched.execute("%oom").displays[0]["data"]["text/plain"]


@pytest.mark.parametrize(
    "cell", ["!{python} {script} on", "!exit 3", "!echo 'CUDA out of memory. Tried to allocate 1 GiB'"]
)
def test_a_command_that_did_not_run_out_shows_nothing(watched: Kernel, cell: str) -> None:
    reply = watched.execute(cell)
    assert shown(reply) == []
    assert reply.status == "ok"


def test_what_a_command_prints_is_printed_as_before(watched: Kernel) -> None:
    plain = watched.execute("!echo one; echo {python}; echo '$HOME' '{{'; exit 3\nprint(_exit_code)").stdout
    watched.execute("%config OOMHelper.watch_output = False")
    assert watched.execute("!echo one; echo {python}; echo '$HOME' '{{'; exit 3\nprint(_exit_code)").stdout == plain
    assert plain.endswith("3\n")


def test_a_long_output_keeps_its_end_and_its_lines_numbers(watched: Kernel) -> None:
    text = panel(watched.execute("!seq 100000; {python} {script}"))
    assert "line 100008" in text


def test_it_is_off_at_first_and_undone(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    state = "[sys.stdout.__class__.__name__, 'system' in vars(get_ipython()), 'var_expand' in vars(get_ipython())]"
    before = kernel.eval(f"[sys := __import__('sys'), {state}][1]")
    kernel.execute(LOAD)
    assert shown(kernel.execute(f"!{sys.executable} {tmp_path / 'train.py'}")) == []
    kernel.execute(ON)
    assert shown(kernel.execute(f"!{sys.executable} {tmp_path / 'train.py'}"))
    kernel.execute("%unload_ext nb_oomhelper")
    assert shown(kernel.execute(f"!{sys.executable} {tmp_path / 'train.py'}")) == []
    assert kernel.eval(f"[sys := __import__('sys'), {state}][1]") == before


def test_a_fix_that_runs_a_command_shows_no_panel_of_it(watched: Kernel) -> None:
    watched.execute("with get_ipython()._nb_oomhelper.cells.quietly():\n    get_ipython().system(f'{python} {script}')")
    assert watched.eval("get_ipython()._nb_oomhelper.case is None")


# -- caught by the cell itself ---------------------------------------------------------------------------------------

CATCH = """
def attempt(size):
    try:
        return torch.empty(size, dtype=torch.uint8, device='cuda')
    except torch.OutOfMemoryError:
        return None
"""
THREE = "kept = [attempt(9 << 30) for _ in range(3)]"


@pytest.mark.played
def test_what_a_cell_handles_itself_is_counted(played_kernel: StartKernel) -> None:
    kernel = played_kernel("8GiB")
    for cell in (LOAD, "import torch", CATCH, "%config OOMHelper.watch_allocator = True"):
        assert kernel.execute(cell).status == "ok"
    assert "caught" not in kernel.execute("%oom status").stdout
    assert not kernel.eval("torch.cuda.is_initialized()")
    assert (
        "3 out-of-memory errors on cuda:0 were caught inside this cell" in kernel.execute(f"%%gpumem\n{THREE}").stdout
    )
    kernel.execute(THREE)
    kernel.execute("1 + 1")
    status = kernel.execute("%oom status").stdout
    assert "3 out-of-memory errors on cuda:0 were caught inside the last cell that had any" in status
    failed = "attempt(9 << 30)\ntorch.empty(9 << 30, dtype=torch.uint8, device='cuda')"
    assert (
        "1 out-of-memory error on cuda:0 was caught"
        in kernel.execute(f"%%gpumem\n{failed}", stop_on_error=False).stdout
    )
    kernel.execute(failed, stop_on_error=False)
    assert "1 out-of-memory error on cuda:0 was caught" in kernel.execute("%oom status").stdout
    kernel.execute("%config OOMHelper.watch_allocator = False")
    assert "caught" not in kernel.execute("%oom status").stdout


# -- a kernel that dies ----------------------------------------------------------------------------------------------

KERNEL = "%config OOMHelper.watch_kernel = True"
RUNS = "[one.name for one in get_ipython()._nb_oomhelper.settings.runs_folder().glob('*')]"
DIE = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def begin(kernel: Kernel) -> str:
    assert kernel.execute(LOAD).status == "ok"
    return kernel.execute(KERNEL).stdout


def test_the_next_kernel_tells_in_which_cell_the_last_one_died(kernel_python: Path, tmp_path: Path) -> None:
    with Kernel(kernel_python, tmp_path) as first:
        assert begin(first) == ""
        first.execute("1 + 1")
        with pytest.raises(KernelError, match="died"):
            first.execute(DIE)
    with Kernel(kernel_python, tmp_path) as second:
        told = begin(second)
        assert "ended in the middle of cell [4]" in told
        assert "of host memory" in told
        assert "in the middle of cell [4]" in second.execute("%oom status").stdout
    with Kernel(kernel_python, tmp_path) as third:
        assert begin(third) == ""


def test_a_clean_end_leaves_nothing(kernel_python: Path, tmp_path: Path) -> None:
    with Kernel(kernel_python, tmp_path) as first:
        begin(first)
        assert first.execute(f"print(len({RUNS}))").stdout == "1\n"
        first.execute("1 / 0", stop_on_error=False)
        assert first.eval(RUNS) == []
        first.execute("%%time\n!true")
        assert first.eval(RUNS) == []
        first.execute("import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait()")
        first.execute("import sys\nsys.exit()", stop_on_error=False)
    with Kernel(kernel_python, tmp_path) as second:
        assert begin(second) == ""


def test_a_kernel_beside_it_is_not_taken_for_dead(kernel_python: Path, tmp_path: Path, go_on: Path) -> None:
    with Kernel(kernel_python, tmp_path) as first:
        begin(first)
        busy = start_busy(first, go_on)
        wait_for(first, lambda: list((tmp_path / "ipython/nb_oomhelper/runs").glob("*.json")))
        home = tmp_path / "second"
        home.mkdir()
        shared = {"IPYTHONDIR": str(tmp_path / "ipython")}
        with Kernel(kernel_python, home, shared) as second:
            second.execute(f"%cd {tmp_path}")
            assert begin(second).strip() == ""
        go_on.touch()
        assert first.finish(busy).status == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_a_folder_that_cannot_be_written_costs_a_line_in_the_status(kernel: Kernel) -> None:
    kernel.execute(LOAD)
    kernel.execute(
        "runs = get_ipython()._nb_oomhelper.settings.runs_folder()\nruns.parent.mkdir(exist_ok=True)\nruns.touch()"
    )
    assert begin(kernel) == ""
    reply = kernel.execute("print(1 + 1)")
    assert (reply.status, reply.stdout, reply.stderr) == ("ok", "2\n", "")
    assert "runs" in kernel.execute("%oom status").stdout


def test_what_somebody_has_put_on_top_stays_and_ours_is_silent(watched: Kernel) -> None:
    watched.execute("below = get_ipython().system\nget_ipython().system = lambda cmd: below(cmd)")
    watched.execute("%unload_ext nb_oomhelper")
    assert watched.eval("get_ipython().system is not below")
    assert shown(watched.execute("get_ipython().system(f'{python} {script}')")) == []
