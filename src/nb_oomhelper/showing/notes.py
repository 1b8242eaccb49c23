"""Notes of the records in words, and records as JSON, where their notes are English sentences."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.note import Note
from nb_oomhelper.showing.markup import plain
from nb_oomhelper.showing.wording import say, say_size


def say_note(note: Note, language: Language) -> str:
    """Put a note into words.

    Args:
        note: What there is to say.
        language: "en" or "zh".

    Returns:
        One line, in which what came from outside has no markup.
    """
    given = dict(note.fields)
    if note.key == "size":
        size = given["bytes"]
        return say_size(size if isinstance(size, int) else None, language)
    return say(note.key, language, **{name: _filled(value, language) for name, value in given.items()})


def say_notes(notes: tuple[Note | None, ...], language: Language) -> list[str]:
    """Put notes into words, each on a line of its own.

    Args:
        notes: In their order; None is left out.
        language: "en" or "zh".
    """
    return [say_note(note, language) for note in notes if note is not None]


def _filled(value: str | int | Note | None, language: Language) -> object:
    if isinstance(value, Note):
        return say_note(value, language)
    return plain(value) if isinstance(value, str) else value


def for_json(record: object) -> Any:
    """A record as what `json.dumps` takes: sizes stay bytes, unknown is None, notes are sentences in English."""
    if isinstance(record, Note):
        return say_note(record, "en")
    if is_dataclass(record) and not isinstance(record, type):
        return {one.name: for_json(getattr(record, one.name)) for one in fields(record)}
    if isinstance(record, dict):
        return {name: for_json(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [for_json(one) for one in record]
    return record
