"""A model of the hub as a folder: its files are read by HTTP ranges, through huggingface_hub, and only on request.

huggingface_hub says where a file is, and has the user's token, proxies and settings (`HF_ENDPOINT`, `HF_HUB_OFFLINE`);
the parts of files are asked for with its own session, since it has no function for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

from nb_oomhelper.loading.checkpoint._files import UnreadableError, check, parse_json, whole
from nb_oomhelper.loading.checkpoint._hub import is_name
from nb_oomhelper.loading.checkpoint._record import plain

_FIRST, _MOST_AHEAD = 1 << 17, 1 << 22  # bytes that are asked for at once
_MOST_READ = 64 << 20  # bytes of one file; a large vocabulary has some ten million
_LONGEST_LIST = 32 << 20  # bytes of what tells the files
_WAIT = 10.0  # seconds for one answer to begin, or to go on
_MOST_FILES = 20_000


@dataclass(frozen=True)
class _Model:
    """A model of the hub.

    Attributes:
        name: "org/name".
        commit: Which state of it.
        sizes: Bytes of its files, by path.
        until: When to stop, on the clock of `time.monotonic`.
    """

    name: str
    commit: str
    sizes: dict[str, int]
    until: float


class HubPlace:
    """A file or folder of a model; see `Elsewhere`."""

    def __init__(self, model: _Model, path: str = "") -> None:
        self._model, self._path = model, path

    @property
    def name(self) -> str:
        """Its last name."""
        return self._path.rpartition("/")[2] or self._model.name.rpartition("/")[2]

    @property
    def parent(self) -> HubPlace:
        """The folder that it is in."""
        return HubPlace(self._model, self._path.rpartition("/")[0])

    def __truediv__(self, name: str) -> HubPlace:
        return HubPlace(self._model, f"{self._path}/{name}".strip("/"))

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._path in self._model.sizes

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return not self._path or any(one.startswith(f"{self._path}/") for one in self._model.sizes)

    def names(self) -> list[str]:
        """Give the names of the files that are right in the folder."""
        start = f"{self._path}/" if self._path else ""
        inside = (one.removeprefix(start) for one in self._model.sizes if one.startswith(start))
        return [one for one in inside if "/" not in one]

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, int]]:
        """Open the file and tell its size in bytes; what is read of it is fetched then."""
        size = self._model.sizes.get(self._path)
        if size is None:
            raise UnreadableError("checkpoint.missing")
        file: Any = _Ranges(self._model, self._path, size)
        yield file, size


def find_model(name: str, revision: str | None, until: float) -> HubPlace:
    """Ask the hub for the files of a model.

    Args:
        name: "org/name", or a file of it: "org/name/model.gguf".
        revision: Branch, tag or commit; None for "main".
        until: When to stop, on the clock of `time.monotonic`.

    Raises:
        UnreadableError: huggingface_hub is not there, the hub cannot be reached, or has no such model for this user.
    """
    parts = name.split("/")
    model, path = "/".join(parts[:2]), "/".join(parts[2:])
    if not is_name(model) or ".." in name:
        raise UnreadableError("online.no_name")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UnreadableError("online.no_library") from None
    url = f"{HfApi().endpoint}/api/models/{model}/revision/{quote(revision or 'main', safe='')}?blobs=true"
    said = parse_json(_get(url, 0, _LONGEST_LIST, until, ranged=False))
    place = HubPlace(_Model(model, str(said.get("sha") or revision or "main"), _sizes(said), until), path)
    if path and not place.is_file():
        raise UnreadableError("online.no_file", name=plain(path))
    return place


def _sizes(said: dict[str, Any]) -> dict[str, int]:
    """The files that the hub tells, with their sizes; those that are outside of the folder are none."""
    found: dict[str, int] = {}
    told = said.get("siblings")
    for one in told[:_MOST_FILES] if isinstance(told, list) else ():
        path, size = (one.get("rfilename"), whole(one.get("size"))) if isinstance(one, dict) else (None, None)
        if isinstance(path, str) and size is not None and ".." not in path and not path.startswith("/"):
            found[path] = size
    return found


class _Ranges:
    """A file of which parts are fetched as they are read, and kept; as much of a file as the readers use."""

    def __init__(self, model: _Model, path: str, size: int) -> None:
        from huggingface_hub import hf_hub_url

        self._url = hf_hub_url(model.name, path, revision=model.commit)
        self._size, self._until = size, model.until
        self._parts: list[tuple[int, bytes]] = []
        self._at, self._fetched, self._ahead = 0, 0, _FIRST

    def seekable(self) -> bool:
        """Whether one may seek in it."""
        return True

    def tell(self) -> int:
        """Where one is."""
        return self._at

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place."""
        self._at = place + {0: 0, 1: self._at, 2: self._size}[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Read some bytes, or fewer at the end of the file."""
        end = self._size if count < 0 else min(self._size, self._at + count)
        found = b""
        while self._at < end:
            part = self._part(self._at, end)
            found += part
            self._at += len(part)
        return found

    def _part(self, start: int, end: int) -> bytes:
        """At least one byte from a place on."""
        for begins, data in reversed(self._parts):
            if begins <= start < begins + len(data):
                return data[start - begins : end - begins]
        last = self._parts[-1] if self._parts else (0, b"")
        if last[0] + len(last[1]) == start:  # one reads on: more at once
            self._ahead = min(2 * self._ahead, _MOST_AHEAD)
        stop = min(self._size, max(end, start + self._ahead))
        self._fetched += stop - start
        if self._fetched > _MOST_READ:
            raise UnreadableError("checkpoint.description_too_long")
        data = _get(self._url, start, stop - start, self._until)
        if len(data) < stop - start:
            raise UnreadableError("online.cut_short")
        self._parts.append((start, data))
        return data[: end - start]


def _get(url: str, start: int, count: int, until: float, *, ranged: bool = True) -> bytes:
    """Fetch a part of a file, or a whole answer of the hub that is no longer than that."""
    from huggingface_hub.utils import build_hf_headers

    check(until)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if ranged:
        headers["Range"] = f"bytes={start}-{start + count - 1}"
    data = bytearray()
    try:
        with _Answer(url, headers, min(_WAIT, max(1.0, until - time.monotonic()))) as answer:
            _check_status(answer.status, answer.code)
            if ranged and start and answer.status != 206:
                raise UnreadableError("online.no_ranges")
            for piece in answer.pieces():
                check(until)
                data += piece
                if len(data) >= count:
                    break
    except UnreadableError:
        raise
    except Exception as error:  # each client has its own
        key = "online.offline" if type(error).__name__ == "OfflineModeIsEnabled" else "online.unreachable"
        raise UnreadableError(key, error=type(error).__name__) from None
    if not ranged and len(data) >= count:
        raise UnreadableError("checkpoint.too_large")
    return bytes(data[:count])


class _Answer:
    """An answer that is read piece by piece: of httpx, which huggingface_hub has since 1.0, or of requests."""

    def __init__(self, url: str, headers: dict[str, str], wait: float) -> None:
        from huggingface_hub.utils import get_session

        session: Any = get_session()
        self._new = callable(getattr(session, "stream", None))  # of requests it is a flag
        asked = {"headers": headers, "timeout": wait}
        self._open = session.stream("GET", url, **asked) if self._new else session.get(url, stream=True, **asked)

    def __enter__(self) -> _Answer:
        self._answer = self._open.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.__exit__(kind, error, tb)

    @property
    def status(self) -> int:
        """What the server says: 200, 206, 404."""
        return int(self._answer.status_code)

    @property
    def code(self) -> str:
        """What the hub says besides: "GatedRepo", …, or ""."""
        return str(self._answer.headers.get("X-Error-Code") or "")

    def pieces(self) -> Iterator[bytes]:
        """Give what comes, as it comes."""
        pieces: Iterator[bytes] = self._answer.iter_bytes() if self._new else self._answer.iter_content(1 << 16)
        return pieces


def _check_status(status: int, code: str) -> None:
    if status < 400:
        return
    if code == "GatedRepo":
        raise UnreadableError("online.gated")
    if code == "RevisionNotFound":
        raise UnreadableError("online.no_revision")
    if code == "EntryNotFound":
        raise UnreadableError("checkpoint.missing")
    if code == "RepoNotFound" or status in (401, 403, 404):
        raise UnreadableError("online.no_model")
    raise UnreadableError("online.answered", status=status)
