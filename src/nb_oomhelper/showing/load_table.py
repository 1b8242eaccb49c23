"""An estimate as a table: `%oom plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.render import fill
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading.estimate import Estimate
from nb_oomhelper.records.remedy import Placement
from nb_oomhelper.showing.outcome_text import said_rates
from nb_oomhelper.showing.wording import say
from nb_oomhelper.units import format_bytes

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
_VERDICTS = {True: "fits", None: "unknown", False: "fits_not"}


def table(found: Estimate, catalog: Catalog, rates: Mapping[str, tuple[int, int]], language: Language) -> Table:
    """Columns and rows, for `grid`: one row a way of loading, the least loss first."""
    columns = tuple(say(f"plan.{name}", language) for name in ("way", "gpu", "host", "disk", "verdict", "rates"))
    rows = [
        (
            _title(found, catalog, fix, language),
            *_sizes(one),
            say(f"plan.{'tight' if one.fits is None and one.gpu is not None else _VERDICTS[one.fits]}", language),
            said_rates(fix, catalog, rates, language) or "–",
        )
        for fix, one in found.rows
    ]
    return columns, rows


def above(found: Estimate, language: Language) -> list[str]:
    """What is said before the table: the model's size, and the room that there is."""
    checkpoint = found.checkpoint
    dtypes = ", ".join(f"{name} {format_bytes(size)}" for name, size in checkpoint.dtypes)
    if checkpoint.size is None:
        first = say("plan.no_size", language, model=found.model, why=checkpoint.note or "")
    else:
        size = format_bytes(checkpoint.size)
        how = say(f"plan.{checkpoint.how}", language)
        first = say("plan.size", language, model=found.model, size=size, dtypes=dtypes or "?", how=how)
    lines = [first]
    if checkpoint.size is not None and checkpoint.note:
        lines.append(say("plan.note", language, note=checkpoint.note))
    free, host = format_bytes(found.free), format_bytes(found.host)
    if found.backend == "host":
        return [*lines, say("plan.room_host", language, host=host)]
    return [*lines, say("plan.room", language, place=f"{found.backend}:{found.device}", free=free, host=host)]


def below(found: Estimate, catalog: Catalog, language: Language) -> list[str]:
    """What is said after the table: what comes beside the weights, and what each way costs."""
    beside = found.beside
    lines = [
        say(
            "plan.beside",
            language,
            cache=format_bytes(beside.cache),
            activations=format_bytes(beside.activations),
            formula=beside.formula,
        )
    ]
    if found.backend != "host":
        lines.append(say("plan.context", language, context=format_bytes(found.context)))
    for fix, _ in found.rows:
        note = catalog.fix(fix).note.get(language)
        lines.append(f"- {_title(found, catalog, fix, language)}: {note}")
    return [line.replace("`", "") for line in lines]


def to_json(found: Estimate) -> str:
    """The estimate as JSON: sizes in bytes, unknown is null."""
    whole = asdict(found)
    whole["checkpoint"].pop("tensors")
    whole["rows"] = [{"fix": fix, **one} for fix, one in whole["rows"]]
    return json.dumps(whole, indent=2, ensure_ascii=False)


def _title(found: Estimate, catalog: Catalog, fix: str, language: Language) -> str:
    device = next((one.device for name, one in found.rows if name == fix and one.device is not None), 0)
    fields = {"model": say("plan.it", language), "device": f"cuda:{device}"}
    return fill(catalog.fix(fix).title.get(language), fields).replace("`", "")


def _sizes(one: Placement) -> tuple[str, ...]:
    return tuple("–" if size == 0 else format_bytes(size) for size in (one.gpu, one.host, one.disk))
