"""`%oom explain`: the out-of-memory errors in a file, or in a text that is pasted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from nb_oomhelper.errors import UsageError
from nb_oomhelper.failure.documents import Document, read_file, read_pasted
from nb_oomhelper.shell.core import Core
from nb_oomhelper.showing.explanation import above, explained, to_json
from nb_oomhelper.showing.wording import pick_language

_OPTION = re.compile(r"(?:^|\s)--(json|help|lang[ =]\s*(en|zh))(?=\s|$)")


def explain(line: str, cell: str | None, core: Core, usage: Callable[[], str]) -> None:
    """Show what a text tells; nothing of it is run, and no variable in it is filled in.

    Args:
        line: What stands after `explain`: options, a file or a variable's name, or a text.
        cell: What stands below it, or None.
        core: The extension.
        usage: Gives the help.

    Raises:
        UsageError: There is no text, or it cannot be read.
    """
    options = {found[1].partition(" ")[0].partition("=")[0]: found[2] for found in _OPTION.finditer(line)}
    if "help" in options:
        print(usage())
        return
    language = pick_language(options.get("lang") or core.settings.language)
    document, name = _document(_OPTION.sub(" ", line).strip(), cell, core)
    reading, cases = explained(document, core.services)
    if "json" in options:
        print(to_json(reading, cases, name))
        return
    print("\n".join(above(reading, name, language)))
    for case in cases:
        core.panels.show(case, language=language)


def _document(given: str, cell: str | None, core: Core) -> tuple[Document, str]:
    """What is to be read, and its name."""
    if cell is not None and not given:
        return read_pasted(cell), ""
    if cell is not None or not given:
        raise UsageError("%oom explain takes a file; %%oom explain takes a text below it")
    named = core.services.shell.user_ns.get(given)
    if type(named) is str:  # as for `%oom plan`, the name of a variable means its text
        file = _file(named)
        return (read_pasted(named), given) if file is None else (read_file(file), named)
    file = _file(given.strip("\"'"))
    if file is not None:
        return read_file(file), str(file)
    if not re.search(r"\s", given):
        raise UsageError(f"there is no file {given!r}")
    return read_pasted(given), ""


def _file(given: str) -> Path | None:
    """The file that is named so; None where there is none."""
    try:
        file = Path(given).expanduser()
        return file if file.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name, or none that can be
        return None
