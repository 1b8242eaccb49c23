"""Lists, dicts and arrays whose items can lie on disk: how the code reads then, and where they stay in memory."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.array_on_disk import arrays_on_disk
from nb_oomhelper.source.kept_on_disk import is_only_read, kept_on_disk
from nb_oomhelper.source.source_text import SourceText

pytestmark = pytest.mark.plain


def edited(source: str) -> str:
    """The source with all that can be on disk there."""
    text = SourceText(source)
    edits = [edit for one in kept_on_disk(text, text.tree.body, lambda _: None) for edit in one.edits]
    edits += [edit for one in arrays_on_disk(text, text.tree.body, lambda _: None) for edit in one.edits]
    return text.edited(edits)


def small(source: str) -> list[bool]:
    """Of each list whether next to nothing is made of it."""
    text = SourceText(source)
    return [one.small for one in kept_on_disk(text, text.tree.body, lambda _: None)]


FILM = "film = []\nfor t in range(n):\n    u = step(u)\n    film.append(u)\n"
PAIRS = "pairs = [(a, b) for a in xs for b in ys]\n"


LIST, DICT, ARRAY = (f"nb_oomhelper.{kind}OnDisk(" for kind in ("List", "Dict", "Array"))


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (f"{FILM}last = film[-1]", {"[]": f"{LIST})"}),
        ("h = [u]\nfor t in ts:\n    h += [f(h[-1])]", {"[u]": f"{LIST}[u])"}),
        ("film = []\nwhile True:\n    film.append(f())\n    if g():\n        break", {"[]": f"{LIST})"}),
        (f"{PAIRS}c = Counter(pairs)", {"[(": f"{LIST}(", "ys]": "ys)"}),
        ("d = {k: f(k) for k in ks}\nn = sum(d.values())", {"{k: f(k)": f"{DICT}(k, f(k))", "ks}": "ks)"}),
        ("r = {}\nfor k in ks:\n    r[k] = f(k)\nx = r['a']", {"{}": f"{DICT})"}),
        (
            "rows = []\nfor x in xs:\n    rows.append({'x': x})\ndf = pd.DataFrame(rows, columns=names)",
            {"[]": f"{LIST})", "pd.DataFrame(rows, ": "rows.frame("},
        ),
        (
            "fs = []\nfor p in ps:\n    f = load(p)\n    f['p'] = p\n    fs.append(f)\ndf = pd.concat(fs)",
            {"= []": f"= {LIST})", "pd.concat(fs)": "fs.concat()"},
        ),
        (
            'o = list(product("HT", repeat=n))\nc = Counter(x.count("H") for x in o)\nprint(len(o))',
            {"list(": LIST},
        ),
        (
            f"{FILM}film = np.array(film)\nm = film.mean(axis=1)",
            {"[]": f"{LIST})", "np.array(film)": "film.array(np.array)"},
        ),
        (
            f"{FILM}a = np.stack(film)\nprint(a[-1], a.std(axis=0))",
            {"[]": f"{LIST})", "np.stack(film)": "film.array(np.stack)"},
        ),
        ("xs = []\nfor i in range(n):\n    xs.append(f(i))\nxs = np.array(xs)\nxs /= 255", {"[]": f"{LIST})"}),
        (
            "p = np.zeros((n, m))\nfor t in range(1, n):\n    p[t] = p[t - 1] * f(t)\nx = p[-1]",
            {"np.zeros(": f"{ARRAY}np.zeros, "},
        ),
        (
            "p = np.full((n, m), 1.0)\nfor t in range(1, m):\n    p[:, t] = f(p[:, t - 1])\nx = p.mean(axis=1)",
            {"np.full(": f"{ARRAY}np.full, ", "1.0)": "1.0, axis=1)"},
        ),
    ],
)
def test_the_items_lie_on_disk(before: str, changes: dict[str, str]) -> None:
    after = before
    for old, new in changes.items():
        after = after.replace(old, new, 1)
    assert edited(before) == after


@pytest.mark.parametrize(
    "source",
    [
        FILM.replace("u = step(u)", "u += 1"),  # all items are one object
        FILM.replace("film.append(u)", "film.append(u)\n    u[0] = 1"),
        FILM.replace("    u = step(u)\n", "") + "u.sort()",
        f"{FILM}film[0] = u",
        f"{FILM}film[-1] += 1",
        f"{FILM}film[0][3] = 1",
        f"{FILM}film.sort()",
        f"{FILM}film.pop()",
        f"{FILM}same = film",
        f"{FILM}x = np.stack(film)",
        f"{FILM}x = np.stack(film)\nprint(f(x))",
        f"{FILM}x = np.stack(film)\nx[0] = 1",
        f"{FILM}x = torch.cat(film)",
        "d = {}\nfor k in ks:\n    d[k] = f(k)\ndf = pd.DataFrame(d)",
        "o = list(xs)\nc = Counter(o)",
        "o = list(zip(xs, ys))\nc = Counter(o)",
        f"{FILM}json.dump(film, file)",
        f"{FILM}words = sorted(film)",
        f"{FILM}for one in film:\n    one *= 2",
        f"{FILM}for one in film:\n    one['a'] = 2",
        f"{FILM}x = zip(*film)",
        f"{FILM}first = film[0]\nfirst += 1",
        f"{FILM}both = film + other",
        f"{FILM}others.append(film)",
        f"{FILM}df = pd.DataFrame(film, index=names)",
        f"{FILM}df = pd.concat(film, axis=1)",
        f"{FILM}eval('film')",
        f"{FILM}film = None\nfilm = []",
        f"{PAIRS}del pairs[0]",
        "d = {}\nfor k in ks:\n    d[k] += 1",
        "d = {}\nfor k in ks:\n    d.setdefault(k, []).append(1)",
        "d = {}\nfor k in ks:\n    d[k] = []\n    d[k].append(1)",
        "p = np.zeros((n, n))\nfor i in range(n):\n    for j in range(n):\n        p[i, j] = p[i - 1, j] + 1",
        "p = np.zeros((n, m))\nfor t in range(n):\n    p[t] += f(t)",
        "p = np.zeros((n, m))\nfor t in range(n):\n    p[t] = f(t)\nrow = p[3]\nrow += 1",
        "p = np.zeros((n, m))\nfor t in range(n):\n    p[t] = p[:, t]",
        "p = np.zeros((n, m))\nfor t in range(n):\n    p[t][mask] = f(t)",
        "p = np.zeros((n, m))\nfor t in range(n):\n    p[t] = f(t)\np.sort()",
        "p = np.zeros((n, m))\nfor t in range(n):\n    p[alive] = t",
        f"{FILM}both = film[:20] + film[35:]",
        f"{FILM}x = torch.stack(film[2:])",
        f"{FILM}shuffle(film[0])",
        "film = []\nwhile True:\n    film.append(f())",
        f"{FILM}for one in film:\n    writer.note(one)",
        f"{FILM}some = [one for one in film if one.any()]\nfor one in some:\n    one[0] = 1",
        f"{FILM}best = max(film, key=f)\nbest[0] = 1",
        FILM.replace("film.append(u)", "film.append(u)\n    np.add.at(u, [0], 1)"),
        "o = list(product(a, a))\na[0].append(5)\nprint(len(o))",
        f"{FILM}for one in film:\n    clean(one)",
        FILM.replace("film.append(u)", "film.append(u)\n    clean(u)"),
        *(
            f"p = np.zeros((n, m))\nfor t in range(3, n):\n    {step}\n{after}"
            for step, after in [
                ("p[t] = f(t)", "p[p < 0] = 0"),
                ("p[t] = f(t)", "p[[0, 5]] = 0"),
                ("p[t] = f(t)", "p[..., 0] = 1"),
                ("p[t] = f(t)", "p[0], p[1] = p[1], p[0]"),
                ("p[t] = f(t)", "for i, row in enumerate(p):\n    row /= row.max()"),
                ("p[t] = f(t)", "flat = p.ravel()\nflat[0] = 1"),
                ("p[t] = f(t)", "x = torch.from_numpy(p)"),
                ("w = p[t - 3 : t]\n    p[t] = w.mean()", ""),
                ("old = p.copy()\n    p[t] = old[t - 1]", ""),
                ("last = p[t - 1]\n    p[t] = last + 1\n    p[t - 1] = last * 2", ""),
                ("p[t] = f(t)\n    kept.append(p[t])", ""),
            ]
        ),
        "p = np.empty((n, m), dtype=object)\nfor t in range(n):\n    p[t] = f(t)",
        "p = np.full((n, m), row)\nfor t in range(n):\n    p[t] = f(t)",
        "p = np.zeros((n, m))\nfor alive in masks:\n    p[alive] = 1",
    ],
)
def test_what_stays_in_memory(source: str) -> None:
    assert edited(source) == source


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ("last = film[-1]", True),
        ("n = len(film)", True),
        ("shots = film[::20]", True),
        ("sums = [one.sum() for one in film]", True),
        ("for one in film:\n    total += one.sum()", True),
        ("halves = [one / 2 for one in film]", False),
        ("for one in film:\n    others.append(one / 2)", False),
        ("counts = Counter(film)", False),
        ("x = np.array(film)", False),
    ],
)
def test_whether_what_is_made_of_it_is_small(read: str, expected: bool) -> None:
    assert small(FILM + read)[0] is expected


def test_what_a_cell_does_with_what_it_was_given() -> None:
    for source, expected in (("x = f()\nprint(len(x))", True), ("x = f()\nx.sort()", False), ("x = f()\nx = 1", False)):
        text = SourceText(source)
        assert is_only_read(text, text.tree.body, ["x"], lambda _: None) is expected
