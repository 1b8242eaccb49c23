"""The house as docs/architecture.md draws it: who imports whom, and what loading it must not do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import nb_oomhelper
from tests.shells import in_shell

pytestmark = pytest.mark.plain

PACKAGE = "nb_oomhelper"
ROOT = Path(nb_oomhelper.__file__).parent

# From the ground up: a module imports from the rows below its own, and nobody imports the package itself.
ROWS: tuple[tuple[str, ...], ...] = (
    (
        "model",
        "address_space",
        "bare",
        "units",
        "errors",
        "messages",
        "tables",
        "wording",
        "grid",
        "hooks",
        "cells",
        "screen",
        "sites",
        "calltext",
        "checkpoint._files",
        "checkpoint._pickle",
        "checkpoint._record",
    ),
    (
        "host",
        "poll",
        "reserve",
        "frames",
        "tally",
        "mistakes",
        "deadends",
        "history",
        "knowledge._entry",
        "knowledge._fix",
        "frameworks._nothing",
        "frameworks._pytorch_graph",
        "checkpoint._config",
        "checkpoint._hub",
        "checkpoint._meta",
        "checkpoint._parts",
        "checkpoint._safetensors",
        "checkpoint._torch",
    ),
    (
        "nvml",
        "loaders",
        "retained",
        "roots",
        "checkpoint",
        "frameworks._cupy",
        "frameworks._jax",
        "frameworks._numpy",
        "frameworks._python",
        "frameworks._pytorch_messages",
        "frameworks._remote",
    ),
    ("holders", "frameworks._pytorch", "knowledge", "edits", "cellwork", "diagnose", "loadplan"),
    ("frameworks", "catalog", "export", "rewrite"),
    ("memory", "freeing", "restate", "notebook"),
    ("reloads", "gauge"),
    ("fixes", "estimate"),
    ("case", "meter"),
    ("outcomes", "frontends._actions"),
    ("report", "loadtable"),
    ("frontends._html", "frontends._text"),
    ("frontends._widgets",),
    ("frontends._panel", "frontends._live"),
    ("frontends", "magics"),
    ("extension",),
    ("",),  # the package: two entry points for IPython, and names that are fetched when they are first used
)
# Whose door to which other package; frameworks are found in sys.modules and imported by nobody.
OUTSIDE: dict[str, set[str]] = {
    "pynvml": {"nvml"},
    "psutil": {"host"},
    "wcwidth": {"grid"},
    "torch": {"checkpoint._meta"},  # for who asks to build a model from its config
    "transformers": {"checkpoint._meta"},
    "ipywidgets": {"frontends._panel", "frontends._live", "frontends._widgets"},
    "traitlets": {"extension"},
    "IPython": {"magics", "fixes", "memory", "frontends", "frontends._panel", "frontends._live"},
}
AT_THE_TOP = {("magics", "IPython"), ("extension", "traitlets")}  # all else is imported where it is used
LONGEST = 400  # lines
LONGER = {"model": "data"}  # and why

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


@dataclass(frozen=True)
class Import:
    """What one import statement names: "nb_oomhelper.units", "IPython.display"; and whether it runs at import."""

    module: str
    name: str
    top: bool


def imports(module: str) -> Iterator[Import]:
    tree = ast.parse(FILES[module].read_text("utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", id(node) in top)
        elif isinstance(node, ast.ImportFrom):
            base = FILES[module].relative_to(ROOT.parent).parent.parts
            parts = base[: len(base) - node.level + 1] if node.level else ()
            source = ".".join((*parts, *([node.module] if node.module else [])))
            for alias in node.names:
                yield Import(source, alias.name, id(node) in top)


def own(one: Import) -> str | None:
    """Our module that an import names; None for another's."""
    if one.module.partition(".")[0] != PACKAGE:
        return None
    inside = one.module.removeprefix(PACKAGE).removeprefix(".")
    below = f"{inside}.{one.name}".removeprefix(".")
    return below if one.name and below in FILES else inside


def test_the_documents_table_is_this_one() -> None:
    """docs/architecture.md draws the same rows, with every module in its own."""
    text = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
    drawn: dict[str, int] = {}
    row = 0
    for line in text[text.index("| row | module |") :].split("\n\n")[0].splitlines()[2:]:
        number, modules = (cell.strip() for cell in line.split("|")[1:3])
        row = int(number or row)
        named = re.findall(r"`([^`]+)`", modules) or [""]  # the package root
        drawn |= dict.fromkeys((name.replace("/", ".") for name in named), row)
    assert drawn == {module: number for number, modules in enumerate(ROWS) for module in modules}


def test_the_reader_of_imports_sees_them_all() -> None:
    found = {(own(one), one.top) for one in imports("frontends._panel")}
    assert {("report", True), ("poll", True), ("case", True), (None, True), (None, False)} <= found
    assert ("model", True) in {(own(one), one.top) for one in imports("host")}  # `from .model import …`
    assert ("case", False) in {(own(one), one.top) for one in imports("extension")}


def test_every_module_has_its_row() -> None:
    placed = [module for row in ROWS for module in row]
    assert sorted(placed) == sorted(FILES)


@pytest.mark.parametrize("module", FILES)
def test_it_imports_from_lower_rows_only(module: str) -> None:
    row = {module: number for number, modules in enumerate(ROWS) for module in modules}
    named = {found for one in imports(module) if (found := own(one)) is not None}
    assert "" not in named, "nobody imports the package itself"
    assert not {other for other in named if row[other] >= row[module]}


@pytest.mark.parametrize("module", FILES)
def test_other_packages_have_one_door(module: str) -> None:
    for one in imports(module):
        package = one.module.partition(".")[0]
        if package in sys.stdlib_module_names or package == PACKAGE:
            continue
        assert module in OUTSIDE.get(package, set()), f"{module} imports {package}"
        assert not one.top or (module, package) in AT_THE_TOP, f"{module} imports {package} at its top"


@pytest.mark.parametrize("module", FILES)
def test_all_objects_are_asked_for_in_one_place(module: str) -> None:
    """What the collector hands out must not be kept where another thread may go on: see `introspection.living`."""
    names = {node.attr for node in ast.walk(ast.parse(FILES[module].read_text())) if isinstance(node, ast.Attribute)}
    assert names & {"get_objects", "get_referrers"} == ({"get_objects"} if module == "introspection" else set())


def test_every_door_is_used() -> None:
    used = {(module, one.module.partition(".")[0]) for module in FILES for one in imports(module)}
    assert {(module, package) for package, modules in OUTSIDE.items() for module in modules} <= used


@pytest.mark.parametrize("module", FILES)
def test_a_module_is_not_too_long(module: str) -> None:
    length = len(FILES[module].read_text("utf-8").splitlines())
    assert (length > LONGEST) == (module in LONGER), f"{length} lines"


# -- what loading does not do ----------------------------------------------------------------------------------------

HEAVY = ["torch", "jax", "tensorflow", "cupy", "numpy", "pandas", "ipywidgets", "pynvml", "psutil", "sqlite3"]
WATCH = f"""
import os, sys, threading
written = []
def watch(event, args):
    if event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(args[0]))
    elif event in ("sqlite3.connect", "os.mkdir", "subprocess.Popen", "socket.connect", "os.putenv", "os.remove"):
        written.append(event)
def changed():
    '''What is there now and was not before: heavy modules, own modules, threads, files, environment.'''
    loaded = set(sys.modules) - modules
    return [sorted(loaded & {set(HEAVY)}), sorted(name for name in loaded if name.startswith("nb_oomhelper")),
            [one.name for one in threading.enumerate()][threads:], written, dict(os.environ) != environment]
modules, threads, environment = set(sys.modules), len(threading.enumerate()), dict(os.environ)
sys.addaudithook(watch)
"""
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


def test_the_watch_sees_what_must_not_be(tmp_path: Path) -> None:
    code = f"""
        open({str(tmp_path / "a")!r}, "w").close()
        os.mkdir({str(tmp_path / "b")!r})
        import psutil
        threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
        os.environ["LEFT"] = "1"
        tell(*changed())
    """
    heavy, _, threads, written, environment = load(code)
    assert (heavy, threads, environment) == (["psutil"], ["left"], True)
    assert {str(tmp_path / "a"), "os.mkdir", "os.putenv"} <= set(written)


def test_importing_does_nothing() -> None:
    code = WATCH + "import nb_oomhelper\nimport json\nprint(json.dumps(changed()))"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.stdout) == ("", '[[], ["nb_oomhelper"], [], [], false]\n')


def load(code: str) -> list[Any]:
    return in_shell(WATCH + textwrap.dedent(code), env=NO_BYTECODE)


def test_loading_the_extension_does_little() -> None:
    heavy, ours, threads, written, environment = load('cell("%load_ext nb_oomhelper"); tell(*changed())')
    assert heavy == []
    assert set(ours) == {
        PACKAGE,
        *(
            f"{PACKAGE}.{name}"
            for name in ("address_space", "cells", "errors", "extension", "hooks", "magics", "reserve", "screen")
        ),
    }
    assert (threads, written, environment) == ([], [], False)


def test_an_error_of_another_kind_costs_as_little() -> None:
    code = 'cell("%load_ext nb_oomhelper"); cell("1 / 0"); cell("raise RuntimeError(1)"); tell(*changed())'
    heavy, _, threads, written, environment = load(code)
    assert (heavy, threads, written, environment) == ([], [], [], False)


def test_a_panel_in_a_terminal_loads_no_widgets_and_writes_no_history() -> None:
    code = 'cell("%load_ext nb_oomhelper"); shown = cell("raise MemoryError"); tell("%oom fix N" in shown, *changed())'
    shown, heavy, _, threads, written, environment = load(code)
    assert shown
    assert set(heavy) <= {"psutil", "sqlite3"}
    assert (threads, written, environment) == ([], [], False)
