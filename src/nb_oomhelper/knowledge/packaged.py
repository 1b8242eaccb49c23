"""What is packaged, as records: those that were read when the wheel was built, or else what its files say now.

The wheel holds beside each kind of files a pickle of their records, which takes a tenth of the time; it is part of the
installed code as any module is, and counts only as long as the files are those that it was made from.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.entry import Entry, read_entry
from nb_oomhelper.knowledge.fix import Fix, read_fix

Kind = Literal["entries", "fixes"]
_Record = TypeVar("_Record", Entry, Fix)
_READERS: dict[Kind, Callable[[str], Any]] = {"entries": read_entry, "fixes": read_fix}


def packaged(kind: Kind) -> dict[str, Any]:
    """Give all packaged records of one kind, by id.

    Args:
        kind: "entries" or "fixes".

    Raises:
        KnowledgeError: A file is missing or broken: the installation is damaged.
    """
    texts = _texts(kind)
    found = _kept(kind, texts)
    return _read(kind, texts) if found is None else found


def pack(kind: Kind) -> bytes:
    """Give what the wheel holds beside its files of one kind, under the name `kept_as(kind)`.

    Args:
        kind: "entries" or "fixes".
    """
    texts = _texts(kind)
    return _stamp(texts) + pickle.dumps(_read(kind, texts), protocol=5)


def kept_as(kind: Kind) -> str:
    """Give the name of the file with the records of one kind, in the folder of this module."""
    return f"{kind}.pickle"


def _texts(kind: Kind) -> dict[str, str]:
    """The files of one kind, by their names; an error names the kind."""
    folder = resources.files("nb_oomhelper.knowledge") / kind
    try:
        files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
        texts = {file.name: file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)}
    except (OSError, UnicodeDecodeError) as error:
        raise KnowledgeError(f"packaged {kind} cannot be read: {' '.join(str(error).split())}") from error
    if not texts:
        raise KnowledgeError(f"packaged {kind} are missing")
    return texts


def _read(kind: Kind, texts: Mapping[str, str]) -> dict[str, Any]:
    records: dict[str, Any] = {}
    for name, text in texts.items():
        add(records, f"{kind}/{name}", _READERS[kind], text)
    return records


def _kept(kind: Kind, texts: Mapping[str, str]) -> dict[str, Any] | None:
    """The records as they were read when the wheel was built; None where there are none of just these files."""
    stamp = _stamp(texts)
    try:
        data = (resources.files("nb_oomhelper.knowledge") / kept_as(kind)).read_bytes()
        found: dict[str, Any] | None = pickle.loads(data[len(stamp) :]) if data.startswith(stamp) else None
    except Exception:  # a damaged pickle may raise anything
        return None
    return found


def _stamp(texts: Mapping[str, str]) -> bytes:
    """What tells these files from others: 32 bytes."""
    found = hashlib.sha256()
    for part in (part for pair in texts.items() for part in pair):
        found.update(f"{len(part)}:".encode() + part.encode())
    return found.digest()


def add(
    records: dict[str, _Record],
    where: str,
    read: Callable[[str], _Record],
    text: str,
    origin: Path | None = None,
    *,
    trusted: bool = True,
) -> None:
    """Read one file's text into records; errors begin with the file's name.

    Args:
        records: By id in lower case.
        where: What the file is called.
        read: Makes a record of a text.
        text: Of the file.
        origin: The file, if it is from outside.
        trusted: Whether what it runs may run; else it is only shown.

    Raises:
        KnowledgeError: It is broken, or its id is taken.
    """
    try:
        record = read(text)
    except KnowledgeError as error:
        raise KnowledgeError(f"{where}: {error}") from error
    if record.id.casefold() in records:
        raise KnowledgeError(f"{where}: id: {record.id!r} is already in another file of this folder")
    record = replace(record, origin=origin)
    if isinstance(record, Fix) and not trusted:
        record = replace(record, trusted=False, applicability="display_only")
    records[record.id.casefold()] = record
