"""`%oom forecast`: what a call of the user's would take."""

from __future__ import annotations

import ast
import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from types import CodeType
from typing import TYPE_CHECKING

from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.shell.core import Core

if TYPE_CHECKING:
    from nb_oomhelper.memory.peaks import Peak
    from nb_oomhelper.records.forecast import Forecast

_CELL_DEADLINE = 30.0  # seconds
_NEAR = 0.05
_THROUGH = "_nb_oomhelper_through"
_OPTIONS = ("--yes", "--json", "--fix", "--help", "-h")


def forecast(line: str, core: Core, usage: Callable[[], str]) -> None:
    """Say what memory a call would take; without `--yes` only what would be run to find out.

    Args:
        line: What stands after `forecast`: options, then the call, as it was written.
        core: The extension.
        usage: Gives the help.

    Raises:
        OomHelperError: This is no call, PyTorch is not there, or this process cannot be copied.
    """
    from nb_oomhelper.forecasting.batches import Batch
    from nb_oomhelper.forecasting.forecast import forecast_call
    from nb_oomhelper.shell import jax_calls
    from nb_oomhelper.showing.forecast_text import asks, tell
    from nb_oomhelper.showing.notes import for_json

    options, text = _read(line)
    if options & {"--help", "-h"}:
        print(usage())
        return
    if "--fix" in options:
        _forecast_fix(text, options, core)
        return
    language, shell = core.settings.pick_language(), core.services.shell
    tree = _parsed(text)
    of_jax = jax_calls.is_of_jax(tree, shell.user_ns)
    if "--yes" not in options:
        again = f"%oom forecast --yes {'--json ' if '--json' in options else ''}{text}"
        raise UsageError("\n".join(asks(text, again, language, jitted=of_jax)))
    if of_jax:
        found = jax_calls.forecast(tree, text, shell.user_ns)
    else:
        code, batch = _compiled(tree), Batch()
        found = forecast_call(lambda: eval(code, shell.user_ns, {_THROUGH: batch}), text, batch=batch)
    if "--json" in options:
        print(json.dumps(for_json(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(tell(found, language)))


def _forecast_fix(number: str, options: set[str], core: Core) -> None:
    """Say which size makes the failed cell fit, and let the fix have it; without `--yes` only what would be run."""
    from nb_oomhelper.shell.fix_forecasts import forecast_fix
    from nb_oomhelper.shell.oom_files import last
    from nb_oomhelper.showing.fix_text import say_fix
    from nb_oomhelper.showing.forecast_text import asks, tell
    from nb_oomhelper.showing.markup import unmarked
    from nb_oomhelper.showing.notes import for_json
    from nb_oomhelper.showing.wording import say

    if not number.isdecimal():
        raise UsageError("%oom forecast --fix wants the number of a fix, such as %oom forecast --fix 1")
    case, language = last(core), core.settings.pick_language()
    if "--yes" not in options:
        raise UsageError("\n".join(asks("", f"%oom forecast --yes --fix {number}", language)))
    plan = forecast_fix(case, int(number), core.services)
    core.panels.screen.refresh(case, language)
    if plan.forecast is None:
        return
    if "--json" in options:
        print(json.dumps(for_json(plan.forecast), indent=2, ensure_ascii=False))
        return
    row = say_fix(case, plan, core.services.catalog(), language)
    title = say("list.of", language, head=unmarked(row.title), text=row.verdict)
    print("\n".join([f"{plan.number}  {title}", *tell(plan.forecast, language)[1:]]))


def before_cell(cell: str, core: Core, write: Callable[[str], None]) -> Forecast | None:
    """Tell what memory a cell would take; where that cannot be, a line says why.

    Args:
        cell: Its source.
        core: The extension.
        write: Takes what is told.
    """
    from nb_oomhelper.forecasting.cell_run import CellRun
    from nb_oomhelper.forecasting.forecast import forecast_call
    from nb_oomhelper.showing.forecast_text import tell
    from nb_oomhelper.showing.wording import say

    language, shell = core.settings.pick_language(), core.services.shell
    try:
        run = CellRun(shell.transform_cell(cell), shell.user_ns)
        found = forecast_call(run, "", deadline=_CELL_DEADLINE)
    except Exception as error:  # the cell itself is to run, whatever fails here
        if not isinstance(error, OomHelperError | SyntaxError):
            core.services.failed(error)
        write(say("forecast.none", language, why=str(error) or type(error).__name__))
        return None
    write("\n".join(tell(found, language)))
    return found


def after_cell(expected: Forecast, seen: Iterable[Peak], core: Core, write: Callable[[str], None]) -> None:
    """Tell how near a forecast came to what was measured, and how near they have come here; GPUs only.

    Args:
        expected: The forecast.
        seen: What was measured.
        core: The extension.
        write: Takes what is told.
    """
    from nb_oomhelper.memory.peaks import SAMPLE
    from nb_oomhelper.remedies.forecast_history import keep
    from nb_oomhelper.showing.wording import say, say_size

    language, likely = core.settings.pick_language(), expected.allocated.likely
    peak = next((one for one in seen if f"cuda:{one.device}" == expected.device), None)
    if peak is None or not peak.peak or expected.ended != "returned":
        return
    if peak.sampled:
        write(say("forecast.not_compared", language, seconds=f"{SAMPLE:g}"))
        return
    sizes = {"likely": say_size(likely, language), "real": say_size(peak.peak, language)}
    write(say("forecast.compared", language, **sizes, error=f"{likely / peak.peak - 1:+.1%}"))
    path = core.services.history()
    if path is None:
        return
    try:
        near, held, count = keep(path, expected.allocated, peak.peak, _NEAR)
    except OomHelperError:  # `%oom status` tells of a history that cannot be used
        return
    write(say("forecast.so_far", language, near=near, held=held, count=count, percent=f"{_NEAR:.0%}"))


def add_parser(add: Callable[..., ArgumentParser]) -> None:
    """Say what it takes, for its help and that of `%oom`."""
    told = add(
        "forecast",
        "[--yes] [--json] CALL | --fix N",
        lambda *_: None,
        "say what memory a call would take, before it is run",
        "The call is run on tensors without bytes, in a copy of this process; --yes says that it may be.",
    )
    told.add_argument("--yes", action="store_true", help="run it so; else only what would be run is shown")
    told.add_argument("--json", action="store_true", help="print it for programs: sizes in bytes, unknown is null")
    told.add_argument("--fix", metavar="N", help="of fix N of the last panel: the size with which the failed cell fits")
    told.add_argument("call", metavar="CALL", nargs="...", help="such as train_step(batch)")


def _read(line: str) -> tuple[set[str], str]:
    """The options in front, and what comes after them."""
    options: set[str] = set()
    text = line.strip()
    while (word := text.partition(" ")[0]) in _OPTIONS:
        options.add(word)
        text = text[len(word) :].strip()
    return options, text


def _parsed(text: str) -> ast.Expression:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise UsageError("%oom forecast wants a call, such as %oom forecast train_step(batch)") from None
    if not any(isinstance(node, ast.Call) for node in ast.walk(tree)):
        raise UsageError("%oom forecast wants a call, such as %oom forecast train_step(batch)")
    return tree


def _compiled(tree: ast.Expression) -> CodeType:
    if isinstance(tree.body, ast.Call):  # through what can make its batch smaller
        called = tree.body
        called.args.insert(0, called.func)
        called.func = ast.copy_location(ast.Name(_THROUGH, ast.Load()), called.func)
    return compile(tree, "<forecast>", "eval")
