"""A temporary file on a real disk, which is gone when nobody refers to it any more."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from nb_oomhelper.errors import UsageError
from nb_oomhelper.loading.disk import scratch


class DiskFile:
    """A file in which bytes are read and written at places; what was never written is 0."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        folder, _ = scratch()
        if folder is None:
            raise UsageError("there is no folder on a disk that can be written to")
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - open as long as there is somebody who reads it

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
        view = memoryview(data).cast("B")
        self._file.seek(start)
        while len(view):
            view = view[self._file.write(view) :]

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
