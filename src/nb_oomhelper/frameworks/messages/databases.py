"""Databases that a notebook asks: what ran out is theirs, mostly in another process."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

_POSTGRES = r"^(?:psycopg2?|asyncpg|pg8000)\b"
MESSAGES = Messages(
    name="database",
    module="sqlite3",
    rules=(
        # SQLite says the same of a connection that was closed
        Rule(
            "sqlite.memory", "host", r"\bout of memory$", kind=r"^sqlite3\.|\bDatabaseError$", known=True, probable=True
        ),
        Rule("postgres.client", "host", r"out of memory for query result", kind=_POSTGRES),  # libpq, in this process
        Rule("mysql.client", "host", r"MySQL client ran out of memory"),
        Rule("postgres.memory", "host", r"\bout of memory\b", kind=_POSTGRES, known=True, remote="server"),
        Rule("postgres.memory", "host", r"psycopg2?\.errors\.OutOfMemory\b", remote="server"),
        Rule("postgres.memory", "host", r"Failed on request of size \d{1,20} in memory context", remote="server"),
        Rule("mysql.memory", "host", r"Out of memory \(Needed \d{1,20} bytes\)", remote="server"),
        Rule("mssql.memory", "host", r"insufficient system memory in resource pool", remote="server"),
        Rule("clickhouse.limit", "host", r"[Mm]emory limit (?:\([^()]{1,40}\) )?exceeded: would use", remote="server"),
        Rule("trino.limit", "host", r"Query exceeded (?:per-node|distributed) .{0,20}memory limit", remote="server"),
        Rule(
            "mongo.limit",
            "host",
            r"[Ee]xceeded memory limit (?:for|of) .{1,80}(?:external sort|disk use)",
            remote="server",
        ),
        Rule("bigquery.memory", "host", "Resources exceeded during query execution", "memory", remote="server"),
        Rule("redis.limit", "host", r"OOM command not allowed when used memory", remote="server"),
        Rule(
            "elastic.limit", "host", r"Data too large, data for \[", r"larger than (?:the )?limit of", remote="server"
        ),
    ),
    fields={
        "requested": rf"request of size (\d{{1,20}})|Needed ({SIZE})|attempt to allocate chunk of ({SIZE})",
        "limit": rf"maximum: ({SIZE})|larger than (?:the )?limit of \[(\d{{1,20}})/|memory limit of ({SIZE})",
        "used": rf"would use ({SIZE})|would be \[(\d{{1,20}})/",
    },
)
