"""What was read of several files, and adding that up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from nb_oomhelper.loading.checkpoint._files import UnreadableError
from nb_oomhelper.loading.checkpoint._record import Config, TensorSize, plain, total
from nb_oomhelper.records.note import Note, joined, note


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRead:
    """What one look at weights gave: as in `Checkpoint`, which has its source besides, and mostly another's config."""

    how: Literal["safetensors", "index", "pickle", "gguf", "config"]
    size: int
    config: Config | None = None
    tensors: tuple[TensorSize, ...] = ()
    note: Note | None = None


def summed(parts: Mapping[str, WeightsRead | UnreadableError], first: Note | None, *, prefix: bool) -> WeightsRead:
    """Add up files or components; what could not be read is left out, and the note says so.

    Args:
        parts: What each gave, or why it gave nothing, by its name.
        first: To be said first.
        prefix: Whether each is a model of its own, whose tensors get its name; otherwise a tensor that two
            of them have counts once, as it would be loaded once.

    Raises:
        UnreadableError: None could be read.
    """
    bad = failed(parts)
    good = {name: part for name, part in parts.items() if isinstance(part, WeightsRead)}
    if not good:
        raise UnreadableError(left_out("checkpoint.files_out", bad, len(parts)), named=True)
    tensors: dict[str, TensorSize] = {}
    for folder, part in good.items():
        for one in part.tensors:
            name = f"{folder}.{one.name}" if prefix else one.name
            tensors.setdefault(name, replace(one, name=name) if prefix else one)
    known = all(part.tensors or not part.size for part in good.values())
    notes = [note("checkpoint.of", name=plain(name), why=part.note) for name, part in good.items() if part.note]
    return WeightsRead(
        how=kinds.pop() if len(kinds := {part.how for part in good.values()}) == 1 else "pickle",
        size=total(tensors.values()) if known else sum(part.size for part in good.values()),
        tensors=tuple(tensors.values()) if known else (),
        note=joined(first, *notes, left_out("checkpoint.parts_out", bad, len(parts)) if bad else None),
    )


def failed(parts: Mapping[str, WeightsRead | UnreadableError]) -> dict[str, UnreadableError]:
    """Give those that could not be read."""
    return {name: part for name, part in parts.items() if isinstance(part, UnreadableError)}


def left_out(key: str, bad: Mapping[str, UnreadableError], of: int) -> Note:
    """Say how many were left out, and why the first was.

    Args:
        key: Of the sentence, which says what they are.
        bad: Those that could not be read, by name.
        of: How many there are in all.
    """
    name, error = next(iter(bad.items()))
    why = error.note if error.named else note("checkpoint.of", name=plain(name), why=error.note)
    return note(key, bad=len(bad), all=of, why=why)
