"""The loader call that failed, read off real frames: packages that load as the real ones do, cells of a real shell."""

from __future__ import annotations

import ast
import io
import linecache
import os
import sys
import tokenize
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb_oomhelper.loading.failed_call import find_call
from nb_oomhelper.loading.loaders import Option, load_rows, spell
from nb_oomhelper.loading.rewrite import Changed, change
from nb_oomhelper.records.event import FailedCall
from tests.shells import in_shell

pytestmark = pytest.mark.plain

# Installed packages, reduced to who calls whom.
PACKAGES = {
    "transformers/__init__.py": "from .auto import AutoModel\nfrom .modeling import Llama",
    "transformers/auto.py": """
from .modeling import Llama
class AutoModel:
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **options):
        if pretrained_model_name_or_path == "small":
            return None
        model_class = Llama
        return model_class.from_pretrained(pretrained_model_name_or_path, **options)
""",
    "transformers/modeling.py": """
def restore_dtype(function):
    def _wrapper(*args, **options):
        return function(*args, **options)
    return _wrapper
class Llama:
    @classmethod
    @restore_dtype
    def from_pretrained(cls, pretrained_model_name_or_path, **options):
        return cls.load_weights()
    @classmethod
    def load_weights(cls):
        raise MemoryError
""",
    "huggingface_hub/__init__.py": """
def validate(function):
    def _inner_fn(*args, **options):
        return function(*args, **options)
    return _inner_fn
""",
    "diffusers/__init__.py": """
from huggingface_hub import validate
from transformers import AutoModel
class Pipeline:
    @classmethod
    @validate
    def from_pretrained(cls, name, **options):
        part = AutoModel.from_pretrained(name)
        return part
""",
    "sentence_transformers/__init__.py": """
from transformers import AutoModel
class SentenceTransformer:
    def __init__(self, name):
        model = AutoModel.from_pretrained(name)
""",
}
# A file of the user's beside the notebook.
HELPERS = """
from transformers import AutoModel
PATH = 'gpt2'
def load():
    model = AutoModel.from_pretrained(PATH)
    return model
"""

# One that is given to %run.
SCRIPT = """
from transformers import AutoModel
SCRIPT = 'gpt2'
model = AutoModel.from_pretrained(SCRIPT)
"""

FIRST = "import asyncio, contextlib, diffusers, transformers; from transformers import AutoModel, Llama; NAME = 'gpt2'"
AUTO = FailedCall(
    loader="AutoModel.from_pretrained", module="transformers", model="'gpt2'", target="model", row="from-pretrained"
)


def auto(**changes: Any) -> FailedCall:
    return replace(AUTO, **changes)


CELLS: dict[str, tuple[str, FailedCall | None]] = {
    "a literal": ("model = AutoModel.from_pretrained('gpt2')", AUTO),
    "a name": ("llm = AutoModel.from_pretrained(NAME)", auto(model="NAME", target="llm")),
    "quotes": ('model = AutoModel.from_pretrained("it\'s")', auto(model='"it\'s"')),
    "a keyword": ("model = AutoModel.from_pretrained(pretrained_model_name_or_path='gpt2')", AUTO),
    "by its package": (
        "model = transformers.AutoModel.from_pretrained('gpt2')",
        auto(loader="transformers.AutoModel.from_pretrained"),
    ),
    "not assigned": ("AutoModel.from_pretrained('gpt2')", auto(target=None, obstacle="no_target")),
    "an expression": ("model = AutoModel.from_pretrained('g' + 'pt2')", auto(model=None)),
    "several lines": (
        "x = 1\nmodel = AutoModel.from_pretrained(\n    # which\n    'gpt2',\n    use_cache=False,\n)\ny = 2",
        AUTO,
    ),
    "decorated": ("model = Llama.from_pretrained('gpt2')", auto(loader="Llama.from_pretrained")),
    "more is done with it": ("model = AutoModel.from_pretrained('gpt2').to('cpu').eval()", AUTO),
    "something else is made of it": (
        "size = AutoModel.from_pretrained('gpt2').num_parameters()",
        auto(target=None, obstacle="no_target"),
    ),
    "annotated": ("model: AutoModel = AutoModel.from_pretrained('gpt2')", AUTO),
    "a walrus": ("print(model := AutoModel.from_pretrained('gpt2'))", AUTO),
    "an attribute": (
        "import types; box = types.SimpleNamespace()\nbox.model = AutoModel.from_pretrained('gpt2')",
        auto(target=None, obstacle="no_target"),
    ),
    "a path": (
        "import pathlib; where = pathlib.Path('gpt2')\nmodel = AutoModel.from_pretrained(where)",
        auto(model="where"),
    ),
    "no plain text": (
        "class Name(str): pass\nname = Name('gpt2')\nmodel = AutoModel.from_pretrained(name)",
        auto(model="name"),
    ),
    "unpacked arguments": (
        "more = {}\nmodel = AutoModel.from_pretrained('gpt2', **more)",
        auto(obstacle="starred"),
    ),
    "two of them": (
        "model = AutoModel.from_pretrained('gpt2') or AutoModel.from_pretrained('bert')",
        auto(target=None, obstacle="several"),
    ),
    "two statements in a line": ("x = 1; model = AutoModel.from_pretrained('gpt2'); y = 2", AUTO),
    "in a comprehension": (
        "models = [AutoModel.from_pretrained(one) for one in ['gpt2']]",
        auto(model="one", target=None, obstacle="comprehension"),
    ),
    "the second on a line": (
        "small = AutoModel.from_pretrained('small'); model = AutoModel.from_pretrained('gpt2')",
        AUTO,
    ),
    "the first on a line": (
        "model = AutoModel.from_pretrained('gpt2'); small = AutoModel.from_pretrained('small')",
        AUTO,
    ),
    "the second on a timed line": (
        "%time größe = AutoModel.from_pretrained('small'); model = AutoModel.from_pretrained('gpt2')",
        AUTO,
    ),
    "raised once more": (
        "try:\n    model = AutoModel.from_pretrained('gpt2')\nexcept MemoryError as error:\n    raise error",
        auto(obstacle="block"),
    ),
    "in a while": ("while True:\n    model = AutoModel.from_pretrained('gpt2')", auto(obstacle="loop")),
    "in a with": (
        "with contextlib.nullcontext():\n    model = AutoModel.from_pretrained('gpt2')",
        auto(obstacle="block"),
    ),
    "the head of a with": (
        "with AutoModel.from_pretrained('gpt2') as model:\n    pass",
        auto(target=None, obstacle="block"),
    ),
    "an await beside it": (
        "model = AutoModel.from_pretrained(await asyncio.sleep(0, 'gpt2'))",
        auto(model=None, obstacle="await"),
    ),
    "unicode": ("größe = '猫'; modèle = AutoModel.from_pretrained('gpt2')", auto(target="modèle")),
    "a text of several lines": ("model = AutoModel.from_pretrained('gpt2', note='''\n    a\n  b''')", AUTO),
    "two targets": ("model = also = AutoModel.from_pretrained('gpt2')", auto(target=None, obstacle="no_target")),
    "unpacked": ("model, = AutoModel.from_pretrained('gpt2')", auto(target=None, obstacle="no_target")),
    "a part of something": (
        "box = []; box[:1] = AutoModel.from_pretrained('gpt2')",
        auto(target=None, obstacle="no_target"),
    ),
    "an argument": ("print(len(AutoModel.from_pretrained('gpt2')))", auto(target=None, obstacle="no_target")),
    "the second of two": (
        "with contextlib.suppress(MemoryError):\n    first = AutoModel.from_pretrained('bert')\n"
        "model = AutoModel.from_pretrained('gpt2')",
        AUTO,
    ),
    "indented": (
        "if True:\n    for _ in range(2):\n        model = AutoModel.from_pretrained('gpt2')",
        auto(obstacle="loop"),
    ),
    "in a function": (  # its names are not the notebook's: nothing may be bound to them there
        "def load(path):\n    model = AutoModel.from_pretrained(path)\n    return model\nload('gpt2')",
        auto(model="path", target=None, obstacle="function"),
    ),
    "in a class": ("class Config:\n    model = AutoModel.from_pretrained('gpt2')", auto(target=None, obstacle="block")),
    "in a lambda": (
        "load = lambda: AutoModel.from_pretrained('gpt2')\nmodel = load()",
        auto(target=None, obstacle="function"),
    ),
    "in a file beside the notebook": (
        "import helpers\nmodel = helpers.load()",
        auto(model="PATH", target=None, obstacle="function"),
    ),
    "with magics": ("%config\nfiles = !echo hi\nmodel = AutoModel.from_pretrained('gpt2')", AUTO),
    "awaited": ("await asyncio.sleep(0)\nmodel = AutoModel.from_pretrained('gpt2')", AUTO),
    "wrapped": (
        "try:\n    model = AutoModel.from_pretrained('gpt2')\nexcept MemoryError as error:\n"
        "    raise ValueError from error",
        auto(obstacle="block"),
    ),
    "a loader that calls loaders": (
        "pipe = diffusers.Pipeline.from_pretrained('sd')",
        auto(loader="diffusers.Pipeline.from_pretrained", module="diffusers", model="'sd'", target="pipe"),
    ),
    "called by a library": (
        "from sentence_transformers import SentenceTransformer\nmodel = SentenceTransformer('gpt2')",
        auto(loader="SentenceTransformer", module="sentence_transformers", row="sentence-transformers"),
    ),
    "imported as": (
        "from sentence_transformers import SentenceTransformer as ST\nmodel = ST('gpt2')",
        auto(loader="ST", module="sentence_transformers", row="sentence-transformers"),
    ),
    "two, imported as": (
        "from sentence_transformers import SentenceTransformer as ST\nmodel = [ST('gpt2'), ST('gpt2')]",
        auto(
            loader="ST",
            module="sentence_transformers",
            row="sentence-transformers",
            target=None,
            obstacle="several",
        ),
    ),
    "the user's own loader": (
        "class Mine:\n    def from_pretrained(name):\n        raise MemoryError\nmodel = Mine.from_pretrained('gpt2')",
        None,
    ),
    "the user's own loader around one": (
        "class Mine:\n    def from_pretrained(name):\n        return AutoModel.from_pretrained(name)\n"
        "model = Mine.from_pretrained('gpt2')",
        auto(model="name", target=None, obstacle="function"),
    ),
    "by another name": ("load = AutoModel.from_pretrained\nmodel = load('gpt2')", None),
    "no source": (
        "exec(\"model = AutoModel.from_pretrained('gpt2')\")",
        auto(loader="from_pretrained", model=None, target=None, obstacle="no_source"),
    ),
    "a script": ("%run script.py", auto(model="SCRIPT")),
    "timed": ("%time model = AutoModel.from_pretrained('gpt2')", AUTO),
    "a timed cell": ("%%time\nx = 1\n!true\nmodel = AutoModel.from_pretrained('gpt2')\ny = 2", AUTO),
    "a timed expression": ("%time AutoModel.from_pretrained('gpt2')", auto(target=None, obstacle="no_target")),
    "timed often": (
        "%timeit -n1 -r1 model = AutoModel.from_pretrained('gpt2')",
        auto(loader="from_pretrained", model=None, target=None, obstacle="no_source"),
    ),
    "captured": ("%%capture\nmodel = AutoModel.from_pretrained('gpt2')", AUTO),
    "another error": ("AutoModel.from_pretrained = AutoModel.from_pretrained\n1 / 0", None),
}
PLAY = """
import dataclasses
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.loading.failed_call import find_call
cell(cells.pop("first"))
shell.last_execution_result.raise_error()
def read(error):
    "As the hook does: while the error is shown."
    calls = (find_call(one.__traceback__) for one, _ in reversed(raised_with(error)))
    return next((call for call in calls if call is not None), None)
found = {}
for name, source in cells.items():
    seen = []
    shell.showtraceback = lambda *args, **options: seen.append(read(sys.exc_info()[1]))
    cell(source)
    del shell.showtraceback
    found[name] = seen[0] and dataclasses.asdict(seen[0])
tell(found)
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("user")
    for name, text in PACKAGES.items():
        path = folder / "site-packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "script.py").write_text(SCRIPT)
    search = os.pathsep.join([str(folder), str(folder / "site-packages"), os.environ.get("PYTHONPATH", "")])

    @cache
    def play(python: Path) -> dict[str, Any]:
        cells = {"first": f"%cd -q {folder}\n{FIRST}"} | {name: source for name, (source, _) in CELLS.items()}
        (found,) = in_shell(PLAY, cells=cells, python=python, env={"PYTHONPATH": search})
        return dict(found)

    return play


READ = ("loader", "module", "model", "target", "row", "obstacle")
VALUES_READ = {
    "quotes": "it's",
    "a loader that calls loaders": "sd",
    "an expression": None,
    "an await beside it": None,
    "no plain text": None,
}


@pytest.mark.parametrize("name", CELLS)
def test_the_call(calls: Callable[[Path], dict[str, Any]], kernel_python: Path, name: str) -> None:
    source, expected = CELLS[name]
    found = calls(kernel_python)[name]
    assert (found and {key: found[key] for key in READ}) == (expected and {key: getattr(expected, key) for key in READ})
    if expected is None or expected.obstacle == "no_source":
        return
    place = located(FailedCall(**{**found, "position": tuple(found["position"])}))
    assert ast.unparse(place.func) == expected.loader
    if name not in ("in a file beside the notebook", "a script"):
        assert stripped(found["statement"]) in stripped(source)
    # a comprehension's variable is no longer a frame's own from Python 3.12 on
    unseen = name == "in a comprehension" and sys.version_info >= (3, 12)
    assert found["value"] == (None if unseen else VALUES_READ.get(name, "gpt2"))


def stripped(source: str) -> str:
    return "\n".join(line.strip() for line in source.split("\n"))


def located(call: FailedCall) -> ast.Call:
    """The call at its place in its statement."""
    assert call.statement is not None
    (statement,) = ast.parse(call.statement).body
    assert statement.col_offset == 0
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return next(
        one for one in calls if (one.lineno, one.col_offset) == call.position and ast.unparse(one.func) == call.loader
    )


def test_no_frames() -> None:
    assert find_call(None) is None


# -- frames of this process ------------------------------------------------------------------------------------------


def loading(
    source: str, names: dict[str, Any] | None = None, made: Callable[[CodeType], CodeType] = lambda code: code
) -> FailedCall | None:
    """What is read of a source that is run as a cell; `M` in it is a class of transformers that fails to load.

    It loads what is called "small", and gives its argument back.
    """
    library: dict[str, Any] = {"__name__": "transformers.models.auto.auto_factory"}
    text = """class _BaseAutoModelClass:
    def from_pretrained(name, **options):
        if type(name) is not str or name != "small": raise MemoryError
        return name"""
    exec(compile(text, "/x/site-packages/transformers/models/auto/auto_factory.py", "exec"), library)
    user = {"__name__": "__main__", "M": library["_BaseAutoModelClass"], **(names or {})}
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    try:
        exec(made(compile(source, FILE, "exec")), user)
    except MemoryError as error:
        return find_call(error.__traceback__)
    finally:
        del linecache.cache[FILE]
    raise AssertionError("it did not fail")


def replacing(source: str) -> Callable[[str], str]:
    """A function that changes the source of the cell that calls it."""

    def turn(name: str) -> str:
        linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
        return name

    return turn


FILE = "/tmp/ipykernel_1/1.py"  # as ipykernel names cells


class TestWhatIsRead:
    @pytest.mark.parametrize(
        ("source", "obstacle"),
        [
            ("$ no python\n", "unreadable"),
            ("x = " + "-" * 20_000 + "1\n", "unreadable"),  # the parser gives up: RecursionError or MemoryError
            ("#" * 1_000_001 + "\n", "unreadable"),
            ("", "no_source"),
            (" \n\n", "no_source"),
        ],
        ids=["no python", "deep", "huge", "none", "blank"],
    )
    def test_a_source_that_tells_nothing(self, source: str, obstacle: str) -> None:
        call = loading("model = M.from_pretrained(turn('gpt2'))", {"turn": replacing(source)})
        assert call == FailedCall(
            loader="from_pretrained", module="transformers", row="transformers", obstacle=obstacle
        )

    def test_nothing_of_the_users_runs(self) -> None:
        class Loud:
            def __getattribute__(self, name: str) -> Any:
                raise AssertionError(name)

            __repr__ = __str__ = __fspath__ = __eq__ = __hash__ = __getattribute__  # type: ignore[assignment]

        call = loading("model = M.from_pretrained(loud)", {"loud": Loud()})
        assert call is not None
        assert (call.model, call.value, call.obstacle) == ("loud", None, None)

    def test_a_variable_of_a_function(self) -> None:
        call = loading("def load(path):\n    return M.from_pretrained(path)\nmodel = load('gpt2')")
        assert call is not None
        assert (call.value, call.target, call.obstacle) == ("gpt2", None, "function")

    @pytest.mark.parametrize(
        "source",
        [
            "y = M.from_pretrained('small'); x = M.from_pretrained('gpt2')",
            "x = M.from_pretrained('gpt2'); y = M.from_pretrained('small')",
            "é = '猫', M.from_pretrained('small'); x = (M.from_pretrained)('gpt2') or M",
            "for _ in range(3): (M.from_pretrained('small'), print(M.from_pretrained('gpt2')))",
            "x = (M.from_pretrained('small'),\n     M.\n      from_pretrained(\n  'gpt2')); M.from_pretrained('small')",
            "x = [M.from_pretrained(one) for one in [M.from_pretrained('small'), 'gpt2']]",
            "x = M.from_pretrained(M.from_pretrained('small') and 'gpt2')",
        ],
    )
    def test_of_several_on_a_line_the_one_that_failed(self, source: str) -> None:
        call = loading(source)
        assert call is not None
        failed = ast.unparse(located(call))
        assert failed == "M.from_pretrained(one)" or failed.endswith("'gpt2')")

    def test_what_is_bound_is_its_own(self) -> None:
        call = loading("small = M.from_pretrained('small'); model = M.from_pretrained('big')")
        assert call is not None
        assert (call.target, call.statement, call.value) == ("model", "model = M.from_pretrained('big')", "big")

    def test_a_failing_operation_beside_a_load_is_none(self) -> None:
        def fails(path: object) -> Any:
            return loading_code["from_pretrained"](path)

        loading_code: dict[str, Any] = {"__name__": "transformers.models.auto.auto_factory"}
        exec("def from_pretrained(name):\n    raise MemoryError", loading_code)
        box = type("Box", (), {"__matmul__": lambda self, other: fails(other)})()
        assert loading("a = box @ 1; b = M.from_pretrained('small')", {"box": box}) is None

    def test_without_columns_the_line_counts(self) -> None:
        """As with `python -X no_debug_ranges`."""

        def bare(code: CodeType) -> CodeType:
            return code.replace(co_linetable=b"\xef\x00" * (len(code.co_code) // 16 + 1))  # eight units of the line

        call = loading("x = 1; model = M.from_pretrained('big')", made=bare)
        assert call is not None
        assert call.target == "model"

    def test_the_record_keeps_no_object(self) -> None:
        call = loading("model = M.from_pretrained('gpt2')")
        assert call is not None
        assert {type(getattr(call, one.name)) for one in fields(call)} <= {str, tuple, type(None)}

    def test_the_comment_at_its_end_belongs_to_it(self) -> None:
        source = "if True:\n    model = M.from_pretrained(  # a\n        'gpt2',  # b\n        # c\n    )  # d\n    # e"
        call = loading(source)
        assert call is not None
        assert call.statement == "model = M.from_pretrained(  # a\n    'gpt2',  # b\n    # c\n)  # d"
        assert call.position == (1, 8)

    def test_a_text_that_must_not_be_dedented(self) -> None:
        call = loading("if True:\n    model = M.from_pretrained(\n        'gpt2', note='''\n      x\n    y''')")
        assert call is not None
        assert call.statement == "model = M.from_pretrained(\n        'gpt2', note='''\n      x\n    y''')"

    def test_bytes_are_counted_not_characters(self) -> None:
        call = loading("größe = 'é'; 模型 = M.from_pretrained('gpt2')")
        assert call is not None
        assert (call.statement, call.position) == ("模型 = M.from_pretrained('gpt2')", (1, 9))


# -- writing it anew -------------------------------------------------------------------------------------------------

GIVEN = {"half": "torch.bfloat16", "device": "cuda:1", "max_memory": "{0: 1}", "folder": "where", "context": "9"}


def option_of(row: str, option: str) -> Option:
    loader = load_rows().row(row)
    assert loader is not None
    found = loader.option(option)
    assert found is not None
    return found


def rewritten(
    statement: str, option: str, row: str = "transformers", loader: str = "M.from_pretrained"
) -> Changed | str:
    calls = [node for node in ast.walk(ast.parse(statement)) if isinstance(node, ast.Call)]
    call = next(one for one in calls if ast.unparse(one.func) == loader)
    position = (call.lineno, call.col_offset)
    failed = FailedCall(loader=loader, module="", row=row, target="m", statement=statement, position=position)
    return change(failed, option_of(row, option), GIVEN, {"transformers": "5.23.0"}.get)


NEW = "dtype=torch.bfloat16"
LAYOUTS = {
    "no argument": ("m = M.from_pretrained()", f"m = M.from_pretrained({NEW})"),
    "only a comment": ("m = M.from_pretrained(  # a\n)", f"m = M.from_pretrained({NEW}  # a\n)"),
    "a trailing comma": ("m = M.from_pretrained(a, )", f"m = M.from_pretrained(a, {NEW}, )"),
    "below one another": (
        "m = M.from_pretrained(a,\n        b=1)",
        f"m = M.from_pretrained(a,\n        b=1,\n        {NEW})",
    ),
    "a comment after the last": (
        "m = M.from_pretrained(\n    a  # b, c\n    # d\n)",
        f"m = M.from_pretrained(\n    a,  # b, c\n    {NEW}\n    # d\n)",
    ),
    "in place": (
        "m = M.from_pretrained(a, dtype = ( # c\n 'é' ), b=1)",
        "m = M.from_pretrained(a, dtype = ( # c\n torch.bfloat16 ), b=1)",
    ),
    "braces that are text": (
        'm = M.from_pretrained(a, f"x^{{{n}}}")',
        'm = M.from_pretrained(a, f"x^{{{n}}}", dtype=torch.bfloat16)',
    ),
    "one that is alone": ('m = M.from_pretrained(a, b=f"}}")', f'm = M.from_pretrained(a, b=f"}}}}", {NEW})'),
    "brackets within": ("m = M.from_pretrained((a), f'{x(1)},')", f"m = M.from_pretrained((a), f'{{x(1)}},', {NEW})"),
    "unicode before it": ("é = '猫', M.from_pretrained('é', ñ=1)", f"é = '猫', M.from_pretrained('é', ñ=1, {NEW})"),
    "a chain": (
        "m = (\n    M.from_pretrained(a)  # a\n    .to('cuda')\n)",
        f"m = (\n    M.from_pretrained(a, {NEW})  # a\n    .to('cuda')\n)",
    ),
}  # fmt: skip
SPREAD = 'device_map="auto", model_kwargs={"max_memory": {0: 1}}'
LINES = SPREAD.replace(", model", ",\n  model")
REMOVALS = [
    ("m = pipeline(a, device=0)", f"m = pipeline(a, {SPREAD})"),
    ("m = pipeline(device=0)", f"m = pipeline({SPREAD})"),
    ("m = pipeline(device=0,)", f"m = pipeline({SPREAD},)"),
    ("m = pipeline(device=0, model=a)", f"m = pipeline(model=a, {SPREAD})"),
    ("m = pipeline(a,\n  device=0)", f"m = pipeline(a,\n  {LINES})"),
    ("m = pipeline(\n  a,\n  device=0  # b\n)", f"m = pipeline(\n  a,\n  # b\n  {LINES}\n)"),
    ("m = pipeline(\n  a,  # a\n  device=0\n)", f"m = pipeline(\n  a,  # a\n  {LINES}\n)"),
    ("m = pipeline(a, device=(\n 0), b=1)", f"m = pipeline(a, b=1, {SPREAD})"),
]
PIPE, ST, AS = "transformers-pipeline", "sentence-transformers", "M.from_pretrained"
OBSTACLES = [
    ("m = pipeline(a, model_kwargs=more)", PIPE, "pipeline", "spread", "not_a_dict"),
    ("m = pipeline(model_kwargs=dict(a=1))", PIPE, "pipeline", "spread", "not_a_dict"),
    ("m = pipeline(model_kwargs={'max_memory': 1, **more})", PIPE, "pipeline", "spread", "not_a_dict"),
    ("e = SentenceTransformer(a, None, 'cuda')", ST, "SentenceTransformer", "spread", "positional"),
    ("m.to(other)", "torch-to", "m.to", "device", "positional"),
    ("m.to(torch.float16)", "torch-to", "m.to", "device", "positional"),
    ("m.to(other)", "torch-to", "m.to", "half", "positional"),
    (f"m = {AS}(a).to('cuda', torch.float16)", "transformers", AS, "spread", "chained"),
    (f"m = {AS}(a).to(torch.float16)", "transformers", AS, "spread", "chained"),
    ("m.to(fp_kind)", "torch-to", "m.to", "device", "positional"),
    ("m.to(gpu_dtype)", "torch-to", "m.to", "device", "positional"),
    ("e = ST(a, model_kwargs={'dtype': b, 'torch_dtype': c})", ST, "ST", "half", "not_a_dict"),
    *(
        (f"m = {AS}(a){after}", "transformers", AS, option, "chained")
        for after in (
            ".to(dtype=KIND)",
            ".to(dtype)",
            ".to(kind)",
            ".to('cuda', dtype)",
            ".to(device, dtype=KIND)",
            ".to(device='cuda', dtype=KIND)",
            ".to(args.dtype)",
            ".to(like.dtype).eval()",
            ".to(*where)",
            ".to(**where)",
            ".to(fp16)",
            ".to(gpu_dtype)",
            ".eval().to(other)",
            ".cuda(0, True)",
        )
        for option in ("device", "spread", "offload", "8bit", "4bit")
    ),
    *((f"m = {AS}(a){after}", "transformers", AS, "4bit", "chained") for after in (".half()", ".bfloat16().cuda()")),
    (f"m = {AS}(x for x in y)", "transformers", AS, "half", "unparsable"),
    (f"m = f'{{{AS}(a)}}'", "transformers", AS, "half", "unparsable"),  # where it stands there, not all Pythons know
]


class TestChange:
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_layouts(self, name: str) -> None:
        before, after = LAYOUTS[name]
        changed = rewritten(before, "half")
        assert isinstance(changed, Changed), changed
        assert changed.statement == after
        (argument,) = changed.arguments
        assert (argument.name, argument.new) == ("dtype", "torch.bfloat16")

    @pytest.mark.parametrize(("before", "after"), REMOVALS)
    def test_an_argument_goes(self, before: str, after: str) -> None:
        changed = rewritten(before, "spread", PIPE, "pipeline")
        assert isinstance(changed, Changed), changed
        assert changed.statement == after
        assert [(one.name, one.old) for one in changed.arguments if one.new is None] == [("device", "0")]

    @pytest.mark.parametrize(("statement", "row", "loader", "option", "obstacle"), OBSTACLES)
    def test_obstacles(self, statement: str, row: str, loader: str, option: str, obstacle: str) -> None:
        assert rewritten(statement, option, row, loader) == obstacle

    @pytest.mark.parametrize("obstacle", ["starred", "several", "loop", "no_source"])
    def test_an_obstacle_that_was_found(self, obstacle: str) -> None:
        text = "m = M.from_pretrained(a)"
        call = auto(loader=AS, row="transformers", statement=text, position=(1, 4), obstacle=obstacle)
        assert change(call, option_of("transformers", "half"), GIVEN) == obstacle
        as_asked = change(call, option_of("transformers", "as_asked"), {})
        assert as_asked == (Changed(statement=text, loader=AS) if obstacle in ("starred", "several") else obstacle)

    def test_a_call_that_is_not_there(self) -> None:
        call = auto(row="transformers", statement="m = M.from_pretrained(a)", position=(1, 5))
        assert change(call, option_of("transformers", "half"), GIVEN) == "unparsable"
        assert change(auto(row="transformers"), option_of("transformers", "half"), GIVEN) == "no_source"

    def test_all_of_a_chain_that_moves_goes(self) -> None:
        changed = rewritten("m = M.from_pretrained(a).to(where.gpu).cuda().eval().to(device='cuda')  # x", "8bit")
        assert isinstance(changed, Changed)
        new = "quantization_config=transformers.BitsAndBytesConfig(load_in_8bit=True)"
        assert changed.statement == f"m = M.from_pretrained(a, {new}).eval()  # x"
        assert [one.name for one in changed.arguments] == ["quantization_config", ".to", ".cuda", ".to"]
        assert changed.imports == ("import transformers",)
        assert "bitsandbytes" in changed.needs

    def test_an_argument_under_both_of_its_names_is_changed_under_both(self) -> None:
        changed = rewritten("m = M.from_pretrained(a, torch_dtype=x, b=1, dtype=y)", "half")
        assert isinstance(changed, Changed)
        assert changed.statement == "m = M.from_pretrained(a, torch_dtype=torch.bfloat16, b=1, dtype=torch.bfloat16)"
        assert {(one.name, one.old) for one in changed.arguments} == {("torch_dtype", "x"), ("dtype", "y")}

    def test_one_change_after_another(self) -> None:
        call = auto(loader="Net().cuda", row="torch-cuda", statement="m = Net().cuda(0)  # x", position=(1, 4))
        for option in ("half", "device"):
            changed = change(call, option_of("torch-cuda", option), GIVEN)
            assert isinstance(changed, Changed), changed
            call = replace(call, statement=changed.statement, loader=changed.loader)
        assert call.statement == 'm = Net().to(dtype=torch.bfloat16).cuda("cuda:1")  # x'

    def test_a_link_on_a_line_of_its_own_goes(self) -> None:
        changed = rewritten("m = (\n    M.from_pretrained(a)\n    # b\n    .to('cuda')  # c\n    .eval()\n)", "device")
        assert isinstance(changed, Changed)
        new = 'M.from_pretrained(a, device_map="cuda:1")'
        assert changed.statement == f"m = (\n    {new}\n    # b\n    # c\n    .eval()\n)"
        changed = rewritten("m = M.from_pretrained(a) \\\n    .to('cuda')", "device")
        assert isinstance(changed, Changed)
        assert changed.statement == f"m = {new}"


# -- any statement ---------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=6)
# Pieces of f-strings: brackets and commas that are text, doubled braces, formats within formats.
PIECES = [
    "",
    "a, (",
    "]",
    "{{",
    "}}",
    "}}{{",
    "{{{x}}}",
    "{x}",
    "{x!r:>{w}}",
    "{x:{{}}}",
    "{x=}",
    "{f(1, b=[2])}",
    "é ",
]
PREFIXES = ["f", "rf", "F"]
if sys.version_info >= (3, 12):
    PIECES += ['{d["k"]}', "{d['k']}", '{f"{{{x}}}"}', "{x:{f'{w}'}}", "{ {'a': (1)}['a'] }"]
if sys.version_info >= (3, 14):
    PREFIXES += ["t"]
FORMATTED = st.builds(
    lambda prefix, quote, pieces: f"{prefix}{quote}{''.join(pieces)}{quote}",
    st.sampled_from(PREFIXES),
    st.sampled_from(['"', "'", '"""', "'''"]),
    st.lists(st.sampled_from(PIECES), max_size=4),
)


def is_expression(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


CONCATENATED = st.one_of(
    FORMATTED,
    st.builds("{} {}".format, FORMATTED, FORMATTED),
    st.builds("\"(\" {}\n  '}}'".format, FORMATTED),
    st.lists(st.sampled_from(PIECES), max_size=4).map(lambda some: 'f"""{{\n# no comment, (' + "".join(some) + '"""'),
).filter(is_expression)
VALUES = st.one_of(
    TEXTS.map(repr),
    CONCATENATED,
    TEXTS.map(lambda text: f"({text!r},)"),
    st.sampled_from(["1", "None", "f(1, x=2)", "[1,\n  2]", "{'a': (1)}", "lambda x, y: x", "a if b else c"]),
    st.just('"""\n # no comment """'),
)
NAMED = ["dtype", "torch_dtype", "device_map", "max_memory", "load_in_8bit", "revision", "größe", "token", "config"]
GAPS = st.one_of(
    st.sampled_from(["", " ", "\n", "\n    ", "\n\n  "]),
    TEXTS.map(lambda text: f"  # {text}\n  "),
    st.just("\n  # é\n"),
)


@st.composite
def statements(draw: st.DrawFn) -> str:
    arguments = draw(st.lists(VALUES, max_size=2))
    for name in draw(st.lists(st.sampled_from(NAMED), max_size=5, unique=True)):
        arguments.append(f"{name}{draw(st.sampled_from(['=', ' = ']))}{draw(VALUES)}")
    text = draw(GAPS)
    for number, argument in enumerate(arguments):
        comma = number + 1 < len(arguments) or draw(st.booleans())
        text += argument + draw(GAPS) + ("," if comma else "") + draw(GAPS)
    before = draw(st.sampled_from(["m = ", "größe = ", "m: 'é' = ", "x = '猫', ", "(m := "]))
    after = draw(st.sampled_from(["", ".eval()", ".to('cuda')", ".cuda().eval()"]))
    end = draw(st.sampled_from(["", "  # é"]))
    return f"{before}M.from_pretrained({text}){after}{')' if before == '(m := ' else ''}{end}"


def comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def loader_in(tree: ast.Module) -> ast.Call:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return next(node for node in nodes if ast.unparse(node.func) == "M.from_pretrained")


def expected_arguments(old: ast.Call, option: Option) -> list[tuple[str, str]]:
    """The named arguments that there must be then, in order."""
    row = load_rows().row("transformers")
    assert row is not None
    named = {str(one.arg): ast.unparse(one.value) for one in old.keywords}
    for name, value in option.set:
        names = ("torch_dtype", "dtype") if name.startswith("$") else (name,)
        there = [one for one in named if one in names]
        filled = spell(row, value, GIVEN, lambda _: "5.23.0")
        named |= dict.fromkeys(there or names[-1:], ast.unparse(ast.parse(filled, mode="eval")))
    return [(name, value) for name, value in named.items() if name not in option.remove]


@given(statement=statements(), name=st.sampled_from(["half", "device", "spread", "offload", "8bit", "4bit"]))
@settings(max_examples=200, deadline=None)
def test_any_statement(statement: str, name: str) -> None:
    option = option_of("transformers", name)
    changed = rewritten(statement, name)
    assert isinstance(changed, Changed), changed
    assert comments(changed.statement) == comments(statement)
    before, after = ast.parse(statement), ast.parse(changed.statement)
    old, new = loader_in(before), loader_in(after)
    assert [ast.dump(one) for one in old.args] == [ast.dump(one) for one in new.args]
    assert [(str(one.arg), ast.unparse(one.value)) for one in new.keywords] == expected_arguments(old, option)
    for call in (old, new):  # all else is the same, but for the links of a chain that had to go
        call.args, call.keywords = [], []
    rest = ast.unparse(before)
    for link in option.unchain:
        rest = rest.replace(f".{link}('cuda')", "").replace(f".{link}()", "")
    assert ast.unparse(after) == rest
    again = rewritten(changed.statement, name)
    assert isinstance(again, Changed)
    assert (again.statement, again.arguments) == (changed.statement, ())
