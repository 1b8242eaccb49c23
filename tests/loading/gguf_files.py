"""A small writer of GGUF files, whose bytes are those of the `gguf` package (`test_gguf.py` compares them)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

F32, F16, Q4_0, Q8_0, Q4_K, Q6_K = 0, 1, 2, 8, 12, 14
_BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210)}
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["<s>", "a", "ü"],
}
WEIGHTS = {
    "token_embd.weight": ((3, 256), Q8_0),
    "blk.0.attn_q.weight": ((256, 256), Q4_K),
    "blk.0.attn_norm.weight": ((256,), F32),
    "blk.1.attn_q.weight": ((256, 256), Q6_K),
    "output_norm.weight": ((256,), F32),
}
SIZE = 3 * 256 // 32 * 34 + 256 * 256 // 256 * (144 + 210) + 2 * 256 * 4


def gguf_bytes(said: Mapping[str, Any], tensors: Mapping[str, tuple[Sequence[int], int]], order: str = "<") -> bytes:
    """Give a file of version 3, its weights zero.

    Args:
        said: What is said of the model: whole numbers, texts, lists of either.
        tensors: Shape, as NumPy has it, and type, by name.
        order: "<" or ">", as of `struct`.
    """
    head = [b"GGUF", struct.pack(f"{order}IQQ", 3, len(tensors), len(said))]
    for name, value in said.items():
        head += [_text(name, order), _value(value, order)]
    data, place = [], 0
    for name, (shape, kind) in tensors.items():
        block, size = _BLOCKS[kind]
        count = math.prod(shape) // block * size
        sides = struct.pack(f"{order}I{len(shape)}Q", len(shape), *reversed(shape))
        head += [_text(name, order), sides, struct.pack(f"{order}IQ", kind, place)]
        data.append(b"\0" * (count + -count % 32))
        place += len(data[-1])
    whole = b"".join(head)
    return whole + b"\0" * (-len(whole) % 32) + b"".join(data)


def write_gguf(path: Path, said: Mapping[str, Any] = LLAMA, tensors: Mapping[str, Any] = WEIGHTS) -> Path:
    """Write a file; by default a small Llama of `SIZE` bytes."""
    path.write_bytes(gguf_bytes(said, tensors))
    return path


def _text(value: str, order: str) -> bytes:
    data = value.encode()
    return struct.pack(f"{order}Q", len(data)) + data


def _value(value: Any, order: str) -> bytes:
    if isinstance(value, bool):
        return struct.pack(f"{order}I?", 7, value)
    if isinstance(value, int):
        return struct.pack(f"{order}II", 4, value)
    if isinstance(value, str):
        return struct.pack(f"{order}I", 8) + _text(value, order)
    kind = 8 if isinstance(value[0], str) else 4
    items = (_text(one, order) if kind == 8 else struct.pack(f"{order}I", one) for one in value)
    return struct.pack(f"{order}IIQ", 9, kind, len(value)) + b"".join(items)
