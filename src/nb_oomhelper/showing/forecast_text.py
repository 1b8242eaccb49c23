"""A forecast in words: `%oom forecast`."""

from __future__ import annotations

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.forecast import Band, Forecast
from nb_oomhelper.showing.notes import say_note
from nb_oomhelper.showing.wording import say, say_list, say_size


def tell(found: Forecast, language: Language) -> list[str]:
    """Say what is expected, and why it may be off.

    Args:
        found: The forecast.
        language: "en" or "zh".

    Returns:
        The verdict first, then a line each.
    """
    whole = found.reserved or found.allocated
    call = f"`{found.call}`" if found.call else say("forecast.cell", language)
    lines = [
        say(f"forecast.{found.verdict}", language, call=call, device=_device(found, language)),
        say("forecast.peak", language, **_sizes(whole, language), room=say_size(found.room, language)),
    ]
    lines += _would_fit(found, language)
    if found.reserved is not None:
        lines.append(say("forecast.allocated", language, **_sizes(found.allocated, language)))
    kinds = [f"{say(f'forecast_kind.{kind}', language)} {say_size(size, language)}" for kind, size in found.kinds]
    if kinds:
        lines.append(say("forecast.kinds", language, kinds=say_list(kinds, language)))
    if found.place:
        lines.append(say("forecast.place", language, place=found.place))
    if found.ended != "returned":
        lines.append(say(f"forecast_end.{found.ended}", language, error=found.error, line=found.line or "?"))
    lines += [say("forecast.note", language, note=say_note(one, language)) for one in found.notes]
    return lines


def _would_fit(found: Forecast, language: Language) -> list[str]:
    rows, batch = found.would_fit, found.batch
    if rows is None or not batch:
        return []
    if rows == 0:
        return [say("forecast.not_one", language, batch=batch)]
    lines = [say("forecast.would_fit", language, rows=rows, batch=batch)]
    if found.trains:
        lines.append(say("forecast.accumulate", language, rows=rows, batch=batch, parts=-(-batch // rows)))
    return lines


def asks(call: str, line: str, language: Language, *, jitted: bool = False) -> list[str]:
    """Say before a forecast what is run for it, and what that may do.

    Args:
        call: The user's call; "" for the failed cell with a fix, in several sizes.
        line: The command that goes on.
        language: "en" or "zh".
        jitted: It is one of a function that `jax.jit` gave, which is compiled and not run.
    """
    return [
        _how(call, language, jitted=jitted),
        say("forecast.risk", language),
        say("oom.confirm", language, line=line),
    ]


def _sizes(band: Band, language: Language) -> dict[str, str]:
    return {name: say_size(getattr(band, name), language) for name in ("low", "likely", "high")}


def _device(found: Forecast, language: Language) -> str:
    return say("gpumem.host", language) if found.device == "host" else found.device


def _how(call: str, language: Language, *, jitted: bool) -> str:
    if not call:
        return say("forecast.runs_fix", language)
    return say("forecast.compiles" if jitted else "forecast.runs", language, call=call)
