"""Knowledge that is not packaged: whose folders there are, how their files are read, and which of them are trusted.

Files of a person's own lie in a folder of theirs; a team's come with a package that has an entry point of the group
`nb_oomhelper.knowledge`, whose value is the module beside which they lie. That package is not imported. What a fix of
either would run is only shown until the person has said that they trust the file: its very content, by its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata, util
from pathlib import Path

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.units import format_bytes

GROUP = "nb_oomhelper.knowledge"
_LARGEST = 1 << 20  # bytes of one file; a real one has a few KiB


def package_folders(problems: list[str]) -> list[Path]:
    """Find the folders that installed packages bring; nothing of these packages is imported.

    Args:
        problems: Gets one line for each entry point that leads to no folder.

    Returns:
        The folders, by the names of their entry points.
    """
    folders = []
    try:
        points = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    except Exception as error:  # another distribution's metadata may hold anything
        problems.append(f"entry points of {GROUP}: cannot be read: {type(error).__name__}: {error}")
        return []
    for point in points:
        folder = _folder_of(point.value)
        if folder is None or not any((folder / kind).is_dir() for kind in ("entries", "fixes")):
            problems.append(f"entry point {point.name} = {point.value}: there is no folder with entries/ or fixes/")
        elif folder not in folders:
            folders.append(folder)
    return folders


def _folder_of(module: str) -> Path | None:
    """Where a module lies; of a package with dots only the first is looked for, which imports none."""
    root, *inner = module.partition(":")[0].strip().split(".")
    try:
        spec = util.find_spec(root)
    except Exception:  # a finder of somebody else's; a module without a spec
        return None
    places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    return next((found for place in places if (found := place.joinpath(*inner)).is_dir()), None)


def read_small(path: Path, where: str) -> bytes:
    """Read a file from outside, which may be anything: a folder, a pipe that never ends, a film.

    Args:
        path: The file.
        where: What it is called in an error.

    Raises:
        KnowledgeError: It is none, it is too large, or it cannot be read.
    """
    try:
        if not path.is_file():
            raise KnowledgeError(f"{where}: is not a file")
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise KnowledgeError(f"{where}: cannot be read: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise KnowledgeError(f"{where}: is larger than {format_bytes(_LARGEST)}")
    return data


def decoded(data: bytes, where: str) -> str:
    """Read bytes as text.

    Args:
        data: Of a file.
        where: What it is called in an error.

    Raises:
        KnowledgeError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")  # some Windows editors begin with a byte order mark
    except UnicodeDecodeError as error:
        raise KnowledgeError(f"{where}: is not UTF-8 text: byte {error.start} ends it") from error


def hash_of(data: bytes) -> str:
    """Give the name of a content."""
    return hashlib.sha256(data).hexdigest()


def fix_files(path: Path) -> list[Path]:
    """Give the files of fixes that a path stands for: itself, or those of a folder.

    Args:
        path: A file, a folder with ``fixes/``, or a folder of fixes.
    """
    folder = path / "fixes" if (path / "fixes").is_dir() else path
    return [path] if path.is_file() else sorted(one for one in folder.glob("*.toml") if one.is_file())


def read_trusted(file: Path) -> dict[str, str]:
    """Read what is trusted.

    Args:
        file: Where that is kept.

    Returns:
        The path under which a content was trusted, by its hash; nothing where there is no such file.

    Raises:
        KnowledgeError: The file is damaged: then nothing is trusted.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(decoded(read_small(file, str(file)), str(file)))
    except (ValueError, RecursionError) as error:
        raise KnowledgeError(f"{file}: is damaged ({error}); nothing is trusted") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise KnowledgeError(f"{file}: is damaged (it holds no table of texts); nothing is trusted")
    return found


def trust(file: Path, contents: Mapping[str, Path]) -> None:
    """Trust contents from now on.

    Args:
        file: Where that is kept.
        contents: The file that has it, by its hash; what was trusted of the same file before is so no longer.

    Raises:
        KnowledgeError: It cannot be written.
    """
    paths = {str(path) for path in contents.values()}
    _write(file, dict(_without(file, paths)) | {digest: str(path) for digest, path in contents.items()})


def distrust(file: Path, paths: Iterable[Path]) -> int:
    """Trust nothing of these files any more.

    Args:
        file: Where that is kept.
        paths: Files, or folders with all below them.

    Returns:
        How many contents that were.

    Raises:
        KnowledgeError: It cannot be written.
    """
    roots = list(paths)
    before = read_trusted(file)
    gone = {path for path in before.values() if any(Path(path).is_relative_to(root) for root in roots)}
    _write(file, dict(_without(file, gone)))
    return sum(path in gone for path in before.values())


def _without(file: Path, paths: set[str]) -> Iterator[tuple[str, str]]:
    return ((digest, path) for digest, path in read_trusted(file).items() if path not in paths)


def _write(file: Path, trusted: Mapping[str, str]) -> None:
    """Write it whole or not at all: another kernel may read it now."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as written:
                json.dump(trusted, written, indent=2)
            Path(name).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise KnowledgeError(f"{file}: cannot be written: {error.strerror or error}") from error
