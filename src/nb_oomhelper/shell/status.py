"""`%oom status`: what is in place and what is missing."""

from __future__ import annotations

from pathlib import Path

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.memory.host import gap
from nb_oomhelper.records.note import Note, note
from nb_oomhelper.remedies.history import measured_rates
from nb_oomhelper.shell.core import Core
from nb_oomhelper.showing.ended_text import say_ended
from nb_oomhelper.showing.frontends import widgets_gap
from nb_oomhelper.showing.memory_table import say_caught
from nb_oomhelper.showing.notes import say_note


def status(core: Core) -> list[str]:
    """Say what is in place and what is missing, one plain line each, in the language that is set."""
    settings, services, catalog = core.settings, core.services, core.services.catalog()
    language, reading = settings.pick_language(), services.driver.read()
    notes = [
        note("status.handler", slot=note("status.in_place" if core.hooks.has_slot else "status.taken")),
        note("status.language", chosen=language, setting=settings.language),
        note("status.live", seconds=f"{settings.refresh_seconds:g}", minutes=f"{settings.live_minutes:g}"),
        note("status.history", history=_history(settings.history_file())),
        note("status.knowledge", entries=len(catalog.entries), fixes=len(catalog.fixes)),
        *(note("status.replaced", line=line) for line in catalog.replaced),
        *(note("status.left_out", problem=problem) for problem in catalog.problems),
        note("status.driver", driver=reading.note or note("status.devices", count=len(reading.devices))),
        note("status.host", host=gap() or note("status.can_be_read")),
        note("status.widgets", widgets=widgets_gap(services.shell) or note("status.can_be_shown")),
    ]
    if services.problem:
        traced = "_traced" if services.trace else ""
        notes.append(note(f"status.problem{traced}", problem=services.problem))
    caught = getattr(core.watching.get("watch_allocator"), "last", None)
    ended = [
        line for one in getattr(core.watching.get("watch_kernel"), "ended", []) for line in say_ended(one, language)
    ]
    lines = [say_note(one, language) for one in notes]
    return [*lines, *(say_caught(caught, language, last=True) if caught else []), *ended]


def _history(path: Path | None) -> Note | str:
    if path is None:
        return note("status.off")
    try:
        rates = measured_rates(path)
    except OomHelperError as error:
        return str(error)
    ran, count = (sum(figures) for figures in zip((0, 0), *rates.values(), strict=True))
    return note("status.measured", ran=ran, count=count, path=str(path))
