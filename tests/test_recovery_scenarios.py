"""Every scenario of the recovery suite: its file is well formed, and release() gives all of it back, nothing lost."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.recovery import scenario
from benchmarks.recovery.methods import METHODS
from benchmarks.recovery.scenario import FOLDER, ScenarioError
from IPython.core.inputtransformer2 import TransformerManager

from tests.recovery import Trials, check, start

FILES = sorted(FOLDER.glob("*.toml"))
NAMES = [path.stem for path in FILES]
WELL_FORMED = 'title = "t"\nset_up = ""\nfail = ["1 / 0"]\ntwin = "1"\nfreeable = 256\n'


def compiles(cell: str) -> bool:
    """Whether IPython would run it, as far as it can be told without running it."""
    source = TransformerManager().transform_cell(cell)
    compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return True


@pytest.mark.plain
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_file_is_well_formed(path: Path) -> None:
    one = scenario.load(path)
    cells = [one.set_up, one.twin, *one.fail, *(method.code(one) for method in METHODS.values())]
    assert all(compiles(cell) for cell in cells if not cell.startswith("click "))
    assert all(compile(expression, name, "eval") for name, expression in one.survives.items())
    call = ast.parse(f"release({one.ours})", mode="eval").body
    assert isinstance(call, ast.Call)
    arguments = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    assert tuple(arguments.get("names", ())) == one.deletes
    assert not set(one.deletes) & one.survives.keys()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WELL_FORMED.replace("freeable = 256", ""), "has no freeable"),
        (WELL_FORMED.replace('"1"', "1"), "twin"),
        (WELL_FORMED + "surprise = 1", "surprise"),
        (WELL_FORMED + "kept = 512", "does not fit"),
        (WELL_FORMED + "title", "bad.toml"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=told):
        scenario.load(path)


@pytest.mark.plain
def test_titles_differ() -> None:
    titles = [one.title for one in scenario.load_all().values()]
    assert len(set(titles)) == len(titles) >= 30


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest) -> Iterator[Trials]:
    """The trials on host memory."""
    yield from start(request, "cpu")


@pytest.mark.kernel
@pytest.mark.parametrize("name", NAMES)
def test_release_gives_all_of_it_back(release: Trials, name: str) -> None:
    check(release, name)
