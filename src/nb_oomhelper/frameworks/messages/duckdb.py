"""DuckDB: its own limit on the host's memory, which need not be the machine's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule
from nb_oomhelper.records.event import OomEvent

_CLASS = r"^_?duckdb\.(?:\w{1,20}\.){0,3}OutOfMemoryException$"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages(Messages):
    """What is free below the limit is the rest of it."""

    def complete(self, event: OomEvent, window: str) -> OomEvent:  # noqa: ARG002
        """Subtract.

        Args:
            event: As the patterns have read it.
            window: The message, on one line.
        """
        if event.limit is None or event.allocated is None:
            return event
        return replace(event, free=max(0, event.limit - event.allocated))


MESSAGES = _Messages(
    name="duckdb",
    module="_duckdb",
    rules=(
        Rule("duckdb.oom", "host", r"Out of Memory Error: "),
        Rule("duckdb.oom", "host", "^", kind=_CLASS, known=True),
    ),
    fields={
        "requested": rf"(?:size|allocate|block of) ({SIZE})",
        "allocated": rf"\(({SIZE})/{SIZE} used\)",
        "limit": rf"\({SIZE}/({SIZE}) used\)|change memory limit to (\d{{1,20}})",
    },
)
