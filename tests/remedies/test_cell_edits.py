"""The failed cell's source: what is read off it, and the same cell in another form."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.knowledge.fix import Edit
from nb_oomhelper.remedies.cell_edits import edited, indented, shrunk
from nb_oomhelper.remedies.cell_phase import phase_of
from nb_oomhelper.remedies.cell_source import Cell, read_cell
from nb_oomhelper.source.numbers import Shrink
from nb_oomhelper.source.sizes import Known

pytestmark = pytest.mark.plain

HALVE = Edit(shrink=("batch_size", "bs"))
ACCUMULATE = Edit(shrink=("per_device_train_batch_size",), accumulate=("gradient_accumulation_steps",))
BY_HALF = Shrink(share=0.5)
CACHE = Edit(calls=("generate",), add=(("cache_implementation", '"offloaded"'),))


def cell(source: str) -> Cell:
    found = read_cell(source)
    assert found is not None
    return found


def changed(found: Cell, edit: Edit) -> tuple[str, str] | None:
    """What an edit makes of a cell, by half where it is about sizes."""
    if not edit.shrink:
        return edited(found, edit)
    smaller = shrunk(found.source, edit, BY_HALF, Known())
    return None if smaller is None else (smaller.source, smaller.told)


class TestRead:
    def test_names(self) -> None:
        found = cell("bs = 4\ndef f(x):\n    y = x.grad\n    return y\nout = f(model, batch_size=bs)")
        assert found.used == {"x", "y", "f", "model", "bs"}
        assert found.sets == {"bs", "y", "out"}
        assert {"grad", ".grad", "batch_size", "model"} <= found.words
        assert ".model" not in found.words
        assert found.obstacle == ""

    @pytest.mark.parametrize("line", ["%%time", "%time x = 1", "!nvidia-smi", "%matplotlib inline", "y = !ls", "x?"])
    def test_magics_stand_as_comments(self, line: str) -> None:
        found = cell(f"{line}\nif model:\n    {line}\n")
        assert (found.source, found.obstacle) == (f"pass  # {line}\nif model:\n    pass  # {line}\n", "magics")
        assert found.used == {"model"}

    @pytest.mark.parametrize("line", ["y = %time f(x)", "y: int = !ls $x", "y, z=!f {x}", "a.y = !f x"])
    def test_what_a_magic_gives(self, line: str) -> None:
        found = cell(f"{line}\nif a:\n    {line}\n")
        assert found.source == f"pass  # {line}\nif a:\n    pass  # {line}\n"
        assert "y" in found.sets
        assert "x" in found.needs
        assert found.obstacle == "magics"

    @pytest.mark.parametrize("line", ["?x", "x?", "x.f??  ", "  !f x", "*x*?"])
    def test_questions_and_commands(self, line: str) -> None:
        assert "x" in cell(f"if a:\n    {line}").needs

    def test_what_only_looks_like_a_magic_stays(self) -> None:
        text = 'query = """\n%s\n!x\n"""\nx = (1\n% 2)'
        assert (cell(text).source, cell(text).obstacle) == (text, "")

    def test_what_only_looks_like_a_magic_stays_beside_one(self) -> None:
        text = '%time f()\nquery = f"""\n%d items {x}\n  !x\n"""\n  '
        found = cell(text)
        assert (found.source, found.obstacle) == (f"pass  # {text}", "magics")
        assert found.needs == {"time", "f", "x"}

    def test_awaiting(self) -> None:
        assert cell("out = await model(x)").obstacle == "awaits"
        assert cell("async def f():\n    await g()").obstacle == ""
        assert cell("%time y\nout = await model(x)").obstacle == "magics"

    @pytest.mark.parametrize(
        "source",
        [
            "",
            " ",
            "x = = 1",
            "return 1",
            "x\0",
            "\ud800",
            "a\rb",
            "%%bash\nfor x in *; do ls; done",
            "x" * 60_000,
            "(" * 5_000,
            "x = " + "-" * 40_000 + "1",
        ],
    )
    def test_what_cannot_be_read(self, source: str) -> None:
        assert read_cell(source) is None

    def test_windows_line_ends(self) -> None:
        assert cell("a = 1\r\nb = 2").source == "a = 1\nb = 2"


class TestPhase:
    @pytest.mark.parametrize(
        ("source", "graph", "expected"),
        [
            ("loss.backward()", False, "train"),
            ("opt.zero_grad()", True, "train"),
            ("model.generate(x)", False, "infer"),
            ("out = model(x)", False, "unknown"),
            ("out = model(x)", True, "infer"),
            ("backward(1)", False, "unknown"),
        ],
    )
    def test_by_what_is_called(self, source: str, graph: bool, expected: str) -> None:
        assert phase_of(read_cell(source), graph) == expected

    def test_no_cell(self) -> None:
        assert phase_of(None, True) == "unknown"


class TestIndented:
    def test_texts_of_several_lines_stay(self) -> None:
        source = '\nx = """a\n  b\n"""\nif x:\n\ty = f"""{\nx}\n c"""\n# end'
        assert indented(cell(source)) == '    x = """a\n  b\n"""\n    if x:\n    \ty = f"""{\nx}\n c"""\n    # end'

    @pytest.mark.parametrize("source", ["from __future__ import annotations\nx = 1", "x = " + "a." * 20_000 + "b"])
    def test_what_cannot_stand_in_a_block(self, source: str) -> None:
        found = read_cell(source)
        assert found is None or indented(found) is None

    def test_an_import_of_everything_may(self) -> None:
        assert indented(cell("from math import *")) == "    from math import *"

    def test_it_does_the_same(self) -> None:
        source = "text = '''\n one\n    two\n'''\ndef f(n):\n  '''Doc\n  more'''\n  return n * [text,\n'x' \\\n'y']\n"
        source += "out = f(2)"
        plain: dict[str, object] = {}
        inside: dict[str, object] = {}
        exec(source, plain)
        exec(f"with __import__('contextlib').nullcontext():\n{indented(cell(source))}", inside)
        assert plain["out"] == inside["out"]
        assert plain["f"].__doc__ == inside["f"].__doc__


class TestEdited:
    @pytest.mark.parametrize(
        ("source", "edit", "expected", "change"),
        [
            ("bs = 64\nf(bs)", HALVE, "bs = 32\nf(bs)", "bs 64 → 32"),
            ("BATCH_SIZE: int = 0x40", HALVE, "BATCH_SIZE: int = 32", "BATCH_SIZE 64 → 32"),
            ("é = g('é', batch_size=(9))  # 9", HALVE, "é = g('é', batch_size=(4))  # 9", "batch_size 9 → 4"),
            (
                "a = L(x, batch_size=8)\nb = L(f(y, bs=2), batch_size=8)",
                HALVE,
                "a = L(x, batch_size=4)\nb = L(f(y, bs=1), batch_size=4)",
                "batch_size 8 → 4, bs 2 → 1",
            ),
            (
                "T('o', per_device_train_batch_size=8, gradient_accumulation_steps=3)",
                ACCUMULATE,
                "T('o', per_device_train_batch_size=4, gradient_accumulation_steps=6)",
                "per_device_train_batch_size 8 → 4, gradient_accumulation_steps 3 → 6",
            ),
            (
                "T(\n    'o',\n    per_device_train_batch_size=8,  # all\n)",
                ACCUMULATE,
                "T(\n    'o',\n    per_device_train_batch_size=4,  # all\n    gradient_accumulation_steps=2,\n)",
                "per_device_train_batch_size 8 → 4, gradient_accumulation_steps 1 → 2",
            ),
            (
                'p = f"as JSON: {{\\"a\\": {q}}}"\ny = m.generate(p)',
                CACHE,
                'p = f"as JSON: {{\\"a\\": {q}}}"\ny = m.generate(p, cache_implementation="offloaded")',
                'cache_implementation="offloaded"',
            ),
            (
                "for x in xs:\n    y = m.generate(x)",
                CACHE,
                'for x in xs:\n    y = m.generate(x, cache_implementation="offloaded")',
                'cache_implementation="offloaded"',
            ),
        ],
    )
    def test_changes(self, source: str, edit: Edit, expected: str, change: str) -> None:
        assert changed(cell(source), edit) == (expected, change)

    @pytest.mark.parametrize(
        ("source", "edit"),
        [
            ("f(batch_size=n)", HALVE),  # not a number that is written out
            ("f(batch_size=1)", HALVE),
            ("f(batch_size=True)", HALVE),
            ("f(batch_size=8.0)", HALVE),
            ("T(per_device_train_batch_size=8, gradient_accumulation_steps=n)", ACCUMULATE),
            ("T(per_device_train_batch_size=8, **more)", ACCUMULATE),
            ("T(gradient_accumulation_steps=2)", ACCUMULATE),
            ("m.generate(**inputs)", CACHE),  # which may hold it
            ("m.generate(x, cache_implementation='static')", CACHE),
            ("m(x)", CACHE),
            ("\n".join(f"f(bs={n})" for n in range(2, 20)), HALVE),  # too many places
        ],
    )
    def test_what_stays(self, source: str, edit: Edit) -> None:
        assert changed(cell(source), edit) is None


@given(st.text())
def test_any_text_is_read_or_not(text: str) -> None:
    found = read_cell(text)
    if found is not None:
        indented(found)
        changed(found, HALVE)


STATEMENTS = st.sampled_from(
    [
        "x = 1",
        "def f(a):\n\treturn '''\n t\n\t'''",
        "for y in [1,\n2]:\n  x = y",
        'text = f"""{x\n}\n  b"""',
        'prompt = f"Answer as JSON: {{\\"a\\": {q}}}"',
        'f(f"}}", bs=4)',
        "s = 'a' \\\n  'b'",
        "class A:\n    '''Doc\n  of A'''\n",
        "# only a comment",
        "",
        "if x: y = 2",
        "f(bs=8,\n  batch_size=4) ; bs = 6",
    ]
)


@given(st.lists(STATEMENTS, min_size=1, max_size=6))
def test_an_indented_cell_has_the_same_statements(statements: list[str]) -> None:
    source = "\n".join(statements)
    found = read_cell(source)
    if found is None:  # nothing but comments
        assert not source.strip()
        return
    if not found.tree.body:
        return
    block = indented(found)
    assert block is not None
    inner = ast.parse(f"with x:\n{block}").body[0]
    assert isinstance(inner, ast.With)
    assert [ast.dump(one) for one in inner.body] == [ast.dump(one) for one in ast.parse(source).body]


@given(st.lists(STATEMENTS, max_size=6))
def test_an_edit_changes_numbers_alone(statements: list[str]) -> None:
    found = read_cell("\n".join([*statements, "bs = 64"]))
    assert found is not None
    made = changed(found, HALVE)
    if made is not None:
        was, now = (ast.dump(ast.parse(text)).split("value=") for text in (found.source, made[0]))
        assert len(was) == len(now)
        assert {one.partition(")")[2] for one in was} == {one.partition(")")[2] for one in now}
