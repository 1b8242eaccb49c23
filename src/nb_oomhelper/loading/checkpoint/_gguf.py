"""Models as GGUF files: one file or several, and what they say that sizes depend on.

How many tokens llama.cpp keeps is read off its `llama-kv-cache-iswa.cpp` and `llama-model.cpp`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nb_oomhelper.loading.checkpoint._cache import CacheLayers
from nb_oomhelper.loading.checkpoint._files import Place, UnreadableError
from nb_oomhelper.loading.checkpoint._gguf_header import LONGEST_LIST, Described, read_gguf
from nb_oomhelper.loading.checkpoint._parts import WeightsRead, summed
from nb_oomhelper.loading.checkpoint._record import Config, plain, total

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
# Of llama.cpp: the n-th layer keeps all tokens, the others a window, and what is read at once, in whole blocks.
_EVERY = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4}
_READ_AT_ONCE, _BLOCK = 512, 256
_HEADS = "attention.head_count"
_STATES = (".ssm.", ".wkv.", ".shortconv.", ".kv_lora_rank", ".shared_kv_layers", ".full_attention_interval")


def read_ggufs(path: Place, until: float) -> WeightsRead:
    """Read a GGUF file, and of a model that is split the files beside it.

    Args:
        path: The file, or one of them.
        until: When to stop, on the clock of `time.monotonic`.

    Raises:
        UnreadableError: It is no such file, or none could be read.
    """
    found = read_gguf(path, until)
    config, names = config_of(found), shards_of(path, found.said)
    if path.name != names[0]:
        config = config_of(read_gguf(path.parent / names[0], until))
    parts = {name: _attempt_gguf(path.parent / name, found if name == path.name else None, until) for name in names}
    return replace(summed(parts, None, prefix=False), config=config)


def _attempt_gguf(path: Place, known: Described | None, until: float) -> WeightsRead | UnreadableError:
    try:
        tensors = (known or read_gguf(path, until)).tensors
    except UnreadableError as error:
        return error
    return WeightsRead(how="gguf", size=total(tensors), tensors=tensors)


def shards_of(path: Place, said: Mapping[str, Any]) -> list[str]:
    """Give the names of all files of a model that is split, this one among them; of one file, its own.

    Args:
        path: One of them.
        said: What its header says.
    """
    match, count = _SHARD.fullmatch(path.name), said.get("split.count")
    if match is None or type(count) is not int or not 1 < count <= 99_999:
        return [path.name]
    return [f"{match[1]}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def one_model(names: list[str]) -> str:
    """Give the first file of the one model that some files are.

    Args:
        names: Names of GGUF files.

    Raises:
        UnreadableError: They are several models, or the same one in several types.
    """
    models = {match[1] if (match := _SHARD.fullmatch(name)) else name for name in names}
    if len(models) != 1:
        raise UnreadableError("checkpoint.gguf_several", names=plain(", ".join(names)))
    return min(names)


def config_of(found: Described) -> Config:
    """Read what sizes depend on, as a config.json would say it.

    Args:
        found: The header; of a model that is split that of its first file.
    """
    kind = found.said.get("general.architecture")
    said = {name.removeprefix(f"{kind}."): value for name, value in found.said.items()}
    layers, hidden, heads = (_whole(said, name) for name in ("block_count", "embedding_length", _HEADS))
    words = _whole(said, "vocab_size") or found.counts.get("tokenizer.ggml.tokens") or None
    width = _whole(said, "attention.key_length") or (hidden // heads if hidden and heads else None)
    kv_heads = _each(said.get(f"{_HEADS}_kv", heads), layers)
    return Config(
        model_type=kind if isinstance(kind, str) else None,
        dtype="float16",  # of keys and values, if nothing else is said
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads[0] if kv_heads and len(set(kv_heads)) == 1 else None,
        head_dim=width,
        vocabulary=words,
        context=_whole(said, "context_length"),
        quantization="gguf",
        intermediate=_whole(said, "feed_forward_length"),
        cache=_cache(said, str(kind), kv_heads, width),
    )


def _cache(
    said: Mapping[str, Any], kind: str, heads: list[int] | None, width: int | None
) -> tuple[CacheLayers, ...] | None:
    """What the layers keep of a text; None where the kind of model keeps something else, or says too little."""
    names = [f".{name}" for name in said]
    if not heads or not width or any(part in name for name in names for part in _STATES):
        return None
    value = _whole(said, "attention.value_length") or width
    window, every = _whole(said, "attention.sliding_window"), _EVERY.get(kind)
    if window and every is None:
        return None
    kept = -(-((window or 0) + _READ_AT_ONCE) // _BLOCK) * _BLOCK
    found = Counter(
        (count * (width + value), kept if window and number % (every or 1) else None)
        for number, count in enumerate(heads, 1)
        if count
    )
    return tuple(CacheLayers(count=count, width=each, window=most) for (each, most), count in found.items())


def _each(told: object, layers: int | None) -> list[int] | None:
    """Heads of each layer, from one number or a list of them."""
    if not layers or layers > LONGEST_LIST:
        return None
    numbers: list[Any] = told if isinstance(told, list) else [told] * layers
    good = all(type(one) is int and one >= 0 for one in numbers)
    return numbers if good and len(numbers) == layers else None


def _whole(said: Mapping[str, Any], name: str) -> int | None:
    """A number; of one a layer the largest."""
    told = said.get(name)
    numbers = told if isinstance(told, list) else [told]
    return max(numbers) or None if numbers and all(type(one) is int and one >= 0 for one in numbers) else None
