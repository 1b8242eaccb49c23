"""A real IPython shell in a process of its own: what errors leave behind there stays there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PRELUDE = '''
import contextlib, gc, io, json, os, sys, threading, weakref
import IPython
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell

config = Config()
config.HistoryManager.enabled = False
config.HistoryManager.hist_file = ":memory:"
config.InteractiveShell.colors = "NoColor" if IPython.version_info < (9,) else "nocolor"
shell = InteractiveShell.instance(config=config)


class Thing:
    """Something whose life can be followed."""

    def __init__(self):
        refs.append(weakref.ref(self))


refs = []
shell.user_ns.update(Thing=Thing)


def alive():
    return [ref() is not None for ref in refs]


def cell(source):
    """Run a cell as a notebook does; what it and its traceback printed comes back."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        shell.run_cell(source, store_history=True)
    return text.getvalue()


def did(outcome):
    """What each step of a release was."""
    return outcome and [[step.done, step.count, step.name] for step in outcome.steps]


def release(arguments=""):
    """Release in a cell of its own; the outcome, or None if that failed.

    `released` is what was alive before that cell ended: its end alone makes IPython let go of something.
    """
    global released
    shell.user_ns.update(outcome=None, released=None, alive=alive)
    cell(f"import nb_oomhelper; outcome = nb_oomhelper.release({arguments}); released = alive()")
    outcome, released = shell.user_ns["outcome"], shell.user_ns["released"]
    shell.user_ns["outcome"] = None
    return outcome


def tell(*values):
    print()
    print(json.dumps(values))


cells = json.loads(os.environ["CELLS"])
'''


def in_shell(
    code: str,
    *,
    cells: Mapping[str, str] | None = None,
    python: str | Path = sys.executable,
    stdin: str = "",
    env: Mapping[str, str | None] | None = None,
    under: Sequence[str] = (),
) -> list[Any]:
    """Run code beside a shell; the values that it gave to `tell` last come back.

    Args:
        code: Has `shell`, `cell(source)`, `release()`, `refs`, `alive()`, `tell(*values)` and more; see `PRELUDE`.
        cells: Sources by name: `cells` in the code.
        python: The interpreter.
        stdin: What is typed into it.
        env: Variables beside this process's own; None takes one away.
        under: A command that runs the interpreter.
    """
    command = [*under, str(python), "-W", "ignore", "-c", PRELUDE + textwrap.dedent(code)]
    with tempfile.TemporaryDirectory() as home:
        named = {**os.environ, "IPYTHONDIR": home, "CELLS": json.dumps(cells or {}), **(env or {})}
        variables = {name: value for name, value in named.items() if value is not None}
        done = subprocess.run(
            command, env=variables, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr + done.stdout
    values: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return values
