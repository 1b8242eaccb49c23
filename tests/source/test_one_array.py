"""Arithmetic written with one array: that it gives the same, takes less, and is left where it would not."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from nb_oomhelper.source.one_array import Arrays, one_array
from nb_oomhelper.source.text_edits import read_text, write_edits

numpy = pytest.importorskip("numpy")
SHAPE = (4096, 12)


def written(source: str, shape: tuple[int, ...] = SHAPE, **more: Any) -> str | None:
    text = read_text(source)
    assert text is not None
    names = {
        "alike": {"x", "y"},
        "whole": {"w"},
        "small": {"m", "s", "c"},
        "floats": {"m", "s"},
        "taken": {"np", "x", "y", "w"},
    } | more
    found = one_array(text, text.tree.body[-1], Arrays(shape=shape, **names))
    changed = None if found is None else write_edits(text, found[1])
    return None if changed is None else changed.source


def names_of(shape: tuple[int, ...] = SHAPE) -> dict[str, Any]:
    rng = numpy.random.default_rng(3)
    x = rng.normal(size=shape)
    x[5] = numpy.nan
    x[7] = numpy.inf
    y, whole = rng.normal(size=shape), rng.integers(0, 255, shape).astype("uint8")
    return {
        "np": numpy,
        "x": x,
        "y": y,
        "w": whole,
        "m": y.mean(axis=0),
        "s": y.std(axis=0),
        "c": 0.5,
        "rng": numpy.random.default_rng(4),
    }


def peak_of(source: str, names: dict[str, Any]) -> int:
    tracemalloc.start()
    with numpy.errstate(all="ignore"):
        exec(source, names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "expression",
    [
        "(x - x.mean(axis=0)) / x.std(axis=0)",
        "(x - m) / s",
        "(x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0))",
        "2 * (x - np.nanmean(x, axis=0)) / (np.nanstd(x, axis=0, ddof=1) + 1e-8) - 1",
        "(x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)",
        "1 / (1 + np.exp(-x))",
        "np.log1p(np.abs(x))",
        "np.exp(-((x - m) ** 2) / (2 * s**2))",
        "np.clip((x - m) / s, -3, 3)",
        "np.maximum(m - x * y, 0)",
        "(w - w.mean(axis=0)) / w.std(axis=0)",
        "(w / 255.0 - m) / s",
        "(w - m) / s",
        "np.sqrt(x * x - m)",
        "np.cumsum(rng.normal(0, 0.01, size=(4096, 12)), axis=1)",
        "100 * np.exp(np.cumsum(rng.standard_normal(size=(4096, 12)), axis=0))",
        "rng.normal(size=(4096, 12)).cumsum(axis=1) * c",
    ],
)
def test_the_same_comes_out_of_one_array(expression: str) -> None:
    source = f"z = {expression}\n"
    changed = written(source)
    assert changed is not None
    before, after = names_of(), names_of()
    kept = {name: after[name].copy() for name in ("x", "y", "w", "m", "s")}
    whole, less = peak_of(source, before), peak_of(changed, after)
    assert after["z"].dtype == before["z"].dtype
    assert after["z"].tobytes() == before["z"].tobytes() or numpy.array_equal(after["z"], before["z"], equal_nan=True)
    assert all(numpy.array_equal(after[name], kept[name], equal_nan=name == "x") for name in kept)
    assert less < whole * 0.75


def test_how_it_reads() -> None:
    assert written("z = (x - x.mean(axis=0)) / x.std(axis=0)\n") == (
        "x_std = x.std(axis=0)\nz = x - x.mean(axis=0)\nz /= x_std\n"
    )
    assert written("z = (x - x.min(0)) / (x.max(0) - x.min(0))  # to 1\n") == (
        "x_max = x.max(0)\nx_min = x.min(0)\nz = x - x_min\nz /= x_max - x_min  # to 1\n"
    )
    assert written("p = np.cumsum(rng.normal(size=(9, 9)), axis=1)\n") == (
        "p = rng.normal(size=(9, 9))\nnp.cumsum(p, axis=1, out=p)\n"
    )


def test_a_name_that_is_taken_is_left_alone() -> None:
    changed = written("x_std = 3\nz = (x - m) / x.std(axis=0)\n")
    assert changed == "x_std = 3\nx_std_ = x.std(axis=0)\nz = x - m\nz /= x_std_\n"


@pytest.mark.parametrize(
    "statement",
    [
        "z = x - x.mean(axis=0)",  # one array
        "z = (x - 1) / 2",  # NumPy uses the first one again
        "z = (z - m) / s",
        "z = y = (x - m) / s",
        "z[:] = (x - m) / s",
        "z = (x - m) / s > 0",
        "z = (x - m) // s",
        "z = (x - m) @ x.T",
        "z = (x - other) / s",
        "z = (x - x.mean(axis=0, dtype=np.float32)) / x.sum(where=mask)",
        "z = (w - w.min(axis=0)) / (w.max(axis=0) - w.min(axis=0))",  # whole numbers cannot be divided where they are
        "z = (w - c) / s",
        "z = np.exp(w) / s",
        "z = np.cumsum(x - m)",
        "z = np.cumsum(x - m, axis=1, dtype=int)",
        "z = np.diff(x - m, axis=0)",
        "z = np.where(x > 0, x - m, 0)",
        "z = np.exp(x - m, where=x > 0)",
        "z = np.cumsum(rng.normal(0, 1, n), axis=0)",
        "z = np.cumsum(rng.standard_normal(size=(9, 9), dtype=np.float32), axis=0)",
        "z = (x - m) ** s",
        "z = 2 ** (x - m)",
        "z = (x - m) / 1j",
        "z = f(x - m) / s",
        "z = math.exp(x - m) / s",
    ],
)
def test_what_stays(statement: str) -> None:
    assert written(f"{statement}\n") is None


def test_what_a_function_gives_back() -> None:
    text = read_text("def scale(x):\n    return (x - m) / x.std(axis=0)\n")
    assert text is not None
    node: Any = text.tree.body[0]
    found = one_array(text, node.body[0], Arrays(shape=SHAPE, alike={"x"}, small={"m"}))
    assert found is not None
    assert text.edited(found[1]).splitlines()[1:] == [
        "    x_std = x.std(axis=0)",
        "    result = x - m",
        "    result /= x_std",
        "    return result",
    ]
