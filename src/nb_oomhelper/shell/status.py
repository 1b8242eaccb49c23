"""`%oom status`: what is in place and what is missing."""

from __future__ import annotations

from pathlib import Path

from nb_oomhelper.case import Services
from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.memory.host import gap
from nb_oomhelper.remedies.history import measured_rates
from nb_oomhelper.shell.core import Core
from nb_oomhelper.showing.frontends import widgets_gap


def status(core: Core) -> list[str]:
    """Say what is in place and what is missing, one plain line each."""
    settings, services, catalog = core.settings, core.services, core.services.catalog()
    slot = "in place" if core.hooks.has_slot else "taken by another extension; the other hooks still see errors"
    lines = [
        f"exception handler: {slot}",
        f"language: {settings.pick_language()} (setting: {settings.language})",
        f"live readout: every {settings.refresh_seconds:g} s, for {settings.live_minutes:g} minutes",
        f"history: {_history(settings.history_file())}",
        f"knowledge: {len(catalog.entries)} entries, {len(catalog.fixes)} fixes",
        *(f"replaced: {line}" for line in catalog.replaced),
        *(f"left out: {problem}" for problem in catalog.problems),
        f"driver: {_driver(services)}",
        f"host memory: {gap() or 'can be read'}",
        f"widgets: {widgets_gap(services.shell) or 'can be shown'}",
    ]
    if services.problem:
        more = " (%oom status --traceback)" if services.trace else ""
        lines.append(f"last problem: {services.problem}{more}")
    return lines


def _history(path: Path | None) -> str:
    if path is None:
        return "off"
    try:
        rates = measured_rates(path)
    except OomHelperError as error:
        return str(error)
    return f"{sum(total for _, total in rates.values())} measured outcomes in {path}"


def _driver(services: Services) -> str:
    reading = services.driver.read()
    return reading.note or f"{len(reading.devices)} devices"
