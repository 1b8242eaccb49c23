"""The hooks: which errors they see, and that a shell is exactly as before when they are gone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.shells import in_shell

pytestmark = pytest.mark.plain

Play = Callable[..., list[Any]]

# Hooks whose `look` notes the classes of errors, and whether they are kept.
HOOKS = """
from nb_oomhelper.shell.hooks import Hooks
seen, cells_run = [], []
def look(error, kept):
    seen.append([type(error).__name__, kept])
def make():
    return Hooks(shell, look, lambda info: cells_run.append("before"), lambda result: cells_run.append("after"))
def state():
    '''Everything that hooks touch.'''
    events = shell.events.callbacks
    return [shell.custom_exceptions, shell.CustomTB, vars(shell).get("showtraceback"), threading.excepthook,
            list(events["pre_run_cell"]), list(events["post_run_cell"])]
def names(state):
    parts = ["kinds", "handler", "showtraceback", "thread", "pre", "post"]
    return [name for name, was, now in zip(parts, before, state) if was != now]
"""


@pytest.fixture
def play(kernel_python: Path) -> Play:
    def run(code: str, **options: Any) -> list[Any]:
        return in_shell(HOOKS + textwrap.dedent(code), python=kernel_python, **options)

    return run


class TestSeen:
    def test_every_route_with_the_traceback_as_usual(self, play: Play) -> None:
        code = """
            import asyncio
            plain = {name: cell(source) for name, source in cells.items()}
            hooks = make(); hooks.install()
            found = {}
            for name, source in cells.items():
                seen.clear()
                shown = cell(source)
                found[name] = [sorted({kind for kind, kept in seen}), plain[name], shown]
            tell(found)
        """
        routes = {
            "plain": "raise MemoryError('none left')",
            "in a function": "def f():\n    raise RuntimeError('none left')\nf()",
            "another": "raise KeyError('a')",
            "wrapped": "try:\n    raise MemoryError\nexcept MemoryError as error:\n    raise KeyError('b') from error",
            "group": "raise ExceptionGroup('g', [MemoryError()])",
            "time": "%time int('x')",
            "awaited": "import asyncio\nawait asyncio.sleep(0)\nraise MemoryError('c')",
            "repr": "class R:\n    def __repr__(self):\n        raise MemoryError('d')\nR()",
            "syntax": "1 +",
            "interrupt": "raise KeyboardInterrupt",
            "caught": "try:\n    raise MemoryError\nexcept MemoryError:\n    pass",
            "fine": "1",
        }
        (found,) = play(code, cells=routes)
        assert {name: kinds for name, (kinds, _, _) in found.items()} == {
            "plain": ["MemoryError"],
            "in a function": ["RuntimeError"],
            "another": ["KeyError"],
            "wrapped": ["KeyError"],
            "group": ["ExceptionGroup"],
            "time": ["ValueError"],
            "awaited": ["MemoryError"],
            "repr": ["MemoryError"],
            "syntax": found["syntax"][0],  # IPython versions differ; it is no matter of memory
            "interrupt": ["KeyboardInterrupt"],
            "caught": [],
            "fine": [],
        }
        for name, (_, before, after) in found.items():
            assert without_numbers(before) == without_numbers(after), name

    def test_a_thread(self, play: Play) -> None:
        code = """
            shown = []
            threading.excepthook = lambda args: shown.append(args.exc_type.__name__)
            hooks = make(); hooks.install()
            cell("import threading\\nt = threading.Thread(target=lambda: 1 / 0)\\nt.start()\\nt.join()")
            tell(seen, shown)
        """
        assert play(code) == [[["ZeroDivisionError", False]], ["ZeroDivisionError"]]

    def test_cells_come_and_go(self, play: Play) -> None:
        code = "hooks = make(); hooks.install(); cell('1'); cell('1 / 0'); tell(cells_run)"
        assert play(code) == [["before", "after"] * 2]

    def test_the_traceback_can_be_shown_again(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            cell("raise MemoryError('none left')")
            count = len(seen)
            tell(count > 0, "none left" in cell("%tb"), len(seen) == count, sys.last_type.__name__)
        """
        assert play(code) == [True, True, True, "MemoryError"]


def without_numbers(text: str) -> str:
    """A traceback without the cells' numbers and temporary names."""
    return re.sub(r"(?:CPU times|Wall time).*|0x\w+|\d+|-[0-9a-f]{12,}|\s+", " ", text)


class TestRoom:
    def test_is_made_once_before_a_traceback(self, play: Play) -> None:
        """The handler calls the shell's own showtraceback, which is a net of ours: what is left is for the panel."""
        code = """
            eased = []
            hooks = Hooks(shell, look, lambda info: None, lambda result: None, lambda: eased.append(1))
            hooks.install()
            counts = []
            for source in ("raise MemoryError", "raise KeyError", "%run nowhere.py", "raise RuntimeError"):
                eased.clear(); cell(source); counts.append(len(eased))
            tell(counts)
        """
        assert play(code) == [[1, 1, 1, 1]]


class TestShell:
    def test_is_not_kept_alive_by_the_net_for_threads(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            kept = weakref.ref(hooks)
            shell.events.unregister("pre_run_cell", hooks._before)
            shell.events.unregister("post_run_cell", hooks._ran)
            shell.custom_exceptions, shell.CustomTB = hooks._slot
            del shell.showtraceback, hooks
            gc.collect()
            threading.Thread(target=int, args=["x"]).start()  # its net has nobody to tell
            tell(kept() is None)
        """
        assert play(code) == [True]

    def test_a_class_that_is_patched_later_counts(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            shown = []
            before = InteractiveShell.showtraceback
            InteractiveShell.showtraceback = lambda self, *args, **options: shown.append(1)
            try:
                cell("raise MemoryError")
            finally:
                InteractiveShell.showtraceback = before
            tell(len(shown), seen[0])
        """
        assert play(code) == [1, ["MemoryError", True]]


class TestSlot:
    def test_the_handler_before_shows_what_it_had_asked_for(self, play: Play) -> None:
        code = """
            called = []
            def handler(self, etype, value, tb, tb_offset=None):
                called.append(etype.__name__)
            shell.set_custom_exc((MemoryError, KeyError), handler)
            hooks = make(); hooks.install()
            shown = [cell("raise MemoryError"), cell("raise KeyError"), cell("raise RuntimeError"), cell("1 / 0")]
            tell(called, [kind for kind, kept in seen], [text.count("Traceback") for text in shown],
                 [kind.__name__ for kind in shell.custom_exceptions])
        """
        called, seen, shown, kinds = play(code)
        assert called == ["MemoryError", "KeyError"]
        assert list(dict.fromkeys(seen)) == ["MemoryError", "KeyError", "RuntimeError", "ZeroDivisionError"]
        assert shown == [0, 0, 1, 1]  # that handler shows nothing, which is its affair
        assert kinds == ["RuntimeError", "MemoryError", "KeyError"]

    def test_a_handler_before_that_raises(self, play: Play) -> None:
        """IPython drops it for that. We stay, and the error is shown."""
        code = """
            def handler(self, etype, value, tb, tb_offset=None):
                raise ZeroDivisionError("of the handler")
            shell.set_custom_exc((MemoryError,), handler)
            hooks = make(); hooks.install()
            first = cell("raise MemoryError('first')")
            place = hooks.has_slot
            second = cell("raise MemoryError('second')")
            hooks.remove()
            tell("MemoryError: first" in first, place, "MemoryError: second" in second, "ZeroDivision" in second,
                 [kind for kind, kept in seen if kind == "MemoryError"] != [], list(shell.custom_exceptions),
                 "third" in cell("raise MemoryError('third')"))
        """
        assert play(code) == [True, True, True, False, True, [], True]

    def test_a_handler_before_that_is_not_asked(self, play: Play) -> None:
        code = """
            def handler(self, etype, value, tb, tb_offset=None):
                raise AssertionError("not for this")
            shell.set_custom_exc((KeyError,), handler)
            hooks = make(); hooks.install()
            tell("AssertionError" in cell("raise MemoryError('mine')"), hooks.has_slot)
        """
        assert play(code) == [False, True]

    def test_taken_by_another_extension(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            called = []
            def other(self, etype, value, tb, tb_offset=None):
                called.append(etype.__name__)
                self.showtraceback((etype, value, tb), tb_offset=tb_offset)
            shell.set_custom_exc((BaseException,), other)
            taken = shell.CustomTB
            shown = cell("raise MemoryError('x')")
            had = hooks.has_slot
            hooks.remove()
            kept = shell.CustomTB == taken and shell.custom_exceptions == (BaseException,)
            tell(had, called, [kind for kind, _ in seen][:1], "MemoryError: x" in shown, kept)
        """
        assert play(code) == [False, ["MemoryError"], ["MemoryError"], True, True]

    def test_another_extension_that_passes_on_to_us_after_we_left(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            ours = shell.CustomTB
            def other(self, etype, value, tb, tb_offset=None):
                ours(etype, value, tb, tb_offset)
            shell.set_custom_exc((MemoryError,), other)
            hooks.remove()
            shown = cell("raise MemoryError('x')")
            tell(shown.count("MemoryError: x"), seen)
        """
        assert play(code) == [1, []]


class TestRemoved:
    def test_nothing_is_left(self, play: Play) -> None:
        code = """
            before = state()
            hooks = make(); hooks.install()
            during = names(state())
            hooks.remove()
            after = names(state())
            seen.clear()
            cell("raise MemoryError")
            tell(during, after, seen, "showtraceback" in vars(shell))
        """
        during, after, seen, left = play(code)
        assert during == ["kinds", "handler", "showtraceback", "thread", "pre", "post"]
        assert (after, seen, left) == ([], [], False)

    def test_what_was_there_before_is_put_back(self, play: Play) -> None:
        code = """
            usual = shell.showtraceback
            def mine(*args, **options):
                return usual(*args, **options)
            shell.showtraceback = mine
            shell.set_custom_exc((KeyError,), lambda self, etype, value, tb, tb_offset=None: None)
            threading.excepthook = lambda args: None
            before = state()
            hooks = make(); hooks.install()
            cell("raise MemoryError")
            hooks.remove()
            tell(names(state()), shell.showtraceback is mine)
        """
        assert play(code) == [[], True]

    def test_what_somebody_put_on_top_stays_and_works(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            ours, thread = shell.showtraceback, threading.excepthook
            passed, threads = [], []
            def on_top(*args, **options):
                passed.append(1)
                return ours(*args, **options)
            def thread_on_top(args):
                threads.append(1)
                thread(args)
            shell.showtraceback, threading.excepthook = on_top, thread_on_top
            hooks.remove()
            seen.clear()
            shown = cell("raise KeyError('x')")
            cell("import threading\\nt = threading.Thread(target=lambda: 1 / 0)\\nt.start()\\nt.join()")
            tell(shell.showtraceback is on_top, threading.excepthook is thread_on_top, passed, threads,
                 shown.count("KeyError: 'x'"), seen)
        """
        assert play(code) == [True, True, [1], [1], 1, []]

    def test_callbacks_that_somebody_took_out(self, play: Play) -> None:
        code = """
            hooks = make(); hooks.install()
            shell.events.callbacks["pre_run_cell"].clear()
            shell.events.callbacks["post_run_cell"].clear()
            hooks.remove()
            tell(hooks.has_slot, "showtraceback" in vars(shell), threading.excepthook is threading.__excepthook__)
        """
        assert play(code) == [False, False, True]

    def test_in_and_out_again(self, play: Play) -> None:
        code = """
            before = state()
            for _ in range(3):
                hooks = make(); hooks.install()
                seen.clear()
                cell("raise MemoryError")
                once = len(seen)
                hooks.remove()
            tell(names(state()), once)
        """
        changed, once = play(code)
        assert changed == []
        assert once <= 3  # the slot, the net and the cell's end: no layer of an earlier round


class TestExtension:
    """In the newest IPython alone: the tests that drive kernels take both."""

    @pytest.fixture
    def play(self) -> Play:
        def run(code: str, **options: Any) -> list[Any]:
            return in_shell(HOOKS + textwrap.dedent(code), **options)

        return run

    LOAD = "cell('%load_ext nb_oomhelper')\n"

    def test_loading_and_unloading_leaves_no_trace(self, play: Play) -> None:
        code = """
            def magics():
                manager = shell.magics_manager
                return [sorted(manager.magics["line"]), sorted(manager.magics["cell"]), sorted(manager.registry)]
            def configurables():
                return [type(one).__name__ for one in shell.configurables]
            cell("%unload_ext nothing")  # IPython makes some things of its own when they are first used
            cell("raise MemoryError")
            tables, settings, attributes, before = magics(), configurables(), set(vars(shell)), state()
            cell("%load_ext nb_oomhelper")
            loaded = [names(state()) != [], magics() != tables, configurables() != settings]
            cell("%unload_ext nb_oomhelper")
            tell(loaded, names(state()), magics() == tables, configurables() == settings,
                 sorted(set(vars(shell)) - attributes), cell("raise MemoryError").count("nb_oomhelper"))
        """
        assert play(code) == [[True] * 3, [], True, True, [], 0]

    def test_loading_twice_shows_one_panel(self, play: Play) -> None:
        code = """
            import nb_oomhelper
            before = state()
            cell("%load_ext nb_oomhelper")
            nb_oomhelper.load_ipython_extension(shell)
            cell("%reload_ext nb_oomhelper")
            shown = cell("raise MemoryError('once')")
            nb_oomhelper.unload_ipython_extension(shell)
            nb_oomhelper.unload_ipython_extension(shell)
            tell(shown.count("%oom fix N"), shown.count("MemoryError: once"), names(state()))
        """
        assert play(code) == [1, 1, []]

    @pytest.mark.parametrize(
        ("cell", "panels"),
        [
            ("raise MemoryError", 1),
            ("try:\n    raise MemoryError\nexcept MemoryError as error:\n    raise ValueError from error", 1),
            ("raise ExceptionGroup('g', [MemoryError(), ValueError()])", 1),
            ("%time raise MemoryError", 1),
            ("1 / 0", 0),
            ("from threading import *\ndef f():\n    raise MemoryError\nt = Thread(target=f)\nt.start()\nt.join()", 1),
        ],
        ids=["plain", "wrapped", "group", "time", "another", "thread"],
    )
    def test_one_error_one_panel(self, play: Play, cell: str, panels: int) -> None:
        code = self.LOAD + "shown = cell(cells['one'])\ntell(shown.count('%oom fix N'), shown)"
        count, shown = play(code, cells={"one": cell})
        assert count == panels, shown

    def test_the_same_error_raised_again_later(self, play: Play) -> None:
        code = (
            self.LOAD
            + """
cell("try:\\n    raise MemoryError\\nexcept MemoryError as error:\\n    kept = error")
first, second = cell("raise kept"), cell("raise kept")
tell(first.count("%oom fix N"), second.count("%oom fix N"))
"""
        )
        assert play(code) == [1, 0]

    def test_an_exception_that_refuses_everything(self, play: Play) -> None:
        """Its class has the first word on its attributes, but we have none to ask it for."""
        source = """
class MemoryError(MemoryError):
    def __getattr__(self, name):
        raise KeyError(name)
    def __setattr__(self, name, value):
        raise KeyError(name)
class Says(ValueError):
    def __getattr__(self, name):
        return True
"""
        code = (
            self.LOAD
            + """
cell(cells["classes"])
first, second, third = cell("raise MemoryError"), cell("raise Says"), cell("raise Says from MemoryError()")
tell(*[text.count("%oom fix N") for text in (first, second, third)],
     [text for text in (first, second, third) if "could not show" in text])
"""
        )
        assert play(code, cells={"classes": source}) == [1, 0, 1, []]

    def test_the_panel_comes_after_the_traceback(self, play: Play) -> None:
        code = self.LOAD + "shown = cell('raise MemoryError(\"x\")'); tell(shown)"
        (shown,) = play(code)
        assert shown.index("MemoryError: x") < shown.index("Probably out of memory") < shown.index("%oom fix N")

    def test_nothing_of_the_users_is_kept(self, play: Play) -> None:
        code = (
            self.LOAD
            + """
cell("def f():\\n    thing = Thing()\\n    raise MemoryError\\nf()")
before = alive()
cell("%unload_ext nb_oomhelper")
cell("1 / 0")
gc.collect()
tell(before, alive())
"""
        )
        assert play(code) == [[True], [False]]

    def test_an_error_is_read_once(self, play: Play) -> None:
        """On whatever route it comes: the texts of the two exceptions of a chain, and the phase."""
        source = "try:\n    raise MemoryError\nexcept MemoryError as error:\n    raise KeyError from error"
        code = (
            self.LOAD
            + """
called = []
sys.setprofile(lambda frame, event, arg: event == "call" and called.append(frame.f_code.co_qualname))
shown = cell(cells["chain"])
sys.setprofile(None)
tell(shown.count("%oom fix N"), *[called.count(name) for name in ("detect_text", "tell_phase")])
"""
        )
        assert play(code, cells={"chain": source}) == [1, 2, 1]

    def test_nothing_of_an_error_lives_on_with_us(self, play: Play) -> None:
        """Once Python and IPython have let an error go, it is gone at once: nothing here has kept it."""
        code = (
            self.LOAD
            + """
cell("import threading\\ndef f():\\n    thing = Thing()\\n    raise MemoryError")
hook, threading.excepthook = threading.excepthook, lambda args: hook(args)
gc.collect(); gc.disable()
shown = cell("thread = threading.Thread(target=f)\\nthread.start(); thread.join()")
tell(shown.count("%oom fix N"), alive())
"""
        )
        assert play(code) == [1, [False]]

    def test_there_is_one_driver(self, play: Play) -> None:
        """Whoever reads NVML does it through the extension's: magics, public functions, the code of fixes."""
        code = """
            from nb_oomhelper.memory.nvml import Driver
            made, make = [], Driver.__init__
            def counted(self):
                made.append(self)
                make(self)
            Driver.__init__ = counted
            cell("import nb_oomhelper; nb_oomhelper.release(); nb_oomhelper.plan('no/such')")
            alone = len(made)
            cell("%load_ext nb_oomhelper")
            for line in ("%gpumem", "%oom release", "%oom plan no/such", "raise MemoryError", "%oom fix 1",
                         "%oom status", "nb_oomhelper.release(); nb_oomhelper.plan('no/such')"):
                cell(line)
            tell(alone, len(made), shell._nb_oomhelper.services.driver is made[-1])
        """
        assert play(code) == [2, 3, True]

    def test_status_says_who_has_the_slot(self, play: Play) -> None:
        code = (
            self.LOAD
            + """
ours = cell("%oom status")
shell.set_custom_exc((BaseException,), lambda self, *error, tb_offset=None: None)
tell(ours, cell("%oom status"))
"""
        )
        ours, theirs = play(code)
        assert "exception handler: in place" in ours
        assert "exception handler: taken by another extension" in theirs
