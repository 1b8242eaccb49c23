"""What the rows of a run say: what of each prediction was false, and a table by machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

_PAGE = 2 << 20  # bytes
_SAID = {True: "✓", False: "✗", None: "may"}
FALSE = ("false ✓", "false ✗", "bytes", "driver's bytes")
_HEAD = (
    "| machine | situations | fixes | ✓ came true | ✗ came true | may | false ✓ | false ✗"
    " | largest error, allocator | largest error, driver |"
)


def judge(row: Row) -> list[str]:
    """Name what was false of a row's predictions; "may" and unknown bytes are never false."""
    found = []
    if row["fits"] is not None and row["fits"] != row["measured_fits"]:
        found.append("false ✓" if row["fits"] else "false ✗")
    for what, said, measured in _sizes(row):
        if abs(said - measured) > max(_PAGE, measured // 100):
            found.append(what)
    return found


def _sizes(row: Row) -> list[tuple[str, int, int]]:
    """What was said and what was measured, where a size was said."""
    if row["freed"] is None:
        return []
    return [("bytes", row["freed"], row["measured_freed"]), ("driver's bytes", row["driver"], row["measured_driver"])]


def line(row: Row) -> str:
    """Put a row into one line: said and measured bytes of allocator and driver in MiB, and whether it fits."""
    keys = ("freed", "measured_freed", "driver", "measured_driver")
    sizes = " ".join(f"{'?' if row[one] is None else row[one] / (1 << 20):>8.6}" for one in keys)
    name = f"{row['machine']}: {row['situation']}: {row['fix']} {row['subject']}"
    verdicts = f"{_SAID[row['fits']]:>4} {_SAID[row['measured_fits']]}"
    return f"{name:<80} {sizes} {verdicts}  {', '.join(judge(row))}".rstrip()


def summary(rows: Sequence[Row]) -> str:
    """Say how many were tried, and what was false."""
    judged = [found for row in rows for found in judge(row)]
    may = sum(row["fits"] is None for row in rows)
    places = len({(row["machine"], row["situation"]) for row in rows})
    counts = ", ".join(f"{one}: {judged.count(one)}" for one in FALSE)
    return f"{len(rows)} fixes in {places} situations, {may} of them 'may'; {counts}"


def table(rows: Sequence[Row]) -> str:
    """Draw the table of a run, a row a machine and one for all."""
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    parts = [(name, [row for row in rows if row["machine"] == name]) for name in machines]
    lines = [_HEAD, "|".join(["", " --- ", *[" ---: "] * 9, ""])]
    return "\n".join([*lines, *(_table_row(name, some) for name, some in parts), _table_row("all", rows)])


def _table_row(name: str, rows: Sequence[Row]) -> str:
    judged = [found for row in rows for found in judge(row)]
    true = [row["fits"] for row in rows if row["fits"] == row["measured_fits"]]
    worst = {
        what: max((abs(said - got) for row in rows for kind, said, got in _sizes(row) if kind == what), default=0)
        for what in FALSE[2:]
    }
    cells = [
        name,
        len({(row["machine"], row["situation"]) for row in rows}),
        len(rows),
        true.count(True),
        true.count(False),
        sum(row["fits"] is None for row in rows),
        *(judged.count(one) for one in FALSE[:2]),
        *(f"{size / (1 << 20):.2f} MiB" for size in worst.values()),
    ]
    return f"| {' | '.join(map(str, cells))} |"
