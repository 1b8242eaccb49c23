"""Others who take IPython's ways of showing errors: they keep working, and there is one panel, whoever came first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartKernel
from tests.kernel.cells import LOAD, SETUP, shown
from tests.kernel.conftest import needs
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

UNLOAD = "%unload_ext nb_oomhelper"
# What takes them, and what an error then prints, as a part of an expression about the reply.
OTHERS = {
    "a handler of its own": (
        """
def theirs(self, etype, value, tb, tb_offset=None):
    print("THEIRS")
    self.showtraceback((etype, value, tb), tb_offset=tb_offset)
get_ipython().set_custom_exc((MemoryError,), theirs)
""",
        "THEIRS",
    ),
    "jupyter-ai": (
        """
from IPython import get_ipython
errors = {}
def store_exception(shell, etype, evalue, tb, tb_offset=None):
    print("THEIRS")
    etype, evalue, tb = shell._get_exc_info((etype, evalue, tb))
    shell.showtraceback((etype, evalue, tb), tb_offset=tb_offset)
    errors[shell.execution_count] = "".join(__import__("traceback").format_exception(etype, evalue, tb))
get_ipython().set_custom_exc((BaseException,), store_exception)
""",
        "THEIRS",
    ),
    "one that shows nothing": (
        """
def silent(self, etype, value, tb, tb_offset=None):
    print("THEIRS")
get_ipython().set_custom_exc((MemoryError, ValueError), silent)
""",
        "THEIRS",
    ),
    "rich": ("import rich.traceback\nrich.traceback.install(width=100)", "╭─"),
    "friendly": (
        """
def showtraceback(self, exc_tuple=None, *_, **__):
    import sys
    print("THEIRS", (exc_tuple or sys.exc_info())[0].__name__)
type(get_ipython()).showtraceback = showtraceback
""",
        "THEIRS",
    ),
}
WRAPPED = "try:\n    huge()\nexcept MemoryError as error:\n    raise ValueError('wrapped') from error"
CELLS = {
    "plain": "huge()",
    "wrapped": WRAPPED,
    "%run": "%run script.py",
    "group": "raise ExceptionGroup('a', [grown()])",
}
MORE = """
from pathlib import Path
Path("script.py").write_text("import numpy\\nnumpy.ones(1 << 50, numpy.uint8)\\n")
def grown():
    try:
        huge()
    except MemoryError as error:
        return error
"""


def counts(kernel: Kernel, marker: str) -> dict[str, tuple[int, bool]]:
    """For each way of failing, how many panels there are, and whether the other one has had its say."""
    found = {}
    for name, cell in CELLS.items():
        reply = kernel.execute(cell)
        printed = reply.stdout + reply.stderr + "".join(map(str, reply.displays)) + "".join(map(str, reply.errors))
        found[name] = (len(shown(reply)) + len(shown(kernel.poll(0.1))), marker in printed)
    return found


@pytest.mark.parametrize("who", OTHERS)
@pytest.mark.thorough
def test_in_either_order(start_kernel: StartKernel, kernel_python: Path, who: str) -> None:
    install, marker = OTHERS[who]
    first, second = start_kernel(kernel_python), start_kernel(kernel_python)
    if who == "rich":
        needs(first, "rich")
    run(first, SETUP, MORE, install)
    said = {name: says for name, (_, says) in counts(first, marker).items()}
    run(first, LOAD)
    run(second, SETUP, MORE, LOAD, install)
    for kernel in (first, second):
        assert counts(kernel, marker) == {name: (1, says) for name, says in said.items()}
    slot = ["in place" in kernel.execute("%oom status").stdout for kernel in (first, second)]
    assert slot == [True, "set_custom_exc" not in install]
    for kernel in (first, second):
        run(kernel, UNLOAD)
        assert counts(kernel, marker) == {name: (0, says) for name, says in said.items()}


def run(kernel: Kernel, *cells: str) -> None:
    """Run cells that must not fail."""
    for cell in cells:
        assert kernel.execute(cell).status == "ok"
