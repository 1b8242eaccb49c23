"""What is known of a checkpoint's size: the records that `measure` gives, and the arithmetic on them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from nb_oomhelper.loading.checkpoint._cache import CacheLayers
from nb_oomhelper.records.note import Note

# Bits of one value, by torch's name of the dtype; those of FLOATING can be stored in another floating dtype.
FLOATING = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "float8_e4m3fn": 8,
    "float8_e4m3fnuz": 8,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
    "float8_e8m0fnu": 8,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
    "float4_e2m1fn_x2": 4,
}
OTHERS = {
    "complex128": 128,
    "complex64": 64,
    "int64": 64,
    "uint64": 64,
    "int32": 32,
    "uint32": 32,
    "int16": 16,
    "uint16": 16,
    "int8": 8,
    "uint8": 8,
    "bool": 8,
}
BITS = FLOATING | OTHERS

_TARGETS = ("float16", "bfloat16", "float32", "float64")
# Left in 16 bits by those who quantize: embeddings and the output head.
_KEPT = {"wte", "wpe", "shared", "lm_head", "embed_out", "score", "classifier", "qa_outputs"}
_BLOCK = 64  # values that share one scale in 4 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSize:
    """One stored tensor.

    Attributes:
        name: Its key in the state dict; with the component's folder before it where there are several.
        dtype: Torch's name: "float16", "bfloat16", "int64", "float8_e4m3fn", …
        shape: Its values along each dimension. A tensor that shows only a part of what is stored for it
            is given by the number of stored values, in one dimension.
        size: Bytes as stored.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a config.json says, as far as sizes depend on it; None for what it does not say.

    Attributes:
        model_type: "llama", "gpt2", …
        architectures: Classes of transformers that it was saved from; the first is the one that counts.
        dtype: Torch's name of the dtype that it was saved in.
        hidden_size: Width of a layer's output.
        layers: Number of layers; of the decoder where there is an encoder as well.
        heads: Attention heads of a layer.
        kv_heads: Heads that keys and values have; fewer than `heads` where these are shared.
        head_dim: Width of one head; None where keys are kept compressed (DeepSeek's latent attention).
        vocabulary: Number of tokens known.
        context: Most positions that it was made for.
        quantization: How it is stored quantized ("gptq", "awq", "bitsandbytes", "fp8", …).
        intermediate: Width inside of a layer's feed-forward part; with experts, of those that a token goes through.
        reading: Values that one more token of a prompt takes while that is read, keys and values apart.
        cache: What the layers keep of the tokens that were read.
    """

    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    dtype: str | None = None
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocabulary: int | None = None
    context: int | None = None
    quantization: str | None = None
    intermediate: int | None = None
    reading: int | None = None
    cache: tuple[CacheLayers, ...] | None = None

    def kv_cache(
        self, tokens: int, batch: int = 1, form: str = "float16", *, prompt: bool = False, expanded: bool = False
    ) -> int | None:
        """Count the bytes that keys, values and states of a generation take, once `tokens` are in them.

        Args:
            tokens: Prompt and answer together.
            batch: Sequences side by side; times the beams, where there are several.
            form: What they are kept in, one of `FORMS`: "float16", "fp8", "int4", "q8_0", ….
            prompt: As transformers has it while a prompt of so many tokens is read in one go, windows or not.
            expanded: A latent (DeepSeek) is kept as keys and values, as by transformers before 5.15.

        Returns:
            None where the config.json does not say enough.
        """
        if self.cache is None:
            return None
        return sum(one.size(tokens, batch, form, prompt=prompt, expanded=expanded) for one in self.cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The size of a checkpoint.

    Attributes:
        source: The folder, file or name as it was asked for.
        how: What tells the size: the headers of safetensors files; an index, whose shards are not all
            there; torch's own files; headers of GGUF files; the config alone (nothing of the weights is
            there); memory, where the model is already; or nothing.
        tensors: What is stored, in the order of the files; empty where only a total is known.
        size: Bytes as stored, or None for unknown.
        dtypes: Bytes by dtype, largest first; empty where only a total is known.
        config: The config.json beside the weights, or None.
        note: Why the size is unknown, or what was left out of it; None if neither.
        folder: The folder below which its files lie, or None where there are none.
    """

    source: str
    how: Literal["safetensors", "index", "pickle", "gguf", "config", "memory", "unknown"]
    tensors: tuple[TensorSize, ...] = field(default=(), repr=False)  # hundreds of them
    size: int | None = None
    dtypes: tuple[tuple[str, int], ...] = ()
    config: Config | None = None
    note: Note | None = None
    folder: str | None = None

    def size_as(self, dtype: str) -> int | None:
        """Predict the bytes with every floating tensor in this dtype; other tensors keep theirs.

        Args:
            dtype: "float16", "bfloat16", "float32" or "float64".

        Returns:
            None for another dtype, and where the dtypes of the checkpoint are not known.
        """
        if dtype not in _TARGETS or not self.tensors:
            return None
        bits = BITS[dtype]
        return sum(_bytes(one, bits) if one.dtype in FLOATING else one.size for one in self.tensors)

    def quantized(self, bits: int) -> int | None:
        """Estimate the bytes with the large weights in 8 or 4 bits and the rest of the floats in 16.

        As bitsandbytes does it (0.45): in 4 bits with one float32 scale for 64 values, which makes 4.5
        bits a value; in 8 bits with one float32 scale a row. Weights of two dimensions are taken, but for
        embeddings and the output layer, which are known by their names only: this is an estimate. What is
        stored in fewer than 16 bits already stays as it is.

        Args:
            bits: 8 or 4.

        Returns:
            None for other bits, and where the tensors of the checkpoint are not known.
        """
        if bits not in (8, 4) or not self.tensors:
            return None
        return sum(_quantized(one, bits) for one in self.tensors)


def total(tensors: Iterable[TensorSize]) -> int:
    """Sum up the bytes of all of them."""
    return sum(one.size for one in tensors)


def by_dtype(tensors: Iterable[TensorSize]) -> tuple[tuple[str, int], ...]:
    """Sum up the bytes of each dtype, largest first."""
    sizes: dict[str, int] = {}
    for one in tensors:
        sizes[one.dtype] = sizes.get(one.dtype, 0) + one.size
    return tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def plain(text: object) -> str:
    """Cut what a file says to a short piece of one line: names in it may be anything."""
    words = "".join(letter if letter.isprintable() else " " for letter in str(text)[:200]).split()
    line = " ".join(words) or "(a blank)"
    return line if len(line) <= 60 else f"{line[:59].rstrip()}…"


def _bytes(tensor: TensorSize, bits: int) -> int:
    return -(-math.prod(tensor.shape) * bits // 8)


def _quantized(tensor: TensorSize, bits: int) -> int:
    if FLOATING.get(tensor.dtype, 0) < 16:
        return tensor.size
    if len(tensor.shape) != 2 or not tensor.name.endswith("weight") or _stays(tensor.name):
        return _bytes(tensor, 16)
    scales = -(-math.prod(tensor.shape) // _BLOCK) if bits == 4 else tensor.shape[0]
    return _bytes(tensor, bits) + 4 * scales


def _stays(name: str) -> bool:
    """Whether a name is that of an embedding or of an output layer."""
    parts = name.split(".")[:-1]
    return any("embed" in part or part in _KEPT for part in parts) or (parts[-1:] == ["output"] and len(parts) <= 2)
