"""What can be emptied where it is, below a name of the user's, by a call that runs no code of the user's."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.collecting import find_kept, root_of

_WORTH_EMPTYING = 1 << 20  # bytes


def find_emptiable(written: Written, held: Holdings, backend: str) -> Iterator[tuple[str, str, int]]:
    """Find what the notebook's own code collects, and what a cache keeps: nothing that the cell only reads.

    Args:
        written: What the notebook's code says, and what is kept.
        held: Who keeps what.
        backend: Where memory ran out.

    Returns:
        Path, as the user would write it, the statement and the bytes: "trainer.outputs", "trainer.outputs.clear()".
        Of several paths to the same bytes the one that has most, and of these the longest: it loses least.
    """
    sizes = {path: max((kept.size or {}).get(backend, 0), _of_row(path, held)) for path, kept in written.kept.items()}
    done: list[str] = []
    for path in sorted(sizes, key=lambda path: (-sizes[path], -len(path))):
        call, size = written.kept[path].call, sizes[path]
        if not call or size < _WORTH_EMPTYING or any(_is_part(path, one) or _is_part(one, path) for one in done):
            continue
        if is_collected(written, path, call):
            done.append(path)
            yield path, f"{path}.{call}()", size


def _is_part(path: str, whole: str) -> bool:
    return path.startswith(f"{whole}[")


def _of_row(path: str, held: Holdings) -> int:
    """What comes back where the holder's bytes lie just there."""
    rows = [index for index in held.of_kind("variable") if _path(held, index) == path]
    return max((held.freed_after_release(frozenset({index})) for index in rows), default=0)


def _path(held: Holdings, index: int) -> str:
    row = held.rows[index]
    return (row.path or row.name).removesuffix("[…]")


def is_collected(written: Written, path: str, call: str) -> bool:
    """Tell whether something is a cache, or what the notebook appends to: emptied, the cell still has its input.

    Args:
        written: What the notebook's code says.
        path: What would be emptied.
        call: How.
    """
    if call != "clear":
        return call == "cache_clear" or root_of(path) not in written.cell.needs
    last = path.rsplit(".", 1)[-1].split("[")[0]
    return any(next(find_kept(body, path), None) is not None for body in _bodies(written, path, last))


def _bodies(written: Written, path: str, last: str) -> Iterator[list[ast.stmt]]:
    """Where it may be collected: what the cell needs, only by itself and what it calls; it is its input otherwise."""
    if root_of(path) not in written.needed:
        texts = (written.read(source) for source in written.sources() if last in source)
        yield from (text.tree.body for text in texts if text is not None)
        return
    yield written.cell.tree.body
    for one in written.definitions:
        function = written.function(one) if one.called and last in one.source else None
        if function is not None:
            yield function[1].body
