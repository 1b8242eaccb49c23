"""What libraries take inside of XLA's fusions on the CPU, which the compiler's own plan leaves out.

XLA gives whole pieces of a program to a library (`kind=kCustom`); what it makes in between is in no plan. The largest
of these results may be there at once: with jaxlib 0.10.2 softmax(q @ k.T) @ k of 12,288 rows took 594 MiB, its plan was
3 MiB, and the largest result in between has 576 MiB.
"""

from __future__ import annotations

import math
import re

_CALLS = re.compile(r"kind=kCustom, calls=%?([\w.-]+)")
_BEGINS = re.compile(r"^%?([\w.-]+) \(.*\{$")
_RESULT = re.compile(r"^\s+%?[\w.-]+ = (\w+)\[([\d,]*)\]\S* (\w+)")
_NOT_MADE = ("parameter", "constant", "broadcast", "bitcast", "iota", "get")
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
_WIDTH = re.compile(r"[a-z]+(\d+)")


def largest_inside(text: str) -> int:
    """Give the bytes of the largest result in between, over all pieces that libraries compute.

    Args:
        text: The compiled program, as `as_text()` gives it.
    """
    called, name, largest = set(_CALLS.findall(text)), "", 0
    for line in text.split("\n") if called else ():
        if begins := _BEGINS.match(line):
            name = begins[1]
        elif name in called and (made := _RESULT.match(line)) and made[3] not in _NOT_MADE:
            sides = [int(side) for side in made[2].split(",") if side]
            largest = max(largest, math.prod(sides) * _bits(made[1]) // 8)
    return largest


def _bits(dtype: str) -> int:
    found = _WIDTH.match(dtype)
    return _BITS.get(dtype) or (int(found[1]) if found else 8)
