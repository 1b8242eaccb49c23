"""What there is to say, without its words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people are to be told; `showing` has the words.

    Attributes:
        key: Of its sentence in `showing/wording.toml`: "nvml.no_driver".
        fields: What the sentence's blanks are filled with, by their names: text and numbers as they are, notes in
            words of the same language.
    """

    key: str
    fields: tuple[tuple[str, str | int | Note | None], ...] = ()


def note(key: str, **fields: str | int | Note | None) -> Note:
    """Make a note.

    Args:
        key: Of its sentence.
        fields: What its blanks are filled with.
    """
    return Note(key, tuple(fields.items()))


def size_note(size: int | None) -> Note:
    """A size to be written in words: bytes, or None for unknown."""
    return note("size", bytes=size)


def joined(*notes: Note | None, key: str = "list.then") -> Note | None:
    """Put notes one after another.

    Args:
        notes: In their order; None is left out.
        key: How: "list.then" between sentences, "list.and" between words.

    Returns:
        None of none.
    """
    found: Note | None = None
    for one in notes:
        if one is not None:
            found = one if found is None else note(key, first=found, then=one)
    return found
