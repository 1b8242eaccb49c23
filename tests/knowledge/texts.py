"""The texts of an entry or a fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from nb_oomhelper.knowledge.toml_tables import Text


def texts_of(record: object, path: str = "") -> Iterator[tuple[str, Text]]:
    """All texts in two languages below a record, each with its place."""
    if isinstance(record, Text):
        yield path, record
    elif isinstance(record, tuple):
        for at, one in enumerate(record, 1):
            yield from texts_of(one, f"{path}[{at}]")
    elif is_dataclass(record):
        for field in fields(record):
            yield from texts_of(getattr(record, field.name), f"{path}.{field.name}")
