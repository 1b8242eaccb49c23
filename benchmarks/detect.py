"""How well texts are recognized: `python -m benchmarks.detect PATH… [--json FILE] [--table]`.

A file has one message a row, as JSON lines or as TOML tables `[[message]]`: `kind` ("oom" is a GPU's memory,
"host_oom" the machine's, "not_oom" only looks like it), `framework`, `exc_type` and `exc_module` as printed or null,
`message`, and `fields` as they are printed. Beside ours stand the rules that accelerate and Lightning decide by.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import json
import statistics
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from benchmarks import machine
from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.units import parse_bytes

Row = dict[str, Any]

# What a file calls a figure, and what an event does.
_NAMES = {
    "requested_bytes": "requested",
    "unallocated": "cached",
    "max_allowed": "limit",
    "used": "allocated",
    "available": "free",
}
_OPEN = {"pinned_host", "same_text_other_device"}  # flags: the text is the same for either memory
_SIZES_KB = (1, 10, 100, 1000)
_FILLER = '  File "/usr/lib/python3.12/site-packages/package/module.py", line 1234, in forward\n    x = layer(x)\n'
_RULES = {
    "accelerate's should_reduce_batch_size": ("accelerate.utils.memory", "should_reduce_batch_size"),
    "Lightning's is_oom_error": ("lightning.pytorch.utilities.memory", "is_oom_error"),
}
_BUILTIN = {name: one for name, one in vars(builtins).items() if isinstance(one, type) and issubclass(one, Exception)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One message and what was made of it.

    Attributes:
        row: As the file has it.
        found: Whether it was taken for a lack of memory.
        sure: Whether that was said without a "probably".
        memory: Whether the memory is the right one; None where the text does not tell, or none was found.
        wrong: Names of fields that were read wrong or not at all.
        fields: How many fields there were to read.
        milliseconds: The time that reading took.
        said: The framework and the memory that the event names; None where there is no event.
    """

    row: Row
    found: bool
    sure: bool
    memory: bool | None
    wrong: tuple[str, ...]
    fields: int
    milliseconds: float
    said: tuple[str, str] | None

    @property
    def right(self) -> bool:
        """Whether nothing is to be said against it."""
        return self.found == (self.row["kind"] != "not_oom") and self.memory is not False and not self.wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the messages of all files; 0 where all of them were read right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detect", description="Measure recognition.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file of messages, or a folder of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--table", action="store_true", help="only print the table of docs/recognition.md")
    options = parser.parse_args(arguments)
    judged = [judge(row) for path in options.paths for row in read(path)]
    if options.table:
        print(table(judged))
        return 0
    print(report(judged))
    growth = measure_growth()
    print("growth: " + ", ".join(f"{size} KB {took:.2f} ms" for size, took in growth.items()))
    if options.json:
        record = to_record(judged, growth)
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if all(one.right for one in judged) else 1


def read(path: Path) -> list[Row]:
    """The messages of a file, or of all files in a folder.

    Args:
        path: JSON lines, or TOML; or a folder.
    """
    if path.is_dir():
        return [row for file in sorted(path.iterdir()) if file.suffix in (".jsonl", ".toml") for row in read(file)]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        rows: list[Row] = [{"framework": path.stem, **row} for row in tomllib.loads(text)["message"]]
        return rows
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def class_of(row: Row) -> str:
    """The error's class as a traceback prints it; "" where it is not known."""
    home, name = row.get("exc_module"), row.get("exc_type")
    return str(name or "") if home in (None, "builtins") else f"{home}.{name}"


def judge(row: Row) -> Judged:
    """Read one message, and compare."""
    started = time.perf_counter()
    event = detect_text(row["message"], class_of(row))
    took = 1000 * (time.perf_counter() - started)
    fields = {} if row["kind"] == "not_oom" else row.get("fields", {})
    told = event is not None and row["kind"] != "not_oom" and not _OPEN & set(row.get("flags", ()))
    return Judged(
        row=row,
        found=event is not None,
        sure=event is not None and event.certainty == "sure",
        memory=(event.backend == "host") == (row["kind"] == "host_oom") if told and event is not None else None,
        wrong=tuple(name for name, value in fields.items() if not _reads(event, name, value, fields)),
        fields=len(fields),
        milliseconds=took,
        said=None if event is None else (event.framework, "host" if event.backend == "host" else "GPU"),
    )


def _reads(event: OomEvent | None, name: str, value: Any, fields: Row) -> bool:
    """Whether the event has a figure as the file gives it."""
    if event is None:
        return False
    if name in ("shape", "dtype", "utilization"):  # no bytes; shape and type become the request's
        return name != "shape" or _is_of_shape(event, fields)
    if name == "processes":
        known = {(one.pid, one.used) for one in event.processes}
        return known <= {(int(one["pid"]), parse_bytes(one["in_use"])) for one in value}
    got = getattr(event, _NAMES.get(name, name), None)
    if name == "allocated" and got is None:
        got = event.reserved  # CuPy calls its pool's so
    got = event.figure(name) if got is None else got
    if name == "used" and got is None:
        got = event.requested  # what a program would use
    if name == "device":
        return got == int(value)
    expected = parse_bytes(str(value))
    if expected is None:  # a broken counter: it must not be believed
        return got is None
    return got is not None and abs(got - expected) <= max(1, expected // 100)


def _is_of_shape(event: OomEvent, fields: Row) -> bool:
    lengths = [int(one) for one in fields["shape"].strip("()[]").split(",") if one.strip()]
    return event.requested is None or event.requested % max(1, prod(lengths)) == 0


def _others(rows: Sequence[Row]) -> dict[str, list[bool] | None]:
    """What the rules of others say of each message; None for those that are not installed."""
    found: dict[str, list[bool] | None] = {}
    for name, (home, function) in _RULES.items():
        try:
            rule: Callable[[BaseException], bool] = getattr(importlib.import_module(home), function)
        except ImportError:
            found[name] = None
        else:
            found[name] = [bool(rule(_error(row))) for row in rows]
    return found


def _error(row: Row) -> BaseException:
    """An error as it was raised; of a class that is not here, one derived from RuntimeError as PyTorch's are."""
    kind: type[Exception] = _BUILTIN.get(row.get("exc_type") or "") or type(
        row.get("exc_type") or "Error", (RuntimeError,), {}
    )
    return kind(row["message"])


def rates(rows: Sequence[Row], found: Sequence[bool]) -> tuple[int, int, int]:
    """Count lacks of memory that were found, all of them, and false alarms.

    Args:
        rows: The messages.
        found: What was said of each.
    """
    real = [said for row, said in zip(rows, found, strict=True) if row["kind"] != "not_oom"]
    return sum(real), len(real), sum(found) - sum(real)


def report(judged: Sequence[Judged]) -> str:
    """The whole result as lines of text."""
    rows = [one.row for one in judged]
    lines = [table(judged), ""]
    for name, said in {"nb_oomhelper": [one.found for one in judged], **_others(rows)}.items():
        if said is None:
            lines.append(f"{name}: not installed here")
            continue
        hits, real, alarms = rates(rows, said)
        precision = hits / (hits + alarms) if hits + alarms else 1.0
        lines.append(
            f"{name}: recall {hits}/{real} = {hits / max(1, real):.1%}, precision {precision:.1%} ({alarms} false)"
        )
    memory = [one.memory for one in judged if one.memory is not None]
    fields, wrong = sum(one.fields for one in judged), sum(len(one.wrong) for one in judged)
    lines.append(f"whose memory: {sum(memory)}/{len(memory)} right; fields: {fields - wrong}/{fields} right")
    times = sorted(one.milliseconds for one in judged)
    lines.append(f"time: median {statistics.median(times):.2f} ms, worst {times[-1]:.2f} ms")
    lines.extend(confusion(judged))
    return "\n".join([*lines, *(_complaint(one) for one in judged if not one.right)])


def confusion(judged: Sequence[Judged]) -> list[str]:
    """What was said of each kind of message, and of each framework's: a line of counts for each.

    Args:
        judged: All messages.
    """
    lines = []
    for key, place in (("kind", 1), ("framework", 0)):
        for name in sorted({str(one.row[key]) for one in judged}):
            said = Counter(one.said[place] if one.said else "nothing" for one in judged if one.row[key] == name)
            lines.append(f"{name} → {', '.join(f'{what} {count}' for what, count in said.most_common())}")
    return lines


def _complaint(one: Judged) -> str:
    return f"wrong: {one.row.get('id', '?')} {one.row['kind']} {_why(one)}: {one.row['message'][:90]!r}"


def _why(one: Judged) -> str:
    if one.found != (one.row["kind"] != "not_oom"):
        return "missed" if not one.found else "false alarm"
    return "wrong memory" if one.memory is False else f"fields {', '.join(one.wrong)}"


def table(judged: Sequence[Judged]) -> str:
    """Draw a row a framework: its messages, and how many were read right."""
    lines = [
        "| framework | lacks of memory | found | as probable | right memory | fields | look-alikes | false alarms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = sorted({str(one.row["framework"]) for one in judged})
    lines.extend(_line(name, [one for one in judged if one.row["framework"] == name]) for name in names)
    return "\n".join([*lines, _line("all", judged)])


def _line(name: str, some: Sequence[Judged]) -> str:
    real = [one for one in some if one.row["kind"] != "not_oom"]
    found = [one for one in real if one.found]
    memory = [one.memory for one in real if one.memory is not None]
    fields, wrong = sum(one.fields for one in real), sum(len(one.wrong) for one in real)
    alarms = sum(one.found for one in some) - len(found)
    cells: Iterable[object] = (
        name,
        len(real),
        len(found),
        sum(not one.sure for one in found),
        f"{sum(memory)} of {len(memory)}",
        f"{fields - wrong} of {fields}",
        len(some) - len(real),
        alarms,
    )
    return f"| {' | '.join(map(str, cells))} |"


def measure_growth() -> dict[int, float]:
    """Milliseconds for a text of so many KB, with an error at its end; the best of three."""
    end = (
        "\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 4 GiB"
    )
    grown = {}
    for size in _SIZES_KB:
        text = (_FILLER * (size * 1000 // len(_FILLER) + 1))[: size * 1000 - len(end)] + end
        times = []
        for _ in range(3):
            started = time.perf_counter()
            detect_text(text)
            times.append(1000 * (time.perf_counter() - started))
        grown[size] = min(times)
    return grown


def to_record(judged: Sequence[Judged], growth: dict[int, float]) -> Row:
    """All figures with the machine, ready for JSON."""
    hits, real, alarms = rates([one.row for one in judged], [one.found for one in judged])
    return {
        "machine": machine.describe(),
        "lacks": real,
        "found": hits,
        "false_alarms": alarms,
        "wrong_memory": sum(one.memory is False for one in judged),
        "fields": sum(one.fields for one in judged),
        "wrong_fields": sum(len(one.wrong) for one in judged),
        "median_ms": round(statistics.median(one.milliseconds for one in judged), 3),
        "worst_ms": round(max(one.milliseconds for one in judged), 3),
        "growth_ms": {str(size): round(took, 3) for size, took in growth.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
