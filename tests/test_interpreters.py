"""Which Pythons the tests are run on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import interpreters

pytestmark = pytest.mark.plain

HERE = "{}.{}".format(*sys.version_info)


def ask(*flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, interpreters.__file__, *flags]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)


def test_the_classifiers_name_every_version_from_the_lowest_on() -> None:
    found = interpreters.versions()
    assert found[0] == (3, 11)
    assert found == [(3, minor) for minor in range(11, 11 + len(found))]
    assert 'requires-python = ">=3.11"' in (interpreters.ROOT / "pyproject.toml").read_text("utf-8")


def test_a_name_that_leads_nowhere_is_passed_over(tmp_path: Path) -> None:
    """As pyenv's shims do, of a version that is installed but not chosen; and one that is another version."""
    shims, real = tmp_path / "shims", tmp_path / "versions" / f"{HERE}.1" / "bin"
    for folder in (shims, real):
        folder.mkdir(parents=True)
    for name in ("python3.12", "python3.13"):
        (shims / name).write_text("#!/bin/sh\necho 'not found' >&2\nexit 127\n")
        (shims / name).chmod(0o755)
    (shims / "python3.14").symlink_to(sys.executable)
    done = ask(PATH=f"{shims}:/usr/bin:/bin", PYENV_ROOT=str(tmp_path), CI="")
    lines = done.stdout.splitlines()
    assert f"{HERE} {sys.executable}" in lines
    assert not [line for line in lines if str(shims) in line and not line.startswith(HERE)]


def test_with_ci_one_is_not_enough(tmp_path: Path) -> None:
    bare = {"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)}
    assert ask(**bare, CI="true").returncode == 1
    alone = ask("--others", **bare, CI="")
    assert (alone.returncode, alone.stdout) == (0, "")
    assert f"Pythons here: {HERE}; tested: {HERE}" in alone.stderr
