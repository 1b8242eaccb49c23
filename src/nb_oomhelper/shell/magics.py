"""`%gpumem`, `%%gpumem` and `%oom`: registered at the load; what they do is imported when it is done."""

from __future__ import annotations

import ast
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError as MagicUsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from nb_oomhelper.errors import OomHelperError

try:
    from IPython.core.magic import output_can_be_silenced
except ImportError:  # IPython 7, where no magic's value is silenced by a semicolon

    def output_can_be_silenced(magic: Callable[..., Any]) -> Callable[..., Any]:
        """Leave the magic as it is."""
        return magic


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from nb_oomhelper.holders.scope import Scope
    from nb_oomhelper.knowledge.toml_tables import Language
    from nb_oomhelper.memory.nvml import Driver
    from nb_oomhelper.shell.core import Core

_ABSENT = object()


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
    @argument(
        "--engines", action="store_true", help="The workers of ipyparallel, Dask and Ray, by the clients there are."
    )
    @argument(
        "--forecast",
        action="store_true",
        help="Above a cell: tell its peak before it runs, too; it is run once more for that, in a copy of this kernel.",
    )
    @output_can_be_silenced
    @line_cell_magic
    def gpumem(self, line: str, cell: str | None = None) -> Any:
        """Show GPU and host memory: this process, other processes by name, free.

        As %%gpumem above a cell: run the cell, then tell its peak and what it changed, also if it fails; above %%px of
        ipyparallel each engine's, too.

        Examples::

            %gpumem            # one table
            %gpumem -i 0       # one GPU
            %gpumem --json     # for programs
            %gpumem --by-variable   # who keeps it: variables, Out[n], the failed cell, other libraries
            %gpumem --live     # bars that move
            %gpumem --engines  # one table of all workers [--live]

            %%gpumem
            loss = train_step(batch)

            %%gpumem --forecast     # the same, and before it what is expected, from a run on tensors without bytes
        """
        from nb_oomhelper.memory import usage
        from nb_oomhelper.showing import memory_table

        options = parse_argstring(self.gpumem, line)
        if cell is not None:
            if line.split() not in ([], ["--forecast"]):
                raise MagicUsageError("%%gpumem takes no option but --forecast: it measures the cell below it")
            return self._run_metered(cell, options.forecast)
        if options.forecast:
            raise MagicUsageError("%%gpumem --forecast goes above a cell; %oom forecast CALL is for one call")
        if options.engines:
            if options.by_variable or options.index is not None or (options.live and options.json):
                raise MagicUsageError("%gpumem --engines goes with --json or --live alone")
            return _show_engines(self._core, live=options.live, as_json=options.json)
        driver = self._core.services.driver
        if options.by_variable:
            from nb_oomhelper.holders.scope import scope_of

            device = None if options.index is None else _ordinal(driver, options.index)
            return _show_holders(scope_of(self.shell), device, options.json, self._core.settings.pick_language())
        if options.live and self._core.panels.show_live():
            return None
        rows, note = usage.read_usage(driver, options.index)
        if options.json:
            print(memory_table.to_json(rows, note))
        else:
            language = self._core.settings.pick_language()
            display(
                {
                    "text/plain": memory_table.to_text(rows, note, language),
                    "text/html": memory_table.to_html(rows, note, language),
                },
                raw=True,
            )
        return None

    def _run_metered(self, cell: str, forecast: bool) -> Any:
        """Run a cell as IPython's own %%time does: an error passes on to the shell, after our line."""
        from nb_oomhelper.shell import forecasts
        from nb_oomhelper.shell.meter import Meter, tell_mistakes

        shell = self.shell
        self._core.services.attempt(partial(tell_mistakes, cell, self._core, print), None)
        expected = forecasts.before_cell(cell, self._core, print) if forecast else None
        code = shell.transform_cell(cell)
        name = shell.compile.cache(code, shell.displayhook.prompt_count, raw_code=cell)  # for its lines in a traceback
        tree = shell.transform_ast(shell.compile.ast_parse(code, filename=name))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else ast.Expr(ast.Constant(None))
        body = shell.compile(tree, name, "exec")
        value = shell.compile(ast.fix_missing_locations(ast.Expression(last.value)), name, "eval")
        language = self._core.settings.pick_language()
        with _metered_engines(cell, language), Meter() as meter:
            try:
                exec(body, shell.user_ns)
                return eval(value, shell.user_ns)
            finally:
                print("\n".join(meter.stop(language, sys.exc_info()[1])))
                if expected is not None and sys.exc_info()[1] is None:
                    told = partial(forecasts.after_cell, expected, meter.seen, self._core, print)
                    self._core.services.attempt(told, None)

    @no_var_expand  # what is pasted to be explained must not be evaluated
    @line_cell_magic
    def oom(self, line: str, cell: str | None = None) -> None:
        """Show what is known of the last out-of-memory error, and act on it.

        ::

            %oom                      # the last panel again
            %oom fix N                # run fix N of it: exactly the code that the panel shows
            %oom fix N --run          # and the failed cell after it
            %oom fix N --yes          # the same, for a fix that says what it loses
            %oom plan MODEL           # where a model would fit [--device N] [--dtype D] [--online] [--json]
            %oom plan M --context N   # and its KV cache, the longest text and largest batch [--batch B] [--cache D]
            %oom forecast CALL        # whether train_step(batch) will fit, before it is run [--yes] [--json]
            %oom forecast --fix N     # the batch with which the failed cell fits; fix N has it then [--yes] [--json]
            %oom release              # give back what failed cells keep [--deep] [--history] [NAME …] [--engines]
            %oom explain FILE         # the out-of-memory errors in a log or a notebook [--json] [--lang en|zh]
            %%oom explain             # the same in the text that is pasted below it
            %oom entry CODE           # an entry of the knowledge base [--json | --markdown] [--lang en|zh]
            %oom entry WORDS          # search the knowledge base
            %oom entry --new FILE     # an entry of your own from the last case, to be filled in
            %oom export FILE          # the last case as JSON, or as Markdown for FILE.md [--anonymize]
            %oom stats                # how often each fix has helped: claimed, suites, here [--export FILE | --forget]
            %oom trust PATH           # let fixes from outside the package run [--revoke]; without PATH: which can
            %oom status               # what is in place, where the history is, what could not be read [--traceback]
            %oom fix --help           # what one of them takes
        """
        from nb_oomhelper.shell.oom_commands import run

        try:
            run(line if line.split()[:1] in (["explain"], ["forecast"]) else self._filled_in(line), self._core, cell)
        except OomHelperError as error:
            print(error)

    def _filled_in(self, line: str) -> str:
        """A line with `$name` and `{expression}` filled in, as IPython does it for other magics."""
        frame: FrameType | None = sys._getframe()
        depth = 1
        while frame is not None and frame.f_code.co_name != "run_line_magic":  # its caller has the names
            frame, depth = frame.f_back, depth + 1
        return str(self.shell.var_expand(line, depth))


def _metered_engines(cell: str, language: Language) -> AbstractContextManager[None]:
    if "ipyparallel" not in sys.modules:
        return nullcontext()
    from nb_oomhelper.shell import on_engines

    return on_engines.metered(language, print) if on_engines.runs_on_engines(cell) else nullcontext()


def _show_engines(core: Core, *, live: bool, as_json: bool) -> None:
    """The memory of all workers, in one table or as bars that move."""
    from nb_oomhelper.shell import on_engines

    language = core.settings.pick_language()
    if live and core.panels.show_live(on_engines.Followed(language).read, on_engines.PERIOD):
        return
    table = on_engines.table(language, as_json=as_json)
    if isinstance(table, str):
        print(table)
    else:
        display(table, raw=True)


def _ordinal(driver: Driver, index: int) -> int | None:
    """The frameworks' number of a GPU that the driver has another one for."""
    from nb_oomhelper.memory.snapshot import read_driver

    device = next((row.device for row in read_driver(driver).devices if row.nvml_index == index), None)
    if device is None:
        raise MagicUsageError(f"the driver has no GPU {index} that frameworks in this process can see")
    return device


def _show_holders(scope: Scope, device: int | None, as_json: bool, language: Language) -> None:
    from nb_oomhelper.holders.find import all_holdings
    from nb_oomhelper.showing import grid, memory_table
    from nb_oomhelper.showing.notes import for_json
    from nb_oomhelper.showing.wording import say

    found = all_holdings(scope, device)
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
