"""Where the hub's cache on this machine keeps a model, by its name.

The layout is documented (https://huggingface.co/docs/huggingface_hub/guides/manage-cache) and read here by
hand: importing huggingface_hub (1.x) loads 250 modules, which a process that is out of memory cannot
afford.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_NAME = re.compile(r"[\w.-]{1,96}(?:/[\w.-]{1,96})?", re.ASCII)
_REVISION = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*", re.ASCII)
_LONGEST = 200  # characters of a reference; a commit has 40


def is_name(name: str) -> bool:
    """Tell whether a text may be the name of a model on the hub: "org/name", or "name" for a few old ones."""
    return _NAME.fullmatch(name) is not None and ".." not in name and not name.startswith(".")


def find_snapshot(name: str, cache_dir: Path | None, revision: str | None) -> Path | None:
    """Find the folder with a model's files.

    Args:
        name: "org/name" or "name".
        cache_dir: The cache; None for the one that huggingface_hub uses.
        revision: Branch, tag or commit; None for "main".

    Returns:
        None where the name is none, or the cache has no such model or revision.
    """
    revision = revision or "main"
    if not _NAME.fullmatch(name) or not _REVISION.fullmatch(revision) or ".." in f"{name}/{revision}":
        return None
    folder = (cache_dir or _cache()) / f"models--{name.replace('/', '--')}"
    commit = _reference(folder / "refs" / revision) or revision
    snapshot = folder / "snapshots" / commit
    return snapshot if "/" not in commit and snapshot.is_dir() else None


def _reference(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            commit = file.read(_LONGEST)
    except (OSError, ValueError):
        return None
    return commit if _NAME.fullmatch(commit) and ".." not in commit else None


def _cache() -> Path:
    """The cache's folder: as huggingface_hub found it when it was imported, else as it would."""
    told = getattr(sys.modules.get("huggingface_hub.constants"), "HF_HUB_CACHE", None)
    if isinstance(told, str):
        return Path(told)
    env = os.environ
    home = env.get("HF_HOME") or f"{env.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    chosen = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(chosen)).expanduser()  # RuntimeError without a home is the caller's to catch
