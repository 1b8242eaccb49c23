"""Programs made at random: what is let go of before the line that failed is never missed behind it."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from types import FrameType
from typing import Any

import pytest

from nb_oomhelper.source.letting_go import dead_names, let_go
from nb_oomhelper.source.text_edits import read_text, write_edits

NAMES = "abcdef"
VALUES = [
    "{0}",
    "{0} + {1}",
    "sum([{0} for _ in range(2)])",
    "(lambda q={0}: q + {1})()",
    "int(f'{{{0}}}')",
    "({0} if {1} % 2 else {2})",
    "sum(x + {0} for x in (1, 2))",
    "g()",
]
PLAIN = ["{0} = ({v}) % 97", "{0} ^= ({v}) % 97", "{0}, {1} = ({v}) % 97, {2}", "print({v})", "{0}: int = {1}"]
BLOCKS = [
    ["if {0} % 2:", "..."],
    ["if {0} % 2:", "...", "else:", "..."],
    ["for {0} in range(2):", "..."],
    ["for i in range(3):", "    if {0} % 3 == i:", "        continue", "..."],
    ["for i in range(3):", "    if {0} % 3 == i:", "        break", "...", "else:", "..."],
    ["try:", "...", "    raise KeyError", "except KeyError:", "..."],
    ["try:", "...", "except KeyError:", "    pass", "finally:", "..."],
    ["with suppress():", "..."],
    ["def g():", "    return {0}"],
    ["g = lambda: {0}"],
]


def statement(rng: random.Random, depth: int) -> list[str]:
    some = rng.sample(NAMES, 3)
    if depth > 2 or rng.random() < 0.6:
        return [rng.choice(PLAIN).format(*some, v=rng.choice(VALUES).format(*rng.sample(NAMES, 3)))]
    lines: list[str] = []
    for line in rng.choice(BLOCKS):
        lines += [f"    {one}" for one in block(rng, depth + 1)] if line == "..." else [line.format(*some)]
    return lines


def block(rng: random.Random, depth: int) -> list[str]:
    return [line for _ in range(rng.randint(1, 4)) for line in statement(rng, depth)]


def run(source: str) -> tuple[dict[str, Any], str, str, set[int]]:
    """What a program leaves, prints and raises, and the lines that ran."""
    names: dict[str, Any] = dict(zip(NAMES, range(3, 9), strict=True))
    names |= {"suppress": contextlib.nullcontext, "g": lambda: 0}
    lines: set[int] = set()
    raised = ""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename == "<made>":
            lines.update([frame.f_lineno] if event == "line" else [])
            return trace
        return None

    before = sys.gettrace()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        sys.settrace(trace)
        try:
            exec(compile(source, "<made>", "exec"), names)
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
        finally:
            sys.settrace(before)
    return {name: names.get(name) for name in (*NAMES, "result")}, printed.getvalue(), raised, lines


@pytest.mark.parametrize("within", [False, True])
def test_nothing_is_missed(within: bool) -> None:
    rng, tried = random.Random(7), 0
    for _ in range(100):
        body = [line for _ in range(3) for line in block(rng, 0)]
        source = "\n".join(body) + "\n"
        if within:
            lines = ["c = d = e = f = 1", "g = lambda: 0", *body, "return a, b"]
            source = "def run(a, b):\n" + "".join(f"    {line}\n" for line in lines) + "result = run(3, 4)\n"
        text = read_text(source)
        assert text is not None, source
        left, printed, raised, ran = run(source)
        statements: Any = text.tree.body[0].body if within else text.tree.body  # type: ignore[attr-defined]
        for line in rng.sample(sorted(ran), min(3, len(ran))) if "Error: name" not in raised else ():
            names, node = dead_names(statements, line)
            changed = write_edits(text, let_go(text, names, node)) if node is not None else None
            if changed is not None:
                tried += 1
                then = run(changed.source)
                gone = {} if within else dict.fromkeys(names)
                assert then[1:3] == (printed, raised), changed.source
                assert then[0] | gone == left | gone, changed.source
    assert tried > 20
