"""The shell that runs, and its extension: what public functions start from, since nobody passes them either."""

from __future__ import annotations

import sys
from typing import Any

KEY = "_nb_oomhelper"  # attribute of a shell under which its extension is kept


def current_shell() -> Any:
    """Give the InteractiveShell of this process, or None: where IPython was never imported there is none."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if find is None else find()


def extension_of(shell: Any) -> Any:
    """Give the extension that is loaded in a shell, or None."""
    return getattr(shell, KEY, None)
