"""What README.md says that can be checked: figures, names, defaults, versions. Behavior is tested elsewhere."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

import nb_oomhelper
from nb_oomhelper.loading.loaders import load_rows
from nb_oomhelper.shell.settings import OOMHelper
from tests.conftest import ROOT
from tests.shells import in_shell

pytestmark = pytest.mark.plain

README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CODE = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def recovery() -> dict[str, Any]:
    """The newest figures of each pair."""
    folder = ROOT / "benchmarks" / "recovery" / "results"
    return {pair: json.loads(max(folder.glob(f"*-{pair}.json")).read_text("utf-8")) for pair in ("new", "old")}


def test_does_the_cell_run() -> None:
    folder = ROOT / "benchmarks" / "advice" / "results"
    for memory, row in zip(("host", "played"), rows("Does the cell run?")[-2:], strict=True):
        (run,) = json.loads(max(folder.glob(f"*-{memory}.json")).read_text("utf-8"))["runs"]
        found = run["summary"]
        firsts = [one["ways"].get("first", {}) for one in run["notebooks"] if not one["right"]]
        wrong = sum("✓" in (one.get("verdict") or "") for one in firsts)
        assert row[1:] == [f"{found['right_first']} of {found['notebooks']}", str(wrong), str(found["harm"])]


class TestRecovery:
    METHODS = ("nothing", "collect", "accelerate", "ipyexperiments", "fastai", "ours", "deep")

    def test_the_table(self, recovery: dict[str, Any]) -> None:
        summary, total = recovery["new"]["summary"], len(recovery["new"]["scenarios"])
        assert {one["twins"] - one["full"] for one in summary.values()} == {0}
        told = [[full, share] for _, full, share in rows("Does it give everything back?")[1:]]
        kept = [summary[name] for name in self.METHODS]
        assert told == [[f"{one['full']} of {total}", f"{int(100 * one['share'])} %"] for one in kept]

    def test_the_words_around_it(self, recovery: dict[str, Any]) -> None:
        new, old, words = recovery["new"], recovery["old"], " ".join(section("Does it give everything back?").split())
        assert words.partition("60 ways to fail")[1]
        assert f"IPython {new['libraries']['ipython']} and Python {new['python'].rpartition('.')[0]};" in words
        assert f"On IPython {old['libraries']['ipython']}, where JAX was not installed, the other 59" in words
        assert f"took {new['restart']['click']:.1f} s where a restart" in words
        assert f"took {new['restart']['restart']:.1f} s. `" in words
        assert not any(one["lost"] for pair in recovery.values() for one in pair["summary"].values())

    def test_the_other_pair_went_the_same_way(self, recovery: dict[str, Any]) -> None:
        went = {
            pair: {
                one["name"]: [
                    (one["results"][name]["share"] > 0.95, one["results"][name]["twin"]) for name in ("ours", "deep")
                ]
                for one in recovery[pair]["scenarios"]
            }
            for pair in recovery
        }
        assert {name: went["new"].pop(name) for name in set(went["new"]) - set(went["old"])}.keys() == {"jax_arrays"}
        assert went["new"] == went["old"]

    def test_the_five_that_want_deep(self, recovery: dict[str, Any]) -> None:
        found = {one["name"] for one in recovery["new"]["scenarios"] if not one["results"]["ours"]["twin"]}
        assert found == {"error_arguments", "error_attributes", "executor_future", "log_records", "task_kept"}


def test_what_you_can_do_can_be_done() -> None:
    """Each line of the table is known to the magics' own help, each option too; each name is there to call."""
    calls = [call for row in rows("What you can do") for call in CODE.findall(row[0])]
    (helps,) = in_shell('cell("%load_ext nb_oomhelper"); tell({n: cell(f"%{n}?") for n in ("gpumem", "oom")})')
    lines = [call for call in calls if call.startswith("%")]
    assert len(lines) > 10
    for line in lines:
        magic, *words = line.lstrip("%").replace("[", "").replace("]", "").split()
        assert magic in helps
        for word in words:
            if word.startswith("-") or word in ("fix", "plan", "release", "entry", "status"):
                assert word in helps[magic], line
    for call in calls:
        if call.startswith("nb_oomhelper."):
            assert callable(getattr(nb_oomhelper, call.removeprefix("nb_oomhelper.").partition("(")[0]))


def test_the_settings_are_these() -> None:
    told = {name: row for row in rows("Settings")[1:] for name in CODE.findall(row[0])}
    traits = OOMHelper.class_own_traits(config=True)
    assert told.keys() == traits.keys()
    for name, trait in traits.items():
        if name not in ("history", "history_path", "knowledge_dir"):  # told in words
            assert CODE.findall(told[name][1]) == [f"{trait.default_value!r}".replace("'", '"')]
    assert [traits[name].default_value for name in ("history", "history_path", "knowledge_dir")] == [True, "", ""]


def test_the_libraries_that_load_are_in_the_table() -> None:
    words = section("A model that does not fit").partition("It knows ")[2].partition(". `%oom")[0]
    told = set(
        re.findall(
            r"transformers|diffusers|peft|sentence-transformers|torch|safetensors|accelerate|timm|vllm", words.lower()
        )
    )
    known = {row.modules[0].partition(".")[0].replace("_", "-") for row in load_rows().rows if row.modules}
    assert told == known


def test_the_versions_are_those_that_are_tested() -> None:
    line = README.strip().splitlines()[-1]
    floors = dict(one.split(">=") for one in PROJECT["dependencies"])
    named = [
        one.rpartition(" ")[2]
        for one in PROJECT["classifiers"]
        if one.startswith("Programming Language :: Python :: 3.")
    ]
    assert f"Python {named[0]} to {named[-1]}" in line
    assert f"IPython {floors['ipython']} to 9.x" in line
    assert f"ipywidgets {floors['ipywidgets']} to 8.x" in line
    assert "ipykernel>=6.17" in PROJECT["optional-dependencies"]["tools"]
    assert "ipykernel 6.17 to 7.x" in line
    make = (ROOT / "Makefile").read_text("utf-8")
    for pin in (f"ipython=={floors['ipython']}.0", "ipykernel==6.17.1", f"ipywidgets=={floors['ipywidgets']}"):
        assert pin in make


def test_its_targets_links_and_pictures_are_there() -> None:
    targets = set(re.findall(r"make ([a-z-]+)", README))
    make = (ROOT / "Makefile").read_text("utf-8")
    assert targets >= {"wheel", "demo", "test", "test-all", "peers", "kaggle"}
    assert not [target for target in targets if not re.search(rf"^{target}:", make, re.MULTILINE)]
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).is_file(), link
    assert f"`{re.search(r'TORCH [?]= (.+)', make)[1]}` is installed" in README  # type: ignore[index]
