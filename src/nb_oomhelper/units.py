"""Bytes to text and back: the only place that knows what a MiB is.

All sizes elsewhere are `int` bytes, or None for "unknown".
"""

from __future__ import annotations

import math
import re

_STEPS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# PyTorch's MPS allocator prints KB, MB and GB but divides by 1024 (aten/src/ATen/mps/MPSAllocator.h);
# no framework that we read prints decimal units, so both spellings mean the same power of 1024.
_FACTORS = {"": 0, "B": 0, "BYTE": 0, "BYTES": 0}
# XLA's compiler for TPUs writes "21.90G", and R in French "21.9 Go".
_FACTORS |= {f"{letter}{end}": 10 * power for power, letter in enumerate("KMGTPE", 1) for end in ("IB", "B", "O", "")}
_SIZE = re.compile(r"\s*(?P<number>\d[\d,]*(?:\.\d*)?)\s*(?P<unit>[A-Za-z]*)\s*", re.ASCII)
NOISE = 1 << 20
"""Bytes by which a reading changes by itself: less is nothing."""
_ABSURD = 1 << 60  # frameworks have printed "17179869184.00 GiB in use": such a figure says nothing


def format_bytes(size: int | None) -> str:
    """Write a size in three digits: "2.00 GiB", "33.5 MiB", "512 bytes"; None is "unknown".

    A unit ends where its number would have four digits: 1,000 MiB are "0.977 GiB". Below 1 KiB the bytes are exact.
    """
    if size is None:
        return "unknown"
    sign, size = ("-", -size) if size < 0 else ("", size)
    if size < 1 << 10:
        return f"{sign}{size} bytes"
    for power, name in enumerate(_STEPS, 1):
        number = size / (1 << 10 * power)
        if number < 999.5 or name == _STEPS[-1]:
            break
    digits = next(digits for digits, end in ((3, 0.9995), (2, 9.995), (1, 99.95), (0, math.inf)) if number < end)
    return f"{sign}{number:.{digits}f} {name}"


def parse_bytes(text: str) -> int | None:
    """Read a size as a framework prints it: "2.00 GiB", "337. GiB", "1,024 bytes", "30.55GiB".

    Returns:
        Bytes, rounded to a whole number; None where the text is no size, or a size of an exbibyte or
        more, which only a broken counter prints.
    """
    match = _SIZE.fullmatch(text[:64])
    if match is None:
        return None
    power = _FACTORS.get(match["unit"].upper())
    if power is None:
        return None
    number = float(match["number"].replace(",", ""))
    if not math.isfinite(number):
        return None
    size = round(number * (1 << power))
    return size if size < _ABSURD else None
