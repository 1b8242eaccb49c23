"""Cells that run out of memory for real, and the panel as the kernel's widgets describe it."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.kernel.driver import Kernel, Reply

VIEW = "application/vnd.jupyter.widget-view+json"
LOAD = "%load_ext nb_oomhelper"
MIB = 1 << 20
GIB = 1 << 30

# More than any machine has: NumPy refuses at once, and nothing is kept.
NO_ROOM = "numpy.ones(1 << 50, numpy.uint8)"
SETUP = """
import gc, resource, sys
import numpy, psutil
def limit(room):
    size = psutil.Process().memory_info().vms + room
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
def resident():
    return psutil.Process().memory_info().rss
def huge():
    return numpy.ones(1 << 50, numpy.uint8)
def train_step(size):
    batch = numpy.ones(size, numpy.uint8)
    outputs = batch + batch
    return batch + outputs
"""
FAIL = "train_step(128 << 20)"  # under limit(370 MiB): two arrays fit, the third does not
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 0.20 GiB is free."
)
LOADER = f"def from_pretrained(name):\n    raise RuntimeError({CUDA!r})\nmodel = from_pretrained('gpt2-xl')"
CASE = "get_ipython()._nb_oomhelper.case"


def wait_for(kernel: Kernel, true: Callable[[], object], seconds: float = 30) -> None:
    """Read what the kernel sends until something holds, a test having failed if it never does."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to hold"
        kernel.poll(0.1)


def start_busy(kernel: Kernel, go_on: Path, then: str = "pass", grow: str = "pass") -> str:
    """Start a cell that does one thing again and again until a file is there, then another; returns its message id."""
    wait = f"import os, time\nkept = []\nwhile not os.path.exists({str(go_on)!r}):\n    time.sleep(0.05)\n    {grow}"
    return kernel.start(f"{wait}\n{then}")


def shown(reply: Reply) -> list[dict[str, Any]]:
    """Give the bundles of the panels in a reply, in their order; not the pictures that take an older one's place.

    A panel is the report, and its widgets in a message of their own: both are given as one.
    """
    new = [row["data"] for row in reply.displays if row["type"] != "update_display_data"]
    pairs = zip(new, [*new[1:], {}], strict=False)
    panels = [(data, view) for data, view in pairs if 'class="oomh ' in str(data.get("text/html", ""))]
    return [data | (view if set(view) == {VIEW} else {}) for data, view in panels]


def plain(markup: str) -> str:
    """Take markup and its escapes out of an HTML value, and what is more than one blank."""
    text = re.sub("<style>.*?</style>|</?(?:b|code)>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


class Panel:
    """The last panel of a reply, as its widgets say: only what a person can see and click."""

    def __init__(self, kernel: Kernel, reply: Reply) -> None:
        self.kernel = kernel
        self.bundle = shown(reply)[-1]
        self.root: str = self.bundle[VIEW]["model_id"]

    def visible(self) -> Iterator[dict[str, Any]]:
        """Walk through the states of the widgets that are not hidden, from the top; "id" is added."""
        yield from self._below(self.root)

    @property
    def text(self) -> str:
        """All that stands in it, but for what buttons and outputs say."""
        return "\n".join(plain(state["value"]) for state in self.visible() if state["_model_name"] == "HTMLModel")

    @property
    def buttons(self) -> list[str]:
        """What its buttons say, in their order; those that cannot be pressed stand in brackets."""
        states = [state for state in self.visible() if state["_model_name"] == "ButtonModel"]
        return [f"[{state['description']}]" if state["disabled"] else state["description"] for state in states]

    @property
    def page(self) -> list[dict[str, Any]]:
        """What its outputs hold without a front end: the entry, where it is open."""
        return [row for state in self.visible() if state["_model_name"] == "OutputModel" for row in state["outputs"]]

    def button(self, label: str, nth: int = 0) -> str:
        """Give the model id of a button that can be seen."""
        found = [state["id"] for state in self.visible() if state.get("description") == label]
        assert len(found) > nth, f"no button {label!r} in {self.buttons}"
        return str(found[nth])

    def click(self, label: str, nth: int = 0) -> Reply:
        """Click a button and wait until all of it is done."""
        return self.kernel.click(self.button(label, nth))

    def unfold(self) -> None:
        """Open what is folded and has buttons: the details, and the other fixes; not the entry."""
        for folded in ("Details|详情", r"▸ .*\d.*"):
            for label in [label for label in self.buttons if re.fullmatch(folded, label)]:
                self.click(label)

    def only(self, nth: int = 0) -> Reply:
        """Run a fix, and not the cell after it."""
        self.unfold()
        return self.click("Only the fix", nth)

    def _below(self, model_id: str) -> Iterator[dict[str, Any]]:
        state = self.kernel.widgets[model_id]
        if self.kernel.widgets[_id(state["layout"])].get("display") == "none":
            return
        yield state | {"id": model_id}
        for child in state.get("children", ()):
            yield from self._below(_id(child))


def _id(reference: str) -> str:
    return reference.removeprefix("IPY_MODEL_")


def run_of(panel: Panel, fix: str) -> int:
    """Which of the buttons of its sort is the fix's: of those that run the cell, too, or of those that do not."""
    panel.unfold()
    plans = panel.kernel.eval(f"[[p.fix, p.number, p.reruns or p.loads] for p in {CASE}.plans]")
    ((number, whole),) = [(number, whole) for name, number, whole in plans if name == fix]
    sort = "Fix and run" if whole else "Only the fix"
    found = [state["tooltip"] for state in panel.visible() if state.get("description") == sort]
    return next(nth for nth, told in enumerate(found) if told.startswith(f"Fix {number},"))
