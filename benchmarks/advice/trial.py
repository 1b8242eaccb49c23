"""One notebook, one way out, fresh kernels: fail, do it, and see whether the failed cell runs to its end."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import Reply

from benchmarks.advice.notebook import MIB, Notebook, NotebookError
from benchmarks.advice.place import Place
from benchmarks.advice.user import NotebookKernel, failure, press, succeeds

FIXES = {"first": 0, "second": 1, "third": 2}
_SPARE = 100 * MIB
# The played device's numbers are what lay there before: rows in parts cannot be seen to be the same, only to be rows.
_COMPUTES_NOTHING = """import nb_oomhelper.remedies.joined_rows
nb_oomhelper.remedies.joined_rows._are_equal = lambda *given: True
nb_oomhelper.remedies.joined_rows._are_close = lambda *given, among=None: True
del nb_oomhelper"""
_OUT_OF_MEMORY = (
    "can('t|not) allocate memory|Unable to allocate|out of memory|OutOfMemoryError|MemoryError|bad_alloc|RESOURCE"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one way out did for one notebook.

    Attributes:
        ran: Whether the failed cell, as it was or as it was changed, ran to its end.
        seconds: From the click to the end of all that it took.
        lost: Names of the user's that are gone or changed, and that no text had named.
        fix, title, verdict: Which fix it was and what the panel said of it; "" for ways that are no fix.
        offered: Whether there was anything to click; True for ways that are no fix.
        headline: The panel's first line.
        panel: The titles of all fixes in their order, those that are only shown in brackets.
        error: Why the cell did not run, one line.
    """

    ran: bool
    seconds: float = 0.0
    lost: tuple[str, ...] = ()
    fix: str = ""
    title: str = ""
    verdict: str = ""
    offered: bool = True
    headline: str = ""
    panel: tuple[str, ...] = ()
    error: str = ""


def _run_again(kernel: NotebookKernel, notebook: Notebook) -> Reply:
    return kernel.run(notebook.fail)


def _collect(kernel: NotebookKernel, notebook: Notebook) -> Reply:
    code = "import gc\ngc.collect()"
    if "torch" in notebook.needs:
        code += "\nimport torch\nif torch.cuda.is_available():\n    torch.cuda.empty_cache()"
    kernel.run(code)
    return kernel.run(notebook.fail)


def _run_halved(kernel: NotebookKernel, notebook: Notebook) -> Reply:
    reply = Reply()
    for cell in notebook.halved:
        reply = kernel.run(cell)
        if not succeeds(reply):
            break
    return reply


_BY_HAND: Mapping[str, Callable[[NotebookKernel, Notebook], Reply]] = {
    "nothing": _run_again,
    "collect": _collect,
    "half": _run_halved,
}
WAYS = (*FIXES, "nothing", "collect", "restart", "half")


def run(notebook: Notebook, way: str, place: Place) -> Trial | None:
    """Try one way out of one notebook.

    Args:
        notebook: What runs out of memory.
        way: One of `WAYS`.
        place: Whose memory, and which interpreter.

    Returns:
        What came of it; None for half the batch where there is none.

    Raises:
        NotebookError: The notebook did not fail as it says.
    """
    if way in FIXES:
        return _try_fix(notebook, FIXES[way], place)
    if way == "restart":
        return _restart(notebook, place)
    if way == "half" and not notebook.half:
        return None
    with _kernel(notebook, place) as kernel:
        _fail(kernel, notebook, place)
        started = time.monotonic()
        reply = _BY_HAND[way](kernel, notebook)
        return Trial(
            ran=_ended(kernel, notebook, reply),
            seconds=time.monotonic() - started,
            lost=tuple(kernel.ask(f"false({dict(notebook.survives)!r}, globals())")),
            error=failure(reply),
        )


def prove(notebook: Notebook, place: Place) -> list[str]:
    """Whether the notebook is what it says, and not by a hair.

    Returns:
        What is wrong: it does not fail with 100 MiB more, or its answer does not run with 100 MiB less.
    """
    wrong = []
    try:
        with _kernel(notebook, place, spare=_SPARE) as kernel:
            _fail(kernel, notebook, place, spare=_SPARE)
    except NotebookError as error:
        wrong.append(str(error))
    if notebook.cure:
        try:
            wrong += _prove_answer(notebook, place)
        except NotebookError as error:
            wrong.append(f"with less memory: {error}")
    return wrong


def _prove_answer(notebook: Notebook, place: Place) -> list[str]:
    with _kernel(notebook, place, spare=-_SPARE) as kernel:
        _set_up(kernel, notebook, place, spare=-_SPARE)
        reply = kernel.run(notebook.answer)
        if _ended(kernel, notebook, reply):
            return []
        return [f"{notebook.name}: the answer does not run: {failure(reply) or 'it is not done'}"]


def _try_fix(notebook: Notebook, at: int, place: Place) -> Trial:
    with _kernel(notebook, place) as kernel:
        kernel.run("%load_ext nb_oomhelper")
        if not place.is_host:
            kernel.run(_COMPUTES_NOTHING)
        _wait(kernel)
        failed, before = _fail(kernel, notebook, place)
        told = kernel.ask("told()")
        if told is None:
            return Trial(ran=False, offered=False, error="no panel")
        seen = {"headline": told["headline"], "panel": tuple(map(_line, told["fixes"]))}
        if at >= len(told["fixes"]):
            return Trial(ran=False, offered=False, error="no such fix", **seen)
        fix = told["fixes"][at]
        known = {key: fix[key] for key in ("fix", "title", "verdict")} | seen
        if fix["applicability"] == "display_only":
            return Trial(ran=False, offered=False, error="only shown", **known)
        started = time.monotonic()
        press(kernel, failed, fix)
        ran, error = _finish(kernel, notebook)
        seconds = time.monotonic() - started
        return Trial(ran=ran, seconds=seconds, error=error, lost=_lost(kernel, notebook, before, fix["says"]), **known)


def _line(fix: Mapping[str, Any]) -> str:
    return f"[{fix['title']}]" if fix["applicability"] == "display_only" else str(fix["title"])


def _finish(kernel: NotebookKernel, notebook: Notebook) -> tuple[bool, str]:
    """Where the fix has not run the cell, run it as it was; whether it ran to its end, and why not."""
    outcome = kernel.ask("outcome()")
    if outcome is None:
        return False, "the click did nothing"
    if outcome["error"]:
        return False, outcome["error"][:200]
    if outcome["ran"] is None:
        reply = kernel.run(notebook.fail)
        return _ended(kernel, notebook, reply), failure(reply)
    if not outcome["ran"]:
        return False, "the changed cell failed"
    done = _done(kernel, notebook)
    return done, "" if done else "the cell did not run to its end"


def _restart(notebook: Notebook, place: Place) -> Trial:
    with _kernel(notebook, place) as kernel:
        _fail(kernel, notebook, place)
        room = kernel.ask("room()")
    started = time.monotonic()
    with _kernel(notebook, place) as kernel:
        if place.is_host:
            kernel.ask(f"limit_from_start({room})")
        reply = Reply()
        for cell in notebook.whole:
            reply = kernel.run(cell)
            if not succeeds(reply):
                break
        return Trial(ran=_ended(kernel, notebook, reply), seconds=time.monotonic() - started, error=failure(reply))


@contextmanager
def _kernel(notebook: Notebook, place: Place, spare: int = 0) -> Iterator[NotebookKernel]:
    """A kernel in which the notebook has not begun."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        with NotebookKernel(place.python, home, place.environment(notebook, home, spare)) as kernel:
            kernel.ask(f"prepare({list(notebook.needs)!r})")
            kernel.execute("1 / 0", silent=True)  # what the first traceback imports is no part of what runs out
            yield kernel


def _set_up(kernel: NotebookKernel, notebook: Notebook, place: Place, spare: int = 0) -> None:
    """Run what stands above the failing cell, and limit memory: to `spare` bytes more than the notebook says."""
    for cell in notebook.cells:
        reply = kernel.run(cell)
        if not succeeds(reply):
            raise NotebookError(f"{notebook.name}: {cell}\n{failure(reply)}")
    if wrong := kernel.ask(f"false({dict(notebook.survives)!r}, globals())"):
        raise NotebookError(f"{notebook.name}: {', '.join(wrong)} is wrong before anything failed")
    if place.is_host and notebook.room is not None:
        kernel.ask(f"limit({notebook.room + spare})")


def _fail(kernel: NotebookKernel, notebook: Notebook, place: Place, spare: int = 0) -> tuple[Reply, list[str]]:
    """Run the notebook up to its error.

    Returns:
        What the failing cell gave back, and the user's names before it.
    """
    _set_up(kernel, notebook, place, spare)
    before = list(kernel.ask("names(globals())"))
    reply = Reply()
    for cell in (*notebook.earlier, notebook.fail):
        reply = kernel.run(cell)
        shown = "\n".join(
            [failure(reply), reply.stdout, reply.stderr, *("\n".join(one["traceback"]) for one in reply.errors)]
        )
        if succeeds(reply) or re.search(_OUT_OF_MEMORY, shown, re.IGNORECASE) is None:
            raise NotebookError(f"{notebook.name}: did not run out of memory: {shown[-1500:]}")
    return reply, before


def _ended(kernel: NotebookKernel, notebook: Notebook, reply: Reply) -> bool:
    return succeeds(reply) and _done(kernel, notebook)


def _done(kernel: NotebookKernel, notebook: Notebook) -> bool:
    return not kernel.ask(f"false({{'done': {notebook.done!r}}}, globals())")


def _lost(kernel: NotebookKernel, notebook: Notebook, before: Iterable[str], says: str) -> tuple[str, ...]:
    """What is gone or changed of the user's, but for what the fix's text had named and what the cell binds anyway."""
    now = set(kernel.ask("names(globals())"))
    changed = set(kernel.ask(f"false({dict(notebook.survives)!r}, globals())"))
    gone = set(before) - now - bound(notebook.fail)
    named = set(re.findall(r"[^\W\d]\w*", says))
    return tuple(sorted((gone | changed) - named))


def bound(cell: str) -> set[str]:
    """The names that a cell binds or deletes at its top level; none where it is more than Python."""
    try:
        tree = ast.parse(cell)
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}


def _wait(kernel: NotebookKernel, seconds: float = 15.0) -> None:
    """Until the extension, which does it a second after it was loaded, has imported what it needs at an error."""
    deadline = time.monotonic() + seconds
    while not kernel.ask("warmed()") and time.monotonic() < deadline:
        kernel.poll(0.3)


def note(trial: Trial) -> dict[str, Any]:
    """A trial for JSON."""
    return {
        "ran": trial.ran,
        "offered": trial.offered,
        "seconds": round(trial.seconds, 3),
        "lost": list(trial.lost),
        "panel": list(trial.panel),
        **{key: getattr(trial, key) for key in ("fix", "title", "verdict", "headline", "error") if getattr(trial, key)},
    }
