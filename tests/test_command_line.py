"""`python -m nb_oomhelper explain`, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.plain

LOG = b"RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


def run(*arguments: str, stdin: bytes = b"", options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *options, "-m", "nb_oomhelper", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(("text", "status"), [(LOG, 0), (b"all is well\n", 1), (b"", 1), (b"\x7fELF" + bytes(99), 2)])
def test_the_status_says_whether_one_was_found(text: bytes, status: int, tmp_path: Path) -> None:
    file = tmp_path / "train.log"
    file.write_bytes(text)
    by_name, by_pipe = run("explain", str(file)), run("explain", "-", stdin=text)
    assert (by_name.returncode, by_pipe.returncode) == (status, status), by_name.stderr + by_pipe.stderr
    assert b"Traceback" not in by_name.stderr + by_pipe.stderr
    assert bool(by_name.stdout) == (status != 2)


@pytest.mark.parametrize(
    "arguments", [(), ("explain",), ("explain", "/no/such/file"), ("explain", "-", "--lang", "xx")]
)
def test_what_makes_no_sense(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


def test_for_programs_and_in_chinese() -> None:
    told = json.loads(run("explain", "-", "--json", stdin=LOG).stdout)
    assert told["found"][0]["event"]["requested"] == 2 << 30
    assert "它请求 2.00 GiB" in run("explain", "-", "--lang", "zh", stdin=LOG, options=("-X", "utf8")).stdout.decode()


def test_a_terminal_that_knows_ascii_only() -> None:
    command = [sys.executable, "-m", "nb_oomhelper", "explain", "-"]
    done = subprocess.run(
        command, input=LOG, capture_output=True, timeout=60, check=False, env={"PYTHONIOENCODING": "ascii", **_path()}
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_has_read_enough() -> None:
    line = f"{sys.executable} -m nb_oomhelper explain - | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], input=LOG * 5000, capture_output=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == (b"0", b"")


def test_nothing_of_a_notebook_is_needed() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['x', 'explain', '-']\n"
        "try: runpy.run_module('nb_oomhelper', run_name='__main__')\nexcept SystemExit as end: status = end.code\n"
        "print(status, sorted({'torch', 'numpy', 'IPython', 'ipywidgets', 'pynvml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=LOG, capture_output=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == b"0 []", done.stderr


def _path() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("PYTHONPATH", "PATH") if name in os.environ}
