"""Sizes of steps, found where people write them, and made smaller."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.source.numbers import Shrink, folded, is_meant
from nb_oomhelper.source.sizes import Known, shrink
from nb_oomhelper.source.text_edits import read_text

pytestmark = pytest.mark.plain

NAMES = load_catalog().fix("smaller-batch-cell").edit.shrink
QUARTER = Shrink(share=0.25)
KNOWN = Known(
    numbers={"n"},
    parameters={"train": ("model", "x", "batch_size"), "t.fit": ("x", "bs")},
    defaults={"train": {"batch_size": 512}, "t.fit": {"bs": 64}},
)


def changed(source: str, by: Shrink = QUARTER) -> str | None:
    text = read_text(source)
    found = None if text is None else shrink(text, NAMES, by, KNOWN)
    return None if found is None else found.changed.source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("bs, lr = 64, 1e-3\nf(bs)", "bs, lr = 16, 1e-3\nf(bs)"),
        ("BATCH_SIZE = 2**14", "BATCH_SIZE = 4096"),
        ("EVAL_BS = 8 * 1024  # rows", "EVAL_BS = 2048  # rows"),
        ("config = {'lr': 64, 'batch_size': 60_000}", "config = {'lr': 64, 'batch_size': 15000}"),
        ("args.batch_size = 64; cfg['bs'] = 8", "args.batch_size = 16; cfg['bs'] = 2"),
        ("train(m, x)", "train(m, x, batch_size=128)"),
        ("train(\n    m,\n    x,\n)", "train(\n    m,\n    x, batch_size=128\n)"),
        ("train(m, x, 4096)", "train(m, x, 1024)"),
        ("train(m, x, n)", "train(m, x, n // 4)"),
        ("predict(f, batch_size=len(f))", "predict(f, batch_size=len(f) // 4)"),
        ("predict(f, batch_size=f.shape[0] * 2)", "predict(f, batch_size=(f.shape[0] * 2) // 4)"),
        ("t.fit(X)", "t.fit(X, bs=16)"),
        (
            "for i in range(0, len(X), 4096):\n    f(X[i:i + 4096])",
            "for i in range(0, len(X), 1024):\n    f(X[i:i + 1024])",
        ),
        ("for part in X.split(4096): f(part)", "for part in X.split(1024): f(part)"),
        ("for part in torch.split(X, 4096, 0): f(part)", "for part in torch.split(X, 1024, 0): f(part)"),
        (
            "for x, y in DataLoader(data, 64, shuffle=True): f(x)",
            "for x, y in DataLoader(data, 16, shuffle=True): f(x)",
        ),
        ("def f(x, *, batch_size=256): g(x, batch_size)\nf(x)", "def f(x, *, batch_size=64): g(x, batch_size)\nf(x)"),
        ("for df in pd.read_csv(p, chunksize=10**6): f(df)", "for df in pd.read_csv(p, chunksize=250000): f(df)"),
        ("for é in g('é', chunk=8): é", "for é in g('é', chunk=2): é"),
    ],
)
def test_sizes_are_found(source: str, expected: str) -> None:
    assert changed(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "keys = jax.random.split(key, 64)",  # so many keys are wanted
        "batch = next(it)\nchunk = x[1:5]",  # no numbers
        "n_batches = 100; batch_idx = 4; num_batch = 5",
        "f(batch_size=BATCH_SIZE)",  # a smaller number where it is bound
        "f(batch_size=g())",
        "f(batch_size=1)",
        "f(batch_size=True, bs=8.0)",
        "text = f'{g(bs=4)}'",
        "train(*args)",
        "train(m, **more)",
        "for i in range(0, len(X), 4096):\n    f(X[i])",  # every 4096th
        "'a b'.split()",
        "fields = line.split(' ', 5)",
        "fields = line.split(sep, 5)",
        "re.split('a', text, 5)",
        "f(n_jobs=8, epochs=64)",
    ],
)
def test_what_is_no_size_stays(source: str) -> None:
    assert changed(source) is None


def test_how_it_is_told() -> None:
    text = read_text("bs = 64\nf(x, batch_size=30)")
    assert text is not None
    found = shrink(text, NAMES, Shrink(share=0.4), Known())
    assert found is not None
    assert found.told == ("bs 64 → 24", "batch_size 30 → 12")
    assert found.ratio == 0.4


@pytest.mark.parametrize(
    ("by", "was", "expected"),
    [
        (Shrink(share=0.63), 64, 40),
        (Shrink(share=0.63, whole=True), 64, 32),
        (Shrink(share=0.3, whole=True), 64, 16),
        (Shrink(share=0.4), 60_000, 24_000),
        (Shrink(share=0.01), 64, 1),
        (Shrink(share=0.4, multiple=32), 512, 192),
        (Shrink(share=0.25, requested=8 * 6144**2 * 4), 6144, 3072),  # what is asked for has the square in it
        (Shrink(share=0.25, requested=6144 * 4), 6144, 1536),
    ],
)
def test_the_new_number(by: Shrink, was: int, expected: int) -> None:
    assert by.of(was) == expected


@given(st.floats(0.0001, 0.999), st.integers(2, 1 << 30), st.booleans(), st.sampled_from([1, 32]))
def test_it_is_smaller_and_fits(share: float, was: int, whole: bool, multiple: int) -> None:
    new = Shrink(share=share, whole=whole, multiple=multiple).of(was)
    assert 1 <= new < was
    assert new == 1 or new <= was * max(share, 0.5) + 1


@pytest.mark.parametrize(("text", "number"), [("4 * 1024", 4096), ("1 << 20", 1 << 20), ("2**200", None), ("-4", None)])
def test_numbers_that_are_written_out(text: str, number: int | None) -> None:
    assert folded(ast.parse(text, mode="eval").body) == number


@given(st.text())
def test_any_name(name: str) -> None:
    assert not is_meant(name, ())


@pytest.mark.parametrize(
    "call", ["net.init_hidden(x.size(1))", "net.init_hidden(x.shape[0])", "net.init_hidden(bsz=x.size(0))"]
)
def test_how_large_something_is_stays(call: str) -> None:
    """What is made for data that is there must be as large as that."""
    text = read_text(f"h = {call}")
    assert text is not None
    known = Known(parameters={"net.init_hidden": ("bsz",)})
    assert shrink(text, ["bsz"], Shrink(share=0.5), known) is None
