"""Kernels that lack something: each shows its report all the same, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.conftest import StartKernel
from tests.kernel.cells import FAIL, LOAD, SETUP, shown

pytestmark = pytest.mark.kernel

BROKEN = {
    "raise RuntimeError('half installed')": "RuntimeError: half installed",
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
}


@pytest.mark.parametrize("source", BROKEN)
def test_widgets_that_cannot_be_imported(
    start_kernel: StartKernel, kernel_python: Path, tmp_path: Path, source: str
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "ipywidgets.py").write_text(source)
    kernel = start_kernel(kernel_python, {"PYTHONPATH": str(tmp_path / "lib")})
    for code in (LOAD, SETUP, "limit(370 << 20)"):
        assert kernel.execute(code).status == "ok"
    reply = kernel.execute(FAIL)
    assert (len(reply.errors), reply.comms) == (1, [])
    (bundle,) = shown(reply)
    assert set(bundle) == {"text/html", "text/plain", MIME}
    status = kernel.execute("%oom status").stdout
    assert f"widgets: none: ipywidgets cannot be imported ({BROKEN[source]}); panels have no buttons" in status
    assert "freed 25" in kernel.execute("%oom fix 1").stdout
