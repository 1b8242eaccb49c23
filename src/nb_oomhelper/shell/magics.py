"""`%gpumem`, `%%gpumem` and `%oom`: parse, call, show.

They are registered when the extension is loaded; what they call is imported when they are called.
"""

from __future__ import annotations

import ast
import json
import shlex
from typing import TYPE_CHECKING, Any, Protocol

from IPython.core.error import UsageError as MagicUsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from nb_oomhelper.errors import OomHelperError, UsageError

try:
    from IPython.core.magic import output_can_be_silenced
except ImportError:  # IPython 7, where no magic's value is silenced by a semicolon

    def output_can_be_silenced(magic: Callable[..., Any]) -> Callable[..., Any]:
        """Leave the magic as it is."""
        return magic


if TYPE_CHECKING:
    from collections.abc import Callable

    from nb_oomhelper.case import Case
    from nb_oomhelper.knowledge.catalog import Catalog
    from nb_oomhelper.knowledge.toml_tables import Language
    from nb_oomhelper.memory.nvml import Driver
    from nb_oomhelper.records.remedy import Outcome

_ABSENT = object()
_LANG = "--lang is en or zh"


class Core(Protocol):
    """What the magics need of the extension."""

    case: Case | None

    @property
    def driver(self) -> Driver:
        """The door to NVML."""

    def catalog(self) -> Catalog:
        """The knowledge."""

    def language(self) -> Language:
        """The language that is set."""

    def rates(self) -> dict[str, tuple[int, int]]:
        """For each fix, (n, m): it helped in n of m measured outcomes."""

    def status(self) -> list[str]:
        """What is in place."""

    def trace(self) -> str:
        """The traceback of the last problem of ours."""

    def show(self, case: Case) -> None:
        """Show a case again."""

    def run(self, case: Case, number: int) -> Outcome:
        """Run one of its fixes."""

    def show_live(self) -> bool:
        """Show the live readout; False where there are no widgets."""


@magics_class
class OomMagics(Magics):  # type: ignore[misc]
    """The magics of one shell."""

    def __init__(self, shell: Any, core: Core) -> None:
        super().__init__(shell)
        self._core = core

    @magic_arguments()
    @argument("-i", "--index", type=int, default=None, help="Only the GPU with this number of the driver's.")
    @argument("--json", action="store_true", help="Print JSON: sizes in bytes, unknown is null.")
    @argument("--by-variable", action="store_true", help="Who keeps the memory, by name, with bytes.")
    @argument("--live", action="store_true", help="Show bars that follow the memory while cells run.")
    @output_can_be_silenced
    @line_cell_magic
    def gpumem(self, line: str, cell: str | None = None) -> Any:
        """Show GPU and host memory: this process, other processes by name, free.

        As %%gpumem above a cell: run the cell, then tell its peak and what it changed, also if it fails.

        Examples::

            %gpumem            # one table
            %gpumem -i 0       # one GPU
            %gpumem --json     # for programs
            %gpumem --by-variable   # who keeps it: variables, Out[n], the failed cell, other libraries
            %gpumem --live     # bars that move

            %%gpumem
            loss = train_step(batch)
        """
        from nb_oomhelper.memory import usage
        from nb_oomhelper.showing import memory_table

        options = parse_argstring(self.gpumem, line)
        if cell is not None:
            if line.strip():
                raise MagicUsageError("%%gpumem takes no options: it measures the cell below it")
            return self._run_metered(cell)
        if options.by_variable:
            return _show_holders(self._core.driver, options.index, options.json, self._core.language())
        if options.live and self._core.show_live():
            return None
        rows, note = usage.read_usage(self._core.driver, options.index)
        if options.json:
            print(memory_table.to_json(rows, note))
        else:
            language = self._core.language()
            display(
                {
                    "text/plain": memory_table.to_text(rows, note, language),
                    "text/html": memory_table.to_html(rows, note, language),
                },
                raw=True,
            )
        return None

    def _run_metered(self, cell: str) -> Any:
        """Run a cell as IPython's own %%time does: an error passes on to the shell, after our line."""
        from nb_oomhelper.shell.meter import Meter

        shell = self.shell
        code = shell.transform_cell(cell)
        name = shell.compile.cache(code, shell.displayhook.prompt_count, raw_code=cell)  # for its lines in a traceback
        tree = shell.transform_ast(shell.compile.ast_parse(code, filename=name))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else ast.Expr(ast.Constant(None))
        body = shell.compile(tree, name, "exec")
        value = shell.compile(ast.fix_missing_locations(ast.Expression(last.value)), name, "eval")
        with Meter() as meter:
            try:
                exec(body, shell.user_ns)
                return eval(value, shell.user_ns)
            finally:
                print("\n".join(meter.stop(self._core.language())))

    @line_magic
    def oom(self, line: str) -> None:
        """Show what is known of the last out-of-memory error, and act on it.

        ::

            %oom                      # the last panel again
            %oom fix N                # run fix N of it: exactly the code that the panel shows
            %oom fix N --yes          # the same, for a fix that says what it loses
            %oom plan MODEL           # where a model would fit [--device N] [--dtype D] [--json]; nothing is loaded
            %oom release              # give back what failed cells keep [--deep] [--history] [NAME …]
            %oom entry CODE           # an entry of the knowledge base [--json | --markdown] [--lang en|zh]
            %oom entry WORDS          # search the knowledge base
            %oom status               # what is in place, where the history is, what could not be read [--traceback]
        """
        subcommands = {"fix": self._fix, "entry": self._entry, "release": self._release, "plan": self._plan}
        try:
            words = _split(line)
            if not words:
                self._core.show(self._last())
            elif words == ["status"]:
                print("\n".join(self._core.status()))
            elif words == ["status", "--traceback"]:
                print(self._core.trace())
            elif words[0] in subcommands:
                subcommands[words[0]](words[1:])
            else:
                raise UsageError(f"%oom does not know {words[0]!r}; it knows: {', '.join(subcommands)}, status")
        except OomHelperError as error:
            print(error)

    def _release(self, words: list[str]) -> None:
        from nb_oomhelper.remedies.running import release
        from nb_oomhelper.showing.outcome_text import summary

        names = [word for word in words if not word.startswith("--")]
        flags = {word for word in words if word.startswith("--")}
        if not flags <= {"--deep", "--history"}:
            raise UsageError("%oom release [--deep] [--history] [NAME …]")
        outcome = release(deep="--deep" in flags, history="--history" in flags, names=names)
        print("\n".join(summary(outcome, self._core.language())))

    def _plan(self, words: list[str]) -> None:
        from nb_oomhelper.loading.estimate import plan
        from nb_oomhelper.showing import grid, load_table

        usage = "%oom plan MODEL [--device N] [--dtype D] [--json]"
        as_json = "--json" in words
        rest = [word for word in words if word != "--json"]
        device, rest = _option(rest, "--device", usage)
        dtype, rest = _option(rest, "--dtype", usage)
        if len(rest) != 1 or rest[0].startswith("--") or not (device or "0").isdecimal():
            raise UsageError(usage)
        model = self.shell.user_ns.get(rest[0], rest[0])  # the name of a variable with a text means that text
        catalog, language = self._core.catalog(), self._core.language()
        found = plan(
            model if type(model) is str else rest[0],
            device=None if device is None else int(device),
            dtype=dtype,
            catalog=catalog,
        )
        if as_json:
            print(load_table.to_json(found))
            return
        before = load_table.above(found, language)
        if found.checkpoint.size is None:
            print("\n".join(before))
            return
        columns, rows = load_table.table(found, catalog, self._core.rates(), language)
        after = load_table.below(found, catalog, language)
        display(
            {
                "text/plain": "\n".join([*before, "", grid.to_text(columns, rows), "", *after]),
                "text/html": grid.to_html(columns, rows, before, after),
            },
            raw=True,
        )

    def _last(self) -> Case:
        if self._core.case is None:
            raise UsageError("no out-of-memory error since nb_oomhelper was loaded")
        return self._core.case

    def _fix(self, words: list[str]) -> None:
        from nb_oomhelper.showing.outcome_text import fix_loses, tell

        case = self._last()
        sure = "--yes" in words
        numbers = [word for word in words if word != "--yes"]
        if len(numbers) != 1 or not numbers[0].isdecimal():
            raise UsageError("%oom fix wants the number of a fix, such as %oom fix 1")
        chosen = next((plan for plan in case.plans if plan.number == int(numbers[0])), None)
        if chosen is not None and chosen.applicability == "unsafe" and not sure:
            lost = fix_loses(chosen, case, self._core.catalog(), self._core.language())
            raise UsageError(f"{chosen.code.strip()}\n\n{lost}\nTo run it: %oom fix {chosen.number} --yes")
        outcome = self._core.run(case, int(numbers[0]))
        print(
            "\n".join(
                line.replace("**", "") for line in tell(outcome, case, self._core.catalog(), self._core.language())
            )
        )

    def _entry(self, words: list[str]) -> None:
        from nb_oomhelper.showing.entry_page import entry_page, to_json

        language, rest = self._language_of(words)
        forms = [word for word in rest if word in ("--json", "--markdown")]
        wanted = " ".join(word for word in rest if not word.startswith("--"))
        unknown = [word for word in rest if word.startswith("--") and word not in forms]
        if unknown or len(forms) > 1:
            raise UsageError("%oom entry CODE [--json | --markdown] [--lang en|zh]")
        catalog = self._core.catalog()
        found = catalog.search(wanted)
        if not wanted or len(found) > 1:
            print("\n".join(f"{entry.code}  {entry.title.get(language)}" for entry in found))
            return
        entry = found[0] if found else catalog.entry(wanted)
        if forms == ["--json"]:
            print(to_json(entry))
        elif forms == ["--markdown"]:
            print(entry_page(entry, language))
        else:
            text = entry_page(entry, language)
            display({"text/markdown": text, "text/plain": text}, raw=True)

    def _language_of(self, words: list[str]) -> tuple[Language, list[str]]:
        named, rest = _option(words, "--lang", _LANG)
        if named is None:
            return self._core.language(), rest
        if named not in ("en", "zh"):
            raise UsageError(_LANG)
        from nb_oomhelper.showing.wording import pick_language

        return pick_language(named), rest


def _option(words: list[str], name: str, usage: str) -> tuple[str | None, list[str]]:
    """The word after an option, and the words without both."""
    if name not in words:
        return None, words
    at = words.index(name)
    if at + 1 == len(words):
        raise UsageError(usage)
    return words[at + 1], words[:at] + words[at + 2 :]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%oom cannot read {line.strip()!r}: {error}") from None


def _show_holders(driver: Driver, index: int | None, as_json: bool, language: Language) -> None:
    from nb_oomhelper.holders.find import holdings
    from nb_oomhelper.memory.snapshot import read_driver
    from nb_oomhelper.showing import grid, memory_table
    from nb_oomhelper.showing.notes import for_json
    from nb_oomhelper.showing.wording import say

    device = None
    if index is not None:  # the driver's number; frameworks have their own
        device = next((row.device for row in read_driver(driver).devices if row.nvml_index == index), None)
        if device is None:
            raise MagicUsageError(f"the driver has no GPU {index} that frameworks in this process can see")
    found = holdings(device)
    if as_json:
        print(json.dumps(for_json(found), indent=2, ensure_ascii=False))
        return
    if not found:
        print(say("gpumem.nothing_held", language))
        return
    columns, rows = memory_table.by_variable(found, language)
    display({"text/plain": grid.to_text(columns, rows), "text/html": grid.to_html(columns, rows)}, raw=True)


class Registration:
    """Puts the magics in, and puts back what had their names before."""

    def __init__(self, shell: Any, core: Core) -> None:
        self._manager = shell.magics_manager
        self._configurables: list[Any] = shell.configurables
        self._magics = OomMagics(shell, core)
        self._before: list[tuple[dict[str, Any], str, Any, Any]] = []  # table, name, what was there, ours

    def install(self) -> None:
        """Register the magics."""
        registry, key = self._manager.registry, type(self._magics).__name__
        ours = [(self._manager.magics[kind], table) for kind, table in self._magics.magics.items()]
        for table, added in [*ours, (registry, {key: self._magics})]:
            self._before += [(table, name, table.get(name, _ABSENT), one) for name, one in added.items()]
        self._manager.register(self._magics)

    def remove(self) -> None:
        """Put the tables back as they were; what somebody has put over ours since then stays."""
        for table, name, value, ours in self._before:
            if table.get(name) != ours:
                continue
            if value is _ABSENT:
                del table[name]
            else:
                table[name] = value
        self._before = []
        if self._magics in self._configurables:  # IPython's base class has put itself there
            self._configurables.remove(self._magics)
