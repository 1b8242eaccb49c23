"""What a front end may ask for: it shows and clicks, others do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nb_oomhelper.case import Case
from nb_oomhelper.engines import Function, WorkerReply
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.remedy import FixPlan, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """The extension's side of a panel.

    Attributes:
        catalog: The knowledge.
        language: The language that is set.
        run: Run a plan of a case by its number, on the thread of the call.
        rerun: Run the failed cell again, note in the last outcome how it fared, and call back: with the new case
            where it ran out of memory again, else with None.
        forecast: Find the size with which a fix makes the failed cell fit, by its number; its plan has it then.
        read: Memory now, on the case's device.
        on_main: Run this on the main thread, and let the click last until it calls what it is given;
            the second is called where that has to wait for a running cell.
        busy: Whether a cell is running.
        refresh: Seconds between two readings.
        live: Minutes for which a panel is kept live.
        ask: Read the memory of the workers that a case came from, or release there; what each has answered, and what
            the release has done in all.
    """

    catalog: Callable[[], Catalog]
    language: Callable[[], Language]
    run: Callable[[Case, int], Outcome]
    rerun: Callable[[Case, Callable[[Case | None], None]], None]
    forecast: Callable[[Case, int], FixPlan]
    read: Callable[[Case], MemorySnapshot]
    on_main: Callable[[Callable[[Callable[[], None]], None], Callable[[], None]], None]
    busy: Callable[[], bool]
    refresh: float
    live: float
    ask: Callable[[Case, Function], tuple[list[WorkerReply], Outcome | None]]
