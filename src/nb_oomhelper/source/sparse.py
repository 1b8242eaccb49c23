"""A matrix made dense for estimators that take it as it is: by `.toarray()`, or by an encoder that is told so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from nb_oomhelper.source.estimators_made import Learn
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.sparse_encoders import Encoders
from nb_oomhelper.source.sparse_takers import Estimators
from nb_oomhelper.source.sparse_uses import Uses
from nb_oomhelper.source.tree import last_name, reads_by_name, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSparse:
    """How a matrix stays sparse.

    Attributes:
        edits: What changes.
        names: The names that stand for a sparse matrix then.
        estimators: Those that stand for estimators which make one then.
        nearly: Estimators and functions whose numbers are nearly the same.
        pairs: Of all pairs of rows something is computed.
        chunked: Distances are computed in parts, of which scikit-learn lets each take up to 1 GiB.
        unsure: A `ColumnTransformer` decides by itself whether what it gives is sparse.
    """

    edits: tuple[Edit, ...]
    names: frozenset[str]
    estimators: frozenset[str]
    nearly: tuple[str, ...]
    pairs: bool
    chunked: bool
    unsure: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """What is made sparse together."""

    makers: tuple[ast.expr, ...]
    edits: tuple[Edit, ...]
    encoders: Encoders | None = None


def keep_sparse(text: SourceText, body: list[ast.stmt], running: list[ast.stmt], learn: Learn) -> KeptSparse | None:
    """Leave out what makes a matrix dense, where it goes only to what takes it sparse.

    Args:
        text: The source.
        body: The statements of the cell or the function.
        running: The one that failed.
        learn: What is known of scikit-learn beside the code.

    Returns:
        None where the failed statement neither makes nor reads such a matrix, and where it is used in another way.
    """
    if reads_by_name(body):
        return None
    estimators = Estimators(body, learn)
    groups = [_Group((one,), (_without_call(text, one),)) for one in _made_dense(body)]
    encoders = Encoders(body, estimators)
    if encoders.are_fine and (edits := encoders.edits(text)):
        groups.append(_Group(tuple(encoders.makers), tuple(edits), encoders))
    for some in (groups, *([one] for one in groups if len(groups) > 1)):
        uses = Uses(body, estimators)
        makers = [node for one in some for node in one.makers]
        uses.follow(makers, cut=all(map(_can_be_cut, makers)))
        if some and uses.are_fine and _concerns(running, some, uses):
            return _told(text, some, uses)
    return None


def _made_dense(body: list[ast.stmt]) -> list[ast.Call]:
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)]
    return [one for one in calls if last_name(one.func) in ("toarray", "todense") and not one.args and not one.keywords]


def _without_call(text: SourceText, call: ast.Call) -> Edit:
    return text.span(call.func.value)[1], text.span(call)[1], ""  # type: ignore[attr-defined]


def _can_be_cut(node: ast.expr) -> bool:
    """Whether rows can be taken from what is sparse then: not of SciPy's matrices of coordinates."""
    of = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else node
    made = [one for one in (node, of) if isinstance(one, ast.Call)]
    return any(last_name(one.func) in ("fit_transform", "transform") for one in made)


def _concerns(running: list[ast.stmt], groups: list[_Group], uses: Uses) -> bool:
    """Whether the failed statement makes one of the matrices, or reads one."""
    met = {id(one) for one in walk(running)}
    made = {id(one) for group in groups for one in (*group.makers, *(group.encoders.used if group.encoders else ()))}
    return bool(met & (made | uses.nodes.keys()))


def _without_table(text: SourceText, call: ast.Call, matrix: ast.expr) -> Iterator[Edit]:
    """`pd.DataFrame(matrix, columns=…)`: estimators take the matrix itself."""
    (start, end), (begin, stop) = text.span(call), text.span(matrix)
    opened, closed = ("(", ")") if "\n" in text.text[begin:stop] else ("", "")
    yield from ((start, begin, opened), (stop, end, closed))


def _told(text: SourceText, groups: list[_Group], uses: Uses) -> KeptSparse:
    encoders = [one.encoders for one in groups if one.encoders is not None]
    nearly = [*uses.nearly, *(name for one in encoders for name in one.nearly)]
    tables = [edit for call, matrix in uses.tables for edit in _without_table(text, call, matrix)]
    return KeptSparse(
        edits=(*(edit for one in groups for edit in one.edits), *tables),
        names=frozenset(uses.names),
        estimators=frozenset(name for one in encoders for name in one.names),
        nearly=tuple(dict.fromkeys(nearly)),
        pairs=uses.pairs,
        chunked=uses.chunked,
        unsure=any(one.unsure for one in encoders),
    )
