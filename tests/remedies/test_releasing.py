"""Giving memory back after a failed cell: in real shells of the oldest and the newest IPython, nothing is played."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.errors import UsageError
from nb_oomhelper.remedies.releasing import give_back
from tests.shells import in_shell

pytestmark = pytest.mark.plain

MIB = 1 << 20
Play = Callable[..., list[Any]]

# Cells that fail while a function's local name refers to a Thing.
FAILING = {
    "plain": """
def f():
    thing = Thing()
    1 / 0
f()
""",
    "nested": """
def inner(given):
    also = given
    {}[1]
def outer():
    thing = Thing()
    inner([thing])
outer()
""",
    "raised from": """
def f():
    thing = Thing()
    raise MemoryError
def g():
    try:
        f()
    except MemoryError as error:
        raise ValueError("wrapped") from error
g()
""",
    "raised while handling": """
def f():
    thing = Thing()
    raise MemoryError
def g():
    try:
        f()
    except MemoryError:
        more = Thing()
        1 / 0
g()
""",
    "from None": """
def f():
    thing = Thing()
    raise MemoryError
def g():
    try:
        f()
    except MemoryError:
        raise ValueError("alone") from None
g()
""",
    "group": """
def f(wanted):
    thing = Thing()
    raise wanted
def g():
    errors = []
    for wanted in (ValueError, MemoryError):
        try:
            f(wanted)
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("two", errors)
g()
""",
    "exception in a local": """
def f():
    thing = Thing()
    try:
        1 / 0
    except ZeroDivisionError as error:
        kept = error
    raise kept
f()
""",
    "generator": """
def numbers():
    thing = Thing()
    yield 1
    1 / 0
def f():
    found = list(numbers())
f()
""",
    "coroutine": """
import asyncio
async def inner():
    thing = Thing()
    await asyncio.sleep(0)
    1 / 0
async def outer():
    await inner()
await outer()
""",
    "comprehension": """
def f():
    things = [Thing()]
    return [thing / 0 for thing in things]
f()
""",
}
LIVES = """
result = {}
for kind, source in cells.items():
    refs.clear()
    shown = cell(source)
    gc.collect()
    before = alive()
    outcome = release()
    result[kind] = before, released, shown, cell("%tb"), did(outcome)
tell(result)
"""
WAITING = """
class Pause:
    def __init__(self, value):
        self.value = value
    def __await__(self):
        yield self.value
def numbers():
    state = Thing()
    try:
        1 / 0
    except ZeroDivisionError as error:
        yield error
        yield type(state).__name__
async def waits():
    state = Thing()
    try:
        1 / 0
    except ZeroDivisionError as error:
        await Pause(error)
        return type(state).__name__
async def both():
    state = Thing()
    try:
        1 / 0
    except ZeroDivisionError as error:
        yield error
        yield type(state).__name__
def advance(waiting):
    try:
        return waiting.send(None)
    except StopIteration as end:
        return end.value
def fail():
    local = Thing()
    raise RuntimeError("on top") from error
"""
RUNNING = """
import sys
import nb_oomhelper
def inner():
    thing = Thing()
    1 / 0
def outer():
    kept = Thing()
    try:
        inner()
    except ZeroDivisionError as error:
        sys.last_value = error
        nb_oomhelper.release()
        during = [ref() is not None for ref in refs]
    return kept, during
result = outer()
"""
IN_ARGUMENTS = """
def f():
    raise MemoryError("none", Thing())
f()
"""
HASHED = """
calls = []
class Meta(type):
    def __hash__(self):
        calls.append("hash")
        return 1
    def __eq__(self, other):
        calls.append("eq")
        return self is other
class Mine(metaclass=Meta):
    pass
mine = [Mine()]
"""
HOST = """
def f():
    big = MAKE
    raise MemoryError
f()
"""


@pytest.fixture
def play(kernel_python: Path) -> Play:
    """Run code beside a shell of each pair."""

    def run(code: str, **options: Any) -> list[Any]:
        return in_shell(code, python=kernel_python, cells=FAILING, **options)

    return run


@pytest.fixture(scope="module")
def lives() -> Callable[[Path, str], dict[str, Any]]:
    """What became of each kind's objects in one shell: before, after, traceback, the same by %tb, lines."""

    @functools.cache
    def run(python: Path, mode: str) -> dict[str, Any]:
        code = f"shell.InteractiveTB.set_mode({mode!r})\n{LIVES}"
        (found,) = in_shell(code, python=python, cells=FAILING)
        return dict(found)

    return run


class TestFrames:
    @pytest.mark.parametrize("kind", FAILING)
    @pytest.mark.parametrize("mode", ["Context", "Verbose"])
    def test_locals_go_and_the_traceback_stays(
        self, lives: Callable[[Path, str], dict[str, Any]], kernel_python: Path, kind: str, mode: str
    ) -> None:
        before, after, shown, again, lines = lives(kernel_python, mode)[kind]
        assert before
        assert all(before), "nothing would be proved"
        assert not any(after)
        assert lines[0][0] == "frames"
        assert lines[0][1] > 0
        errors = set(re.findall(r"\w+(?:Error|Group)\b", shown))
        assert errors
        if kind != "group":  # which IPython prints while it is handled, and has nothing to show for later
            assert errors <= set(re.findall(r"\w+(?:Error|Group)\b", again))

    def test_collecting_alone_frees_nothing(self, play: Play) -> None:
        assert play("cell(cells['plain']); gc.collect(); tell(alive())") == [[True]]

    def test_one_cell_later(self, play: Play) -> None:
        code = """
            cell(cells["raised while handling"])
            cell("fine = 1")
            gc.collect()
            before = alive()
            release()
            tell(before, released)
        """
        assert play(code) == [[True, True], [False, False]]

    @pytest.mark.parametrize(
        "dropped",
        [
            "for name in [n for n in dir(sys) if n.startswith('last_')]: delattr(sys, name)",
            "shell.InteractiveTB.tb = None; shell.last_execution_result.error_in_exec = None",
        ],
        ids=["by Python", "by IPython"],
    )
    def test_whoever_of_the_holders_is_left(self, play: Play, dropped: str) -> None:
        code = f"""
            cell(cells["nested"])
            cell("fine = 1")
            {dropped}
            gc.collect()
            before = alive()
            release()
            tell(before, released)
        """
        assert play(code) == [[True], [False]]

    def test_in_the_very_next_cell(self, play: Play) -> None:
        """IPython keeps the failed cell's result, and its error, until the next cell has ended."""
        assert play(f"cell({IN_ARGUMENTS!r}); release('deep=True'); tell(released)") == [[False]]

    def test_after_the_debugger(self, play: Play) -> None:
        code = """
            cell(cells["nested"])
            said = cell("%debug")
            cell("fine = 1")
            before, debugger = alive(), shell.InteractiveTB.pdb is not None
            release()
            tell(said, before, debugger, released, cell("%tb"))
        """
        said, before, debugger, after, again = play(code, stdin="up\np thing\nq\n")
        assert "Thing object" in said
        assert (before, debugger, after) == ([True], True, [False])
        assert "KeyError" in again

    def test_a_name_of_the_users_is_not_touched(self, play: Play) -> None:
        code = """
            cell("mine = Thing(); also = [Thing()]")
            cell("def f(given):\\n    thing = Thing()\\n    1 / 0")
            cell("f(mine)")
            before = set(shell.user_ns)
            release()
            tell(alive(), sorted(before - set(shell.user_ns)), type(shell.user_ns["mine"]).__name__)
        """
        assert play(code) == [[True, True, False], [], "Thing"]

    def test_what_runs_is_not_touched(self, play: Play) -> None:
        code = f"""
            shell.user_ns["refs"] = refs
            cell({RUNNING!r})
            kept, during = shell.user_ns["result"]
            tell(type(kept).__name__, during)
        """
        assert play(code) == ["Thing", [True, False]]

    @pytest.mark.parametrize(
        ("start", "go_on"),
        [
            ("source = numbers(); error = next(source)", "next(source)"),
            ("source = waits(); error = source.send(None)", "advance(source)"),
            ("source = both(); error = advance(source.__anext__())", "advance(source.__anext__())"),
        ],
        ids=["generator", "coroutine", "async generator"],
    )
    def test_what_waits_to_go_on_is_not_closed(self, play: Play, start: str, go_on: str) -> None:
        code = f"""
            cell({WAITING!r})
            cell("{start}; fail()")
            before = alive()
            release()
            after = alive()
            cell("went_on = {go_on}")
            tell(before, after, shell.user_ns.get("went_on"))
        """
        before, after, went_on = play(code)
        assert before == [True, True]
        assert after == [True, False]  # the source's own, and the failed function's
        assert went_on == "Thing"

    def test_no_code_of_a_class_runs(self, play: Play) -> None:
        code = f"""
            cell({HASHED!r})
            cell({WAITING!r})
            cell("source = numbers(); error = next(source); fail()")
            shell.user_ns["calls"].clear()
            release("deep=True")
            tell(shell.user_ns["calls"])
        """
        assert play(code) == [[]]

    def test_nothing_failed(self, play: Play) -> None:
        assert play("tell(did(release()))") == [[["collect", None, None]]]


class TestDeep:
    def test_only_deep_reaches_an_exceptions_arguments(self, play: Play) -> None:
        code = f"""
            cell({IN_ARGUMENTS!r})
            release()
            normal = alive()
            outcome = release("deep=True")
            tell(normal, released, cell("%tb"), did(outcome))
        """
        normal, deep, again, lines = play(code)
        assert (normal, deep) == ([True], [False])
        assert "MemoryError" not in again
        assert ["exception", None, None] in lines

    def test_after_the_debugger(self, play: Play) -> None:
        code = f"""
            cell({IN_ARGUMENTS!r})
            cell("%debug")
            release("deep=True")
            formatter = shell.InteractiveTB
            tell(released, formatter.pdb is None, formatter.tb is None, [one for one in dir(sys) if "last_" in one])
        """
        assert play(code, stdin="q\n") == [[False], True, True, []]

    def test_the_next_error_is_shown_as_usual(self, play: Play) -> None:
        code = """
            cell(cells["plain"])
            release("deep=True")
            tell(cell("int('x')"), cell("%tb"), cell("%debug"))
        """
        shown, again, debugged = play(code, stdin="q\n")
        assert "ValueError: invalid literal" in shown
        assert "ValueError: invalid literal" in again
        assert "int('x')" in debugged


class TestHistory:
    def test_a_displayed_result_is_let_go_by_all_its_holders(self, play: Play) -> None:
        code = """
            cell("Thing()")
            cell("7")
            shown = len(shell.user_ns["Out"])
            outcome = release("history=True")
            numbered = [name for name in ("_1", "_2") if name in shell.user_ns or name in shell.user_ns_hidden]
            tell(shown, released, len(shell.user_ns["Out"]), shell.user_ns["_"], did(outcome), numbered,
                 shell.user_ns["In"][1])
        """
        shown, living, left, recent, lines, numbered, source = play(code)
        assert (shown, living, left, recent, numbered) == (2, [False], 0, "", [])
        assert ["results", 2, None] in lines
        assert source == "Thing()"

    def test_at_once_in_the_next_cell(self, play: Play) -> None:
        assert play("cell('Thing()'); before = alive(); release('history=True'); tell(before, released)") == [
            [True],
            [False],
        ]

    def test_without_it_results_stay(self, play: Play) -> None:
        assert play("cell('Thing()'); release(); tell(alive(), list(shell.user_ns['Out']))") == [[True], [1]]

    def test_results_go_on_afterwards(self, play: Play) -> None:
        code = """
            cell("'first'")
            release("history=True")
            cell("'later'")
            tell(shell.user_ns["_"], list(shell.user_ns["Out"].values()), shell.user_ns["_3"])
        """
        assert play(code) == ["later", ["later"], "later"]

    def test_names_of_the_users_own_are_kept(self, play: Play) -> None:
        code = """
            cell("'shown'")
            cell("_ = Thing(); _1 = Thing(); __ = 'mine'")
            release("history=True")
            tell(alive(), shell.user_ns["__"], type(shell.user_ns["_"]).__name__, type(shell.user_ns["_1"]).__name__)
        """
        assert play(code) == [[True, True], "mine", "Thing", "Thing"]


class TestTakenName:
    """`_oh` and `Out` are names in the notebook: the user's, once they are given another value."""

    @pytest.mark.parametrize("taken", ["_oh = 5", "_oh = Out = {1: 'mine'}", "del _oh, Out"])
    def test_results_are_forgotten_and_the_name_stays(self, play: Play, taken: str) -> None:
        code = f"""
            cell("Thing()")
            cell("x = Thing()")
            cell("x")
            cell({taken!r})
            mine = shell.user_ns.get("_oh")
            named = release("names=['x']")
            first = alive()
            everything = release("history=True")
            tell(did(named)[0], first, released, did(everything)[0][:2], mine == shell.user_ns.get("_oh"))
        """
        assert play(code) == [["variable", None, "x"], [True, False], [False, False], ["results", 1], True]


class TestNames:
    def test_a_variable_goes_with_the_results_that_are_the_same(self, play: Play) -> None:
        code = """
            cell("x = Thing()")
            cell("x")
            cell("'other'")
            outcome = release("names=['x']")
            tell(released, "x" in shell.user_ns, list(shell.user_ns["Out"].values()), did(outcome))
        """
        assert play(code) == [[False], False, ["other"], [["variable", None, "x"], ["collect", None, None]]]

    def test_a_variable_goes_where_the_traceback_shares_it(self, play: Play) -> None:
        code = """
            cell("x = Thing()")
            cell("def f(given):\\n    1 / 0")
            cell("f(x)")
            release("names=['x']")
            tell(released)
        """
        assert play(code) == [[False]]

    def test_twice_the_same_name(self, play: Play) -> None:
        code = """
            cell("x = Thing(); y = Thing()")
            outcome = release("names=['x', 'y', 'x']")
            tell(alive(), did(outcome))
        """
        assert play(code) == [
            [False, False],
            [["variable", None, "x"], ["variable", None, "y"], ["collect", None, None]],
        ]

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            ("['x', 'nothere']", "no variable called nothere; nothing was released"),
            ("'x'", "names wants a list of names, such as names=['x']"),
            ("[x]", "names=['x'], not names=[x]"),
            ("[[x]]", "names=['x'], not names=[x]"),
            ("['x', 'In', 'get_ipython']", "no variable called In, get_ipython"),
        ],
    )
    def test_a_wrong_name_is_told_and_nothing_is_done(self, names: str, words: str) -> None:
        code = f"""
            cell("x = Thing(); x")
            cell(cells["plain"])
            before = alive()
            said = cell("import nb_oomhelper")
            failed = sys.last_value
            said = cell("nb_oomhelper.release(deep=True, history=True, names={names})")
            tell(said, before, alive(), "x" in shell.user_ns, list(shell.user_ns["Out"]))
        """
        said, *rest = in_shell(code, cells=FAILING)
        assert "UsageError" in said
        assert words in said
        assert rest == [[True, True], [True, True], True, [1]]

    def test_a_hidden_name_that_the_user_has_given_a_value(self, play: Play) -> None:
        code = """
            cell("_dh = Thing()")
            before = alive()
            release("names=['_dh']")
            tell(before, alive(), "_dh" in shell.user_ns_hidden)
        """
        assert play(code) == [[True], [False], True]

    def test_without_a_shell_there_are_no_variables(self) -> None:
        with pytest.raises(UsageError, match="no variable called x"):
            give_back(None, names=["x"])
        with pytest.raises(UsageError, match="list of names"):
            give_back(None, names="x")


class TestOutcome:
    def test_figures_of_the_host(self) -> None:
        code = f"""
            cell("import numpy")
            cell({HOST.replace("MAKE", "numpy.ones(64 << 20, dtype='uint8')")!r})
            one = release()
            tell(one.fix, one.before.backend, one.freed, one.before.resident, one.after.resident, one.after.free,
                 one.seconds, one.before.allocated, one.requested, one.fits, one.whole_cell_fits, one.error,
                 one.predicted)
        """
        fix, backend, freed, before, after, free, seconds, *unknown = in_shell(code)
        assert (fix, backend) == ("release", "host")
        assert freed == before - after
        assert 60 * MIB < freed < 80 * MIB
        assert free > 0
        assert seconds >= 0
        assert unknown == [None] * 6

    def test_torch_on_the_cpu(self) -> None:
        pytest.importorskip("torch")
        code = f"""
            cell("import torch")
            cell({HOST.replace("MAKE", "torch.ones(64 << 20, dtype=torch.uint8)")!r})
            tell(release().freed)
        """
        (freed,) = in_shell(code)
        assert freed > 60 * MIB

    def test_outside_ipython(self) -> None:
        code = """
            import sys, weakref
            import nb_oomhelper
            class Thing: pass
            def f():
                thing = Thing()
                refs.append(weakref.ref(thing))
                1 / 0
            refs = []
            try:
                f()
            except ZeroDivisionError as error:
                sys.last_value = error
            print(refs[0]() is not None)
            outcome = nb_oomhelper.release(history=True)
            print(refs[0]() is None, outcome.before.backend, [(step.done, step.count) for step in outcome.steps])
            nb_oomhelper.release(deep=True)
            print(hasattr(sys, "last_value"))
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        first, second, third = done.stdout.splitlines()
        assert first == "True"
        assert second == "True host [('frames', 1), ('collect', None)]"  # that of the module still runs
        assert third == "False"
