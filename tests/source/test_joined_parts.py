"""Parts that are joined: where each can be written into the result, how the code reads then, and where it stays."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.counting import Counts
from nb_oomhelper.source.joined_parts import find_joined
from nb_oomhelper.source.source_text import SourceText

pytestmark = pytest.mark.plain

COUNTS = Counts(
    lengths={"xs": 12, "sigmas": None, "files": 4, "d": None, "img": 100, "k": 3},
    tables={"df"},
    numbers={"n": 7, "cfg.n": 3},
)


def edited(source: str) -> str:
    """The source with each part written into the result."""
    text = SourceText(source)
    return text.edited([edit for one in find_joined(text, text.tree.body, COUNTS) for edit in one.edits])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "cube = np.stack([g(img, s) for s in sigmas], axis=-1)",
            "cube = nb_oomhelper.joined(np.stack, (g(img, s) for s in sigmas), len(sigmas), axis=-1)",
        ),
        (
            "np.stack([f(x) for x in xs], 1).max(1)",
            "nb_oomhelper.joined(np.stack, (f(x) for x in xs), len(xs), axis=1).max(1)",
        ),
        ("X = np.array([f(i) for i in range(n)])", "X = nb_oomhelper.joined(np.array, (f(i) for i in range(n)), n)"),
        (
            "X = np.asarray([f(i) for i in range(2, 9)], dtype=np.float32)",
            "X = nb_oomhelper.joined(np.asarray, (f(i) for i in range(2, 9)), len(range(2, 9)), dtype=np.float32)",
        ),
        (
            "a = numpy.vstack([  # all\n    f(x)\n    for x in tqdm(xs, leave=False)\n])",
            "a = nb_oomhelper.joined(numpy.vstack, (  # all\n    f(x)\n    for x in tqdm(xs, leave=False)\n), len(xs))",
        ),
        (
            "a = torch.stack([f(x) for i, x in enumerate(xs)], dim=1)",
            "a = nb_oomhelper.joined(torch.stack, (f(x) for i, x in enumerate(xs)), len(xs), dim=1)",
        ),
        (
            "torch.cat([x * 2 for x in img.split(8)])",
            "nb_oomhelper.joined(torch.cat, (x * 2 for x in img.split(8)), len(img.split(8)))",
        ),
        (
            "np.array([f(a, b) for a, b in zip(xs, files)])",
            "nb_oomhelper.joined(np.array, (f(a, b) for a, b in zip(xs, files)), min(len(xs), len(files)))",
        ),
        (
            "np.array([f(i, j) for i in range(n) for j in xs])",
            "nb_oomhelper.joined(np.array, (f(i, j) for i in range(n) for j in xs), n * (len(xs)))",
        ),
        (
            "np.array([f(k) for k, v in d.items()])",
            "nb_oomhelper.joined(np.array, (f(k) for k, v in d.items()), len(d))",
        ),
        (
            "np.array([f(p) for p in df['path']])",
            "nb_oomhelper.joined(np.array, (f(p) for p in df['path']), len(df['path']))",
        ),
        (
            "np.array([f(r) for r in df.itertuples()])",
            "nb_oomhelper.joined(np.array, (f(r) for r in df.itertuples()), len(df))",
        ),
        (
            "np.array([f(x) for x in files[:2]])",
            "nb_oomhelper.joined(np.array, (f(x) for x in files[:2]), len(files[:2]))",
        ),
        (
            "np.array([f(p) for p in sorted(os.listdir(path))])",
            "nb_oomhelper.joined(np.array, (f(p) for p in sorted(os.listdir(path))), len(os.listdir(path)))",
        ),
    ],
)
def test_comprehensions(before: str, after: str) -> None:
    assert edited(before) == after


@pytest.mark.parametrize(
    "source",
    [
        "np.stack([f(x) for x in xs if x])",
        "np.stack([f(x) for x in unknown])",
        "np.stack([f(x) for x in df])",
        "np.stack([f(j) for i in xs for j in range(i)])",
        "np.stack([x for x in xs])",
        "np.stack([img[i:i + 5] for i in range(n)])",
        "np.stack([img[i].reshape(-1) for i in range(n)])",
        "np.array([[f(i, j) for j in xs] for i in range(n)])",
        "np.array([x.tolist() for x in xs])",
        "np.array([len(x) for x in xs])",
        "np.array([(f(x), g(x)) for x in xs])",
        "np.array([line.split() for line in files])",
        "np.array([(y := f(x)) for x in xs])",
        "np.stack([f(x) for x in xs], out=y)",
        "np.array([f(x) for x in xs], copy=False)",
        "np.array([f(x) for x in xs], *more)",
        "np.array([f(x) for x in xs], **more)",
        "np.mean([f(x) for x in xs], axis=0)",
        "pd.concat([f(x) for x in xs])",
        "np.array([f(i) for i in range(next(d))])",
        "np.array([f(i) for i in range(g())])",
        "async def h():\n    return np.array([await f(x) for x in xs])",
    ],
)
def test_other_comprehensions_stay(source: str) -> None:
    assert edited(source) == source


LOOP = "frames = []\nfor x in xs:\n    y = f(x)\n    frames.append(y / 2)\n    print(len(frames))\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            LOOP + "X = np.array(frames, np.float32)\n",
            LOOP.replace("[]", "nb_oomhelper.Joining(np.array, len(xs), dtype=np.float32)") + "X = frames.joined()\n",
        ),
        (
            LOOP + "frames = np.stack(frames, axis=-1)\nprint(frames[0])\nframes += 1\n",
            LOOP.replace("[]", "nb_oomhelper.Joining(np.stack, len(xs), axis=-1)")
            + "frames = frames.joined()\nprint(frames[0])\nframes += 1\n",
        ),
        (
            "def load(n, size=3):\n    X, y = [], list()\n"
            "    for i in range(n):\n        X.append(f(i))\n        y.append(i)\n"
            "    del size\n    return np.array(X), np.array(y)\n",
            "def load(n, size=3):\n    X, y = nb_oomhelper.Joining(np.array, n), nb_oomhelper.Joining(np.array, n)\n"
            "    for i in range(n):\n        X.append(f(i))\n        y.append(i)\n"
            "    del size\n    return X.joined(), y.joined()\n",
        ),
        (
            "out = []\nk = range(3)\nwith torch.no_grad():\n"
            "    for i in k:\n        out.append(net(i))\nout = torch.cat(out, 1)\n",
            "out = []\nk = range(3)\nwith torch.no_grad():\n    out = nb_oomhelper.Joining(torch.cat, len(k), dim=1)\n"
            "    for i in k:\n        out.append(net(i))\nout = out.joined()\n",
        ),
        (
            "for fold in xs:\n    out = []\n"
            "    for i in files:\n        out.append(f(i, fold))\n    g(np.concatenate(out))\n",
            "for fold in xs:\n    out = nb_oomhelper.Joining(np.concatenate, len(files))\n"
            "    for i in files:\n        out.append(f(i, fold))\n    g(out.joined())\n",
        ),
        (
            LOOP + "    for z in y:\n        break\nX = np.vstack(frames)\ndel frames\n",
            LOOP.replace("[]", "nb_oomhelper.Joining(np.vstack, len(xs))")
            + "    for z in y:\n        break\nX = frames.joined()\ndel frames\n",
        ),
    ],
)
def test_lists_that_a_loop_fills(before: str, after: str) -> None:
    if before.startswith("def"):
        text = SourceText(before)
        found = list(find_joined(text, text.tree.body[0].body, COUNTS))  # type: ignore[attr-defined]
        assert text.edited([edit for one in found for edit in one.edits]) == after
    else:
        assert edited(before) == after


@pytest.mark.parametrize(
    "source",
    [
        LOOP + "X = np.array(frames)\nprint(frames[0])\n",
        LOOP + "X = np.array(frames)\nfor one in frames:\n    pass\n",
        LOOP + "X, Y = np.array(frames), np.array(frames)\n",
        LOOP + "X = np.array(frames)\nY = np.stack(frames)\n",
        LOOP + "frames.append(0)\nX = np.array(frames)\n",
        LOOP + "frames.sort()\nX = np.array(frames)\n",
        LOOP + "frames = frames[1:]\nX = np.array(frames)\n",
        LOOP + "if len(frames) > 3:\n    frames = np.array(frames)\nprint(frames)\n",
        LOOP + "def g():\n    return frames\nX = np.array(frames)\n",
        LOOP + "for i in range(2):\n    X = np.array(frames)\n",
        LOOP + "g = lambda: np.array(frames)\n",
        LOOP + "X = np.array(frames, dtype=y.dtype)\n",
        LOOP + "print(locals())\nX = np.array(frames)\n",
        LOOP.replace("    frames", "    if x:\n        frames") + "X = np.array(frames)\n",
        LOOP.replace("    y =", "    if not x:\n        continue\n    y =") + "X = np.array(frames)\n",
        LOOP.replace("    print", "    if x:\n        break\n    print") + "X = np.array(frames)\n",
        LOOP.replace("frames.append(y / 2)", "frames.append(y)\n    frames.append(x)") + "X = np.array(frames)\n",
        LOOP.replace("print(len(frames))", "frames[-1] += 1") + "X = np.array(frames)\n",
        LOOP.replace("print(len(frames))", "g(frames)") + "X = np.array(frames)\n",
        LOOP.replace("in xs", "in unknown") + "X = np.array(frames)\n",
        LOOP.replace("frames = []", "frames = [0]") + "X = np.array(frames)\n",
        LOOP.replace("frames = []\n", "") + "X = np.array(frames)\n",
        LOOP.replace("for x in xs", "while x") + "X = np.array(frames)\n",
        LOOP + "frames = []\nX = np.array(frames)\n",
        "X = np.array(frames)\n" + LOOP,
        LOOP + LOOP + "X = np.array(frames)\n",
    ],
)
def test_lists_that_are_used_otherwise_stay(source: str) -> None:
    assert edited(source) == source


@pytest.mark.parametrize(
    ("loop", "number"),
    [
        ("x in xs", 12),
        ("x in zip(xs, files)", 4),
        ("i in range(n)", 7),
        ("i in range(2 * n)", 14),
        ("i in range(1, cfg.n + 4, 2)", 3),
        ("i in range(img.shape[0])", 100),
        ("i in range(len(files))", 4),
        ("i in range(n) for x in xs", 84),
        ("p in np.array_split(img, 20)", 20),
        ("p in img.split(30)", 4),
        ("p in torch.split(img, 50)", 2),
        ("s in sigmas", None),
        ("i in range(m)", None),
    ],
)
def test_how_many_they_are(loop: str, number: int | None) -> None:
    text = SourceText(f"np.stack([f(0) for {loop}])")
    (one,) = find_joined(text, text.tree.body, COUNTS)
    assert COUNTS.number(one.count) == number


@pytest.mark.parametrize(
    ("call", "axis"),
    [
        ("np.array({})", 0),
        ("np.stack({})", 0),
        ("np.stack({}, -1)", -1),
        ("np.stack({}, axis=k)", None),
        ("np.vstack({})", None),
    ],
)
def test_which_axis_is_theirs(call: str, axis: int | None) -> None:
    text = SourceText(call.format("[f(x) for x in xs]"))
    (one,) = find_joined(text, text.tree.body, COUNTS)
    assert one.axis == axis
