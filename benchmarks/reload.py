"""What a failed load adds to a panel: finding the call, sizing its model, planning and writing every option."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import linecache
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.timing import Result, take_turns

NAME = "reload"
_TITLE = "A failed from_pretrained: call found, model sized, every option planned and written"
_CELL = 'model = AutoModelForCausalLM.from_pretrained(\n    FOLDER,  # ours\n    dtype="nonsense",\n)\n'
_FILE = "<ipython-input-1-of-the-benchmark>"


def measure(repeats: int | None) -> Iterator[Result]:
    """Compare with the time that IPython takes to put the same traceback into words, in one process."""
    if importlib.util.find_spec("transformers") is None:
        yield Result(name=NAME, title=_TITLE, sides=(), goal=None, notes=("transformers is not installed here",))
        return
    with TemporaryDirectory() as folder:
        _make(Path(folder))
        error = _fail(folder)
        written = _planner(error)
        sides = {"plan and rewrite": _timed(written), "IPython's traceback": _timed(_printer(error))}
        times = take_turns(sides, repeats or 7)
        count = written()
    notes = (f"{count} options are written out for a checkpoint of 4 layers in one file",)
    yield Result(name=NAME, title=_TITLE, sides=times, goal=None, notes=notes)


def _make(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    with contextlib.redirect_stderr(io.StringIO()):
        LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=1000)).save_pretrained(folder)


def _fail(folder: str) -> BaseException:
    """A load that fails inside the library, in a cell of its own."""
    import transformers

    linecache.cache[_FILE] = (len(_CELL), None, _CELL.splitlines(keepends=True), _FILE)
    names = {"FOLDER": folder, "AutoModelForCausalLM": transformers.AutoModelForCausalLM, "__name__": "__main__"}
    try:
        exec(compile(_CELL, _FILE, "exec"), names)
    except Exception as error:
        return error
    raise RuntimeError("the load did not fail")


def _planner(error: BaseException) -> Callable[[], int]:
    """A function that does what a panel does about the call, and gives the number of options."""
    from nb_oomhelper.knowledge.catalog import load_catalog
    from nb_oomhelper.loading.failed_call import find_call
    from nb_oomhelper.loading.reload import plan_reload, study
    from nb_oomhelper.memory.nvml import Driver
    from nb_oomhelper.memory.snapshot import take_snapshot
    from nb_oomhelper.records.event import OomEvent

    fixes = [fix for fix in load_catalog().fixes if fix.subject == "call"]
    snapshot = take_snapshot(Driver(), backend="host", device=None)
    event = OomEvent(
        framework="pytorch", backend="host", exception_type="RuntimeError", message="", format="", phase="load"
    )

    def plan() -> int:
        load = study(replace(event, call=find_call(error.__traceback__)), snapshot, frozenset())
        if load is None or load.call.statement is None:
            raise RuntimeError("the call was not found")
        return sum(plan_reload(fix, load) is not None for fix in fixes)

    return plan


def _printer(error: BaseException) -> Callable[[], None]:
    from IPython.core.ultratb import VerboseTB

    formatter = VerboseTB(include_vars=False)

    def show() -> None:
        formatter.structured_traceback(type(error), error, error.__traceback__, 1)

    return show


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - started)

    return run
