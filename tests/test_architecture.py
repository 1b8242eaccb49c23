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

# From the ground up: a package, or a module of the root, imports from the rows below its own; nobody imports the root.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "units", "untrusted", "introspection", "session", "address_space", "records", "source"),
    ("poll", "frameworks", "knowledge"),
    ("failure", "memory"),
    ("holders", "diagnosis", "loading"),
    ("remedies", "services", "forecasting"),
    ("case", "there", "engines"),
    ("showing",),
    ("shell", "entries"),
    ("mcp_server",),
    ("",),  # the root: two entry points for IPython, and names that are fetched when they are first used
    ("__main__",),  # the command line
)
ROW = {package: number for number, packages in enumerate(ROWS) for package in packages}
# Whose door to which other package; frameworks are found in sys.modules and imported by nobody.
OUTSIDE: dict[str, set[str]] = {
    "pynvml": {"memory.nvml_calls"},
    "psutil": {"memory.host", "memory.processes", "loading.disk"},
    "wcwidth": {"showing.grid"},
    "mcp": {"mcp_server"},
    # builds a model from its config, on request; follows a call of the user's, where torch is imported already
    "torch": {
        "loading.checkpoint._meta",
        *("forecasting.forecast", "forecasting.without_bytes", "forecasting.beside_operations"),
    },
    "transformers": {"loading.checkpoint._meta"},
    "huggingface_hub": {"loading.checkpoint._online"},  # on request
    "ipywidgets": {
        "showing.frontends._live",
        "showing.frontends._panel",
        "showing.frontends._widgets",
    },
    "traitlets": {"shell.settings"},
    "IPython": {
        "shell.magics",
        "shell.oom_commands",
        "shell.oom_files",
        "showing.frontends",
        "showing.frontends._live",
        "showing.frontends._panel",
    },
}
AT_THE_TOP = {("shell.magics", "IPython"), ("shell.settings", "traitlets")}  # all else is imported where it is used
LONGEST_MODULE, LONGEST_CLASS = 319, 149  # lines
# What is longer still, and how long it may be. These lists only shrink: what has become short leaves them.
LONGER_MODULES: dict[str, int] = {}
LONGER_CLASSES: dict[str, int] = {}
# Public functions of two or more parameters whose docstring has no "Args:": so many there may be. It only shrinks, too.
WITHOUT_ARGS = {
    "case": 4,
    "failure": 1,
    "holders": 7,
    "introspection": 1,
    "knowledge": 9,
    "loading": 19,
    "memory": 10,
    "poll": 1,
    "records": 1,
    "remedies": 5,
    "shell": 7,
    "showing": 24,
    "source": 5,
}

REPOSITORY = Path(__file__).parents[1]
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
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


def package_of(module: str) -> str:
    return module.partition(".")[0]


def own_imports(module: str) -> set[str]:
    return {found for one in imports(module) if (found := own(one)) is not None}


def circle(links: dict[str, set[str]]) -> list[str]:
    """The first way from a module back to itself; empty where there is none."""
    way: list[str] = []
    done: set[str] = set()

    def visit(module: str) -> bool:
        if module in way:
            return True
        if module not in done:
            way.append(module)
            if any(visit(other) for other in sorted(links[module])):
                return True
            done.add(way.pop())
        return False

    return way if any(visit(module) for module in links) else []


def test_the_documents_table_is_this_one() -> None:
    """docs/architecture.md draws the same rows, with every package in its own."""
    text = page("docs/architecture.md")
    drawn: dict[str, int] = {}
    row = 0
    for line in text[text.index("| row | package |") :].split("\n\n")[0].splitlines()[2:]:
        number, packages = (cell.strip() for cell in line.split("|")[1:3])
        row = int(number or row)
        drawn |= dict.fromkeys(re.findall(r"`([^`]+)`", packages) or [""], row)  # "" is the root
    assert drawn == ROW


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_a_document_names_are_there(name: str) -> None:
    named = set(re.findall(r"`([\w/]+(?:\.py|\.toml|\.md|\.ipynb|/))`", page(name)))
    assert len(named) > 5
    assert {one for one in named if not any((base / one).exists() for base in (ROOT, REPOSITORY))} <= {
        path.name
        for path in FILES.values()  # in the paragraph of its room a file has no folder
    }


def test_the_walks_name_what_is_there() -> None:
    """Each step of the two walks has a file and functions of it."""
    steps = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| (`[^|]+) \|", page("docs/architecture.md"), re.MULTILINE)
    assert len(steps) > 20
    for file, names in steps:
        wanted = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", names)}
        assert wanted
        assert wanted <= {node.name for node in definitions((ROOT / file).read_text("utf-8"))}, file


def page(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def test_the_reader_of_imports_sees_them_all() -> None:
    found = {(own(one), one.top) for one in imports("showing.frontends._panel")}
    assert {("showing.report", True), ("case", True), (None, True), (None, False)} <= found
    assert ("case", False) in {(own(one), one.top) for one in imports("shell.extension")}


def test_every_package_has_its_row() -> None:
    assert set(ROW) == {package_of(module) for module in FILES}
    assert len(ROW) == sum(map(len, ROWS))


def test_no_package_hides_a_public_function() -> None:
    """Importing a submodule sets its name on the package, where a function of that name would be gone."""
    assert set(nb_oomhelper.__all__) & set(ROW) == {"entries"}  # public as the module that it is


@pytest.mark.parametrize("module", FILES)
def test_it_imports_from_lower_rows_only(module: str) -> None:
    package, named = package_of(module), own_imports(module)
    assert "" not in named, "nobody imports the root"
    assert not {other for other in named if package_of(other) != package and ROW[package_of(other)] >= ROW[package]}


@pytest.mark.parametrize("package", ROW)
def test_there_is_no_circle_inside_a_package(package: str) -> None:
    inside = [module for module in FILES if package_of(module) == package]
    assert circle({module: own_imports(module).intersection(inside) for module in inside}) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["a", "b", "d"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


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


# -- how long things are, and what they say ----------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def definitions(source: str) -> list[Function | ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function | ast.ClassDef)]


def length(module: str) -> int:
    return len(FILES[module].read_text("utf-8").splitlines())


def classes(module: str) -> dict[str, int]:
    """Lines of each class."""
    found = definitions(FILES[module].read_text("utf-8"))
    lines = {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in found if isinstance(one, ast.ClassDef)}
    return {f"{module}.{name}": count for name, count in lines.items()}


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Functions and methods of public classes, without what a function has inside."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def lacks_args(function: Function) -> bool:
    """Whether it has two or more parameters and says of none what it is."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    named = [one for one in every if one is not None and one.arg not in ("self", "cls")]
    return len(named) > 1 and "Args:" not in (ast.get_docstring(function) or "")


@pytest.mark.parametrize("module", FILES)
def test_a_module_and_its_classes_are_not_too_long(module: str) -> None:
    assert length(module) <= LONGER_MODULES.get(module, LONGEST_MODULE)
    assert {name for name, lines in classes(module).items() if lines > LONGER_CLASSES.get(name, LONGEST_CLASS)} == set()


def test_the_lists_of_what_is_too_long_shrink() -> None:
    """What has become short, or is gone, is taken off them."""
    lines = {name: count for module in FILES for name, count in classes(module).items()}
    assert {name for name in LONGER_MODULES if name not in FILES or length(name) <= LONGEST_MODULE} == set()
    assert {name for name in LONGER_CLASSES if lines.get(name, 0) <= LONGEST_CLASS} == set()


@pytest.mark.parametrize("package", ROW)
def test_public_functions_say_what_they_take(package: str) -> None:
    trees = {name: ast.parse(FILES[name].read_text("utf-8")).body for name in FILES if package_of(name) == package}
    bare = [f"{name}.{one.name}" for name in trees for one in public_functions(trees[name]) if lacks_args(one)]
    assert len(bare) <= WITHOUT_ARGS.get(package, 0), bare


def test_a_function_that_says_nothing_of_its_parameters_is_seen() -> None:
    source = 'class A:\n  def f(self, a, b): "Do."\n  def g(self, a): "Do."\ndef h(*a, **b):\n  "Do.\\n\\nArgs:"'
    assert [one.name for one in public_functions(ast.parse(source).body) if lacks_args(one)] == ["f"]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_no_module_imports_a_test_module(path: Path) -> None:
    """What two of them need stands in a module that is no test: they can be run, moved and read one by one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            words = ".".join([*source, *(alias.name for alias in node.names)]).split(".")
            assert not {word for word in words if word.startswith("test_")}, f"line {node.lineno}"


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
    names = ("cells", "extension", "held", "hooks", "magics", "reserve", "settings", "task_net", "warming", "watching")
    shell = {f"shell.{name}" for name in names}
    others = {"address_space", "errors", "session", "shell"}
    assert set(ours) == {PACKAGE, *(f"{PACKAGE}.{name}" for name in shell | others)}
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
