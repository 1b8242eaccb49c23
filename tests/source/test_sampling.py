"""A part of the data, or of the results, in place of all: only where the rest of the code goes on meaning the same."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.sampling import keep_newest, take_rows, wants_all
from nb_oomhelper.source.text_edits import read_text, write_edits

pytestmark = pytest.mark.plain


def sampled(source: str, frames: str = "", **counts: int | None) -> str | None:
    text = read_text(source)
    assert text is not None
    edits = take_rows(text, counts, 8, frames)
    found = write_edits(text, edits) if edits else None
    return None if found is None else found.source


class TestTakeRows:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("tree = linkage(X)\n", "tree = linkage(X[::8])\n"),
            ("d = X[:, None] - X[None]\n", "d = X[::8][:, None] - X[::8][None]\n"),
            ('m = X["a"].mean()\n', 'm = X[::8]["a"].mean()\n'),
            ("big = X[X > 3]\n", "big = X[::8][X[::8] > 3]\n"),
            ("out = [f(x) for x in X]\n", "out = [f(x) for x in X[::8]]\n"),
            ('print(f"{len(X)} rows")\nd = f(X)\n', 'print(f"{len(X)} rows")\nd = f(X[::8])\n'),
        ],
    )
    def test_every_reading_of_it(self, source: str, expected: str) -> None:
        assert sampled(source, X=None) == expected

    def test_of_a_text_the_beginning(self) -> None:
        assert sampled("c = Counter(kmers(genome, k))\n", genome=800) == "c = Counter(kmers(genome[:100], k))\n"

    def test_of_a_table_a_name_in_brackets_is_a_column(self) -> None:
        assert sampled("z = X[columns].apply(f)\n", frames="X", X=None) == "z = X[::8][columns].apply(f)\n"

    def test_what_has_as_many_rows_goes_with_it(self) -> None:
        assert sampled("f(X, y)\n", X=None, y=None) == "f(X[::8], y[::8])\n"

    @pytest.mark.parametrize(
        "source",
        [
            "X = f(X)\n",
            "X[0] = 1\nf(X)\n",
            "X.sort()\nf(X)\n",
            "X.mul_(2)\nf(X)\n",
            "del X[0]\nf(X)\n",
            "X += 1\nf(X)\n",
            "f(X)\nprint(X[17])\n",
            "for i in order:\n    f(X[i])\n",
            "f(lambda: X)\n",
            "def g():\n    return X\nf(g, X)\n",
            "f(other)\n",
            "big = X[mask]\n",
        ],
    )
    def test_none_where_a_part_would_not_do(self, source: str) -> None:
        assert sampled(source, X=None) is None


class TestKeepNewest:
    def kept(self, source: str, keeper: str = "film") -> str | None:
        text = read_text(source)
        assert text is not None
        edits = keep_newest(text, text.tree.body, keeper, 4)
        found = write_edits(text, edits) if edits else None
        return None if found is None else found.source

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            (
                "for t in range(9):\n    film.append(f(t))\n    print(t)\n",
                "for t in range(9):\n    film.append(f(t))\n    del film[:-4]\n    print(t)\n",
            ),
            (
                "for t in range(9):\n    if t % 2:\n        film.append(f(t))  # every other\n",
                "for t in range(9):\n    if t % 2:\n        film.append(f(t))  # every other\n        del film[:-4]\n",
            ),
        ],
    )
    def test_right_behind_what_is_put_in(self, source: str, expected: str) -> None:
        assert self.kept(source) == expected

    def test_of_an_object_as_its_methods_call_it(self) -> None:
        source = "def run(self):\n    self.film.append(1)\n"
        assert self.kept(source, "sim.film") == source + "    del self.film[:-4]\n"

    @pytest.mark.parametrize(
        "source",
        [
            "for t in r: film.append(t)\n",
            "film.append(a); b()\n",
            "x = film.append(a)\n",
            "other.append(a)\n",
            "while True:\n    film.append(f())\n",  # it would not even end any more
        ],
    )
    def test_none_where_there_is_no_line_for_it(self, source: str) -> None:
        assert self.kept(source) is None

    @pytest.mark.parametrize(
        ("source", "all_of_it"),
        [
            ("film.append(x)\nprint(len(film))\nfilm[-1].show()\nopponent = random.choice(film)\n", False),
            ("film.append(x)\nnp.stack(film)\n", True),
            ("film.append(x)\nfor x in film:\n    show(x)\n", True),
            ("film.append(x)\nfilm[0]\n", True),
            ("film.append(x)\nreturn_it(film)\n", True),
            ("film = []\nfilm.append(x)\n", False),
        ],
    )
    def test_who_wants_all(self, source: str, all_of_it: bool) -> None:
        text = read_text(source)
        assert text is not None
        assert wants_all(text.tree.body, "film") is all_of_it
