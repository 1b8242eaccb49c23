"""What `%oom` writes to files, and what it has on record: export, stats, trust, entry."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nb_oomhelper.case import Case, rates
from nb_oomhelper.errors import KnowledgeError, UsageError
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


def show_entry(options: Namespace, core: Core) -> None:
    """Show an entry, or those that hold some words; write a new one where that is asked for.

    Args:
        options: `words`, whether it is to be `new`, `json` or `markdown`, and the language, `lang`.
        core: The extension.
    """
    from IPython.display import display

    from nb_oomhelper.showing.entry_page import entry_page, to_json

    if options.new:
        _new_entry(options, core)
        return
    catalog, language = core.services.catalog(), options.lang or core.settings.pick_language()
    wanted = " ".join(options.words)
    found = catalog.search(wanted)
    if not wanted or len(found) > 1:
        print("\n".join(f"{one.code}  {one.title.get(language)}" for one in found))
        return
    shown = found[0] if found else catalog.entry(wanted)
    if options.json:
        print(to_json(shown))
    elif options.markdown:
        print(entry_page(shown, language))
    else:
        text = entry_page(shown, language)
        display({"text/markdown": text, "text/plain": text}, raw=True)


def _new_entry(options: Namespace, core: Core) -> None:
    """Write an entry of the user's own from the last case; without a file, print it.

    Args:
        options: The file, as `words`, and the language of the comments, `lang`.
        core: The extension.
    """
    from datetime import datetime

    from nb_oomhelper.showing.entry_template import entry_template
    from nb_oomhelper.showing.wording import say

    language = options.lang or core.settings.pick_language()
    text = entry_template(last(core), language, datetime.now().astimezone().date())
    if not options.words:
        print(text, end="")
        return
    file = Path(" ".join(options.words)).expanduser()
    if file.exists():  # what stands in it was written by hand
        raise UsageError(say("oom.file_there", language, file=file))
    _write(file, text, language)
    print(say("oom.new_entry", language, file=file))


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


def trust(options: Namespace, core: Core) -> None:
    """Trust files of fixes from outside the package, trust them no longer, or list them.

    Args:
        options: A `path`, and whether to `revoke`.
        core: The extension.
    """
    from nb_oomhelper.knowledge.outside import distrust, fix_files, trust
    from nb_oomhelper.showing.wording import say

    language, kept = core.settings.pick_language(), core.settings.trust_file()
    if options.path is None:
        print("\n".join(_trusted(core, kept, language)))
        return
    path = Path(options.path).expanduser().absolute()
    if options.revoke:
        print(say("trust.revoked", language, count=distrust(kept, [path])))
        return
    contents = _contents(fix_files(path))
    if not contents:
        raise UsageError(say("trust.no_fixes", language, path=path))
    trust(kept, contents)
    print("\n".join([*map(str, contents.values()), say("trust.done", language, count=len(contents))]))


def _contents(files: list[Path]) -> dict[str, Path]:
    """The files by their contents' hashes, each of which must be a fix; else a `KnowledgeError`."""
    from nb_oomhelper.knowledge.fix import read_fix
    from nb_oomhelper.knowledge.outside import decoded, hash_of, read_small

    found = {}
    for file in files:
        data = read_small(file, file.name)
        try:
            read_fix(decoded(data, file.name))
        except KnowledgeError as error:
            raise KnowledgeError(f"{file.name}: {error}") from error
        found[hash_of(data)] = file
    return found


def _trusted(core: Core, kept: Path, language: Language) -> list[str]:
    """One line for each file of a fix from outside, and for each that was trusted and is not in use as it was."""
    from nb_oomhelper.knowledge.outside import read_trusted
    from nb_oomhelper.showing.wording import say

    loaded = {str(fix.origin): fix.trusted for fix in core.services.catalog().fixes if fix.origin is not None}
    others = sorted(set(read_trusted(kept).values()) - set(loaded))
    states = [(path, "trusted" if trusted else "shown") for path, trusted in loaded.items()]
    states += [(path, "unused") for path in others]
    return [say(f"trust.{state}", language, file=path) for path, state in states] or [say("trust.none", language)]


def _write(file: Path, text: str, language: Language) -> None:
    from nb_oomhelper.showing.wording import say

    try:
        file.write_text(text, "utf-8", errors="backslashreplace")
    except (OSError, ValueError) as error:  # ValueError: no system has such a name
        raise UsageError(say("oom.not_written", language, file=file, error=error)) from None
