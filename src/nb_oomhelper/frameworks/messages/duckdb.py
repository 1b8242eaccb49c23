"""DuckDB: its own limit on the host's memory, which need not be the machine's."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

_CLASS = r"^_?duckdb\.(?:\w{1,20}\.){0,3}OutOfMemoryException$"
MESSAGES = Messages(
    name="duckdb",
    module="_duckdb",
    rules=(
        Rule("duckdb.oom", "host", r"Out of Memory Error: "),
        Rule("duckdb.oom", "host", "^", kind=_CLASS, known=True),
    ),
    fields={
        "requested": rf"(?:size|allocate) ({SIZE})",
        "allocated": rf"\(({SIZE})/{SIZE} used\)",
        "limit": rf"\({SIZE}/({SIZE}) used\)",
    },
)
