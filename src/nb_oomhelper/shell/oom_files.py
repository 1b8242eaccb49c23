"""What `%oom` writes to files, and what it has on record: `%oom export` and `%oom stats`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nb_oomhelper.case import Case, rates
from nb_oomhelper.errors import UsageError
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.shell.core import Core


def last(core: Core) -> Case:
    """Give the last case of this shell; a `UsageError` where there is none."""
    if core.case is None:
        from nb_oomhelper.showing.wording import say

        raise UsageError(say("oom.no_case", core.settings.pick_language()))
    return core.case


def export(options: Namespace, core: Core) -> None:
    """Write the last case to a file.

    Args:
        options: `file`, and whether to `anonymize`.
        core: The extension.
    """
    from nb_oomhelper.showing.case_page import case_page
    from nb_oomhelper.showing.case_record import to_json
    from nb_oomhelper.showing.wording import say

    case, catalog, language = last(core), core.services.catalog(), core.settings.pick_language()
    file = Path(options.file).expanduser()
    if file.suffix.lower() == ".md":
        text = case_page(case, catalog, language, anonymize=options.anonymize)
    else:
        text = to_json(case, catalog, anonymize=options.anonymize)
    _write(file, text, language)
    print(say("oom.exported", language, file=file))


def stats(options: Namespace, core: Core) -> None:
    """Show how often fixes have helped, write that to a file, or forget it.

    Args:
        options: A file to `export` to, or whether to `forget`.
        core: The extension.
    """
    from IPython.display import display

    from nb_oomhelper.remedies import history
    from nb_oomhelper.showing import grid, stats_table
    from nb_oomhelper.showing.wording import say

    catalog, language = core.services.catalog(), core.settings.pick_language()
    if options.forget:
        path = core.services.history()
        if path is None:
            raise UsageError(say("oom.no_history", language))
        print(say("oom.forgotten", language, count=history.forget(path)))
        return
    here = rates(core.services)
    if options.export:
        file = Path(options.export).expanduser()
        _write(file, stats_table.to_json(catalog, here), language)
        print(say("oom.written", language, file=file))
        return
    columns, rows = stats_table.table(catalog, here, language)
    after = stats_table.below(language)
    text = "\n".join([grid.to_text(columns, rows), "", *after])
    display({"text/plain": text, "text/html": grid.to_html(columns, rows, [], after)}, raw=True)


def _write(file: Path, text: str, language: Language) -> None:
    from nb_oomhelper.showing.wording import say

    try:
        file.write_text(text, "utf-8", errors="backslashreplace")
    except (OSError, ValueError) as error:  # ValueError: no system has such a name
        raise UsageError(say("oom.not_written", language, file=file, error=error)) from None
