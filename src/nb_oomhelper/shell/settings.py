"""The settings, as IPython has them, and what they mean: paths, and the language."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable

if TYPE_CHECKING:
    from nb_oomhelper.knowledge.toml_tables import Language


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

    watch_output = Bool(
        False, help="Explain a lack of memory in what a command printed before it failed: `!`, `%%bash`, subprocess."
    ).tag(config=True)
    watch_allocator = Bool(
        False, help="Count the out-of-memory errors that a cell's own code has caught; `%oom status` tells them."
    ).tag(config=True)

    watch_kernel = Bool(
        False, help="Tell at the next load if a kernel ended in the middle of a cell; a small file says which."
    ).tag(config=True)

    def pick_language(self) -> Language:
        """Choose the language that is set."""
        from nb_oomhelper.showing.wording import pick_language

        return pick_language(self.language)

    def history_file(self) -> Path | None:
        """Say where the history is kept; None where it is off."""
        if not self.history:
            return None
        return _expanded(self.history_path) if self.history_path else self._folder() / "history.sqlite"

    def knowledge_folder(self) -> Path:
        """Say where the user's own entries and fixes are."""
        return _expanded(self.knowledge_dir) if self.knowledge_dir else self._folder()

    def trust_file(self) -> Path:
        """Say where it is kept which contents of `knowledge_dir` and of packages may run."""
        return self._folder() / "trusted.json"

    def runs_folder(self) -> Path:
        """Say where kernels that run a cell keep which one it is."""
        return self._folder() / "runs"

    def _folder(self) -> Path:
        shell: Any = self.parent
        return Path(shell.ipython_dir) / "nb_oomhelper"


def _expanded(path: str) -> Path:
    """A path from the settings; one whose `~name` is nobody stays as it is written."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)
