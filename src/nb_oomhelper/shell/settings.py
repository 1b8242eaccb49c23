"""The settings, as IPython has them, and the paths among them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable


class OOMHelper(Configurable):
    """Settings of nb_oomhelper: `%config OOMHelper`, or `c.OOMHelper.…` in ipython_config.py."""

    language = Enum(["auto", "en", "zh"], "auto", help="Language of the panel; auto follows the environment.").tag(
        config=True
    )
    refresh_seconds = Float(1.0, min=0.2, help="Seconds between two readings of the live readout.").tag(config=True)
    live_minutes = Float(10.0, min=0.0, help="Minutes for which a panel is kept live.").tag(config=True)
    auto_release = Bool(False, help="Release the failed cell at once, without a click.").tag(config=True)
    history = Bool(True, help="Keep what fixes did on this machine, for measured rates.").tag(config=True)
    history_path = Unicode(
        "", help="SQLite file of the history; empty: nb_oomhelper/history.sqlite in the IPython directory."
    ).tag(config=True)
    knowledge_dir = Unicode(
        "",
        help="Folder with entries/*.toml and fixes/*.toml of your own, as an absolute path or one that begins with ~;"
        " empty: nb_oomhelper in the IPython directory.",
    ).tag(config=True)


def expanded(path: str) -> Path:
    """A path from the settings; one whose `~name` is nobody stays as it is written."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)
