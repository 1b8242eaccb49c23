"""The loader call that failed, read off real frames: packages that load as the real ones do, cells of a real shell."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.model import FailedCall
from nb_oomhelper.rewrite import find_call
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

FIRST = "import asyncio, contextlib, diffusers, transformers; from transformers import AutoModel, Llama; NAME = 'gpt2'"
AUTO = FailedCall(loader="AutoModel.from_pretrained", module="transformers", model="'gpt2'", target="model")


def auto(**changes: Any) -> FailedCall:
    return FailedCall(**{name: changes.get(name, getattr(AUTO, name)) for name in AUTO.__dataclass_fields__})


CELLS: dict[str, tuple[str, FailedCall | None]] = {
    "a literal": ("model = AutoModel.from_pretrained('gpt2')", AUTO),
    "a name": ("llm = AutoModel.from_pretrained(NAME)", auto(model="NAME", target="llm")),
    "quotes": ('model = AutoModel.from_pretrained("it\'s")', auto(model='"it\'s"')),
    "a keyword": ("model = AutoModel.from_pretrained(pretrained_model_name_or_path='gpt2')", AUTO),
    "by its package": (
        "model = transformers.AutoModel.from_pretrained('gpt2')",
        auto(loader="transformers.AutoModel.from_pretrained"),
    ),
    "not assigned": ("AutoModel.from_pretrained('gpt2')", auto(target=None)),
    "an expression": ("model = AutoModel.from_pretrained('g' + 'pt2')", auto(model=None)),
    "several lines": (
        "x = 1\nmodel = AutoModel.from_pretrained(\n    # which\n    'gpt2',\n    use_cache=False,\n)\ny = 2",
        AUTO,
    ),
    "decorated": ("model = Llama.from_pretrained('gpt2')", auto(loader="Llama.from_pretrained")),
    "more is done with it": ("model = AutoModel.from_pretrained('gpt2').to('cpu')", auto(target=None)),
    "two targets": ("model = also = AutoModel.from_pretrained('gpt2')", auto(target=None)),
    "unpacked": ("model, = AutoModel.from_pretrained('gpt2')", auto(target=None)),
    "a part of something": ("box = []; box[:1] = AutoModel.from_pretrained('gpt2')", auto(target=None)),
    "an argument": ("print(len(AutoModel.from_pretrained('gpt2')))", auto(target=None)),
    "the second of two": (
        "with contextlib.suppress(MemoryError):\n    first = AutoModel.from_pretrained('bert')\n"
        "model = AutoModel.from_pretrained('gpt2')",
        AUTO,
    ),
    "indented": ("if True:\n    for _ in range(2):\n        model = AutoModel.from_pretrained('gpt2')", AUTO),
    "in a function": (  # its names are not the notebook's: nothing may be bound to them there
        "def load(path):\n    model = AutoModel.from_pretrained(path)\n    return model\nload('gpt2')",
        auto(model="path", target=None),
    ),
    "in a class": ("class Config:\n    model = AutoModel.from_pretrained('gpt2')", auto(target=None)),
    "in a lambda": ("load = lambda: AutoModel.from_pretrained('gpt2')\nmodel = load()", auto(target=None)),
    "in a file beside the notebook": ("import helpers\nmodel = helpers.load()", auto(model="PATH", target=None)),
    "with magics": ("%config\nfiles = !echo hi\nmodel = AutoModel.from_pretrained('gpt2')", AUTO),
    "awaited": ("await asyncio.sleep(0)\nmodel = AutoModel.from_pretrained('gpt2')", AUTO),
    "wrapped": (
        "try:\n    model = AutoModel.from_pretrained('gpt2')\nexcept MemoryError as error:\n"
        "    raise ValueError from error",
        AUTO,
    ),
    "a loader that calls loaders": (
        "pipe = diffusers.Pipeline.from_pretrained('sd')",
        FailedCall(loader="diffusers.Pipeline.from_pretrained", module="diffusers", model="'sd'", target="pipe"),
    ),
    "called by a library": (
        "from sentence_transformers import SentenceTransformer\nmodel = SentenceTransformer('gpt2')",
        None,
    ),
    "the user's own loader": (
        "class Mine:\n    def from_pretrained(name):\n        raise MemoryError\nmodel = Mine.from_pretrained('gpt2')",
        None,
    ),
    "the user's own loader around one": (
        "class Mine:\n    def from_pretrained(name):\n        return AutoModel.from_pretrained(name)\n"
        "model = Mine.from_pretrained('gpt2')",
        auto(model="name", target=None),
    ),
    "by another name": ("load = AutoModel.from_pretrained\nmodel = load('gpt2')", None),
    "no source": ("exec(\"model = AutoModel.from_pretrained('gpt2')\")", None),
    "another error": ("AutoModel.from_pretrained = AutoModel.from_pretrained\n1 / 0", None),
}
PLAY = """
from nb_oomhelper.case import Desk, open_case
from nb_oomhelper.catalog import load_catalog
from nb_oomhelper.memory import scope_of
from nb_oomhelper.nvml import Driver
desk = Desk(driver=Driver(), catalog=load_catalog, history=lambda: None)
cell(cells.pop("first"))
found = {}
for name, source in cells.items():
    said = cell(source)
    error = shell.last_execution_result.error_in_exec
    case = open_case(error, lambda: scope_of(shell, error), desk)
    call = case and case.event.call
    found[name] = call and [call.loader, call.module, call.model, call.target]
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
    search = os.pathsep.join([str(folder), str(folder / "site-packages"), os.environ.get("PYTHONPATH", "")])

    @cache
    def play(python: Path) -> dict[str, Any]:
        cells = {"first": FIRST} | {name: source for name, (source, _) in CELLS.items()}
        (found,) = in_shell(PLAY, cells=cells, python=python, env={"PYTHONPATH": search})
        return dict(found)

    return play


@pytest.mark.parametrize("name", CELLS)
def test_the_call(calls: Callable[[Path], dict[str, Any]], kernel_python: Path, name: str) -> None:
    expected = CELLS[name][1]
    wanted = expected and [expected.loader, expected.module, expected.model, expected.target]
    assert calls(kernel_python)[name] == wanted


def test_no_frames() -> None:
    assert find_call([]) is None
