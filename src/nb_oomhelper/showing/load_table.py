"""An estimate as a table: `%oom plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.render import fill
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading.checkpoint import is_name
from nb_oomhelper.loading.estimate import NOT_HERE, Estimate, Writing
from nb_oomhelper.loading.generation import VLLM_SHARE, VllmStart
from nb_oomhelper.records.remedy import Placement
from nb_oomhelper.showing.notes import for_json, say_note
from nb_oomhelper.showing.rate_text import said_rates
from nb_oomhelper.showing.wording import say, say_list, say_size

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
_VERDICTS = {True: "fits", None: "unknown", False: "fits_not"}


def table(found: Estimate, catalog: Catalog, rates: Mapping[str, tuple[int, int]], language: Language) -> Table:
    """Draw up the table: one row a way of loading, the least loss first.

    Args:
        found: The estimate.
        catalog: The knowledge, which has the ways' texts.
        rates: By fix, (n, m): the failed cell ran after n of m outcomes here.
        language: "en" or "zh".

    Returns:
        Columns and rows, for `grid`.
    """
    columns = [say(f"plan.{name}", language) for name in ("way", "gpu", "host", "disk", "verdict")]
    columns += [*_text_columns(found.writing, language), say("plan.rates", language)]
    rows = [
        (
            _title(found, catalog, fix, language),
            *_sizes(one, language),
            _verdict(one, found.writing, language),
            *_text_cells(found.writing, fix, language),
            said_rates(fix, catalog, rates, language) or "–",
        )
        for fix, one in found.rows
    ]
    return tuple(columns), rows


def _text_columns(writing: Writing | None, language: Language) -> tuple[str, ...]:
    if writing is None:
        return ()
    longest = say("plan.longest", language, batch=writing.wanted.batch)
    return (longest, say("plan.most", language, tokens=writing.wanted.tokens))


def _text_cells(writing: Writing | None, fix: str, language: Language) -> tuple[str, ...]:
    if writing is None:
        return ()
    room = dict(writing.rooms).get(fix)
    if room is None:
        return ("–", "–")
    return tuple(
        say("size.unknown", language) if number is None else f"{number:,}" for number in (room.tokens, room.batch)
    )


def _verdict(one: Placement, writing: Writing | None, language: Language) -> str:
    if writing is not None and writing.peak is None and one.fits is None:
        return say("plan.unknown", language)
    return verdict(one, language)


def verdict(one: Placement, language: Language) -> str:
    """Say whether there is room for it.

    Args:
        one: Where it would be.
        language: "en" or "zh".
    """
    return say(f"plan.{'tight' if one.fits is None and one.gpu is not None else _VERDICTS[one.fits]}", language)


def above(found: Estimate, language: Language) -> list[str]:
    """Say before the table what the model's size is, and the room that there is.

    Args:
        found: The estimate.
        language: "en" or "zh".
    """
    checkpoint = found.checkpoint
    dtypes = say_list((f"{name} {say_size(size, language)}" for name, size in checkpoint.dtypes), language)
    if checkpoint.size is None:
        first = say(
            "plan.no_size",
            language,
            model=found.model,
            why=say_note(checkpoint.note, language) if checkpoint.note else say("size.unknown", language),
        )
    else:
        size = say_size(checkpoint.size, language)
        how = say(f"plan.{checkpoint.how}", language)
        here = "plan.size" if checkpoint.folder is not None or checkpoint.how == "memory" else "plan.size_online"
        key = "plan.computed" if checkpoint.how == "config" else here
        first = say(key, language, model=found.model, size=size, dtypes=dtypes or "?", how=how)
    lines = [first]
    if checkpoint.size is not None and checkpoint.note:
        lines.append(say("plan.note", language, note=say_note(checkpoint.note, language)))
    if checkpoint.note is not None and checkpoint.note.key == NOT_HERE and "/" in found.model and is_name(found.model):
        lines.append(say("plan.online", language, model=found.model))
    free, host = say_size(found.free, language), say_size(found.host, language)
    if found.backend == "host":
        return [*lines, say("plan.room_host", language, host=host)]
    return [*lines, say("plan.room", language, place=f"{found.backend}:{found.device}", free=free, host=host)]


def below(found: Estimate, catalog: Catalog, language: Language) -> list[str]:
    """Say after the table what comes on top of the weights, and what each way costs.

    Args:
        found: The estimate.
        catalog: The knowledge, which has the ways' texts.
        language: "en" or "zh".
    """
    lines = _beside(found, language) if found.writing is None else _written(found, found.writing, language)
    if found.layers is not None:
        one = found.layers
        sizes = {"size": say_size(one.size, language), "cache": say_size(one.cache, language)}
        lines.append(say("plan.layers", language, count=one.count, of=one.of, tokens=one.tokens, **sizes))
    if found.backend != "host":
        lines.append(say("plan.context", language, context=say_size(found.context, language)))
    for fix, _ in found.rows:
        title, note = _title(found, catalog, fix, language), catalog.fix(fix).note.get(language)
        lines.append("- " + say("list.of", language, head=title, text=note))
    return [line.replace("`", "") for line in lines]


def _beside(found: Estimate, language: Language) -> list[str]:
    beside = found.beside
    cache, activations = say_size(beside.cache, language), say_size(beside.activations, language)
    formula = say_note(beside.formula, language)
    first = say("plan.beside", language, cache=cache, activations=activations, formula=formula)
    return [first, say("plan.more", language)]


def _written(found: Estimate, writing: Writing, language: Language) -> list[str]:
    """What generating takes, and what vLLM would do."""
    wanted = writing.wanted
    each = {"tokens": wanted.tokens, "batch": wanted.batch}
    cache, formula = say_size(writing.cache, language), say_note(writing.formula, language)
    kept = "plan.cache_unknown" if writing.cache is None else "plan.cache"
    peak = "plan.peak_unknown" if writing.peak is None else "plan.peak"
    lines = [
        say(kept, language, **each, form=writing.form, cache=cache, formula=formula),
        say(peak, language, peak=say_size(writing.peak, language)),
    ]
    made_for = _made_for(found)
    if made_for is not None and made_for < wanted.tokens:
        lines.append(say("plan.made_for", language, context=f"{made_for:,}"))
    return lines if writing.vllm is None else [*lines, *_vllm(found, writing.vllm, wanted.tokens, language)]


def _vllm(found: Estimate, start: VllmStart, tokens: int, language: Language) -> list[str]:
    place = f"{found.backend}:{found.device}"
    key = "vllm_refuses" if start.starts is False else "vllm"
    lines = [say(f"plan.{key}", language, share=VLLM_SHARE, takes=say_size(start.takes, language), place=place)]
    if start.cache is None:
        return lines
    if start.cache <= 0 or start.tokens == 0:
        return [*lines, say("plan.vllm_none", language)]
    cache, made_for = say_size(start.cache, language), _made_for(found)
    if start.tokens is None:
        lines.append(say("plan.vllm_texts", language, cache=cache, texts=f"{start.texts or 0:,}", tokens=tokens))
    else:
        lines.append(say("plan.vllm_tokens", language, cache=cache, count=f"{start.tokens:,}"))
        if made_for and made_for > start.tokens:
            lines.append(say("plan.vllm_length", language, context=f"{made_for:,}", count=start.tokens))
    return lines


def _made_for(found: Estimate) -> int | None:
    """Tokens of the longest text that the model was made for."""
    config = found.checkpoint.config
    return config.context if config else None


def to_json(found: Estimate) -> str:
    """Write the estimate as JSON: sizes in bytes, unknown is null, notes in English."""
    whole = for_json(found)
    whole["checkpoint"].pop("tensors")
    whole["rows"] = [{"fix": fix, **one} for fix, one in whole["rows"]]
    if found.writing is not None:
        whole["writing"]["rooms"] = [{"fix": fix, **one} for fix, one in whole["writing"]["rooms"]]
    return json.dumps(whole, indent=2, ensure_ascii=False)


def _title(found: Estimate, catalog: Catalog, fix: str, language: Language) -> str:
    device = next((one.device for name, one in found.rows if name == fix and one.device is not None), 0)
    fields = {"model": say("plan.it", language), "device": f"cuda:{device}"}
    return fill(catalog.fix(fix).title.get(language), fields).replace("`", "")


def _sizes(one: Placement, language: Language) -> tuple[str, ...]:
    return tuple("–" if size == 0 else say_size(size, language) for size in (one.gpu, one.host, one.disk))
