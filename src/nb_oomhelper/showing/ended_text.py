"""How the last kernel ended, in words: what was counted, and no more than that proves."""

from __future__ import annotations

import time

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.runs import Ended
from nb_oomhelper.showing.wording import say, say_size
from nb_oomhelper.untrusted import one_line

_NEAR = 0.95  # share of a limit from which on it was reached, for all that matters


def say_ended(ended: Ended, language: Language) -> list[str]:
    """Say in the middle of what a kernel ended, what it held, and what its control group has counted.

    Args:
        ended: The kernel.
        language: "en" or "zh".

    Returns:
        One line or more.
    """
    run = ended.run
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.read))
    seconds = f"{max(0.0, run.read - run.begun):.0f}"
    key = "cell" if run.notebook is None else "cell_of"
    lines = [say(f"ended.{key}", language, cell=run.cell, notebook=one_line(run.notebook or ""))]
    sizes = {"resident": say_size(run.resident, language), "allocated": say_size(run.allocated, language)}
    held = "held" if run.allocated is None else "held_gpu"
    lines.append(say(f"ended.{held}", language, at=at, seconds=seconds, **sizes))
    killed = "killed_unknown" if ended.killed is None else "killed" if ended.killed else "killed_none"
    lines.append(say(f"ended.{killed}", language, count=ended.killed))
    if ended.peak is not None and ended.limit is not None:
        near = "full" if ended.peak >= _NEAR * ended.limit else "peak"
        figures = {"peak": say_size(ended.peak, language), "limit": say_size(ended.limit, language)}
        lines.append(say(f"ended.{near}", language, **figures))
    return lines
