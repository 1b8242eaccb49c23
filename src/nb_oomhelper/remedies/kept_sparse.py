"""Matrices that are made dense for estimators which take them sparse."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.places import Mistake, Place, refused_shape
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.estimators_made import Learn
from nb_oomhelper.source.sparse import KeptSparse, keep_sparse

_PCA_TAKES_SPARSE = (1, 4)  # scikit-learn's version
_PAIR = 20  # bytes for each two rows: a sparse product, and the same as an array
_MANY_COLUMNS = 100  # with so many, a table that is encoded is nearly empty


def find_kept_sparse(
    written: Written, event: OomEvent, held: Holdings, place: Place, running: list[ast.stmt]
) -> Iterator[Mistake]:
    """Find what makes a matrix dense in the statement that failed, or before it in the same code.

    Args:
        written: What the notebook's code says.
        event: What failed.
        held: Who keeps what.
        place: Where it may be written.
        running: The innermost statement that was running.
    """
    learned = written.learned
    if learned.gives_frames:
        return
    learn = Learn(
        known=learned.estimators if place.definition is None else {},
        foreign=learned.foreign | {one.owner or one.name for one in written.definitions},
        modern=learned.version >= _PCA_TAKES_SPARSE,
        places=frozenset(filter(str.isidentifier, _places(written))) if place.definition is None else frozenset(),
    )
    found = keep_sparse(place.text, place.body, running, learn)
    if found is None or _are_read_elsewhere(written, place, found):
        return
    saved, shape = _saved(written, event, held, found), refused_shape(event)
    if saved is not None and saved <= 0:
        return
    columns = shape[1] if shape is not None and len(shape) == 2 else 0
    yield Mistake(
        kind="nearly_sparse" if found.nearly else "still_sparse",
        subject=", ".join(found.nearly) or "toarray",
        place=place,
        edits=list(found.edits),
        explains=saved,
        in_cell=True,
        partly=found.chunked or (found.unsure and columns < _MANY_COLUMNS),
    )


def _places(written: Written) -> Iterator[str]:
    """Paths of arrays that can say which rows are meant."""
    for path, one in written.kept.items():
        if one.shape is not None and len(one.shape) == 1 and one.dtype.startswith(("int", "bool")):
            yield path


def _are_read_elsewhere(written: Written, place: Place, found: KeptSparse) -> bool:
    """Whether functions of the notebook read what is sparse then: what they do with it, nobody has looked at."""
    names = found.names | found.estimators if place.definition is None else frozenset()
    return any(written.is_read_by_functions(name) for name in names)


def _saved(written: Written, event: OomEvent, held: Holdings, found: KeptSparse) -> int | None:
    """Bytes that the matrices take; less what is computed of all pairs of their rows."""
    if event.requested is None:
        return None
    made = frozenset[int]().union(*(held.named(name) for name in found.names & written.made_names()))
    rows = (refused_shape(event) or (0,))[0] if found.pairs else 0
    return event.requested + held.freed_after_release(made) - _PAIR * rows * rows
