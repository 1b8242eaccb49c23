"""What these tests need on a played device: a machine for each process that runs them, which must not meet on one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.played_cuda import SCENARIO


@pytest.fixture(scope="session", autouse=True)
def own_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a GPU is played, play one of the same kind for this process and the kernels that it starts."""
    scenario = os.environ.get("NVML_STUB")
    if scenario is not None:
        own = tmp_path_factory.mktemp("machine") / SCENARIO
        own.write_text(Path(scenario).read_text(encoding="utf-8"), encoding="utf-8")
        os.environ["NVML_STUB"] = str(own)
