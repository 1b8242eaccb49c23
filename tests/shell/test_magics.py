"""What IPython's own cell magics heed, `%%gpumem` heeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shells import in_shell

pytestmark = pytest.mark.plain

# A transformer of the user's, such as SymPy's or Sage's; and one that refuses a cell.
CELLS = {
    "double": """
import ast
class Double(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.BinOp(node, ast.Mult(), ast.Constant(2)) if node.value == 21 else node
get_ipython().ast_transformers.append(Double())
""",
    "refuse": """
from IPython.core.error import InputRejected
class Refuse(ast.NodeTransformer):
    def visit_Module(self, node):
        if any(isinstance(one, ast.Assign) for one in node.body):
            raise InputRejected("no assignments here")
        return node
get_ipython().ast_transformers.append(Refuse())
""",
}


def test_transformers_of_the_syntax_tree(kernel_python: Path) -> None:
    code = """
        cell("%load_ext nb_oomhelper")
        cell(cells["double"])
        values = []
        for magic in ("", "%%time", "%%gpumem"):
            cell(f"{magic}\\nplain = 21\\nplain, 21")
            values.append(shell.user_ns["_"])
        shell.user_ns["plain"] = None
        cell(cells["refuse"])
        tell(values, cell("%%gpumem\\nplain = 1"), shell.user_ns["plain"])
    """
    values, refused, plain = in_shell(code, cells=CELLS, python=kernel_python)
    assert values == [[42, 42]] * 3
    assert "no assignments here" in refused
    assert plain is None
