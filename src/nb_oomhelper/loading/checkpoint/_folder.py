"""What a folder holds that would be loaded: which of its files, added up; read from headers alone.

The folder may lie elsewhere (`_online.py`): nothing here asks for more than a `Place` has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from nb_oomhelper.loading.checkpoint._config import read_config
from nb_oomhelper.loading.checkpoint._files import Place, UnreadableError, check, names_in, read_json, whole
from nb_oomhelper.loading.checkpoint._gguf import one_model, read_ggufs
from nb_oomhelper.loading.checkpoint._parts import WeightsRead, failed, left_out, summed
from nb_oomhelper.loading.checkpoint._record import Checkpoint, Config, by_dtype, plain, total
from nb_oomhelper.loading.checkpoint._safetensors import read_header
from nb_oomhelper.records.note import Note, joined, note

_SAFE, _GGUF = ".safetensors", ".gguf"
# Weights in the order in which transformers (5.23) and diffusers look for them; an index names shards.
_WHOLE = (
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
)
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_LOOSE = ((_SAFE,), (".bin", ".pt", ".pth", ".ckpt"))
_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")  # a Trainer's own files
_WITHOUT = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "Extractor")  # components without weights
_MOST_FILES = 4096


def complete(unknown: Checkpoint, found: WeightsRead, config: Config | None) -> Checkpoint:
    return replace(
        unknown,
        how=found.how,
        tensors=found.tensors,
        size=found.size,
        dtypes=by_dtype(found.tensors),
        config=found.config or config,
        note=found.note,
    )


# -- one folder -------------------------------------------------------------------------------------------------------


def measure_folder(unknown: Checkpoint, folder: Place, variant: str | None, build: bool, until: float) -> Checkpoint:
    if not folder.is_dir():
        raise UnreadableError("checkpoint.no_subfolder")
    said, wrong = _said(folder / "config.json")
    unknown = replace(unknown, config=None if said is None else _config(said, fill=build))
    try:
        found = _read_folder(folder, variant, until)
        if found is None and build and said is not None and isinstance(folder, Path):
            found = _built(folder, said)
    except UnreadableError as error:
        return replace(unknown, note=error.note)
    if found is None:
        return replace(unknown, note=wrong or note("checkpoint.no_weights"))
    return complete(unknown, found, unknown.config)


def _config(said: dict[str, Any], *, fill: bool) -> Config:
    found = read_config(said)
    if found.cache is not None or not fill:
        return found
    from nb_oomhelper.loading.checkpoint._meta import fill_in

    return read_config(fill_in(said))


def _said(path: Place) -> tuple[dict[str, Any] | None, Note | None]:
    """What a config.json says; or None, and what is wrong with it where it is there."""
    if not path.is_file():
        return None, None
    try:
        return read_json(path), None
    except UnreadableError as error:
        return None, _of(path.name, error.note)


def _built(folder: Path, said: dict[str, Any]) -> WeightsRead:
    from nb_oomhelper.loading.checkpoint._meta import build_sizes

    tensors = build_sizes(folder, said)
    return WeightsRead(how="config", size=total(tensors), tensors=tensors, note=note("checkpoint.from_config"))


def _read_folder(folder: Place, variant: str | None, until: float) -> WeightsRead | None:
    """Read the weights that would be loaded from a folder; None where there are none."""
    for chosen in dict.fromkeys((variant or None, None)):
        path = next((path for name in _WHOLE for path in _named(folder, name, chosen) if path.is_file()), None)
        if path is None:
            continue
        found = read_file(path, until)
        missed = None
        if variant != chosen:
            missed = note("checkpoint.no_variant", variant=plain(variant), folder=plain(folder.name))
        return replace(found, note=joined(missed, found.note))
    if (folder / "model_index.json").is_file():
        return _read_components(folder, variant, until)
    adapter = next((path for name in _ADAPTERS if (path := folder / name).is_file()), None)
    return _read_adapter(adapter, until) if adapter else _read_loose(folder, until)


def _named(folder: Place, name: str, variant: str | None) -> Iterable[Place]:
    """A file's name with the variant in it: of an index, transformers' and diffusers' ways of writing it."""
    if variant is None:
        return [folder / name]
    stem, dot, rest = name.partition(".")
    names = [f"{stem}.{variant}{dot}{rest}"]
    if rest.endswith(".json"):
        names.append(f"{name.removesuffix('.json')}.{variant}.json")
    return [folder / one for one in names]


def _read_adapter(path: Place, until: float) -> WeightsRead:
    said, _ = _said(path.parent / "adapter_config.json")
    base = (said or {}).get("base_model_name_or_path")
    of = note("checkpoint.adapter_of_another")
    if isinstance(base, str) and base:
        of = note("checkpoint.adapter", base=plain(base))
    found = read_file(path, until)
    return replace(found, note=joined(of, found.note))


def _read_loose(folder: Place, until: float) -> WeightsRead | None:
    """Read weights of other names: all safetensors files, or else all of torch's."""
    names = names_in(folder, _MOST_FILES)
    for endings in _LOOSE:
        chosen = [name for name in names if name.endswith(endings) and not name.startswith(_NO_WEIGHTS)]
        if chosen:
            parts = {name: _attempt(folder / name, until) for name in chosen}
            return summed(
                parts, note("checkpoint.together", count=len(chosen)) if len(chosen) > 1 else None, prefix=False
            )
    ggufs = [name for name in names if name.endswith(_GGUF)]
    return read_file(folder / one_model(ggufs), until) if ggufs else None


# -- several files ---------------------------------------------------------------------------------------------------


def _read_index(path: Place, until: float) -> WeightsRead:
    """Read the shards that an index names; its own total counts where one of them cannot be read."""
    said = _read_object(path)
    names = _shards(said, path.name)
    parts = {name: _attempt(path.parent / name, until) for name in names}
    bad = failed(parts)
    if not bad:
        return summed(parts, None, prefix=False)
    metadata = said.get("metadata")
    size = whole(metadata.get("total_size")) if isinstance(metadata, dict) else None
    out, index = left_out("checkpoint.shards_out", bad, len(parts)), plain(path.name)
    if size is None:
        raise UnreadableError("checkpoint.no_total", named=True, out=out, index=index)
    return WeightsRead(how="index", size=size, note=note("checkpoint.total_of_index", out=out, index=index))


def _shards(said: dict[str, Any], name: str) -> list[str]:
    """The files that an index names, each once; none outside of its folder."""
    places = said.get("weight_map")
    values = list(places.values()) if isinstance(places, dict) else [None]
    names = sorted({value for value in values if isinstance(value, str)})
    inside = all("\\" not in one and not PurePosixPath(one).is_absolute() and ".." not in one for one in names)
    if not names or not inside or not all(isinstance(value, str) for value in values) or len(names) > _MOST_FILES:
        raise UnreadableError(_of(name, note("checkpoint.no_index")), named=True)
    return names


def _read_components(folder: Place, variant: str | None, until: float) -> WeightsRead:
    """Read a pipeline of diffusers: model_index.json names its parts, each has a folder of its own."""
    said = _read_object(folder / "model_index.json")
    parts: dict[str, WeightsRead | UnreadableError] = {}
    for name, kind in islice(said.items(), _MOST_FILES):
        if not isinstance(kind, list) or len(kind) != 2 or not isinstance(kind[1], str) or not name.isidentifier():
            continue
        part = _attempt_folder(folder / name, variant, until)
        if part is not None:
            parts[name] = part
        elif not kind[1].endswith(_WITHOUT):
            parts[name] = UnreadableError("checkpoint.weights_missing")
    if all(isinstance(part, UnreadableError) for part in parts.values()):
        raise UnreadableError("checkpoint.no_components")
    return summed(parts, None, prefix=True)


def _attempt_folder(folder: Place, variant: str | None, until: float) -> WeightsRead | UnreadableError | None:
    try:
        check(until)
        return _read_folder(folder, variant, until) if folder.is_dir() else None
    except UnreadableError as error:
        return error


def read_file(path: Place, until: float) -> WeightsRead:
    """Read one file: an index, safetensors, or what torch.save wrote, whatever its name ends with.

    Raises:
        UnreadableError: With the file's name in its text.
    """
    if path.name.endswith(".json"):
        return _read_index(path, until)
    try:
        check(until)
        if path.name.endswith(_SAFE):
            tensors = read_header(path, until)
            return WeightsRead(how="safetensors", size=total(tensors), tensors=tensors)
        if path.name.endswith(_GGUF):
            return read_ggufs(path, until)
        from nb_oomhelper.loading.checkpoint._torch import read_saved  # zipfile and pickletools, which few need today

        saved = read_saved(path, until)
        return WeightsRead(how="pickle", size=saved.size, tensors=saved.tensors, note=saved.note)
    except UnreadableError as error:
        raise UnreadableError(_of(path.name, error.note), named=True) from None


def _read_object(path: Place) -> dict[str, Any]:
    try:
        return read_json(path)
    except UnreadableError as error:
        raise UnreadableError(_of(path.name, error.note), named=True) from None


def _attempt(path: Place, until: float) -> WeightsRead | UnreadableError:
    try:
        return read_file(path, until)
    except UnreadableError as error:
        return error


def _of(name: str, why: Note) -> Note:
    return note("checkpoint.of", name=plain(name), why=why)
