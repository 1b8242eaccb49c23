"""What a dict remembers on a device, remembered in host memory."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.remembered import only_looked_at, remember_on_host
from nb_oomhelper.source.text_edits import read_text, write_edits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "if k not in memo:\n    memo[k] = f(k)\nreturn memo[k]",
            "if k not in memo:\n    memo[k] = f(k).cpu()\nreturn memo[k].cuda()",
        ),
        (
            "if k in memo:\n    return memo[k]\nout = f(k)\nmemo[k] = out\nreturn out",
            "if k in memo:\n    return memo[k].cuda()\nout = f(k)\nmemo[k] = out.cpu()\nreturn out",
        ),
        ("memo[k] = a + b\nprint(len(memo))", "memo[k] = (a + b).cpu()\nprint(len(memo))"),
        ("memo = {}\nmemo[k] = f(k)\nmemo.clear()", "memo = {}\nmemo[k] = f(k).cpu()\nmemo.clear()"),
        ("v = memo[k] = f(k)", None),  # `v` would lie elsewhere
        ("memo[k] = f(k)\nreturn memo.get(k)", None),  # it may be None
        ("memo[k] = f(k)\nreturn torch.stack(list(memo.values()))", None),
        ("memo[k] += f(k)", None),
        ("memo[k] = f(k)\nreturn memo", None),
        ("memo = dict(old)\nmemo[k] = f(k)", None),
        ("return memo[k]", None),
        ("memo[k] = f(k)\nmemo[k].add_(1)", None),  # the next one who looks it up finds that
        ("memo[k] = f(k)\nv = memo[k]\nv += 1", None),
    ],
)
def test_put_in_host_memory_and_brought_back(before: str, after: str | None) -> None:
    text = read_text(before)
    assert text is not None
    changed = write_edits(text, remember_on_host(text, text.tree.body, "memo"))
    assert (changed and changed.source) == after


@pytest.mark.parametrize(
    ("code", "only"),
    [("print(len(c.memo), k in c.memo)", True), ("x = c.memo[k]", False), ("for k in sorted(c.memo): f(k)", True)],
)
def test_what_other_code_does_with_it(code: str, only: bool) -> None:
    text = read_text(code)
    assert text is not None
    assert only_looked_at(text.tree.body, "c.memo") is only
