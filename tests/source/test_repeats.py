"""What cannot be done twice, as the syntax tree tells it."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.repeats import Repeat, find_repeats

NEEDS = {"stream", "queue", "results", "x", "df", "total", "path", "model"}


def told(source: str, line: int | None = None) -> list[tuple[str, str]]:
    found = find_repeats(ast.parse(source), line, NEEDS, {"stream", "other"})
    assert all(type(one) is Repeat for one in found)
    return [(one.kind, one.name) for one in found]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("n = int(input('how many? '))", [("input", "")]),
        ("open('log.txt', 'a').write('x')", [("file", "")]),
        ("with path.open('ab') as f:\n    f.write(b'x')", [("file", "")]),
        ("df.to_csv(path, mode='a')", [("file", "")]),
        ("open('a')", [("file", "")]),  # a mode, or a name: it says too much rather than too little
        ("df.to_csv('a')", []),
        ("open(path)", []),
        ("open(path, 'w').write('x')", []),  # written anew, and the same
        ("for part in stream:\n    y = part", [("consumed", "stream")]),
        ("first = next(stream)", [("consumed", "stream")]),
        ("for part in other:\n    y = part", []),  # the cell makes it itself
        ("job = queue.pop()\njob = queue.popleft()", [("taken", "queue")]),
        ("del results[0]", [("taken", "results")]),
        ("del results", []),
        ("for i in range(3):\n    results.append(i)", [("added", "results")]),
        ("results['a'].extend(y)", [("added", "results")]),
        ("y = np.append(y, 1); z = []; z.append(1)", []),
        ("x = x / 255", [("changed", "x")]),
        ("df['a'] = df['a'] * 2", [("changed", "df")]),
        ("total += 1", [("changed", "total")]),
        ("y = x / 255; df['b'] = x", []),
        ("def f():\n    results.append(1)", []),  # whether it is called nobody knows
        ("pred = model(x)", []),
    ],
)
def test_what_is_seen(source: str, expected: list[tuple[str, str]]) -> None:
    assert told(source) == expected


def test_only_what_was_reached_has_happened() -> None:
    source = "job = queue.pop()\nx = x / 255\ny = x @ x.T\nresults.append(y)\n"
    assert told(source, 3) == [("taken", "queue"), ("changed", "x")]
    assert told(source, 2) == [("taken", "queue")]  # what failed has changed nothing
