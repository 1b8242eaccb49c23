"""Somebody at a notebook: runs its cells, sees the panel, clicks."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.kernel.cells import Panel, plain
from tests.kernel.driver import Kernel, Reply

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds

_INSIDE = "__import__('benchmarks.advice.inside', fromlist=['inside'])"
# Without it glibc keeps what was freed, and a process at its limit of address space fails again all the same.
_FREED_COMES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


class NotebookKernel(Kernel):
    """A kernel that can be asked what only `benchmarks.advice.inside` knows."""

    def __init__(self, python: Path, home: Path, env: Mapping[str, str]) -> None:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        super().__init__(python, home, {"PYTHONPATH": paths, **_FREED_COMES_BACK, **env})

    def run(self, cell: str) -> Reply:
        """Run a cell."""
        return self.execute(cell, PATIENCE)

    def ask(self, call: str) -> Any:
        """The value of a call of `benchmarks.advice.inside`."""
        return self.eval(f"{_INSIDE}.{call}", PATIENCE)


def succeeds(reply: Reply) -> bool:
    """Whether a cell ran to its end without an error."""
    return reply.status == "ok" and not reply.errors


def failure(reply: Reply) -> str:
    """The error in one line; "" where there is none."""
    error = reply.errors[-1] if reply.errors else {"ename": reply.ename, "evalue": reply.evalue}
    return " ".join(f"{error['ename']}: {error['evalue']}".removesuffix(": ").split())[:200]


def press(kernel: NotebookKernel, reply: Reply, fix: Mapping[str, Any]) -> None:
    """Run a fix by its button in the panel, saying yes where it asks; by the magic where panels have no buttons."""
    if not _has_widgets(reply):
        kernel.run(f"%oom fix {fix['number']} --yes")
        return
    panel = Panel(kernel, reply)
    panel.unfold()  # the others come when they are asked for
    before = set(_all_buttons(panel))
    kernel.click(_first_button(panel, fix["title"]), PATIENCE)
    asked = [one for one in _all_buttons(panel) if one not in before]
    if fix["applicability"] == "unsafe" and asked and kernel.ask("outcome()") is None:  # else it has run, and failed
        kernel.click(asked[0], PATIENCE)


def _has_widgets(reply: Reply) -> bool:
    try:
        return bool(reply.mime("application/vnd.jupyter.widget-view+json"))
    except KeyError:
        return False


def _first_button(panel: Panel, title: str) -> str:
    """The first button in the smallest box that has the fix's title and a button."""
    wanted = plain(title.replace("`", "").replace("**", ""))
    boxes = [state["id"] for state in panel.visible() if "children" in state]
    fitting = [
        (len(states), at, buttons[0])
        for at, box in enumerate(boxes)
        if (states := list(_below(panel, box)))
        and (buttons := [one["id"] for one in states if one["_model_name"] == "ButtonModel"])
        and any(
            wanted in plain(one["value"]).replace(f"{wanted},", "")
            for one in states
            if one["_model_name"] == "HTMLModel"
        )
    ]
    if not fitting:
        raise AssertionError(f"no button beside {wanted!r}: {panel.buttons}")
    return str(min(fitting)[2])


def _says(html: str, wanted: str) -> bool:
    """Whether a title stands there, and not another that begins like it: "Delete a, b" is not "Delete a"."""
    return wanted in plain(html).replace(f"{wanted},", "")


def _below(panel: Panel, box: str) -> Iterator[dict[str, Any]]:
    part = copy.copy(panel)
    part.root = box
    return part.visible()


def _all_buttons(panel: Panel) -> Iterator[str]:
    return (str(state["id"]) for state in panel.visible() if state["_model_name"] == "ButtonModel")
