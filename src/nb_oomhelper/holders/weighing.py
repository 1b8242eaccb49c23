"""Weigh what is no tensor: texts, bytes and containers of small objects, of which there may be millions.

Objects are told apart by exact class, so nothing of the user's runs. What only one object refers to belongs to that
object; what several refer to is counted under a key of its own, once for all holders. Of very many objects a few are
followed, and stand for the others. Which few depends on their addresses, so two lists of the same objects show the
same ones.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from sys import getallocatedblocks, getrefcount
from typing import Any

from nb_oomhelper.frameworks import _numpy, _python
from nb_oomhelper.holders.referents import referents
from nb_oomhelper.holders.roots import Root
from nb_oomhelper.holders.sorts import ATOM, KNOWN, SKIPPED, Sorts

_LEAST = 1 << 20  # bytes: a holder that keeps less is not worth a row for it
_LARGE = 1 << 12  # bytes of a text that has a key of its own wherever more than one refers to it
_MANY = 10_000  # objects that are met one by one
_CHUNK = 256  # containers that are opened at once
_BLOCK = 1 << 14  # members between two looks at the clock
_FOLLOWED = 1 << 15  # of all blocks of memory that Python has given out, so many are followed, at most
_PRIMES = (61, 127, 251, 509, 1021, 2039, 4093)  # addresses have steps: by a prime they are chosen evenly
_FINE = 7  # where that chooses nobody
_GOLDEN = 0.618  # its multiples are spread evenly, however many there are
_SHARE = 0.5  # of the time that is left, at most, for one holder: the largest may come last
_ROUGH = 0.01  # seconds for each of those that come when time is up
_ROUGH_IN_ALL = 0.1
_ALONE = 1 + next(map(getrefcount, [object()]))  # what it says of one in a list of ours to which one other refers


@dataclass(slots=True)
class Weight:
    """What one holder keeps beside tensors and arrays; no object of the user's.

    Attributes:
        sizes: Bytes by key.
        first: For each key, which of the holder's objects has the largest part of it.
        estimated: Not all was followed.
        count: How many objects there are, about.
        leads: Tensors, arrays or the like were met, or may be below what was not followed to its end.
    """

    sizes: dict[Hashable, int] = field(default_factory=dict)
    first: dict[Hashable, int] = field(default_factory=dict)
    estimated: bool = False
    count: float = 0
    leads: bool = False


@dataclass(slots=True)
class _Group:
    """Objects that go when one object goes.

    Attributes:
        key: Of that object.
        factor: For how many objects each of them stands.
        part: Which of the holder's objects led there; None for the holder itself.
        things: Those that are still to be opened.
    """

    key: Hashable
    factor: float
    part: int | None
    things: list[object]


@dataclass(slots=True)
class _Trail:
    weight: Weight
    parts: dict[int, int]
    seen: set[int]
    sums: dict[tuple[Hashable, int | None], float] = field(default_factory=dict)
    waiting: list[_Group] = field(default_factory=list)

    def add(self, key: Hashable, part: int | None, size: float) -> None:
        place = (key, part)
        self.sums[place] = self.sums.get(place, 0) + size


class _Clock:
    """A holder has a share of the time that is left; when time is up, still enough for a rough look.

    What that takes is the thread's own time: a busy machine would leave nothing of it.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = self._until = time.monotonic() + seconds
        self._rough, self._rough_until = _ROUGH_IN_ALL, 0.0

    @contextmanager
    def share(self) -> Iterator[None]:
        started, used = time.monotonic(), time.thread_time()
        share, rough = (self._deadline - started) * _SHARE, min(_ROUGH, self._rough)
        self._until, self._rough_until = started + share, used + rough
        yield
        if share < rough:
            self._rough -= time.thread_time() - used

    def left(self) -> float:
        return max(0.0, self._until - time.monotonic(), self._rough_until - time.thread_time())


class Weigher:
    """Weighs holders until a deadline."""

    def __init__(self, sorts: Sorts, barred: frozenset[int], seconds: float) -> None:
        self._sorts = sorts
        self._barred = barred
        self._clock = _Clock(seconds)
        wanted = getallocatedblocks() / _FOLLOWED
        self._prime = next((prime for prime in _PRIMES if prime >= wanted), _PRIMES[-1])

    def weigh(self, root: Root) -> Weight:
        """Weigh what a root leads to.

        Args:
            root: The holder, with its objects.

        Returns:
            Its bytes by key; none where they are few.
        """
        parts: dict[int, int] = {}
        for number, (_, part) in enumerate(root.things):
            parts.setdefault(id(part), number)
        trail = _Trail(Weight(), parts, set(self._barred))
        with self._clock.share():
            for index, thing in _heads(root):
                self._meet_head(thing, index, trail)
                while trail.waiting and self._clock.left():
                    self._open(trail.waiting.pop(), trail)
        weight = trail.weight
        if trail.waiting:
            weight.estimated = weight.leads = True
        if sum(trail.sums.values()) >= _LEAST:
            _book(trail, len(root.things) - 1)
        return weight

    def may_hold(self, root: Root) -> bool:
        """Tell whether it is a text or the like that is worth a row by itself."""
        things = [thing for _, thing in root.things if self._sorts.of(thing)[1] == ATOM]
        return any(_python.size_of(thing) >= _LEAST for thing in things)

    def _meet_head(self, thing: object, index: int | None, trail: _Trail) -> None:
        """Begin with an object that has a name; it has a key of its own, whoever else refers to it."""
        sort = self._sorts.of(thing)[1]
        if sort == ATOM:
            trail.add(_python.key_of(thing), index, _python.size_of(thing))
        elif sort == KNOWN:
            self._meet_known(thing, _Group(_python.key_of(thing), 1, index, []), trail)
        elif sort != SKIPPED and id(thing) not in trail.seen:
            trail.seen.add(id(thing))
            part = trail.parts.get(id(thing)) if index is None and _is_container(thing) else index
            trail.waiting.append(_Group(_python.key_of(thing), 1, part, [thing]))

    def _open(self, group: _Group, trail: _Trail) -> None:
        """Count the objects of a group, and meet what they refer to."""
        things = group.things
        for at in range(0, len(things), _CHUNK):
            if not self._clock.left():
                trail.weight.estimated = trail.weight.leads = True
                return
            chunk = things[at : at + _CHUNK]
            own = sum(map(_python.size_of, chunk))
            trail.add(group.key, group.part, own * group.factor)
            crowds = [thing for thing in chunk if _is_container(thing) and len(thing) > _MANY]  # type: ignore[arg-type]
            for crowd in crowds:
                for members in _members(crowd):
                    self._meet_many(members, group, trail)
            few = [thing for thing in chunk if not any(thing is crowd for crowd in crowds)] if crowds else chunk
            self._meet_many(_Listed(referents(few)), group, trail)

    def _meet_many(self, members: _Members, group: _Group, trail: _Trail) -> None:
        if members.count <= _MANY:
            things, factor = [thing for block in members.blocks() for thing in block], group.factor
        else:
            things, ratio = self._choose(members)
            factor = group.factor * ratio
            trail.weight.estimated = True
        members.drop()
        self._meet(things, _Group(group.key, factor, group.part, []), trail)

    def _choose(self, members: _Members) -> tuple[list[object], float]:
        """Choose a few by their addresses; for how many each stands. What there is no time to see counts, too."""
        until = time.monotonic() + self._clock.left() / 2  # those that are chosen are still to be followed
        for prime in (self._prime, _FINE, 1):
            chosen: list[object] = []
            for block in members.blocks():
                chosen += [thing for thing in block if not id(thing) % prime]
                if len(chosen) >= _FOLLOWED or time.monotonic() > until:  # one object may be in a list a million times
                    break
            if chosen:
                break
        return chosen, members.count / max(1, len(chosen))

    def _meet(self, things: list[object], group: _Group, trail: _Trail) -> None:
        """Count texts and the like; put off what refers to others. Every object passes here."""
        sorts, sort_of, size_of, seen = self._sorts.by_class, self._sorts.of, _python.size_of, trail.seen
        trail.weight.count += len(things) * group.factor
        own = 0
        following: list[object] = []
        outermost = group.part is None
        for thing, count in zip(things, list(map(getrefcount, things)), strict=True):
            sort = (sorts.get(id(type(thing))) or sort_of(thing))[1]
            if sort == SKIPPED:
                continue
            part = trail.parts.get(id(thing)) if outermost else group.part
            if sort == ATOM:
                size = size_of(thing)
                if count <= _ALONE and part == group.part:
                    own += size
                else:
                    self._meet_shared(thing, size, count, _Group(group.key, group.factor, part, []), trail)
            elif sort == KNOWN:
                self._meet_known(thing, group, trail)
            elif id(thing) not in seen:
                seen.add(id(thing))
                if count <= _ALONE and part == group.part:
                    following.append(thing)
                else:
                    key = group.key if count <= _ALONE else _python.key_of(thing)
                    trail.waiting.append(_Group(key, group.factor, part, [thing]))
        trail.add(group.key, group.part, own * group.factor)
        if following:
            trail.waiting.append(_Group(group.key, group.factor, group.part, following))

    def _meet_shared(self, thing: object, size: int, count: int, group: _Group, trail: _Trail) -> None:
        """Count what others may refer to, too, by itself; small ones only as far as they are among the chosen."""
        if count <= _ALONE:
            trail.add(group.key, group.part, size * group.factor)
        elif id(thing) not in trail.seen and (size >= _LARGE or not id(thing) % self._prime):
            trail.seen.add(id(thing))
            factor = group.factor if group.factor > 1 or size >= _LARGE else self._prime
            trail.add(_python.key_of(thing), group.part, size * factor)

    def _meet_known(self, thing: object, group: _Group, trail: _Trail) -> None:
        trail.weight.leads = True
        if id(thing) not in trail.seen and _numpy.has_objects(thing):
            trail.seen.add(id(thing))
            self._meet_many(_Listed(_numpy.members(thing)), group, trail)


class _Members:
    """Many objects, block by block, so that no list of all of them is needed: there may be no room for it."""

    count: int

    def blocks(self) -> Iterator[Sequence[object]]:
        """Give them, in an order of which every beginning is spread over the whole where that is possible."""
        raise NotImplementedError

    def drop(self) -> None:
        """Refer to them no longer."""


class _Listed(_Members):
    def __init__(self, things: Any) -> None:
        self._things = things
        self.count = len(things)

    def blocks(self) -> Iterator[Sequence[object]]:
        number = -(-self.count // _BLOCK)
        for index in sorted(range(number), key=lambda index: index * _GOLDEN % 1):
            yield self._things[index * _BLOCK : (index + 1) * _BLOCK]

    def drop(self) -> None:
        self._things = ()


class _Iterated(_Members):
    def __init__(self, things: Any) -> None:
        self._things = things
        self.count = len(things)

    def blocks(self) -> Iterator[Sequence[object]]:
        rest = iter(self._things)
        while block := list(islice(rest, _BLOCK)):
            yield block


def _heads(root: Root) -> list[tuple[int | None, object]]:
    """What to begin with: where all is below one object, that one, whose parts are found on the way."""
    if root.thing is not None and any(thing is root.thing for _, thing in root.things):  # a frame's locals may be None
        return [(None, root.thing)]
    return [(index, thing) for index, (_, thing) in enumerate(root.things)]


def _is_container(thing: object) -> bool:
    kind = type(thing)
    return any(kind is one for one in _python.CONTAINERS)


def _members(crowd: Any) -> list[_Members]:
    kind = type(crowd)
    if kind is list or kind is tuple:
        return [_Listed(crowd)]
    if issubclass(kind, dict):
        return [_Iterated(dict.keys(crowd)), _Iterated(dict.values(crowd))]
    return [_Iterated(crowd)]


def _book(trail: _Trail, whole: int) -> None:
    """Fill in the sizes: each key's is a whole number, and it lies where most of it does."""
    largest: dict[Hashable, float] = {}
    sums: dict[Hashable, float] = {}
    for (key, part), size in trail.sums.items():
        sums[key] = sums.get(key, 0) + size
        if size > largest.get(key, -1):
            largest[key] = size
            trail.weight.first[key] = whole if part is None else part
    trail.weight.sizes = {key: round(size) for key, size in sums.items()}
