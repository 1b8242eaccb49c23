"""Lists of flags as bytearrays: only where nobody sees the difference."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.flags import flags_in_bytes
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain

SIEVE = """
sieve = [True] * (n + 1)
sieve[0] = sieve[1] = False
for p in range(2, int(n ** 0.5) + 1):
    if sieve[p]:
        sieve[p * p::p] = [False] * len(range(p * p, n + 1, p))
total = sum(sieve)
primes = [i for i, prime in enumerate(sieve) if prime]
largest = next(k for k in range(n, 1, -1) if sieve[k] and k)
"""
LOOP = """
seen = [False] * n
out = []
for x in data:
    if not seen[x]:
        out.append(x)
    seen[x] = True
left = seen.count(False)
"""


def _changed(source: str) -> str | None:
    text = read_text(source)
    assert text is not None
    found = flags_in_bytes(text, text.tree.body)
    changed = None if found is None else write_edits(text, found[1])
    return None if changed is None else changed.source


@pytest.mark.parametrize(
    ("source", "given", "names"),
    [
        (SIEVE, {"n": 1000}, ("total", "primes", "largest")),
        (LOOP, {"n": 50, "data": [3, 7, 3, 9, 7]}, ("out", "left")),
        ("f = [False] * n\nf[2] = True\ng = 0\nfor one in f:\n    if one:\n        g += 1", {"n": 9}, ("g",)),
        ("f = 9 * [True]\nf[1:4] = [False] * 3\ng = sum(f[2:]), len(f)", {}, ("g",)),
    ],
)
def test_it_gives_the_same(source: str, given: dict[str, object], names: tuple[str, ...]) -> None:
    changed = _changed(source)
    assert changed is not None
    assert "bytearray" in changed
    assert "[True]" not in changed.replace("bytearray([1])", "")
    ends = []
    for code in (source, changed):
        own = dict(given)
        exec(code, own)
        ends.append([own[name] for name in names])
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "use",
    [
        "print(f)",
        "g = f",
        "g = f[2]",
        "g = [one for one in f]",
        "f.append(True)",
        "f[3] = None",
        "f[3] = x",
        "f[1:3] = other",
        "g = f[1:3]",
        "f = f + f",
        "def g():\n    return f",
        "g = f[2] is True",
        "g = {i: one for i, one in enumerate(f)}",
        "f += [True]",
        "f[2] += 1",
        "g = f[2] and 'yes'",
    ],
)
def test_where_it_would_be_seen(use: str) -> None:
    assert _changed(f"f = [False] * n\n{use}\n") is None


def test_numbers_are_no_flags() -> None:
    assert _changed("f = [0] * n\nf[2] = 5\n") is None
