"""Header of a safetensors file: 8 bytes with its length, then JSON. Nothing else of the file is read.

The format and what is refused: https://github.com/huggingface/safetensors (0.8, `Metadata::validate` in
tensor.rs). The library itself maps the file into memory, and a process that is short of address space
cannot do that.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from nb_oomhelper.loading.checkpoint._files import (
    LONGEST_JSON,
    Place,
    UnreadableError,
    check,
    opened,
    parse_json,
    whole,
)
from nb_oomhelper.loading.checkpoint._record import BITS, TensorSize, plain

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "F4": "float4_e2m1fn_x2",
}
_MOST_DIMENSIONS = 64  # as many as torch allows


def read_header(path: Place, until: float) -> tuple[TensorSize, ...]:
    """Read what a safetensors file holds, in the order in which it is stored.

    Args:
        path: The file.
        until: When to stop, on the clock of `time.monotonic`.

    Raises:
        UnreadableError: The file is cut short, is no such file, or takes too long.
    """
    with opened(path) as (file, size):
        first = file.read(8)
        if len(first) < 8:
            raise UnreadableError("checkpoint.safetensors_short")
        (length,) = struct.unpack("<Q", first)
        if length > LONGEST_JSON:
            raise UnreadableError("checkpoint.header_too_large")
        if length > size - 8:
            raise UnreadableError("checkpoint.header_short")
        header = parse_json(file.read(length))
    header.pop("__metadata__", None)
    spans = sorted(((*_span(name, entry), name) for name, entry in header.items()))
    _check_order(spans, size - 8 - length)
    return tuple(_tensor(name, header[name], end - start, until) for start, end, name in spans)


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor lies, in bytes after the header."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2:
        start, end = map(whole, offsets)
        if start is not None and end is not None and start <= end:
            return start, end
    raise UnreadableError("checkpoint.no_offsets", name=plain(name))


def _check_order(spans: list[tuple[int, int, str]], stored: int) -> None:
    """Refuse holes, overlaps, and a file of another length, as the library does."""
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise UnreadableError("checkpoint.wrong_offsets", name=plain(name))
        end = stop
    if end > stored:
        raise UnreadableError("checkpoint.data_short")
    if end < stored:
        raise UnreadableError("checkpoint.data_long")


def _tensor(name: str, entry: dict[str, Any], size: int, until: float) -> TensorSize:
    check(until)
    dtype = _DTYPES.get(code) if isinstance(code := entry.get("dtype"), str) else None
    if dtype is None:
        raise UnreadableError("checkpoint.header_dtype", dtype=plain(code))
    told = entry.get("shape")
    shape = tuple(map(whole, told)) if isinstance(told, list) and len(told) <= _MOST_DIMENSIONS else (None,)
    sides = tuple(side for side in shape if side is not None)
    if len(sides) < len(shape) or math.prod(sides) * BITS[dtype] != size * 8:
        raise UnreadableError("checkpoint.header_shape", name=plain(name))
    return TensorSize(name=name, dtype=dtype, shape=sides, size=size)
