"""What workers have answered: a table, or a line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from nb_oomhelper.engines import WorkerReply
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.event import Worker
from nb_oomhelper.records.memory import Measure
from nb_oomhelper.showing import grid, memory_table
from nb_oomhelper.showing.headline import say_worker
from nb_oomhelper.showing.markup import plain
from nb_oomhelper.showing.notes import for_json, say_note
from nb_oomhelper.showing.wording import is_noise, say, say_size


def to_text(replies: Sequence[WorkerReply], language: Language) -> str:
    """Write an aligned table, and below it why some have no figures.

    Args:
        replies: One a worker.
        language: "en" or "zh".
    """
    return "\n".join([grid.to_text(_columns(language), _rows(replies, language)), *_problems(replies, language)])


def to_html(replies: Sequence[WorkerReply], language: Language) -> str:
    """Write a table element, and below it why some have no figures.

    Args:
        replies: One a worker.
        language: "en" or "zh".
    """
    return grid.to_html(_columns(language), _rows(replies, language), below=_problems(replies, language))


def to_json(replies: Sequence[WorkerReply]) -> str:
    """Write JSON: sizes in bytes, unknown is null, notes in English."""
    rows = [
        {name: getattr(one, name) for name in ("engine", "id", "host", "pid", "usages", "problem")} for one in replies
    ]
    return json.dumps({"workers": for_json(rows)}, indent=2, ensure_ascii=False)


def say_reply(reply: WorkerReply, language: Language, *, freed: bool = True) -> str:
    """Say in one line what a worker has, what a release gave back there, or why there is no answer.

    Args:
        reply: Its answer.
        language: "en" or "zh".
        freed: Whether to say what came back there; else what it has now.
    """
    if reply.problem is not None:
        text = say_note(reply.problem, language)
        return say("engines.of", language, who=who(reply, language), text=text)
    outcome = reply.outcome
    if outcome is not None and freed:
        less = outcome.freed
        sizes = {"freed": less, "before": _figure(outcome.before), "after": _figure(outcome.after)}
        key = "freed_unknown" if less is None else "freed" if less > 0 and not is_noise(less) else "freed_nothing"
    else:
        host = next((row for row in reply.usages if row.device == "host"), None)
        sizes = {"size": host.rest if host else None, "free": host.free if host else None}
        key = "resident" if reply.engine != "ray" or reply.pid is not None else "ended"
    text = say(f"engines.{key}", language, **{name: say_size(size, language) for name, size in sizes.items()})
    return say("engines.of", language, who=who(reply, language), text=text)


def say_peaks(reply: WorkerReply, language: Language) -> list[str]:
    """Say what was taken on a worker, one line a device; or why that is not known.

    Args:
        reply: Its answer.
        language: "en" or "zh".
    """
    if reply.problem is not None:
        return [say_reply(reply, language)]
    said = [memory_table.say_peak(peak, language) for peak in reply.peaks] or [say("engines.unwatched", language)]
    return [say("engines.of", language, who=who(reply, language), text=text) for text in said]


def _figure(measure: Measure) -> int | None:
    return measure.resident if measure.backend == "host" else measure.allocated


def who(reply: WorkerReply, language: Language) -> str:
    """Name a worker, of Ray its machine; an engine where it is about no single one.

    Args:
        reply: Its answer.
        language: "en" or "zh".
    """
    if not reply.id:
        return {"dask": "Dask", "ray": "Ray"}.get(reply.engine, reply.engine)
    if reply.engine == "ray":
        return say(f"engines.node{'' if reply.pid is None else '_pid'}", language, id=plain(reply.id), pid=reply.pid)
    return say_worker(reply.engine, Worker(id=reply.id, host=reply.host, pid=reply.pid), language)


def _columns(language: Language) -> list[str]:
    return [say("engines.worker", language), *memory_table.columns(language)]


def _rows(replies: Iterable[WorkerReply], language: Language) -> list[list[str]]:
    rows: list[list[str]] = []
    for reply in replies:
        rows.extend([who(reply, language), *memory_table.cells(usage, language)] for usage in reply.usages)
        if not reply.usages:
            blanks = ["–"] * (len(memory_table.columns(language)) - 1)
            rows.append([who(reply, language), say("engines.no_answer", language), *blanks])
    return rows


def _problems(replies: Iterable[WorkerReply], language: Language) -> list[str]:
    return [say_reply(reply, language) for reply in replies if reply.problem is not None]
