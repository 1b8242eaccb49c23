"""`%oom explain`: files, pasted texts, and nothing of them run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shells import in_shell

pytestmark = pytest.mark.plain

CUDA = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB."


def shown(*cells: str, python: Path) -> list[str]:
    code = 'cell("%load_ext nb_oomhelper"); tell(*[cell(one) for one in cells.values()])'
    found: list[str] = in_shell(code, cells={str(number): one for number, one in enumerate(cells)}, python=python)
    return found


def test_a_file_a_variable_and_a_pasted_text(kernel_python: Path, tmp_path: Path) -> None:
    file = tmp_path / "my train.log"
    file.write_text(f"epoch 1\n{CUDA}\n")
    quoted, bare, chosen, pasted, named, line, programs = shown(
        f'%oom explain "{file}"',
        f"%oom explain {file}",
        f"%oom explain --lang zh {file}",
        f"%%oom explain\nepoch 1\n{CUDA}",
        f"text = {CUDA!r}\n%oom explain text",
        f"%oom explain {CUDA}",
        f"%oom explain {file} --json",
        python=kernel_python,
    )
    for text in (quoted, bare, pasted):
        assert "CUDA out of memory · cuda · line 2" in text
        assert "It asked for 2.00 GiB" in text
    assert "它请求 2.00 GiB" in chosen
    assert "line 1" in named
    assert "line 1" in line
    assert '"requested": 2147483648' in programs


def test_nothing_of_the_text_is_run(kernel_python: Path) -> None:
    hostile = "MemoryError: {done.append(1)} $done can't {0!r"
    _, line, cell, left = shown(
        "done = []",
        f"%oom explain {hostile}",
        f"%%oom explain\n{hostile}",
        "print('left', done)",
        python=kernel_python,
    )
    assert "line 1" in line
    assert "line 1" in cell
    assert "left []" in left


def test_other_lines_are_filled_in_as_before(kernel_python: Path) -> None:
    inside = "def f(word):\n    get_ipython().run_line_magic('oom', '{word}')\nf('status')"
    for text in shown("what = 'status'\n%oom $what", inside, python=kernel_python):
        assert "exception handler" in text


def test_what_makes_no_sense_is_one_line(kernel_python: Path) -> None:
    for text in shown(
        "%oom explain", "%oom explain /no/such/file", "%%oom status\nx", "%oom explain /", python=kernel_python
    ):
        assert len(text.strip().splitlines()) == 1
    assert "usage: %oom explain" in shown("%oom explain --help", python=kernel_python)[0]
