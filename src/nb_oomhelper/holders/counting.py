"""Count what a search has found: each storage once, under the exact set of holders that keep it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from nb_oomhelper.records.holdings import Holding, Holdings

NAMED = 3  # names, and shapes, that one row shows
Label = tuple[str, str | None, int | None]  # name, function, line


@dataclass(slots=True)
class HolderCount:
    """What one holder was found to keep; no object of the user's.

    Attributes:
        row: The holder; its bytes are filled in when all holders are known, and its name if it has none.
        storages: Bytes of each storage by key.
        parts: What each storage is for, by key, where that is known.
        shapes: Type and shape of large storages, by key.
        labels: What the holder's objects are called.
        first: For each storage, which of the objects was the first to reach it.
        estimated: Some of the bytes are an estimate.
    """

    row: Holding
    storages: dict[Hashable, int]
    parts: dict[Hashable, str]
    shapes: dict[Hashable, str]
    labels: list[Label]
    first: dict[Hashable, int]
    estimated: bool = False

    def add(self, sizes: dict[Hashable, int], first: dict[Hashable, int], *, estimated: bool) -> None:
        """Count what is no tensor or array, too.

        Args:
            sizes: Bytes by key.
            first: As for storages.
            estimated: Whether these bytes are an estimate.
        """
        for key, size in sizes.items():
            if key not in self.storages:
                self.parts[key] = "objects"
                self.first[key] = first[key]
            self.storages[key] = max(self.storages.get(key, 0), size)
        self.estimated |= estimated and bool(sizes)


def to_holdings(found: list[HolderCount], searched: int, total: int, seconds: float) -> Holdings:
    """Count each storage once under the set of holders that keep it.

    Args:
        found: The holders that were found, in the order of the search.
        searched, total: How many holders were searched through, of how many.
        seconds: How long the search took.

    Returns:
        The holders, largest share of their own first, and the bytes of each set of them.
    """
    keepers: dict[Hashable, list[int]] = {}
    sizes: dict[Hashable, int] = {}
    for index, holder in enumerate(found):
        for key, size in holder.storages.items():
            keepers.setdefault(key, []).append(index)
            sizes[key] = max(sizes.get(key, 0), size)
    named = {key for one in found for key in one.storages if one.parts.get(key) != "graph"}
    rows = []
    for index, holder in enumerate(found):
        own = {key: sizes[key] for key in holder.storages if keepers[key] == [index]}
        whole = {key: sizes[key] for key in holder.storages}
        name, function, line = _name(holder, own or whole)
        size = sum(own.values())
        rows.append(
            replace(
                holder.row,
                name=holder.row.name or name,
                path=_path(holder, own or whole) if holder.row.name else "",
                function=function,
                line=line,
                own=size,
                shared=sum(whole.values()) - size,
                count=len(whole),
                parts=_parts(holder, whole, named),
                shapes=_shapes(holder, whole),
                dtypes=_dtypes(holder, whole),
                estimated=holder.estimated,
            )
        )
    order = sorted(range(len(rows)), key=lambda index: (-rows[index].own, -rows[index].shared))
    rank = {old: new for new, old in enumerate(order)}
    shares: dict[tuple[int, ...], int] = {}
    places: dict[tuple[int, ...], list[int]] = {}
    for key, indexes in keepers.items():
        holders = tuple(sorted(rank[index] for index in indexes))
        shares[holders] = shares.get(holders, 0) + sizes[key]
        places.setdefault(holders, []).extend(_address(key))
    return Holdings(
        rows=tuple(rows[index] for index in order),
        shares=tuple(sorted(shares.items())),
        addresses=tuple(tuple(places[holders]) for holders in sorted(shares)),
        complete=searched == total,
        searched=searched,
        total=total,
        seconds=seconds,
    )


def _address(key: Hashable) -> list[int]:
    """Where a storage on a device begins; a framework's key ends with that: (backend, device, address)."""
    if isinstance(key, tuple) and len(key) == 3 and key[0] not in ("host", "meta") and isinstance(key[2], int):
        return [key[2]]
    return []


def _parts(holder: HolderCount, sizes: dict[Hashable, int], named: set[Hashable]) -> tuple[tuple[str, int], ...]:
    """Bytes by what they are for; what a name leads to past any graph, as to its parameters, is not the graph's."""
    parts: dict[str, int] = {}
    for key, size in sizes.items():
        part = holder.parts.get(key, "tensors")
        part = "tensors" if part == "graph" and key in named else part
        parts[part] = parts.get(part, 0) + size
    return tuple(sorted(parts.items(), key=lambda pair: -pair[1]))


def _shapes(holder: HolderCount, sizes: dict[Hashable, int]) -> tuple[str, ...]:
    shaped = [key for key in sizes if holder.shapes.get(key)]  # only these: others keep the rest of it
    largest = sorted(shaped, key=lambda key: -sizes[key])
    return tuple(holder.shapes[key] for key in largest[:NAMED])


def _dtypes(holder: HolderCount, sizes: dict[Hashable, int]) -> tuple[tuple[str, int], ...]:
    """Bytes by dtype, of the storages that are large enough to have a label, "float32 (3, 4)"."""
    dtypes: dict[str, int] = {}
    for key, size in sizes.items():
        name = holder.shapes.get(key, "").partition(" ")[0]
        if name:
            dtypes[name] = dtypes.get(name, 0) + size
    return tuple(sorted(dtypes.items(), key=lambda pair: -pair[1]))


def _path(holder: HolderCount, sizes: dict[Hashable, int]) -> str:
    """Where below a variable most of these bytes lie; "" where that is the variable itself."""
    name, _, _ = _ranked(holder, sizes)[0]
    return "" if name == holder.row.name else name


def _name(holder: HolderCount, sizes: dict[Hashable, int]) -> Label:
    """Name a holder after the objects that brought most of these bytes; names elsewhere in the stack are left out."""
    best = _ranked(holder, sizes)
    _, function, line = best[0]
    named = dict.fromkeys(name for name, *where in best if where == [function, line])
    return ", ".join(list(named)[:NAMED]), function, line


def _ranked(holder: HolderCount, sizes: dict[Hashable, int]) -> list[Label]:
    """Labels of the objects that brought these bytes, the largest first."""
    gains: dict[int, int] = {}
    for key, size in sizes.items():
        gains[holder.first[key]] = gains.get(holder.first[key], 0) + size
    return [holder.labels[index] for index in sorted(gains, key=lambda index: (-gains[index], index))]
