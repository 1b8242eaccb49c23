"""The table of %gpumem: the real pynvml on a stand-in library, and tables made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.memory.usage import MemoryUsage
from nb_oomhelper.records.holdings import Holding
from nb_oomhelper.records.note import note
from nb_oomhelper.showing.memory_table import by_variable, to_html, to_json, to_text
from tests.nvml_stub import build, environment, write_scenario
from tests.nvml_stub.build import compiler
from tests.page import Page

pytestmark = pytest.mark.plain
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the NVML stub")

GIB = 1 << 30
NOBODY = 4_194_305  # a process number that no Linux gives: no name is seen
Play = Callable[..., Any]

READ = """
import json, os, sys
from nb_oomhelper.showing import memory_table
from nb_oomhelper.memory import usage
from nb_oomhelper.memory.nvml import Driver
driver = Driver()
rows, note = usage.read_usage(driver, INDEX)
text, markup = memory_table.to_text(rows, note, "en"), memory_table.to_html(rows, note, "en")
print(json.dumps([json.loads(memory_table.to_json(rows, note)), text, markup, os.getpid()]))
"""
TWO = f"""
gpu GPU-1111 8GiB NVIDIA H200
used 6GiB
reserved 0.5GiB
process self 5GiB
process {NOBODY} 1GiB
process {NOBODY + 1} unknown graphics
gpu GPU-2222 40GiB NVIDIA H200
used 1GiB
process {NOBODY} 1GiB
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    build(folder)
    return folder


@pytest.fixture
def play(library: Path, tmp_path: Path) -> Play:
    """Read a scenario in a process of its own: JSON, text and HTML, and its pid."""

    def run(scenario: str, index: int | None = None, **variables: str) -> Any:
        path = write_scenario(tmp_path / "scenario.txt", scenario)
        command = [sys.executable, "-W", "ignore", "-c", READ.replace("INDEX", str(index))]
        variables = environment(path, library) | variables
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@needs_compiler
class TestReading:
    def test_devices_processes_and_the_host(self, play: Play) -> None:
        found, text, _, _ = play(TWO)
        first, second, host = found["devices"]
        assert found["note"] is None
        assert first == {
            "device": "GPU 0",
            "ordinal": "cuda:0",
            "name": "NVIDIA H200",
            "allocated": None,  # no framework was started: there is no allocator to ask
            "cached": None,
            "rest": 5 * GIB,
            "others": GIB,
            "by_process": [
                {"pid": NOBODY, "name": None, "bytes": GIB},
                {"pid": NOBODY + 1, "name": None, "bytes": None},
            ],
            "free": 3 * GIB // 2,
            "capacity": 8 * GIB,
            "notes": [],
        }
        assert (second["ordinal"], second["rest"], second["others"]) == ("cuda:1", None, GIB)
        assert host["device"] == "host"
        assert min(host["rest"], host["others"], host["free"]) > 0
        assert host["rest"] + host["free"] < host["capacity"]
        assert (host["allocated"], host["cached"]) == (None, None)
        lines = text.splitlines()
        assert len(lines) >= 4 + 3
        assert lines[1].startswith("GPU 0 · cuda:0 · NVIDIA H200  ")
        assert lines[1].split()[-6:] == ["1.00", "GiB", "1.50", "GiB", "8.00", "GiB"]
        assert f"GPU 0: process {NOBODY} (name not visible from here): 1.00 GiB" in lines
        assert f"GPU 0: process {NOBODY + 1} (name not visible from here): unknown" in lines

    def test_one_device(self, play: Play) -> None:
        found, _, _, _ = play(TWO, 1)
        assert [row["device"] for row in found["devices"]] == ["GPU 1", "host"]
        found, text, _, _ = play(TWO, 7)
        assert [row["device"] for row in found["devices"]] == ["host"]
        assert found["note"] == "there is no GPU 7 that the driver shows"
        assert text.splitlines()[2:] == [found["note"]]

    def test_one_device_where_there_is_no_driver(self, play: Play) -> None:
        found, _, _, _ = play("error nvmlInitWithFlags 9", 0)
        assert found["note"].startswith("there is no GPU 0 that the driver shows; GPU memory is unknown: the NVIDIA")

    def test_a_hidden_device_has_no_ordinal(self, play: Play) -> None:
        found, text, _, _ = play(TWO, CUDA_VISIBLE_DEVICES="1")
        assert [row["ordinal"] for row in found["devices"]] == [None, "cuda:0", None]
        assert text.splitlines()[1].startswith("GPU 0 · NVIDIA H200 ")
        assert text.splitlines()[2].startswith("GPU 1 · cuda:0 · NVIDIA H200 ")
        assert found["devices"][0]["capacity"] == 8 * GIB

    def test_mig_devices_stand_for_their_gpu(self, play: Play) -> None:
        scenario = """
            gpu GPU-1111 80GiB NVIDIA A100
            mig MIG-aaaa 20GiB NVIDIA A100 MIG 3g.20gb
            used 19GiB
            mig MIG-bbbb 10GiB NVIDIA A100 MIG 2g.10gb
        """
        found, _, _, _ = play(textwrap.dedent(scenario))
        assert [(row["device"], row["ordinal"], row["capacity"]) for row in found["devices"][:2]] == [
            ("GPU 0", "cuda:0", 20 * GIB),
            ("GPU 0", None, 10 * GIB),
        ]
        assert found["devices"][0]["free"] == GIB

    def test_what_the_driver_does_not_tell_is_null_and_unknown(self, play: Play) -> None:
        found, text, _, _ = play("gpu GPU-1 8GiB A\nused unknown\nfree unknown\nerror nvmlDeviceGetName 4")
        row = found["devices"][0]
        assert [row[name] for name in ("name", "allocated", "rest", "others", "free")] == [None] * 5
        assert row["capacity"] == 8 * GIB
        assert row["notes"] == ["could not read name: this user has no permission"]
        assert text.splitlines()[1].split() == ["GPU", "0", "·", "cuda:0", *["unknown"] * 5, "8.00", "GiB"]
        assert "GPU 0: could not read name: this user has no permission" in text

    def test_nothing_outside_the_allocator_is_not_worth_a_line(self, play: Play) -> None:
        quiet, busy = (play(f"gpu GPU-1 8GiB A\nused {used}")[0]["devices"][0] for used in ("0", "1GiB"))
        assert (quiet["others"], quiet["notes"]) == (0, [])
        assert busy["notes"] == ["1.00 GiB outside this process's allocator; whose cannot be told here"]

    def test_without_a_driver_there_is_the_host_and_the_reason(self, play: Play) -> None:
        found, text, _, _ = play(TWO + "error nvmlInitWithFlags 9")
        assert [row["device"] for row in found["devices"]] == ["host"]
        assert found["note"] == (
            "GPU memory is unknown: the NVIDIA driver is not running (its kernel module is not loaded)"
        )
        assert found["note"] in text

    def test_the_html_says_the_same(self, play: Play) -> None:
        found, text, markup, _ = play(TWO)
        page = Page(markup)
        cells = len([tag for tag, _ in page.elements if tag == "td"])
        assert cells == 3 * 7
        assert len(found["devices"]) == 3
        for line in text.splitlines()[4:]:
            assert line in page.text


def test_a_limit_of_the_host_is_told() -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        from nb_oomhelper.memory import usage
        from nb_oomhelper.memory.nvml import Driver
        from nb_oomhelper.showing.notes import say_notes
        print(say_notes(usage.read_usage(Driver())[0][-1].notes, "en"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith("['limited by RLIMIT_AS to 8.00 GiB: 7.")


@needs_compiler
def test_the_driver_is_read_once_for_all_rows_and_each_process_is_named_once(library: Path, tmp_path: Path) -> None:
    """Two readings of one row would mix two moments; and with many GPUs they take seconds."""
    code = """
        import json, os, psutil
        from nb_oomhelper.memory import snapshot, usage
        from nb_oomhelper.memory.nvml import Driver
        class Counted(Driver):
            times = 0
            def read(self, known=None):
                self.times += 1
                return super().read(known)
        asked = []
        def named(pid):
            asked.append(pid)
            return f"process {pid}", None
        snapshot.describe_process, snapshot.sees_driver_pids = named, lambda: True
        driver = Counted()
        rows, note = usage.read_usage(driver)
        tables = driver.times
        snapshot.take_snapshot(driver, backend="cuda", device=1)
        print(json.dumps([tables, driver.times, sorted(asked), [row.by_process for row in rows], os.getpid()]))
    """
    scenario = "".join(f"gpu GPU-{at} 8GiB A\nused 3GiB\nprocess 4711 1GiB\nprocess self 2GiB\n" for at in range(8))
    variables = environment(write_scenario(tmp_path / "scenario.txt", scenario), library)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    tables, snapshots, asked, processes, pid = json.loads(done.stdout)
    assert (tables, snapshots) == (1, 2)
    assert asked == sorted([4711, pid] * 2)
    assert processes == [[[4711, "process 4711", GIB]]] * 8 + [[]]


ROW = MemoryUsage(
    device="GPU 0",
    ordinal="cuda:0",
    name="<b>`x`</b>",
    allocated=GIB,
    free=0,
    notes=(note("gpumem.no_gpu", index="<i>"),),
)
HOST = MemoryUsage(device="host", rest=GIB, others=GIB, free=GIB, capacity=4 * GIB)


class TestHolders:
    def test_a_name_cannot_change_its_line(self) -> None:
        row = Holding(name="\u202eevil\n", kind="variable", backend="host", own=GIB)
        cell = replace(row, kind="failed_cell", function="f", line=3)
        assert [cells[0] for cells in by_variable([row, cell], "en")[1]] == [
            r"\u202eevil",
            r"failed cell, f line 3: \u202eevil",
        ]

    @pytest.mark.parametrize(
        ("role", "word"),
        [("array", "arrays"), ("tensor", "tensors"), ("other", "tensors or arrays"), ("model", "tensors or arrays")],
    )
    def test_arrays_are_called_arrays(self, role: str, word: str) -> None:
        parts = (("tensors", GIB), ("gradients", GIB))
        row = Holding(name="x", kind="variable", backend="host", own=2 * GIB, parts=parts, role=role)
        assert by_variable([row], "en")[1][0][3] == f"{word} 1.00 GiB, gradients 1.00 GiB"

    @pytest.mark.parametrize(
        ("own", "shared", "graph", "named"),
        [(4, 8, 4, True), (0, 8, 8, True), (8, 4, 4, False), (0, 8, 4, False), (4, 0, 0, False)],
    )
    def test_what_is_kept_alone_is_called_a_graph_where_most_of_it_is(
        self, own: int, shared: int, graph: int, named: bool
    ) -> None:
        parts = (("tensors", (own + shared - graph) * GIB), ("graph", graph * GIB))
        row = Holding(name="loss", kind="variable", backend="host", own=own * GIB, shared=shared * GIB, parts=parts)
        assert by_variable([row], "en")[1][0][0] == ("autograd graph of loss" if named else "loss")


class TestShowing:
    def test_columns_are_aligned(self) -> None:
        lines = to_text([ROW, HOST, replace(ROW, name="a longer name than that")], None, "en").splitlines()[:4]
        assert len({len(line) for line in lines}) == 1
        assert lines[0].split("  ")[0] == "device"

    def test_zero_is_not_unknown_and_nothing_to_show_is_neither(self) -> None:
        _, gpu, host = to_text([ROW, HOST], None, "en").splitlines()[:3]
        assert "0 bytes" in gpu
        assert gpu.count("unknown") == 4
        assert host.split() == ["host", "–", "–", *["1.00", "GiB"] * 3, "4.00", "GiB"]

    def test_html_is_escaped(self) -> None:
        process = (7, "<script>", None)
        page = Page(to_html([replace(ROW, by_process=(process,))], note("gpumem.no_gpu", index="<u>"), "en"))
        assert {tag for tag, _ in page.elements} <= {"table", "thead", "tbody", "tr", "th", "td", "div", "br"}
        for text in ("<b>`x`</b>", "GPU 0: there is no GPU <i>", "process 7 <script>: unknown", "<u>"):
            assert text in page.text

    def test_json(self) -> None:
        found = json.loads(to_json([replace(ROW, name="显卡")], note("nvml.late")))
        assert found["note"] == "the NVIDIA driver does not answer"
        assert found["devices"][0]["name"] == "显卡"
        assert "显卡" in to_json([replace(ROW, name="显卡")], None)
        assert found["devices"][0]["cached"] is None

    def test_nothing(self) -> None:
        assert json.loads(to_json([], None)) == {"devices": [], "note": None}
        assert to_text([], note("nvml.late"), "en").splitlines()[-1] == "the NVIDIA driver does not answer"
