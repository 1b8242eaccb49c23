"""`python -m nb_oomhelper explain FILE`: what a log or a notebook tells of memory that ran out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nb_oomhelper.errors import OomHelperError

FOUND, NONE, UNUSABLE = 0, 1, 2  # exit status; argparse ends with 2 as well


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 where an error was found, 1 where none was, 2 where the text cannot be read.

    Args:
        arguments: Those after the program's name; None is this process's own.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "serve-mcp":
            from nb_oomhelper.mcp_server import serve

            serve()
            return FOUND
        return _explain(options.file, options.lang, as_json=options.json)
    except OomHelperError as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FOUND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m nb_oomhelper", description="Explain out-of-memory errors.")
    added = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    explain = added.add_parser(
        "explain",
        help="read a traceback, a log or a notebook",
        description="Find the out-of-memory errors in a text and explain them; nothing of it is run. Needs no GPU.",
        epilog="Exit status: 0 one was found, 1 none, 2 the text cannot be read.",
    )
    explain.add_argument("file", metavar="FILE", help="a text or a notebook (.ipynb); - is the standard input")
    explain.add_argument("--json", action="store_true", help="print it for programs: sizes in bytes, unknown is null")
    explain.add_argument("--lang", choices=("en", "zh"), default="auto", help="the language; else the environment's")
    added.add_parser(
        "serve-mcp",
        help="answer coding assistants by MCP",
        description="Serve the tools explain, entry, plan and gpus by standard input and output; needs the extra mcp.",
    )
    return parser


def _explain(file: str, language: str, *, as_json: bool) -> int:
    from nb_oomhelper.case import told_case
    from nb_oomhelper.failure.documents import read_file, read_stream
    from nb_oomhelper.failure.told import read_told
    from nb_oomhelper.knowledge.catalog import load_catalog
    from nb_oomhelper.memory.nvml import Driver
    from nb_oomhelper.services import Services
    from nb_oomhelper.showing.explanation import to_json, to_text
    from nb_oomhelper.showing.wording import pick_language

    document = read_stream(sys.stdin.buffer, None, "") if file == "-" else read_file(Path(file))
    reading, catalog = read_told(document), load_catalog()
    services = Services(driver=Driver(), catalog=lambda: catalog, history=lambda: None)
    cases = [told_case(told, services) for told in reading.found]
    name = "" if file == "-" else file
    spoken = pick_language(language)
    text = to_json(reading, cases, name) if as_json else to_text(reading, cases, name, catalog, spoken)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may know ASCII only
    print(text, flush=True)
    return FOUND if reading.found else NONE


if __name__ == "__main__":
    sys.exit(main())
