"""Header of a GGUF file: what is said of the model, then each tensor's name, shape and type. Its data is not read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
Sizes of the types are those of gguf 0.19 (`GGML_QUANT_SIZES`), which is not needed here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from nb_oomhelper.loading.checkpoint._files import Place, UnreadableError, check, opened
from nb_oomhelper.loading.checkpoint._record import TensorSize, plain

MAGIC = b"GGUF"
# By the number in the file: name, values in a block, bytes of a block. Plain ones have torch's names.
_TYPES = {
    0: ("float32", 1, 4),
    1: ("float16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("int8", 1, 1),
    25: ("int16", 1, 2),
    26: ("int32", 1, 4),
    27: ("int64", 1, 8),
    28: ("float64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("bfloat16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_READ = 256 << 20  # bytes of a header; a large vocabulary has some ten million
_MOST_ITEMS = 4_000_000  # of all arrays of texts
_MOST_TENSORS, _MOST_KEYS = 200_000, 65_536
_LONGEST = 1 << 16  # bytes of a name, and of a text that is kept
LONGEST_LIST = 4_096  # numbers of an array that is kept: one a layer
_MOST_DIMENSIONS = 8
_BETWEEN = 4_096  # texts between two looks at the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a header says.

    Attributes:
        tensors: In the order of the file.
        said: What is said of the model, by key; without long arrays, of whose texts only `counts` has the number.
        counts: Lengths of the arrays.
        data: Bytes that the tensors' data takes up to its end, from the start of the file.
    """

    tensors: tuple[TensorSize, ...]
    said: Mapping[str, Any]
    counts: Mapping[str, int]
    data: int


def read_gguf(path: Place, until: float) -> Described:
    """Read the header of a file.

    Args:
        path: The file.
        until: When to stop, on the clock of `time.monotonic`.

    Raises:
        UnreadableError: It is cut short, is no such file, or takes too long.
    """
    with opened(path) as (file, size):
        found = describe(file, until)
    if found.data > size:
        raise UnreadableError("checkpoint.data_short")
    return found


def describe(file: BinaryIO, until: float) -> Described:
    """Read a header.

    Args:
        file: The file, or as much of it as the header takes.
        until: As of `read_gguf`.

    Raises:
        UnreadableError: As `read_gguf`; also where the header goes on behind the end of what there is.
    """
    reader = _Reader(file, until)
    if reader.take(4) != MAGIC:
        raise UnreadableError("checkpoint.unknown_format")
    version = reader.begin()
    if version not in (2, 3):
        raise UnreadableError("checkpoint.gguf_version", version=version)
    tensors, keys = reader.number("Q"), reader.number("Q")
    if tensors > _MOST_TENSORS or keys > _MOST_KEYS:
        raise UnreadableError("checkpoint.gguf_broken")
    said: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for _ in range(keys):
        name = reader.text()
        said[name], counts[name] = reader.value(reader.number("I"))
    places = [_tensor(reader) for _ in range(tensors)]
    step = said.get("general.alignment") or 32
    if type(step) is not int or step < 1:
        raise UnreadableError("checkpoint.gguf_broken")
    return Described(
        tensors=tuple(one for one, _ in places),
        said=said,
        counts=counts,
        data=-(-reader.read // step) * step + _check_places(places, step),
    )


def _check_places(places: list[tuple[TensorSize, int]], step: int) -> int:
    """Refuse holes and overlaps, as ggml does; give the bytes of all data, without what pads it at its end."""
    end = stop = 0
    for one, place in places:
        if place != end:
            raise UnreadableError("checkpoint.wrong_offsets", name=plain(one.name))
        stop = place + one.size
        end = -(-stop // step) * step
    return stop


def _tensor(reader: _Reader) -> tuple[TensorSize, int]:
    name, count = reader.text(), reader.number("I")
    if count > _MOST_DIMENSIONS:
        raise UnreadableError("checkpoint.gguf_broken")
    sides = tuple(reader.number("Q") for _ in range(count))
    number, place = reader.number("I"), reader.number("Q")
    if number not in _TYPES:
        raise UnreadableError("checkpoint.header_dtype", dtype=f"ggml {number}")
    dtype, block, size = _TYPES[number]
    values = math.prod(sides)
    if (sides and sides[0] % block) or values >= 1 << 48 or place >= 1 << 60:
        raise UnreadableError("checkpoint.header_shape", name=plain(name))
    shape = tuple(reversed(sides))  # the file has the fastest side first
    return TensorSize(name=name, dtype=dtype, shape=shape, size=values // block * size), place


class _Reader:
    """Reads a header from its start; of a file only so much, and only so long."""

    def __init__(self, file: BinaryIO, until: float) -> None:
        self._file, self._until, self._order, self._items = file, until, "<", 0
        self.read = 0

    def begin(self) -> int:
        """Read the version, by which big-endian files are known."""
        data = self.take(4)
        small, large = (int.from_bytes(data, order) for order in ("little", "big"))
        self._order = "<" if small <= large else ">"
        return min(small, large)

    def take(self, count: int) -> bytes:
        """Read some bytes."""
        self.read += count
        data = self._file.read(count) if self.read <= _MOST_READ else b""
        if len(data) < count:
            raise UnreadableError("checkpoint.header_short")
        return data

    def number(self, form: str) -> Any:
        """Read a number.

        Args:
            form: As of `struct`.
        """
        return struct.unpack(self._order + form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        """Read a text that is kept."""
        length = self.number("Q")
        if length > _LONGEST:
            raise UnreadableError("checkpoint.gguf_broken")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> tuple[Any, int]:
        """Read a value, and tell how many there are of an array; of one that is not kept None."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind]), 1
        if kind == _STRING:
            length = self.number("Q")
            data = self.take(length)
            return (data.decode("utf-8", "replace") if length <= _LONGEST else None), 1
        if kind != _ARRAY:
            raise UnreadableError("checkpoint.gguf_broken")
        inner, count = self.number("I"), self.number("Q")
        if inner in _NUMBERS:
            form = _NUMBERS[inner]
            data = self.take(count * struct.calcsize(form)) if count <= _MOST_READ else self.take(_MOST_READ + 1)
            return (list(struct.unpack(f"{self._order}{count}{form}", data)) if count <= LONGEST_LIST else None), count
        if inner != _STRING:
            raise UnreadableError("checkpoint.gguf_broken")
        self._skip_texts(count)
        return None, count

    def _skip_texts(self, count: int) -> None:
        self._items += count
        if self._items > _MOST_ITEMS:
            raise UnreadableError("checkpoint.gguf_broken")
        for number in range(count):
            if number % _BETWEEN == 0:
                check(self._until)
            self.take(self.number("Q"))
