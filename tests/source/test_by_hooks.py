"""What hooks keep, put into host memory at the end of each step."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.by_hooks import move_each_step
from nb_oomhelper.source.element import Element
from nb_oomhelper.source.text_edits import read_text, write_edits

TENSOR, LISTED = Element("other", on_device=True), Element("graph", on_device=True, listed=True)
LOOP = "with torch.no_grad():\n    for x in xs:\n        net(x)\nprint(len(kept))\n"


@pytest.mark.parametrize(
    ("element", "source", "line", "added"),
    [
        (TENSOR, LOOP, 3, "        kept[:] = [one.cpu() for one in kept]"),
        (
            LISTED,
            LOOP,
            3,
            "        kept.update({key: [one.detach().cpu() for one in kept] for key, kept in kept.items()})",
        ),
        (TENSOR, LOOP, 4, None),  # no loop was running
        (TENSOR, LOOP.replace("net(x)", "if x:\n            continue"), 3, None),  # the end of a step may not come
    ],
)
def test_at_the_end_of_each_step(element: Element, source: str, line: int, added: str | None) -> None:
    text = read_text(source)
    assert text is not None
    changed = write_edits(text, move_each_step(text, text.tree.body, line, "kept", element))
    new = None if changed is None else set(changed.source.splitlines()) - set(source.splitlines())
    assert new == ({added} if added else None)
