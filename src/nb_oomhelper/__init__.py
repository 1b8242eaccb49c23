"""A panel under the traceback when a notebook cell runs out of memory.

In a notebook: ``%load_ext nb_oomhelper``. Importing this package loads nothing heavy; the public names
are fetched when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nb_oomhelper import entries
    from nb_oomhelper.failure.detection import detect, detect_text
    from nb_oomhelper.forecasting.forecast import forecast
    from nb_oomhelper.holders.find import holdings
    from nb_oomhelper.loading.estimate import plan
    from nb_oomhelper.records.event import OomEvent
    from nb_oomhelper.records.forecast import Forecast
    from nb_oomhelper.records.holdings import Holding
    from nb_oomhelper.records.remedy import Outcome
    from nb_oomhelper.remedies.all_rows import in_parts
    from nb_oomhelper.remedies.array_on_disk import ArrayOnDisk
    from nb_oomhelper.remedies.joined_in_place import joined_in_place
    from nb_oomhelper.remedies.joining import Joining, joined
    from nb_oomhelper.remedies.on_demand import on_demand
    from nb_oomhelper.remedies.on_disk import DictOnDisk, ListOnDisk
    from nb_oomhelper.remedies.on_host import on_host
    from nb_oomhelper.remedies.running import release
    from nb_oomhelper.remedies.windows import windows

__all__ = [
    "ArrayOnDisk",
    "DictOnDisk",
    "Forecast",
    "Holding",
    "Joining",
    "ListOnDisk",
    "OomEvent",
    "Outcome",
    "__version__",
    "detect",
    "detect_text",
    "entries",
    "forecast",
    "holdings",
    "in_parts",
    "joined",
    "joined_in_place",
    "on_demand",
    "on_host",
    "plan",
    "release",
    "windows",
]

__version__ = "0.1.0"

_HOMES = {
    "ArrayOnDisk": "remedies.array_on_disk",
    "detect": "failure.detection",
    "detect_text": "failure.detection",
    "OomEvent": "records.event",
    "Outcome": "records.remedy",
    "in_parts": "remedies.all_rows",
    "joined_in_place": "remedies.joined_in_place",
    "joined": "remedies.joining",
    "Joining": "remedies.joining",
    "on_demand": "remedies.on_demand",
    "DictOnDisk": "remedies.on_disk",
    "ListOnDisk": "remedies.on_disk",
    "on_host": "remedies.on_host",
    "release": "remedies.running",
    "forecast": "forecasting.forecast",
    "Forecast": "records.forecast",
    "plan": "loading.estimate",
    "holdings": "holders.find",
    "windows": "remedies.windows",
    "Holding": "records.holdings",
}


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext nb_oomhelper`: watch for out-of-memory errors in this shell. Loading twice is harmless."""
    from nb_oomhelper.session import KEY, extension_of

    if extension_of(shell) is not None:
        return
    from nb_oomhelper.shell.extension import Extension

    extension = Extension(shell)
    extension.load()
    setattr(shell, KEY, extension)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext nb_oomhelper`: put everything back as it was."""
    from nb_oomhelper.session import KEY, extension_of

    extension = extension_of(shell)
    if extension is not None:
        delattr(shell, KEY)
        extension.unload()


def __getattr__(name: str) -> Any:
    if name == "entries":  # a module, whose functions are public
        return importlib.import_module(f"{__name__}.entries")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
