"""Whole numbers in a source: which are meant by their name, what they are, and how much smaller they become."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

_LARGEST = 1 << 40  # no size of a step is larger
_LONG = 128  # with the squares of smaller numbers too many requests can be divided
_FEW = 1024  # samples: up to there a batch is to be made of equal parts, even of smaller ones
_POWERS = (ast.LShift, ast.Pow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink:
    """How much smaller a number becomes.

    Attributes:
        share: The part of it that fits, below 1.
        whole: So many of the new ones are to add up to the old one.
        multiple: What it is to be a multiple of, where it is larger than that.
        requested: Bytes that were asked for, or 0: where a number's square is in them, they grow with that.
    """

    share: float
    whole: bool = False
    multiple: int = 1
    requested: int = 0

    @property
    def parts(self) -> int:
        """In how many parts the old number is done."""
        return max(2, math.ceil(1 / max(self.share, 1 / _LARGEST)))

    def of(self, was: int) -> int:
        """The new number; 1 at least."""
        if self.whole or was <= 8:
            most = self.parts * 2 if was <= _FEW else self.parts * 5 // 4
            even = (parts for parts in range(self.parts, most + 1) if was % parts == 0)
            return max(1, was // next(even, self.parts))
        squared = was >= _LONG and self.requested and self.requested % (was * was) == 0
        fits = max(1, int(was * (self.share**0.5 if squared else self.share)))
        if fits > self.multiple > 1:
            return fits - fits % self.multiple
        decimal = was % 10 == 0  # as people write it: two digits and zeros; else three digits of two
        unit = 10 ** max(0, len(str(fits)) - 2) if decimal else 1 << max(0, fits.bit_length() - 3)
        return fits - fits % unit


def is_meant(name: str, names: Collection[str]) -> bool:
    """Tell whether a name is among those that are meant, whatever its case; theirs may have a `*`."""
    lower = name.lower().strip("_")
    return any(fnmatchcase(lower, pattern) for pattern in names)


def folded(node: ast.expr | None) -> int | None:
    """Give a whole number that is written out, also as a product or a power: 64, 4 * 1024, 2**16, 1 << 20.

    Returns:
        The number; None for anything else, and for what is far too large.
    """
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int and abs(node.value) <= _LARGEST else None
    if not isinstance(node, ast.BinOp):
        return None
    left, right = folded(node.left), folded(node.right)
    if left is None or right is None or (isinstance(node.op, _POWERS) and not (0 <= right <= 40 and abs(left) <= 4096)):
        return None
    if isinstance(node.op, ast.FloorDiv):
        return left // right if right else None
    told: dict[type[ast.operator], Callable[[int, int], int]] = {
        ast.Mult: lambda a, b: a * b,
        ast.Add: lambda a, b: a + b,
        ast.Sub: lambda a, b: a - b,
        ast.Pow: lambda a, b: int(a**b),
        ast.LShift: lambda a, b: a << b,
    }
    make = told.get(type(node.op))
    value = None if make is None else make(left, right)
    return value if value is not None and abs(value) <= _LARGEST else None
