"""Where a model would fit on the workers of engines: `%oom plan MODEL --engines`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nb_oomhelper.engines import WorkerReply
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading.estimate import WHOLE, Estimate, fit_together, fit_whole
from nb_oomhelper.memory.usage import MemoryUsage
from nb_oomhelper.records.remedy import LoadOption, Placement
from nb_oomhelper.showing.load_table import verdict
from nb_oomhelper.showing.notes import for_json
from nb_oomhelper.showing.wording import say, say_size
from nb_oomhelper.showing.worker_table import say_reply, who


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """One device of a worker's, and how a model would fit on it."""

    reply: WorkerReply
    usage: MemoryUsage
    ways: dict[LoadOption, Placement]

    @property
    def backend(self) -> str:
        return "host" if self.usage.device == "host" else "cuda"


def table(
    found: Estimate, replies: Sequence[WorkerReply], language: Language
) -> tuple[list[str], list[list[str]], list[str]]:
    """Draw up the table: one row a device, the GPUs of a worker that has any, else its host's memory.

    Args:
        found: The model's size.
        replies: What the workers have answered.
        language: "en" or "zh".

    Returns:
        Columns and rows, for `grid`, the last row all devices together; and why some have no figures.
    """
    devices = list(_devices(found, replies))
    columns = [say(f"plan.{name}", language) for name in ("worker", "device", "free", *WHOLE)]
    rows = [
        [who(one.reply, language), one.usage.device, say_size(one.usage.free, language), *_cells(one.ways, language)]
        for one in devices
    ]
    apart = _apart(devices)
    if len(apart) > 1:
        ways = _together(found, apart)
        name = say("plan.together", language, count=len(apart))
        rows.append([name, "", say_size(_sum(apart), language), *_cells(ways, language)])
    problems = [say_reply(one, language) for one in replies if one.problem is not None]
    notes = [say("plan.shared", language)] if len(apart) < len(devices) else []
    notes += [say("plan.together_how", language)] if len(apart) > 1 else []
    return columns, rows, [*notes, *problems]


def to_json(found: Estimate, replies: Sequence[WorkerReply]) -> str:
    """Write the same as JSON: sizes in bytes, unknown is null, notes in English."""
    devices = list(_devices(found, replies))
    apart = _apart(devices)
    names = ("engine", "id", "host", "pid")
    rows = [
        {name: getattr(one.reply, name) for name in names}
        | {"device": one.usage.device, "free": one.usage.free, "ways": for_json(one.ways)}
        for one in devices
    ]
    silent = [one for one in replies if one.problem is not None]
    problems = [{"engine": one.engine, "id": one.id, "problem": for_json(one.problem)} for one in silent]
    together = {"devices": len(apart), "free": _sum(apart), "ways": for_json(_together(found, apart)) if apart else {}}
    whole = {"model": found.model, "size": found.checkpoint.size, "workers": rows, "together": together}
    return json.dumps(whole | {"problems": problems}, indent=2, ensure_ascii=False)


def _devices(found: Estimate, replies: Iterable[WorkerReply]) -> Iterator[_Device]:
    for reply in replies:
        gpus = [usage for usage in reply.usages if usage.device != "host"]
        for usage in gpus or reply.usages:
            ways = fit_whole(found, "host" if usage.device == "host" else "cuda", usage.free)
            yield _Device(reply=reply, usage=usage, ways=ways)


def _apart(devices: Iterable[_Device]) -> list[_Device]:
    """Each device once: workers of one machine share it. Where there are GPUs, no host's memory."""
    once = {(one.reply.host or one.reply.id, one.usage.device): one for one in devices}
    return [one for one in once.values() if one.backend == "cuda"] or list(once.values())


def _together(found: Estimate, apart: Sequence[_Device]) -> dict[LoadOption, Placement]:
    return fit_together(found, apart[0].backend, [one.usage.free for one in apart])


def _sum(apart: Sequence[_Device]) -> int | None:
    sizes = [one.usage.free for one in apart]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _cells(ways: dict[LoadOption, Placement], language: Language) -> list[str]:
    cells = []
    for way in WHOLE:
        one = ways.get(way)
        said = "–" if one is None else f"{verdict(one, language)} ({say_size(one.gpu or one.host, language)})"
        cells.append(said)
    return cells
