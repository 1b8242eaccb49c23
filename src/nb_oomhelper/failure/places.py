"""What a traceback tells about the user's code: the function and the line.

Only names, files and line numbers are read off the traceback: no frame is kept and no local is looked
at. On Python 3.11 and 3.12 reading `f_locals` would make a copy of the locals that pins their memory
(python/cpython#113939).
"""

from __future__ import annotations

import re
import sysconfig
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType

from nb_oomhelper.introspection import traceback_of

_PLACES = 2_000  # innermost calls that are kept of one traceback; a runaway recursion has more
# IPython, ipykernel, Colab, Databricks, marimo; then %time and %timeit, which compile the user's line.
_CELL = re.compile(
    r"<(?:ipython-input|cell|command)|/ipykernel_\d+/|/ipython-input-|__marimo__cell|<timed |<magic-timeit>"
)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|<")


@dataclass(frozen=True, slots=True)
class Place:
    """One call on the way to the error.

    Attributes:
        function: Name of the function, "<module>" at the top level of a file or cell.
        file: As the code object names it, with forward slashes.
        line: The line that was running.
    """

    function: str
    file: str
    line: int | None


def read_places(error: BaseException) -> list[Place]:
    """Read the calls in an exception's traceback, outermost first, as names and numbers."""
    places: deque[Place] = deque(maxlen=_PLACES)
    link = traceback_of(error)
    while link is not None:
        code = link.tb_frame.f_code
        function = "<module>" if at_top(code) else code.co_name
        places.append(Place(function, code.co_filename.replace("\\", "/"), link.tb_lineno))
        link = link.tb_next
    return list(places)


def user_location(places: Sequence[Place]) -> tuple[str | None, int | None]:
    """Find the innermost call in the user's own code.

    A function in a notebook cell comes first, then a file of the user's (a script under `%run`, a module
    beside the notebook), then the top level of a cell.

    Returns:
        Function name, None at the top level; and the line in its cell or file. (None, None) where all of
        the code is a library's.
    """
    cells = [place for place in places if _CELL.search(place.file)]
    own = [place for place in cells if not place.function.startswith("<")]
    files = [place for place in places if not _CELL.search(place.file) and not _is_library(place.file)]
    for group in (own, files, cells):
        if group:
            last = group[-1]
            return (None if last.function == "<module>" else last.function), last.line
    return None, None


def at_top(code: CodeType) -> bool:
    """Tell whether code is that of a whole file or cell. IPython 7 calls the latter's "<cell line: 1>"."""
    return code.co_name == "<module>" or code.co_name.startswith("<cell line:")


def is_users(file: str) -> bool:
    """Tell whether a code object's file, with forward slashes, is a cell or a file of the user's."""
    return _CELL.search(file) is not None or not _is_library(file)


def _is_library(file: str) -> bool:
    """Installed packages, the standard library, code that has no file, and this package."""
    return _LIBRARY.search(file) is not None or file.startswith(_library_folders())


@cache
def _library_folders() -> tuple[str, ...]:
    ours = str(Path(__file__).parents[1])
    paths: Iterable[str] = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), ours)
    return tuple(path.replace("\\", "/").rstrip("/") + "/" for path in paths if path)
