"""What a click or a command does on the workers of the engines that this kernel has clients of."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nb_oomhelper import engines
from nb_oomhelper.case import Case
from nb_oomhelper.engines import Function, WorkerReply
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.remedy import Outcome
from nb_oomhelper.shell.reruns import Reruns
from nb_oomhelper.showing import worker_table
from nb_oomhelper.showing.frontends import Reading, of_workers
from nb_oomhelper.showing.wording import say

if TYPE_CHECKING:
    from nb_oomhelper.loading.estimate import Estimate


def ask_failed(reruns: Reruns, case: Case, function: Function) -> tuple[list[WorkerReply], Outcome | None]:
    """Read the memory of the workers that ran out, or release there.

    Args:
        reruns: Waits for the next run of the cell, which tells whether that has helped.
        case: Gets what a release has done.
        function: Which of the two.

    Returns:
        What each has answered; and what the release has done on all of them, or None.
    """
    replies = engines.ask_failed(function, case.event)
    outcome = engines.summed(replies)
    if outcome is not None:
        case.outcomes.append(outcome)
        case.recorded = None  # it is of no fix, whose rate it would change
        reruns.fixed(case)
    return replies, outcome


def release(language: Language) -> list[str]:
    """Release on all workers; say in a line each what came of it."""
    replies = engines.ask_all("release")
    return [worker_table.say_reply(reply, language) for reply in replies] or [say("engines.none_release", language)]


PERIOD = 2.5  # seconds between two readings of workers: the answers to one are there when the next one begins
_PX = re.compile(r"^[ \t]*%%?px\b", re.MULTILINE)


def runs_on_engines(cell: str) -> bool:
    """Whether a cell is run by `%%px`, or has a line that is."""
    return _PX.search(cell) is not None


@contextmanager
def metered(language: Language, tell: Callable[[str], object]) -> Iterator[None]:
    """Measure what is taken on ipyparallel's engines meanwhile; then tell it of each, also after an error."""
    engines.ask_all("watch", only="ipyparallel")
    try:
        yield
    finally:
        for reply in engines.ask_all("watched", only="ipyparallel"):
            tell("\n".join(worker_table.say_peaks(reply, language)))


class Followed:
    """Workers that are read again and again, without a wait for any but the first time."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._answers: Callable[[], list[WorkerReply]] | None = None

    def read(self) -> Reading:
        """Give what has been answered since the last time, and ask again."""
        found = engines.ask_all("read") if self._answers is None else self._answers()
        self._answers = engines.begin_all("read")
        if not found:
            return Reading(at=time.time(), bars=[], notes=[say("engines.none", self._language)])
        return of_workers(found, self._language)


def table(language: Language, *, as_json: bool) -> str | dict[str, str]:
    """Make one table of all workers.

    Args:
        language: "en" or "zh".
        as_json: JSON in its place.

    Returns:
        What is to be printed, or a bundle to be displayed.
    """
    replies = engines.ask_all("read")
    if as_json:
        return worker_table.to_json(replies)
    if not replies:
        return say("engines.none", language)
    drawn = worker_table.to_text(replies, language), worker_table.to_html(replies, language)
    return dict(zip(("text/plain", "text/html"), drawn, strict=True))


def plan_table(found: Estimate, above: list[str], language: Language, *, as_json: bool) -> str | dict[str, str]:
    """Ask all workers, and make a table of where a model would fit on them.

    Args:
        found: The model's size.
        above: What is said before the table.
        language: "en" or "zh".
        as_json: JSON in its place.

    Returns:
        What is to be printed, or a bundle to be displayed.
    """
    from nb_oomhelper.showing import grid, worker_plan

    replies = engines.ask_all("read")
    if as_json:
        return worker_plan.to_json(found, replies)
    if not replies or found.checkpoint.size is None:
        return "\n".join(above if replies else [say("engines.none", language)])
    columns, rows, below = worker_plan.table(found, replies, language)
    text = "\n".join([*above, "", grid.to_text(columns, rows), "", *below])
    return {"text/plain": text, "text/html": grid.to_html(columns, rows, above, below)}
