"""`%oom forecast`: what a call of the user's would take."""

from __future__ import annotations

import ast
import json
from argparse import ArgumentParser
from collections.abc import Callable
from types import CodeType

from nb_oomhelper.errors import UsageError
from nb_oomhelper.shell.core import Core

_THROUGH = "_nb_oomhelper_through"
_OPTIONS = ("--yes", "--json", "--help", "-h")


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
    from nb_oomhelper.showing.forecast_text import asks, tell
    from nb_oomhelper.showing.notes import for_json

    options, text = _read(line)
    if options & {"--help", "-h"}:
        print(usage())
        return
    language, shell = core.settings.pick_language(), core.services.shell
    code, batch = _compiled(text), Batch()
    if "--yes" not in options:
        again = f"%oom forecast --yes {'--json ' if '--json' in options else ''}{text}"
        raise UsageError("\n".join(asks(text, again, language)))
    found = forecast_call(lambda: eval(code, shell.user_ns, {_THROUGH: batch}), text, batch=batch)
    if "--json" in options:
        print(json.dumps(for_json(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(tell(found, language)))


def add_parser(add: Callable[..., ArgumentParser]) -> None:
    """Say what it takes, for its help and that of `%oom`."""
    told = add(
        "forecast",
        "[--yes] [--json] CALL",
        lambda *_: None,
        "say what memory a call would take, before it is run",
        "The call is run on tensors without bytes, in a copy of this process; --yes says that it may be.",
    )
    told.add_argument("--yes", action="store_true", help="run it so; else only what would be run is shown")
    told.add_argument("--json", action="store_true", help="print it for programs: sizes in bytes, unknown is null")
    told.add_argument("call", metavar="CALL", nargs="...", help="such as train_step(batch)")


def _read(line: str) -> tuple[set[str], str]:
    """The options in front, and what comes after them."""
    options: set[str] = set()
    text = line.strip()
    while (word := text.partition(" ")[0]) in _OPTIONS:
        options.add(word)
        text = text[len(word) :].strip()
    return options, text


def _compiled(text: str) -> CodeType:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise UsageError("%oom forecast wants a call, such as %oom forecast train_step(batch)") from None
    if not any(isinstance(node, ast.Call) for node in ast.walk(tree)):
        raise UsageError("%oom forecast wants a call, such as %oom forecast train_step(batch)")
    if isinstance(tree.body, ast.Call):  # through what can make its batch smaller
        called = tree.body
        called.args.insert(0, called.func)
        called.func = ast.copy_location(ast.Name(_THROUGH, ast.Load()), called.func)
    return compile(tree, "<forecast>", "eval")
