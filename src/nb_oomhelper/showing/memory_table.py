"""The tables of `%gpumem`: one row a GPU and one for the host, or one a holder, as text, HTML or JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.memory.allocators import Refusals
from nb_oomhelper.memory.peaks import SAMPLE, Peak
from nb_oomhelper.memory.usage import MemoryUsage
from nb_oomhelper.records.holdings import Holding
from nb_oomhelper.records.note import Note
from nb_oomhelper.showing import grid
from nb_oomhelper.showing.notes import for_json, say_note, say_notes
from nb_oomhelper.showing.wording import is_noise, knows, say, say_list, say_size
from nb_oomhelper.untrusted import one_line, short_names

_SIZES = ("allocated", "cached", "rest", "others", "free", "capacity")


def to_json(usages: Sequence[MemoryUsage], note: Note | None) -> str:
    """Write all rows as JSON: sizes in bytes, unknown is null, notes in English.

    Args:
        usages: One row a device.
        note: Why there is no GPU, or None.
    """
    rows = for_json(usages)
    for row in rows:
        row["by_process"] = [{"pid": pid, "name": name, "bytes": used} for pid, name, used in row["by_process"]]
    return json.dumps({"devices": rows, "note": for_json(note)}, indent=2, ensure_ascii=False)


def to_text(usages: Sequence[MemoryUsage], note: Note | None, language: Language) -> str:
    """Write an aligned table, and below it the other processes by name.

    Args:
        usages: One row a device.
        note: Why there is no GPU, or None.
        language: "en" or "zh".
    """
    table = grid.to_text(columns(language), [cells(usage, language) for usage in usages])
    return "\n".join([table, *_below(usages, note, language)])


def to_html(usages: Sequence[MemoryUsage], note: Note | None, language: Language) -> str:
    """Write a table element, and below it the other processes by name.

    Args:
        usages: One row a device.
        note: Why there is no GPU, or None.
        language: "en" or "zh".
    """
    below = "<br>".join(html.escape(line) for line in _below(usages, note, language))
    table = grid.to_html(columns(language), [cells(usage, language) for usage in usages])
    return f"{table}<div>{below}</div>"


def say_peak(peak: Peak, language: Language) -> str:
    """Say what happened to one device's memory, in one line.

    Args:
        peak: What was seen.
        language: "en" or "zh".
    """
    host = peak.backend == "host"
    what = say("gpumem.host", language) if host else say("gpumem.metered_gpu", language, device=peak.device)
    if peak.sampled:
        what = say("gpumem.sampled", language, what=what, seconds=f"{SAMPLE:g}")
    sizes = {name: say_size(getattr(peak, name), language) for name in ("before", "peak", "after")}
    rise, change = _change(peak.before, peak.peak, language), _change(peak.before, peak.after, language)
    return say("gpumem.metered", language, what=what, rise=rise, change=change, **sizes)


def _change(before: int | None, after: int | None, language: Language) -> str:
    change = None if before is None or after is None else after - before
    if is_noise(change):
        return "±0"
    return f"{'+' if change is not None and change > 0 else ''}{say_size(change, language)}"


def by_variable(rows: Sequence[Holding], language: Language) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Draw up a table of holders.

    Args:
        rows: One a holder.
        language: "en" or "zh".

    Returns:
        Columns and rows, for `grid`.
    """
    columns = tuple(say(f"gpumem.{name}", language) for name in ("holder", "alone", "shared", "what", "largest"))
    return columns, [
        (
            _holder(row, language),
            say_size(row.own, language),
            say_size(row.shared, language) if row.shared else "–",
            say_list(
                (f"{_part(part, row.role, language)} {say_size(size, language)}" for part, size in row.parts), language
            )
            or "–",
            ", ".join(row.shapes[:1]) or "–",
        )
        for row in rows
    ]


def _part(part: str, role: str, language: Language) -> str:
    """What a part is called: of what has no other part only the holder's class says which of the two it is."""
    kind = {"tensor": "tensors", "array": "arrays"}.get(role, "either") if part == "tensors" else part
    return say(f"kind.{kind}", language) if knows(f"kind.{kind}") else part


def _holder(row: Holding, language: Language) -> str:
    if row.kind in ("failed_cell", "earlier_cell"):
        names, function = short_names(one_line(row.name)), short_names(row.function or "")
        return say(f"gpumem.{row.kind}", language, function=function, line=row.line, names=names)
    name = short_names(one_line(row.path or row.name))
    graph = dict(row.parts).get("graph", 0)
    # what others keep as well, such as its inputs, has rows of its own, as in the choice of the path
    return say("gpumem.graph_of", language, name=name) if 2 * graph > (row.own or row.shared) else name


def columns(language: Language) -> list[str]:
    """The titles of a table of devices."""
    return [say(f"gpumem.{name}", language) for name in ("device", *_SIZES)]


def _device(usage: MemoryUsage, language: Language) -> str:
    return say("gpumem.host", language) if usage.device == "host" else usage.device


def cells(usage: MemoryUsage, language: Language) -> list[str]:
    """Write the row of one device.

    Args:
        usage: How full it is.
        language: "en" or "zh".
    """
    name = " · ".join(part for part in (_device(usage, language), usage.ordinal, usage.name) if part)
    host = usage.device == "host"
    # the host has no allocator of its own to ask: nothing to show is not the same as unknown
    absent = ("allocated", "cached") if host else ()
    return [name, *("–" if one in absent else say_size(getattr(usage, one), language) for one in _SIZES)]


def _below(usages: Sequence[MemoryUsage], note: Note | None, language: Language) -> list[str]:
    lines = [] if note is None else [say_note(note, language)]
    for usage in usages:
        said = say_notes(usage.notes, language)
        for pid, name, used in usage.by_process:
            who = name or say("gpumem.no_name", language)
            said.append(say("gpumem.process", language, pid=pid, name=who, size=say_size(used, language)))
        lines.extend(say("list.of", language, head=_device(usage, language), text=line) for line in said)
    return lines


def say_caught(counted: Refusals, language: Language, *, last: bool = False) -> list[str]:
    """Say how often allocators have refused a request and the cell's own code has caught that, one line a GPU.

    Args:
        counted: What a cell had.
        language: "en" or "zh".
        last: Whether it is the last cell that had any, and not the one that has just run.
    """
    cell = say("caught.last" if last else "caught.this", language)
    lines = []
    for device in sorted({*counted.ooms, *counted.retries}, key=str):
        where = "cuda" if device is None else f"cuda:{device}"
        ooms, retries = counted.ooms.get(device, 0), counted.retries.get(device, 0)
        if ooms:
            lines.append(
                say("caught.ooms" if ooms > 1 else "caught.oom", language, count=ooms, cell=cell, device=where)
            )
        if retries:
            lines.append(say("caught.retries", language, count=retries, cell=cell, device=where))
    return lines
