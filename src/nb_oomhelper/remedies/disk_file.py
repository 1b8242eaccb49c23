"""A temporary file on a real disk, which is gone when nobody refers to it any more."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.loading.disk import scratch

_PART = 1 << 20  # bytes that are copied at a time


class DiskFile:
    """A file in which bytes are read and written at places; what was never written is 0."""

    __slots__ = ("_file", "_process")

    def __init__(self) -> None:
        self._file, self._process = self._made(), os.getpid()

    @staticmethod
    def _made() -> Any:
        folder, _ = scratch()
        if folder is None:
            raise UsageError("there is no folder on a disk that can be written to")
        return tempfile.TemporaryFile(dir=folder, buffering=0)

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def write(self, data: Any, start: int) -> None:
        """Write bytes.

        Args:
            data: They: anything that has them in one piece.
            start: Where, in bytes from the beginning.

        Raises:
            OSError: The disk is full.
        """
        if self._process != os.getpid():  # a process that was forked off gets a file of its own
            self._come_apart()
        view = memoryview(data).cast("B")
        while len(view):
            if hasattr(os, "pwrite"):
                some = os.pwrite(self._file.fileno(), view, start)
            else:
                self._file.seek(start)
                some = self._file.write(view)
            view, start = view[some:], start + some

    def _come_apart(self) -> None:
        made, size = self._made(), os.fstat(self._file.fileno()).st_size
        for start in range(0, size, _PART):
            part = bytearray(min(_PART, size - start))
            self.read(part, start)
            made.write(part)
        self._file, self._process = made, os.getpid()

    def read(self, into: Any, start: int) -> None:
        """Read bytes, as many as there is room for. A process that was forked off shares no place with this one.

        Args:
            into: Gets them: anything that has room in one piece.
            start: Where they are, in bytes from the beginning.
        """
        view = memoryview(into).cast("B")
        while len(view):
            if hasattr(os, "preadv"):
                some = os.preadv(self._file.fileno(), [view], start)
            else:
                self._file.seek(start)
                some = self._file.readinto(view)
            if not some:  # behind the end
                view[:] = bytes(len(view))
                return
            view, start = view[some:], start + some
