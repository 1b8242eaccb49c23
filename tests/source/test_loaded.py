"""Checkpoints that are only copied on lie in host memory."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.loaded import copied_on
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain


def _written(source: str) -> list[tuple[str, str]]:
    text = read_text(source)
    assert text is not None
    found = [(name, write_edits(text, edits)) for name, edits in copied_on(text, text.tree.body)]
    return [(name, changed.source) for name, changed in found if changed is not None]


USES = 'model.load_state_dict(ckpt["model"])\nstart = ckpt["epoch"] + 1\ndel ckpt'


@pytest.mark.parametrize(
    ("call", "written"),
    [
        ("torch.load(path)", 'torch.load(path, map_location="cpu")'),
        ("torch.load(path, map_location=device)", 'torch.load(path, map_location="cpu")'),
        ("torch.load(path, device)", 'torch.load(path, "cpu")'),
        ("torch.load(path, weights_only=True)", 'torch.load(path, weights_only=True, map_location="cpu")'),
    ],
)
def test_only_copied(call: str, written: str) -> None:
    assert _written(f"ckpt = {call}\n{USES}") == [("ckpt", f"ckpt = {written}\n{USES}")]


@pytest.mark.parametrize(
    "source",
    [
        'ckpt = torch.load(path, map_location="cpu")\nmodel.load_state_dict(ckpt)',
        'ckpt = torch.load(path)\nw = ckpt["embedding"]\nmodel.load_state_dict(ckpt["model"])',
        "ckpt = torch.load(path)\nuse(ckpt)",
        "ckpt = torch.load(path, **options)\nmodel.load_state_dict(ckpt)",
        "model = torch.load(path)\ny = model(x)",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert _written(source) == []
