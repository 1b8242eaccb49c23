"""What torch.save wrote: a zip archive with one member a storage, or the older files in one piece.

A zip's directory tells how many bytes each storage has, and the pickle in it what the storages are for. The
older format has its pickles first and the storages behind them. Nothing is unpickled.
Read off torch/serialization.py (2.13), `_save` and `_legacy_save`.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from nb_oomhelper.loading.checkpoint._files import LateError, Place, UnreadableError, check, opened
from nb_oomhelper.loading.checkpoint._pickle import Storage, Tensor, follow, walk
from nb_oomhelper.loading.checkpoint._record import BITS, TensorSize, plain
from nb_oomhelper.records.note import Note, note

_LONGEST_PICKLE = 16 << 20  # bytes; that of 70 billion parameters is less than one
_MOST_READ = 40 << 20  # bytes: a zip's directory and a pickle
_MOST_CALLS = 4_000_000  # of read and readline, two an operation; a checkpoint has some thirty operations a tensor
_BETWEEN = 1024  # reads between two looks at the clock
_MOST_MEMBERS = 200_000
# All that zipfile raises for what is no zip archive or an odd one, such as one with a password.
_BROKEN_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, KeyError, struct.error)
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_KINDS = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}
_BYTES = "UntypedStorage"  # its count is one of bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a file holds.

    Attributes:
        size: Bytes of all storages.
        tensors: One a storage; empty where only the total is known.
        note: Why only the total is known, or None.
    """

    size: int
    tensors: tuple[TensorSize, ...] = ()
    note: Note | None = None


def read_saved(path: Place, until: float) -> Saved:
    """Read what a file of torch.save holds; each storage counts once, however many tensors show it.

    Args:
        path: The file.
        until: When to stop, on the clock of `time.monotonic`.

    Raises:
        UnreadableError: It is no such file, is cut short, or makes no sense.
    """
    with opened(path) as (file, size):
        start = file.read(4)
        file.seek(0)
        if start == b"PK\x03\x04":
            return _read_zip(file, size, until)
        if start[:1] == b"\x80":
            return _read_legacy(file, size, until)
    if start == b"GGUF":
        raise UnreadableError("checkpoint.gguf_name")
    raise UnreadableError("checkpoint.unknown_format")


class _Careful:
    """A file of which only so much is read in all, and only so long, whatever lengths are claimed in it.

    It has as much of a file's methods as zipfile and the unpickler use.
    """

    def __init__(self, file: BinaryIO, until: float, budget: int = _MOST_READ) -> None:
        self._file, self._until, self._left, self._reads = file, until, budget, 0
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int | None = None) -> bytes:
        most = self._left + 1
        return self._took(self._file.read(most if count is None or count < 0 else min(count, most)))

    def readline(self) -> bytes:
        return self._took(self._file.readline(self._left + 1))

    def _took(self, data: bytes) -> bytes:
        if self._reads % _BETWEEN == 0:
            check(self._until)
        self._reads += 1
        self._left -= len(data)
        if self._reads > _MOST_CALLS:
            raise ValueError("too many reads")
        if self._left < 0:
            raise UnreadableError("checkpoint.description_too_long")
        return data


# -- zip ------------------------------------------------------------------------------------------------------------


def _read_zip(file: BinaryIO, size: int, until: float) -> Saved:
    careful: BinaryIO = _Careful(file, until)  # type: ignore[assignment]
    try:
        with zipfile.ZipFile(careful) as archive:
            members = archive.infolist()
            sizes = _storages(members, size)
            total = sum(sizes.values())
            main = [one for one in members if one.filename.endswith("/data.pkl")]
            if len(main) != 1:
                raise UnreadableError("checkpoint.other_zip")
            if any(one.filename.endswith("/constants.pkl") for one in members):
                return Saved(size=total, note=note("checkpoint.torchscript"))
            if main[0].file_size > _LONGEST_PICKLE or main[0].compress_type != zipfile.ZIP_STORED:
                return Saved(size=total, note=note("checkpoint.pickle_too_long"))
            data = archive.read(main[0])
    except _BROKEN_ZIP:
        raise UnreadableError("checkpoint.broken_zip") from None
    try:
        return Saved(size=total, tensors=_followed(data, sizes, until))
    except LateError:
        return Saved(size=total, note=note("checkpoint.late_total"))
    except ValueError:
        return Saved(size=total, note=note("checkpoint.pickle_total"))


def _storages(members: list[zipfile.ZipInfo], stored: int) -> dict[str, int]:
    """Bytes of each storage, by its key: the members NAME/data/KEY; constants are TorchScript's."""
    if len(members) > _MOST_MEMBERS:
        raise UnreadableError("checkpoint.zip_too_many")
    sizes: dict[str, int] = {}
    for one in members:
        parts = one.filename.split("/")
        if len(parts) != 3 or parts[1] not in ("data", "constants"):
            continue
        key = parts[2] if parts[1] == "data" else "/".join(parts[1:])
        if key in sizes:
            raise UnreadableError("checkpoint.zip_twice")
        if one.compress_type != zipfile.ZIP_STORED:
            raise UnreadableError("checkpoint.compressed")
        sizes[key] = one.file_size
    if sum(sizes.values()) > stored:
        raise UnreadableError("checkpoint.zip_short")
    return sizes


def _followed(data: bytes, sizes: Mapping[str, int], until: float) -> tuple[TensorSize, ...]:
    storages: dict[str, Storage] = {}
    root = follow(_Careful(io.BytesIO(data), until), storages)  # type: ignore[arg-type]
    if not sizes.keys() >= storages.keys():
        raise UnreadableError("checkpoint.storage_missing")
    return _tensors(storages, root, sizes, until)


# -- before zip ------------------------------------------------------------------------------------------------------


def _read_legacy(file: BinaryIO, size: int, until: float) -> Saved:
    window: BinaryIO = _Careful(file, until, _LONGEST_PICKLE)  # type: ignore[assignment]
    storages: dict[str, Storage] = {}
    try:
        for expected in (_MAGIC, _PROTOCOL):
            found = follow(window, storages)
            if type(found) is not int or found != expected:
                raise UnreadableError("checkpoint.other_pickle")
        # how large a short, an int and a long were on that machine; the tensors; the keys of the storages in order
        _, root, _ = (follow(window, storages) for _ in range(3))
    except ValueError:
        raise UnreadableError("checkpoint.pickle_unclear") from None
    tensors = _tensors(storages, root, None, until)
    total = sum(one.size for one in tensors)
    if total + 8 * len(tensors) > size - window.tell():  # each is written behind its length
        raise UnreadableError("checkpoint.short")
    return Saved(size=total, tensors=tensors)


# -- both ------------------------------------------------------------------------------------------------------------


def _tensors(
    storages: Mapping[str, Storage], root: object, sizes: Mapping[str, int] | None, until: float
) -> tuple[TensorSize, ...]:
    """Describe each storage by the tensor that shows all of it, or else by the first that shows a part."""
    shown: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in walk(root):
        check(until)
        key = tensor.storage.key
        if key not in shown or (not _shows_all(shown[key][1]) and _shows_all(tensor)):
            shown[key] = name, tensor
    rest = {key: (f"storage {key}", Tensor(one, (one.count,), None)) for key, one in storages.items()}
    named = {**shown, **{key: one for key, one in rest.items() if key not in shown}}
    return tuple(_tensor(name, tensor, sizes) for name, tensor in named.values())


def _dtype(tensor: Tensor) -> str:
    if tensor.storage.kind == _BYTES:
        return tensor.dtype or "uint8"
    return _KINDS.get(tensor.storage.kind, plain(tensor.storage.kind))


def _shows_all(tensor: Tensor) -> bool:
    values = math.prod(tensor.shape) if len(tensor.shape) <= 64 else -1
    if tensor.storage.kind == _BYTES:
        return values * BITS.get(_dtype(tensor), 0) == tensor.storage.count * 8
    return values == tensor.storage.count


def _tensor(name: str, tensor: Tensor, sizes: Mapping[str, int] | None) -> TensorSize:
    dtype, storage = _dtype(tensor), tensor.storage
    bits = BITS.get(dtype)
    if storage.count < 0:
        raise UnreadableError("checkpoint.storage_size")
    if bits is None and sizes is None and storage.kind != _BYTES:
        raise UnreadableError("checkpoint.storage_dtype", dtype=dtype)
    size = storage.count if storage.kind == _BYTES else storage.count * (bits or 0) // 8
    if sizes is not None:
        if bits is not None and sizes[storage.key] != size:
            raise UnreadableError("checkpoint.storage_mismatch")
        size = sizes[storage.key]
    shape = tensor.shape if _shows_all(tensor) else (size * 8 // bits if bits else storage.count,)
    return TensorSize(name=name, dtype=dtype, shape=shape, size=size)
