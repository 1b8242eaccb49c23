"""`%oom plan MODEL --engines`: on each worker's devices, and on all together, each device once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.engines.answers import Answer, WorkerReply, reply_of
from nb_oomhelper.loading.estimate import Estimate, plan
from nb_oomhelper.showing.worker_plan import table, to_json

pytestmark = pytest.mark.plain

GIB = 1 << 30


@pytest.fixture
def model(tmp_path: Path) -> Estimate:
    """One of 8 GiB in float32, on disk a hole."""
    size = 8 * GIB
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return plan(tmp_path, dtype="float32")


def worker(number: str, machine: str, **free: int) -> WorkerReply:
    """One whose devices have so much free: `gpu_0=…`, `host=…`."""
    rows: list[dict[str, Any]] = [
        {"device": name.replace("gpu_", "GPU "), "free": size, "capacity": 80 * GIB} for name, size in free.items()
    ]
    return reply_of("ipyparallel", Answer(id=number, value={"form": 1, "host": machine, "pid": 7, "rows": rows}))


def test_it_fits_on_none_and_on_all_together(model: Estimate) -> None:
    found = [worker("0", "a", gpu_0=6 * GIB, host=64 * GIB), worker("1", "b", gpu_0=6 * GIB, host=64 * GIB)]
    columns, rows, _ = table(model, found, "en")
    assert columns[3:] == ["as asked", "16 bits", "8 bits", "4 bits"]
    assert [row[1] for row in rows] == ["GPU 0", "GPU 0", ""]  # no host beside a GPU
    assert [row[3][0] for row in rows] == ["✗", "✗", "✓"]
    assert [row[4][0] for row in rows] == ["✓"] * 3
    assert rows[2][:3] == ["all together (2)", "", "12.0 GiB"]


def test_workers_of_one_machine_share_its_devices(model: Estimate) -> None:
    found = [worker("0", "a", gpu_0=6 * GIB), worker("1", "a", gpu_0=6 * GIB)]
    _, rows, below = table(model, found, "en")
    assert len(rows) == 2  # nothing is added up
    assert any("share its memory" in line for line in below)
    told = json.loads(to_json(model, found))
    assert (told["together"]["devices"], told["together"]["free"]) == (1, 6 * GIB)
    assert told["together"]["ways"]["as_asked"]["fits"] is False


def test_what_is_not_known_fits_for_none(model: Estimate) -> None:
    late = reply_of("ipyparallel", Answer(id="2", error=("MemoryError", "")))
    _, rows, below = table(model, [worker("0", "a", gpu_0=-1), worker("1", "b", gpu_0=90 * GIB), late], "en")
    assert [row[3][0] for row in rows] == ["?", "✓", "?"]
    assert below[-1].startswith("ipyparallel engine 2: it had no memory left")
    assert json.loads(to_json(model, [late]))["together"] == {"devices": 0, "free": 0, "ways": {}}
