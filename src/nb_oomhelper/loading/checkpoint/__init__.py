"""How many bytes a model's checkpoint needs, by dtype, read from its headers without loading it.

Nothing of the checkpoint is run or unpickled, nothing is fetched, and a file costs its header and no more,
so this works in a process that is out of memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nb_oomhelper.loading.checkpoint._cache import FORMS
from nb_oomhelper.loading.checkpoint._files import UnreadableError
from nb_oomhelper.loading.checkpoint._folder import complete, measure_folder, read_file
from nb_oomhelper.loading.checkpoint._hub import find_snapshot, is_name
from nb_oomhelper.loading.checkpoint._record import FLOATING, Checkpoint, Config, TensorSize
from nb_oomhelper.records.note import note

__all__ = ["FLOATING", "FORMS", "Checkpoint", "Config", "TensorSize", "is_name", "measure", "measure_online"]

DEADLINE, ONLINE = 2.0, 30.0  # seconds


def measure(
    model: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    subfolder: str = "",
    variant: str | None = None,
    build: bool = False,
    deadline: float = DEADLINE,
) -> Checkpoint:
    """Measure a checkpoint that is on this machine, without loading it. Never raises.

    Args:
        model: A file, a folder, or a name ("org/name") to be looked up in the hub's cache on this machine;
            a folder of that name goes first, as it does for transformers.
        cache_dir: The cache; None for the one that huggingface_hub uses.
        revision: Branch, tag or commit in the cache; None for "main".
        subfolder: Folder in the folder.
        variant: "fp16" looks for model.fp16.safetensors; where there is none, for the usual names.
        build: Where there is a config.json and nothing of the weights, build the model from it on torch's
            meta device; and where it leaves out what keys and values take, ask transformers' class of it. That imports
            torch and transformers, which takes seconds whatever the deadline.
        deadline: Seconds after which no further file is begun.

    Returns:
        With `how` "unknown" and a note where the size cannot be told.
    """
    unknown = Checkpoint(source=str(model), how="unknown")
    until = time.monotonic() + deadline

    def read() -> Checkpoint:
        path = _locate(os.fspath(model), None if cache_dir is None else Path(cache_dir), revision)
        at_home = replace(unknown, folder=str(_home(path)))
        if path.is_file():
            return complete(at_home, read_file(path, until), None)
        return measure_folder(at_home, path / subfolder, variant, build, until)

    return _tried(unknown, read)


def measure_online(model: str, *, revision: str | None = None, deadline: float = ONLINE) -> Checkpoint:
    """Measure a checkpoint of the hub by the headers of its files, which huggingface_hub is asked for. Never raises.

    Args:
        model: "org/name"; a file of it is "org/name/model-Q4_K_M.gguf".
        revision: Branch, tag or commit; None for "main".
        deadline: Seconds after which nothing more is asked for.

    Returns:
        As `measure`.
    """
    unknown = Checkpoint(source=model, how="unknown")
    until = time.monotonic() + deadline

    def read() -> Checkpoint:
        from nb_oomhelper.loading.checkpoint._online import find_model

        place = find_model(model, revision, until)
        if place.is_file():
            return complete(unknown, read_file(place, until), None)
        return measure_folder(unknown, place, None, True, until)

    return _tried(unknown, read)


def _tried(unknown: Checkpoint, read: Callable[[], Checkpoint]) -> Checkpoint:
    try:
        return read()
    except UnreadableError as error:
        return replace(unknown, note=error.note)
    except (MemoryError, RecursionError):
        return replace(unknown, note=note("checkpoint.no_memory"))
    except Exception as error:  # whatever else a hostile file or an odd path brings: nobody's cell fails by it
        return replace(unknown, note=note("checkpoint.unread", error=type(error).__name__))


def _locate(model: str, cache_dir: Path | None, revision: str | None) -> Path:
    """The file or folder that is meant."""
    try:
        path = Path(model)
        if model and path.exists():
            return path
    except (OSError, ValueError):  # no system has such a name, or it may not be looked at
        raise UnreadableError("checkpoint.no_such_name") from None
    snapshot = find_snapshot(model, cache_dir, revision)
    if snapshot is None:
        raise UnreadableError("checkpoint.not_here")
    return snapshot


def _home(path: Path) -> Path:
    """The folder below which the files themselves lie: those of a snapshot in the hub's cache are only links."""
    folder = path.parent if path.is_file() else path
    return folder.parent.parent if folder.parent.name == "snapshots" else folder
