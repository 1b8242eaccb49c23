"""`%oom` and its subcommands: what each takes, and one function for each."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from typing import NoReturn

from nb_oomhelper.case import rates
from nb_oomhelper.errors import StaleError, UsageError
from nb_oomhelper.shell import forecasts, on_engines
from nb_oomhelper.shell.attempts import note_run
from nb_oomhelper.shell.core import Core
from nb_oomhelper.shell.oom_files import export, last, show_entry, stats, trust


def run(line: str, core: Core, cell: str | None = None) -> None:
    """Do what a line of `%oom` asks for.

    Args:
        line: What stands after `%oom`; of a text to explain as it was written.
        core: The extension.
        cell: What stands below `%%oom`.

    Raises:
        OomHelperError: It cannot be done; the message is for the user, in one line if the line makes no sense.
    """
    if line.split()[:1] == ["explain"]:
        from nb_oomhelper.shell.explain import explain

        explain(line.strip().removeprefix("explain"), cell, core, _parsers()[1]["explain"].format_help)
        return
    if cell is None and line.split()[:1] == ["forecast"]:
        forecasts.forecast(line.strip().removeprefix("forecast"), core, _parsers()[1]["forecast"].format_help)
        return
    if cell is not None:
        raise UsageError("%%oom takes a text below it to explain: %%oom explain")
    words = _split(line)
    if not words:
        core.panels.show(last(core))
        return
    parser, subcommands = _parsers()
    if words[0] in ("-h", "--help"):
        parser.print_help()
        return
    if words[0] not in subcommands:
        raise UsageError(f"%oom does not know {words[0]!r}; it knows: {', '.join(subcommands)}")
    try:
        # the names of `release` and the words of `entry` may stand on both sides of an option
        options = subcommands[words[0]].parse_intermixed_args(words[1:])
    except _HelpShown:
        return
    options.run(options, core)


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%oom cannot read {line.strip()!r}: {error}") from None


# what each takes


class _HelpShown(Exception):  # noqa: N818
    """Help was asked for, and printed: no error."""


class _Parser(ArgumentParser):
    """A parser that ends neither the kernel nor the cell."""

    complaint = ""  # what is said instead of argparse's own message

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise UsageError(self.complaint or f"{usage}: {message}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:  # noqa: ARG002
        raise _HelpShown


def _parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """The parser of `%oom`, for its help, and those of its subcommands."""
    parser = _Parser("%oom", usage="%(prog)s [SUBCOMMAND …]", description="Without a subcommand: the last panel again.")
    added = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", help="`%%oom SUBCOMMAND --help` says more")
    subcommands: dict[str, ArgumentParser] = {}

    def add(name: str, usage: str, does: Callable[[Namespace, Core], None], tells: str, more: str = "") -> _Parser:
        one: _Parser = added.add_parser(
            name,
            prog=f"%oom {name}",
            usage=f"%(prog)s {usage}".strip(),
            help=tells,
            description=f"{tells[0].upper()}{tells[1:]}.{more and chr(10)}{more}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.set_defaults(run=does)
        subcommands[name] = one
        return one

    fix = add("fix", "N [--run] [--yes]", _fix, "run a fix of the last panel: exactly the code that the panel shows")
    fix.add_argument("number", metavar="N", type=_number, help="the number of the fix in the panel")
    fix.add_argument("--run", action="store_true", dest="run_cell", help="run the failed cell after it")
    fix.add_argument("--yes", action="store_true", help="run it although it loses something")
    fix.complaint = "%oom fix wants the number of a fix, such as %oom fix 1"

    entry = add(
        "entry",
        "CODE [--json | --markdown | --new] [--lang en|zh]",
        show_entry,
        "show an entry of the knowledge base, or search it",
        "Words in place of a code are searched for; without any, all entries are listed.",
    )
    entry.add_argument("words", metavar="CODE", nargs="*", help="such as CUDA-OOM-001, or words to search for")
    form = entry.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the whole entry for programs")
    form.add_argument("--new", action="store_true", help="write an entry of your own from the last case, into FILE")
    form.add_argument("--markdown", action="store_true", help="print the page's source")
    entry.add_argument("--lang", choices=("en", "zh"), help="the language; else the one that is set")

    release = add(
        "release",
        "[--deep] [--history] [NAME …] | --engines",
        _release,
        "give back what failed cells keep; your variables stay",
    )
    release.add_argument("--engines", action="store_true", help="on all workers of ipyparallel and Dask, and not here")
    release.add_argument("names", metavar="NAME", nargs="*", help="a variable of yours to delete as well")
    release.add_argument("--deep", action="store_true", help="drop the exceptions, too: %%tb has nothing to show then")
    release.add_argument("--history", action="store_true", help="forget displayed results, too: Out, _, _12")

    explain = add(
        "explain",
        "[--json] [--lang en|zh] [FILE]",
        lambda *_: None,
        "explain the out-of-memory errors in a log, a notebook or a variable's text",
        "Below %%oom explain: in the text that is pasted there. Nothing of it is run.",
    )
    explain.add_argument("--json", action="store_true", help="print it for programs: sizes in bytes, unknown is null")
    explain.add_argument("--lang", choices=("en", "zh"), help="the language; else the one that is set")
    explain.add_argument("file", metavar="FILE", nargs="?", help="a text or a notebook (.ipynb)")

    _add_plan(add)
    forecasts.add_parser(add)
    _add_files(add)

    status = add("status", "[--traceback]", _status, "show what is in place, what is missing, and where the history is")
    status.add_argument("--traceback", action="store_true", help="show the traceback of our own last problem")
    return parser, subcommands


def _add_plan(add: Callable[..., _Parser]) -> None:
    plan = add(
        "plan",
        "MODEL [--device N | --engines] [--dtype D] [--context N] [--batch B] [--cache D] [--online] [--json]",
        _plan,
        "show where a model would fit, each way of loading it; nothing is loaded",
        "With --context, --batch or --cache: keys and values to the byte, the longest text, the largest batch, vLLM.",
    )
    plan.add_argument("model", metavar="MODEL", help="a folder, a file, a name in the hub's cache, or a variable")
    plan.add_argument("--device", metavar="N", type=_number, help="the framework's number of a GPU; else the first")
    plan.add_argument("--dtype", metavar="D", help="auto, float16, bfloat16, float32 or float64")
    plan.add_argument("--context", metavar="N", type=_number, help="tokens of a text, its prompt included")
    plan.add_argument("--batch", metavar="B", type=_number, help="texts side by side")
    plan.add_argument("--cache", metavar="D", help="what keys and values are kept in: float16, fp8, int4, q8_0, …")
    plan.add_argument("--engines", action="store_true", help="on the workers of ipyparallel, Dask and Ray, and on all")
    plan.add_argument("--online", action="store_true", help="ask the hub for the headers of a model that is not here")
    plan.add_argument("--json", action="store_true", help="print it for programs: sizes in bytes, unknown is null")


def _add_files(add: Callable[..., _Parser]) -> None:
    """What reads and writes files of the user's."""
    written = add(
        "export",
        "FILE [--anonymize]",
        export,
        "write the last case to a file: JSON, or a report for a bug tracker where FILE ends with .md",
        "Tokens, keys and home folders are blanked; nothing is sent.",
    )
    written.add_argument("file", metavar="FILE", help="such as oom.json or oom.md; it is written over")
    written.add_argument("--anonymize", action="store_true", help="put name_1, … in place of your names")

    told = add(
        "stats",
        "[--export FILE | --forget]",
        stats,
        "show how often each fix has helped: claimed, in our suites, here",
    )
    what = told.add_mutually_exclusive_group()
    what.add_argument("--export", metavar="FILE", help="write it to a file, as JSON; nothing is sent")
    what.add_argument("--forget", action="store_true", help="delete this machine's history of outcomes")

    trusted = add(
        "trust",
        "[PATH] [--revoke]",
        trust,
        "let fixes from outside the package run: what is in the file now, and nothing that is put there later",
        "Read them first: they run as code. Without PATH: the files of fixes from outside, and which are trusted.",
    )
    trusted.add_argument("path", metavar="PATH", nargs="?", help="a file of a fix, or a folder with fixes/*.toml")
    trusted.add_argument("--revoke", action="store_true", help="trust what is there no longer")


def _number(word: str) -> int:
    if not word.isdecimal():
        raise ArgumentTypeError(f"{word!r} is no whole number from 0 on")
    return int(word)


# what each does


def _fix(options: Namespace, core: Core) -> None:
    from nb_oomhelper.showing.fix_text import say_stale
    from nb_oomhelper.showing.outcome_text import fix_loses, tell
    from nb_oomhelper.showing.wording import say

    case, catalog, language = last(core), core.services.catalog(), core.settings.pick_language()
    chosen = next((plan for plan in case.plans if plan.number == options.number), None)
    if chosen is None:
        raise UsageError(say("oom.no_fix", language, number=options.number, count=len(case.plans)))
    if chosen.applicability == "display_only":
        raise UsageError(say("oom.only_shown", language, number=chosen.number))
    if chosen.applicability == "unsafe" and not options.yes:
        lost = fix_loses(chosen, case, catalog, language)
        again = " --run" if options.run_cell else ""
        confirm = say("oom.confirm", language, line=f"%oom fix {chosen.number}{again} --yes")
        raise UsageError(f"{chosen.code.strip()}\n\n{lost}\n{confirm}")

    def told() -> None:
        _print_lines(line.replace("**", "") for line in tell(case.outcomes[-1], case, catalog, language))
        core.panels.screen.refresh(case, language)

    def ended(error: str | None) -> None:
        note_run(case, error, core.services)
        told()

    try:
        outcome = core.panels.run(case, options.number)
    except StaleError:
        raise UsageError(say_stale(case, options.number, catalog, language)) from None
    if options.run_cell and case.cell and outcome.error is None and outcome.ran is None and not outcome.loaded:
        core.panels.run_cell(case, ended)
    else:
        told()


def _release(options: Namespace, core: Core) -> None:
    if options.engines:
        if options.deep or options.history or options.names:
            raise UsageError("%oom release --engines takes nothing else: it releases what failed tasks keep")
        _print_lines(on_engines.release(core.settings.pick_language()))
        return
    from nb_oomhelper.remedies.running import release_in
    from nb_oomhelper.showing.outcome_text import summary

    services = core.services
    outcome = release_in(
        services.shell, services.driver, deep=options.deep, history=options.history, names=options.names
    )
    _print_lines(summary(outcome, core.settings.pick_language()))


def _plan(options: Namespace, core: Core) -> None:
    from IPython.display import display

    from nb_oomhelper.loading.estimate import plan
    from nb_oomhelper.showing import grid, load_table

    named = core.services.shell.user_ns.get(options.model)  # the name of a variable with a text means that text
    model = named if type(named) is str else options.model
    catalog, language = core.services.catalog(), core.settings.pick_language()
    if options.engines and options.device is not None:
        raise UsageError("%oom plan --engines takes no --device: it tells of each")
    text = {"tokens": options.context, "batch": options.batch, "cache": options.cache}
    if options.engines and any(one is not None for one in text.values()):
        raise UsageError("%oom plan --engines takes no --context, --batch or --cache")
    found = plan(model, device=options.device, dtype=options.dtype, online=options.online, catalog=catalog, **text)
    before = load_table.above(found, language)
    if options.engines:
        drawn = on_engines.plan_table(found, before[:-1], language, as_json=options.json)
        if isinstance(drawn, str):
            print(drawn)
        else:
            display(drawn, raw=True)
        return
    if options.json:
        print(load_table.to_json(found))
        return
    if found.checkpoint.size is None:
        _print_lines(before)
        return
    columns, rows = load_table.table(found, catalog, rates(core.services), language)
    after = load_table.below(found, catalog, language)
    display(
        {
            "text/plain": "\n".join([*before, "", grid.to_text(columns, rows), "", *after]),
            "text/html": grid.to_html(columns, rows, before, after),
        },
        raw=True,
    )


def _status(options: Namespace, core: Core) -> None:
    from nb_oomhelper.shell.status import status
    from nb_oomhelper.showing.wording import say

    if options.traceback:
        print(core.services.trace or say("status.no_problem", core.settings.pick_language()))
    else:
        _print_lines(status(core))


def _print_lines(lines: Iterable[str]) -> None:
    print("\n".join(lines))
