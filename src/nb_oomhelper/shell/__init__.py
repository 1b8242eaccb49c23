"""What sits in IPython's shell: hooks, magics, settings, and the cells that a click runs."""

import contextlib
import sys


def say(line: str) -> None:
    """Print a line beside the traceback."""
    with contextlib.suppress(Exception):  # no memory, or a broken stderr: the traceback was shown
        print(f"nb_oomhelper: {line}", file=sys.stderr)
