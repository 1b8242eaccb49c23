"""The driver's view: the real pynvml on top of a stand-in library, in processes of their own."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from nb_oomhelper.memory.cuda_ordinals import ordinals
from nb_oomhelper.records.memory import DeviceMemory
from tests.nvml_stub import build, environment, write_scenario
from tests.nvml_stub.build import compiler

pytestmark = pytest.mark.plain
# nvidia-ml-py before 12.550 has only the newest entry point of the process lists.
HAS_OLDER_LISTS = hasattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v2")
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the NVML stub")

GIB = 1 << 30
Play = Callable[..., Any]

ONE_GPU = """
gpu GPU-1111 8GiB NVIDIA H200
used 6GiB
reserved 0.5GiB
process self 5GiB
process 4711 1GiB
"""
MIG = """
gpu GPU-1111 80GiB NVIDIA H100
gpu GPU-2222 40GiB NVIDIA A100
mig MIG-aaaa 20GiB NVIDIA A100 MIG 3g.20gb
used 19GiB
process 4711 18GiB
mig MIG-bbbb 10GiB NVIDIA A100 MIG 2g.10gb
"""
PRELUDE = """
import json, os, sys
from pathlib import Path
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.showing.notes import for_json
def started():
    import ctypes
    return ctypes.CDLL("libnvidia-ml.so.1").stub_started()
def scenario(text):
    path = Path(os.environ["NVML_STUB"])
    half = path.with_name("half")
    half.write_text(text)
    half.replace(path)
def tell(value):
    print(json.dumps(for_json(value)))
driver = Driver()
"""
READ = "tell(driver.read())"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    build(folder)
    return folder


@pytest.fixture
def play(library: Path, tmp_path: Path) -> Play:
    """Run code in a process that finds the stand-in; what it told last comes back."""

    def run(scenario: str, code: str = READ, **variables: str) -> Any:
        path = write_scenario(tmp_path / "scenario.txt", scenario)
        return run_code(code, environment(path, library) | variables)

    return run


def run_code(code: str, variables: dict[str, str]) -> Any:
    command = [sys.executable, "-W", "ignore", "-c", PRELUDE + textwrap.dedent(code)]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1], object_hook=lambda fields: SimpleNamespace(**fields))


def without_driver(folder: Path) -> dict[str, str]:
    """An environment in which no driver is found; skips the test where this machine has one."""
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("this machine has an NVIDIA driver")
    return environment(folder / "no-scenario", folder)


@needs_compiler
class TestFigures:
    def test_a_device_and_its_processes(self, play: Play) -> None:
        reading = play(ONE_GPU)
        (device,) = reading.devices
        assert reading.note is None
        assert (device.nvml_index, device.uuid, device.name, device.device) == (0, "GPU-1111", "NVIDIA H200", 0)
        assert (device.capacity, device.used, device.system_reserved) == (8 * GIB, 6 * GIB, GIB // 2)
        assert device.used + device.free + device.system_reserved == device.capacity
        assert [(row.used, row.is_self) for row in device.processes] == [(5 * GIB, True), (GIB, False)]
        assert [row.name for row in device.processes] == [None, None]
        assert device.note is None

    def test_both_kinds_of_memory_call_give_the_same_sum(self, play: Play) -> None:
        (device,) = play(ONE_GPU + "reserved-is-used\n").devices
        assert (device.used, device.system_reserved) == (6 * GIB, GIB // 2)
        (device,) = play(ONE_GPU + "missing nvmlDeviceGetMemoryInfo_v2\n").devices
        assert (device.used, device.system_reserved) == (6 * GIB + GIB // 2, None)
        assert device.used + device.free == device.capacity

    def test_a_process_in_both_lists_is_one_row_with_the_larger_figure(self, play: Play) -> None:
        scenario = (
            "gpu GPU-1 8GiB A\nprocess 7 1GiB\nprocess 7 2GiB graphics\nprocess 8 1GiB both\nprocess 9 0 graphics"
        )
        (device,) = play(scenario).devices
        assert [(row.pid, row.used) for row in device.processes] == [(7, 2 * GIB), (8, GIB), (9, 0)]

    def test_what_the_driver_does_not_tell_is_none(self, play: Play) -> None:
        (device,) = play("gpu GPU-1 8GiB A\nused unknown\nprocess 7 unknown\nprocess 8 unknown both").devices
        assert device.used is None
        assert device.capacity == 8 * GIB
        assert [row.used for row in device.processes] == [None, None]

    def test_a_capacity_of_nothing_is_unknown(self, play: Play) -> None:
        (device,) = play("gpu GPU-1 0 NVIDIA GB10").devices
        assert (device.capacity, device.used, device.free) == (None, None, None)
        assert device.note == "could not read memory: this GPU does not tell"

    def test_figures_are_read_anew_each_time(self, play: Play) -> None:
        code = """
            first = driver.read()
            scenario("gpu GPU-1 8GiB A\\nused 2GiB\\nprocess 5 2GiB")
            tell([first, driver.read(), started()])
        """
        first, second, starts = play("gpu GPU-1 8GiB A", code)
        assert (first.devices[0].used, second.devices[0].used) == (0, 2 * GIB)
        assert second.devices[0].processes[0].pid == 5
        assert starts == 1

    def test_a_name_that_is_no_text(self, play: Play) -> None:
        code = """
            Path(os.environ["NVML_STUB"]).write_bytes(b"gpu GPU-1 8GiB NVIDIA \\xff")
            tell(driver.read())
        """
        (device,) = play(ONE_GPU, code).devices
        assert (device.name, device.capacity) == (None, 8 * GIB)
        assert device.note.startswith("could not read name: the NVIDIA driver's answer makes no sense")

    def test_names_cannot_change_the_line_that_they_are_in(self, play: Play) -> None:
        (device,) = play("gpu GPU-1\u202e 8GiB A\u202e100\x1b[31m \u2066B\u2028C").devices
        assert (device.name, device.uuid) == (r"A\u202e100\x1b[31m \u2066B C", r"GPU-1\u202e")

    def test_neither_importing_nor_reading_starts_more_than_it_needs(self, play: Play) -> None:
        code = """
            before = "pynvml" in sys.modules
            driver.read()
            tell([before, "libcuda" in Path("/proc/self/maps").read_text(), "torch" in sys.modules])
        """
        assert play(ONE_GPU, code) == [False, False, False]


@needs_compiler
class TestMig:
    def test_mig_devices_stand_for_their_gpu(self, play: Play) -> None:
        reading = play(MIG)
        assert [(row.nvml_index, row.uuid) for row in reading.devices] == [
            (0, "GPU-1111"),
            (1, "MIG-aaaa"),
            (1, "MIG-bbbb"),
        ]
        device = reading.devices[1]
        assert (device.name, device.capacity, device.free) == ("NVIDIA A100 MIG 3g.20gb", 20 * GIB, GIB)
        assert [(row.pid, row.used) for row in device.processes] == [(4711, 18 * GIB)]

    def test_a_gpu_without_its_mig_devices_is_told_apart(self, play: Play) -> None:
        reading = play("gpu GPU-1 80GiB A\nmig-mode\ngpu GPU-2 80GiB A")
        assert [row.uuid for row in reading.devices] == ["GPU-2"]
        assert reading.note == "GPU 0 is in MIG mode and has no MIG device"

    def test_the_whole_gpu_is_shown_where_its_mig_devices_cannot_be_listed(self, play: Play) -> None:
        reading = play(MIG + "error nvmlDeviceGetMaxMigDeviceCount 4")
        assert [row.uuid for row in reading.devices] == ["GPU-1111", "GPU-2222"]
        assert reading.devices[1].note == "could not read MIG devices: this user has no permission"

    def test_a_mig_device_that_cannot_be_opened_keeps_its_row(self, play: Play) -> None:
        row = play(MIG + "error nvmlDeviceGetMigDeviceHandleByIndex 4").devices[1]
        assert (row.nvml_index, row.uuid, row.capacity) == (1, None, None)
        assert row.note == "could not read MIG device 0: this user has no permission"


class TestNoDriver:
    def test_no_library(self, tmp_path: Path) -> None:
        reading = run_code(READ, without_driver(tmp_path))
        assert reading.devices == []
        assert reading.note == ("GPU memory is unknown: no NVIDIA driver found, or not visible in this container")

    @needs_compiler
    def test_the_driver_may_come_later(self, library: Path, tmp_path: Path) -> None:
        code = f"first = driver.read()\nscenario({ONE_GPU!r})\ntell([first, driver.read()])"
        first, second = run_code(code, environment(tmp_path / "scenario.txt", library))
        assert "is not running" in first.note
        assert (second.note, len(second.devices)) == (None, 1)

    def test_no_binding(self, tmp_path: Path) -> None:
        reading = run_code("sys.modules['pynvml'] = None\n" + READ, without_driver(tmp_path))
        assert (reading.devices, reading.note) == (
            [],
            "GPU memory is unknown: the Python package nvidia-ml-py is not installed",
        )

    @pytest.mark.parametrize(
        "text",
        ["", "raise RuntimeError('broken')", "def", "raise SystemExit(3)", "import nothing_of_that_name"],
        ids=["empty", "raises", "no syntax", "exits", "lacks a part"],
    )
    def test_a_broken_binding(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "pynvml.py").write_text(text)
        reading = run_code(f"sys.path.insert(0, {str(tmp_path)!r})\n" + READ, without_driver(tmp_path))
        assert reading.note is not None
        assert "reinstall nvidia-ml-py" in reading.note

    @needs_compiler
    def test_a_library_without_any_function_we_call(self, tmp_path: Path) -> None:
        source = tmp_path / "empty.c"
        source.write_text("int nothing_of_nvml;\n")
        subprocess.run([compiler() or "", "-shared", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True)
        reading = run_code(READ, environment(tmp_path / "none", tmp_path))
        assert (reading.devices, reading.note) == ([], "GPU memory is unknown: the NVIDIA driver is too old to tell")

    @needs_compiler
    def test_a_driver_without_gpus(self, play: Play) -> None:
        assert play("driver 580.65.06").note == "the NVIDIA driver is running but shows no GPU"

    @needs_compiler
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (4, "no permission"),
            (9, "not running"),
            (15, "must be rebooted"),
            (18, "reboot to match its library"),
            (999, "does not tell"),
            (12345, "error 12345"),
        ],
    )
    def test_why_it_does_not_start_is_said_plainly(self, play: Play, code: int, words: str) -> None:
        reading = play(f"{ONE_GPU}error nvmlInitWithFlags {code}")
        assert reading.devices == []
        assert words in reading.note


@needs_compiler
class TestOldDriver:
    @pytest.mark.skipif(not HAS_OLDER_LISTS, reason="this nvidia-ml-py has no older entry points")
    def test_older_entry_points_are_used(self, play: Play) -> None:
        missing = (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetMigMode",
        )
        (device,) = play(ONE_GPU + "process 9 1 graphics\n" + "\n".join(f"missing {name}" for name in missing)).devices
        assert [row.used for row in device.processes] == [5 * GIB, GIB, 1]
        assert (device.capacity, device.note) == (8 * GIB, None)

    def test_no_process_list_at_all_is_unknown_not_empty(self, play: Play) -> None:
        missing = "missing nvmlDeviceGetComputeRunningProcesses_v3\nmissing nvmlDeviceGetComputeRunningProcesses_v2"
        (device,) = play(ONE_GPU + missing).devices
        assert device.processes is None
        assert device.note == "could not read processes: the NVIDIA driver is too old to tell"


# What each C function gives, and the codes that mean "there is no such thing here", which is no gap.
GIVES: dict[str, tuple[set[str], set[int]]] = {
    "nvmlDeviceGetName": ({"name"}, set()),
    "nvmlDeviceGetUUID": ({"uuid"}, set()),
    "nvmlDeviceGetMemoryInfo_v2": ({"system_reserved"}, set()),
    "nvmlDeviceGetMemoryInfo": (set(), set()),
    "nvmlDeviceGetComputeRunningProcesses_v3": ({"processes"}, {13} if HAS_OLDER_LISTS else set()),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": (set(), {3, 13}),
    "nvmlDeviceGetMigMode": (set(), {3, 13}),
    "nvmlDeviceGetMaxMigDeviceCount": (set(), set()),
    "nvmlDeviceGetMigDeviceHandleByIndex": (set(), set()),
    "nvmlDeviceGetHandleByIndex_v2": (
        {"name", "uuid", "capacity", "used", "free", "system_reserved", "processes"},
        set(),
    ),
}
SILENT = {  # these fail without a note: another call, or none, is needed for the same figure
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
}
WHOLE = ("nvmlInitWithFlags", "nvmlDeviceGetCount_v2")
FIELDS = ("name", "uuid", "capacity", "used", "free", "system_reserved", "processes")
MATRIX = """
    import pynvml
    codes = sorted(pynvml.NVMLError._valClassMapping) + [31, 12345, -1]
    plain = Path(os.environ["NVML_STUB"]).read_text()
    rows = []
    for function in json.loads(os.environ["FUNCTIONS"]):
        for code in codes:
            driver = Driver()
            scenario(plain + f"error {function} {code}\\n")
            reading = driver.read()
            again = driver.read()
            scenario(plain)
            healed = driver.read()
            driver.close()
            rows.append([function, code, reading, again == reading, healed.note, len(healed.devices)])
    tell(rows)
"""


@pytest.fixture(scope="module")
def failures(library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What is read while one function fails with each of NVML's codes, by function."""
    scenario = write_scenario(tmp_path_factory.mktemp("matrix") / "scenario.txt", ONE_GPU)
    functions = [*GIVES, *WHOLE, "nvmlShutdown"]
    rows = run_code(MATRIX, environment(scenario, library) | {"FUNCTIONS": json.dumps(functions)})
    return {function: [row for row in rows if row[0] == function] for function in functions}


def is_one_plain_line(note: str) -> bool:
    return "\n" not in note and "NVMLError" not in note and "Traceback" not in note and len(note) < 200


@needs_compiler
class TestEveryErrorOfEveryCall:
    @pytest.mark.parametrize("function", GIVES)
    def test_only_its_own_figure_is_unknown(self, failures: dict[str, list[Any]], function: str) -> None:
        gives, harmless = GIVES[function]
        assert len(failures[function]) > 30
        for _, code, reading, same, _, _ in failures[function]:
            (device,) = reading.devices
            lost = set() if code in harmless else gives
            assert {name for name in FIELDS if getattr(device, name) is None} == lost, code
            assert same, code
            if code in harmless or function in SILENT:
                assert device.note is None, code
            else:
                assert device.note.startswith("could not read "), code
                assert is_one_plain_line(device.note), code

    @pytest.mark.parametrize("function", WHOLE)
    def test_nothing_is_shown_and_the_note_says_why(self, failures: dict[str, list[Any]], function: str) -> None:
        for _, code, reading, _, _, _ in failures[function]:
            assert reading.devices == [], code
            assert reading.note.startswith("GPU memory is unknown: "), code
            assert is_one_plain_line(reading.note), code

    def test_it_works_again_when_the_driver_does(self, failures: dict[str, list[Any]]) -> None:
        assert {(row[4], row[5]) for rows in failures.values() for row in rows} == {(None, 1)}

    def test_memory_is_unknown_where_both_calls_fail(self, play: Play) -> None:
        (device,) = play(ONE_GPU + "error nvmlDeviceGetMemoryInfo_v2 4\nerror nvmlDeviceGetMemoryInfo 4").devices
        assert (device.capacity, device.used, device.free, device.system_reserved) == (None, None, None, None)
        assert device.processes is not None
        assert device.note == "could not read memory: this user has no permission"

    def test_one_reason_is_said_once(self, play: Play) -> None:
        (device,) = play(
            ONE_GPU + "error nvmlDeviceGetName 16\nerror nvmlDeviceGetUUID 16\nerror nvmlDeviceGetMigMode 4"
        ).devices
        assert device.note == (
            "could not read MIG mode: this user has no permission; "
            "could not read name, uuid: the GPU must be reset before it can be used"
        )

    def test_a_lost_gpu_leaves_the_others_readable(self, play: Play) -> None:
        first, second = play("gpu GPU-1 8GiB A\ngpu GPU-2 8GiB A\nerror nvmlDeviceGetHandleByIndex_v2 15 0").devices
        assert (first.nvml_index, first.capacity, first.device) == (0, None, None)
        assert "the GPU is lost" in first.note
        assert (second.nvml_index, second.capacity, second.note, second.device) == (1, 8 * GIB, None, 0)


@needs_compiler
class TestStartAndStop:
    def test_close_undoes_the_start_and_may_be_called_twice(self, play: Play) -> None:
        code = """
            counts = []
            for step in (driver.close, driver.read, driver.read, driver.close, driver.close, driver.read):
                step()
                counts.append(started() if "pynvml" in sys.modules else 0)
            tell(counts)
        """
        assert play(ONE_GPU, code) == [0, 1, 1, 0, 0, 1]

    def test_other_users_of_nvml_keep_it(self, play: Play) -> None:
        code = "import pynvml\npynvml.nvmlInit()\ndriver.read()\ndriver.close()\ntell(pynvml.nvmlDeviceGetCount())"
        assert play(ONE_GPU, code) == 1

    def test_nvml_shut_down_by_other_code_is_started_again(self, play: Play) -> None:
        code = """
            import pynvml
            driver.read()
            pynvml.nvmlShutdown()
            tell([started(), driver.read(), started()])
        """
        before, reading, after = play(ONE_GPU, code)
        assert (before, after) == (0, 1)
        assert (reading.note, reading.devices[0].note, reading.devices[0].capacity) == (None, None, 8 * GIB)

    def test_a_forked_child_starts_its_own(self, play: Play) -> None:
        # The child is forked while a thread of the parent is in the driver: it must not wait for that.
        code = """
            import signal, threading, time, traceback
            from nb_oomhelper.poll import WORKER
            def is_in_the_driver():
                frame = sys._current_frames().get(WORKER._thread.ident)
                return any(one.f_code.co_name == "_attempt" for one, _ in traceback.walk_stack(frame))
            driver.read()  # so that pynvml is there: no fork survives another thread's import
            driver.close()
            thread = threading.Thread(target=driver.read)
            thread.start()
            while not is_in_the_driver():
                time.sleep(0.001)
            child = os.fork()
            if not child:
                signal.alarm(10)
                os._exit(0 if driver.read().devices[0].processes[0].is_self and started() == 1 else 1)
            thread.join()
            tell([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), started()])
        """
        assert play(ONE_GPU + "slow nvmlInitWithFlags 300", code) == [0, 1]

    def test_threads_share_one_start(self, play: Play) -> None:
        code = """
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(2) as pool:
                readings = [job.result() for job in [pool.submit(driver.read) for _ in range(200)]]
            tell([started(), len({repr(reading) for reading in readings}), readings[0]])
        """
        starts, kinds, reading = play(ONE_GPU + "slow nvmlInitWithFlags 100", code)
        assert (starts, kinds) == (1, 1)
        assert reading.devices[0].capacity == 8 * GIB

    def test_closing_after_the_thread_has_ended_starts_none(self, play: Play) -> None:
        code = """
            import threading
            from nb_oomhelper.poll import WORKER
            driver.read()
            WORKER.end()
            driver.close()
            tell([one.name for one in threading.enumerate()])
        """
        assert play(ONE_GPU, code) == ["MainThread"]

    def test_closing_while_another_thread_reads(self, play: Play) -> None:
        code = """
            from concurrent.futures import ThreadPoolExecutor
            def read():
                return [driver.read() for _ in range(200)]
            with ThreadPoolExecutor(2) as pool:
                jobs = [pool.submit(read) for _ in range(2)]
                while not all(job.done() for job in jobs):
                    driver.close()
            driver.close()
            tell([started(), len({repr(reading) for job in jobs for reading in job.result()})])
        """
        assert play(ONE_GPU, code) == [0, 1]


@needs_compiler
class TestMemoryAgain:
    def test_two_calls_give_the_figures_of_now(self, play: Play) -> None:
        code = """
            import pynvml
            (device,) = driver.read().devices
            scenario("gpu GPU-1111 8GiB NVIDIA H200\\nused 2GiB\\nprocess 5 2GiB")
            asked, find = [], pynvml._nvmlGetFunctionPointer
            pynvml._nvmlGetFunctionPointer = lambda name: (asked.append(name), find(name))[1]
            tell([device, driver.read_memory(device), asked])
        """
        before, now, asked = play(ONE_GPU, code)
        assert asked == ["nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMemoryInfo_v2"]
        assert (now.used, now.free, now.capacity) == (2 * GIB, 6 * GIB, 8 * GIB)
        assert (now.uuid, now.name, now.device) == (before.uuid, before.name, before.device)
        assert now.processes is None  # those of before may be others by now

    def test_an_older_driver_counts_its_share_as_before(self, play: Play) -> None:
        code = "(device,) = driver.read().devices\ntell([device.used, driver.read_memory(device).used])"
        used, again = play(ONE_GPU + "missing nvmlDeviceGetMemoryInfo_v2\n", code)
        assert used == again == 6 * GIB + GIB // 2

    def test_a_part_of_a_gpu_is_read_as_itself(self, play: Play) -> None:
        code = "tell([driver.read_memory(one) for one in driver.read().devices])"
        assert [row.capacity for row in play(MIG, code)] == [80 * GIB, 20 * GIB, 10 * GIB]

    def test_after_other_code_has_shut_nvml_down(self, play: Play) -> None:
        code = """
            import pynvml
            (device,) = driver.read().devices
            pynvml.nvmlShutdown()
            tell([driver.read_memory(device), started()])
        """
        now, starts = play(ONE_GPU, code)
        assert (now.used, starts) == (6 * GIB, 1)

    @pytest.mark.parametrize("fault", ["error nvmlDeviceGetMemoryInfo_v2 15\nerror nvmlDeviceGetMemoryInfo 15", ""])
    def test_a_gpu_that_is_lost_or_gone_gives_nothing(self, play: Play, fault: str) -> None:
        then = f"{ONE_GPU}{fault}" if fault else "gpu GPU-9 8GiB A"
        code = f"(device,) = driver.read().devices\nscenario({then!r})\ntell(driver.read_memory(device))"
        assert play(ONE_GPU, code) is None


HOUR = 3_600_000  # milliseconds: who waits for that is ended by `run_code`
LATE = "GPU memory is unknown: the NVIDIA driver does not answer"


@needs_compiler
class TestDriverThatHangs:
    @pytest.mark.parametrize(
        "function", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetName"]
    )
    def test_a_reading_ends_and_says_so(self, play: Play, function: str) -> None:
        code = "tell([driver.read() for _ in range(50)])\ndriver.close()"
        readings = play(f"{ONE_GPU}slow {function} {HOUR}", code)
        assert [(one.devices, one.note) for one in readings] == [([], LATE)] * 50

    def test_reading_the_memory_again_ends(self, play: Play) -> None:
        code = f"""
            (device,) = driver.read().devices
            scenario({ONE_GPU!r} + "slow nvmlDeviceGetHandleByUUID {HOUR}")
            tell([driver.read_memory(device) for _ in range(50)])
        """
        assert play(ONE_GPU, code) == [None] * 50

    def test_closing_ends(self, play: Play) -> None:
        code = f"""
            driver.read()
            scenario({ONE_GPU!r} + "slow nvmlShutdown {HOUR}")
            driver.close()
            driver.close()
            tell(driver.read())
        """
        assert play(ONE_GPU, code).note == LATE

    def test_other_drivers_do_not_wait_either(self, play: Play) -> None:
        code = "driver.read()\ntell([one.read() for one in [Driver() for _ in range(50)]])"
        assert {one.note for one in play(f"{ONE_GPU}slow nvmlDeviceGetCount_v2 {HOUR}", code)} == {LATE}

    def test_the_figures_come_back_with_the_driver(self, play: Play) -> None:
        code = f"""
            import time
            first = driver.read()
            scenario({ONE_GPU!r})
            while (last := driver.read()).note:
                time.sleep(0.05)
            tell([first, last, started()])
        """
        first, last, starts = play(f"{ONE_GPU}slow nvmlDeviceGetCount_v2 6000", code)
        assert (first.note, last.note, last.devices[0].capacity, starts) == (LATE, None, 8 * GIB, 1)

    def test_without_room_for_a_thread_nobody_asks(self, play: Play) -> None:
        code = """
            import resource
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (100 << 20), resource.RLIM_INFINITY))
            tell([driver.read(), "pynvml" in sys.modules])
        """
        reading, asked = play(ONE_GPU, code)
        assert (reading.devices, asked) == ([], False)
        assert reading.note == "GPU memory is unknown: this process has too little memory left to ask the NVIDIA driver"


def rows(*uuids: str, names: Sequence[str] = "A" * 9, indexes: str = "012345678") -> Iterator[DeviceMemory]:
    for uuid, name, index in zip(uuids, names, indexes, strict=False):
        yield DeviceMemory(nvml_index=int(index), uuid=uuid, name=f"GPU {name}", capacity=GIB)


THREE = tuple(rows("GPU-aa11", "GPU-aa22", "GPU-bb33"))
MIXED = tuple(rows("GPU-aa11", "GPU-aa22", "GPU-bb33", names="ABA"))
SPLIT = tuple(rows("MIG-aa", "MIG-ab", "MIG-bb", indexes="001"))


class TestOrdinals:
    @pytest.mark.parametrize(
        ("visible", "expected"),
        [
            (None, (0, 1, 2)),
            ("0,1,2", (0, 1, 2)),
            ("1,0", (1, 0, None)),
            (" 2 , 1 ", (None, 1, 0)),
            ("2", (None, None, 0)),
            ("", (None, None, None)),
            ("-1", (None, None, None)),
            ("-1,0", (None, None, None)),
            ("0,-1,1", (0, None, None)),
            ("0,3,1", (0, None, None)),
            ("0,,1", (0, None, None)),
            ("1,1", (None, None, None)),
            ("0,1,0", (None, None, None)),
            ("1gpu,+2", (None, 0, 1)),
            ("none", (None, None, None)),
            ("9" * 5000, (None, None, None)),
            ("GPU-bb33,GPU-aa11", (1, None, 0)),
            ("GPU-b", (None, None, 0)),
            ("GPU-aa2,GPU-aa1", (1, 0, None)),
            ("GPU-bb33, GPU-aa11", (1, None, 0)),
            ("GPU-aa", (None, None, None)),
            ("GPU-bb33,GPU-aa,GPU-aa11", (None, None, 0)),
            ("GPU-cc", (None, None, None)),
            ("GPU-bb33,GPU-bb", (None, None, None)),
            ("GPU-bb33,0", (None, None, 0)),
            ("0,GPU-bb33", (0, None, None)),
            ("MIG-aa", (None, None, None)),
        ],
    )
    def test_the_variable_says_which(self, visible: str | None, expected: tuple[int | None, ...]) -> None:
        assert tuple(row.device for row in ordinals(THREE, visible, None)) == expected

    @pytest.mark.parametrize(
        ("visible", "order", "expected"),
        [
            (None, None, (None, None, None)),
            ("1,0", "FASTEST_FIRST", (None, None, None)),
            ("1,0", "PCI_BUS_ID", (1, 0, None)),
            (None, "PCI_BUS_ID", (0, 1, 2)),
            ("GPU-bb33", None, (None, None, 0)),
        ],
    )
    def test_unlike_gpus_are_numbered_only_in_the_order_of_the_bus(
        self, visible: str | None, order: str | None, expected: tuple[int | None, ...]
    ) -> None:
        assert tuple(row.device for row in ordinals(MIXED, visible, order)) == expected

    def test_gpus_without_a_name_may_be_unlike(self) -> None:
        nameless = [DeviceMemory(nvml_index=0, uuid="GPU-1"), DeviceMemory(nvml_index=1, uuid="GPU-2")]
        assert [row.device for row in ordinals(nameless, None, None)] == [None, None]
        assert [row.device for row in ordinals(nameless[:1], None, None)] == [0]

    @pytest.mark.parametrize(
        ("visible", "expected"),
        [
            (None, (0, None, None)),
            ("0", (0, None, None)),
            ("1", (None, None, 0)),
            ("0,1", (0, None, None)),
            ("MIG-ab", (None, 0, None)),
            ("MIG-bb,MIG-aa", (None, None, 0)),
        ],
    )
    def test_a_process_sees_one_mig_device(self, visible: str | None, expected: tuple[int | None, ...]) -> None:
        assert tuple(row.device for row in ordinals(SPLIT, visible, None)) == expected

    def test_gpus_of_one_model_may_be_cut_differently(self) -> None:
        cut = tuple(rows("MIG-aa", "MIG-bb", names=("A MIG 3g.20gb", "A MIG 1g.5gb")))
        assert [row.device for row in ordinals(cut, "1", None)] == [None, 0]

    def test_mig_beside_a_whole_gpu_is_not_certain(self) -> None:
        both = tuple(rows("GPU-aa", "MIG-bb"))
        assert [row.device for row in ordinals(both, None, None)] == [None, None]
        assert [row.device for row in ordinals(both, "0", None)] == [0, None]
        assert [row.device for row in ordinals(both, "MIG-bb", None)] == [None, 0]

    @pytest.mark.parametrize("spelling", ["GPU-BB33", "bb33", "gpu-bb33"])
    def test_the_framework_knows_best(self, spelling: str) -> None:
        known = {0: spelling, 1: "GPU-aa11"}
        assert [row.device for row in ordinals(MIXED, "0", None, known)] == [1, None, 0]
        assert [row.device for row in ordinals(SPLIT, None, None, {0: "bb"})] == [None, None, 0]

    def test_a_framework_that_knows_nothing_yet_decides_nothing(self) -> None:
        assert [row.device for row in ordinals(THREE, "2", None, {})] == [None, None, 0]

    def test_nothing_else_changes(self) -> None:
        for before, after in zip(THREE, ordinals(THREE, None, None), strict=True):
            assert (after.nvml_index, after.uuid, after.name, after.capacity) == (
                before.nvml_index,
                before.uuid,
                before.name,
                before.capacity,
            )
        assert ordinals((), None, None) == ()

    @needs_compiler
    def test_a_reading_takes_the_variables_of_its_process(self, play: Play) -> None:
        two = "gpu GPU-1 8GiB A\ngpu GPU-2 8GiB B"
        assert [row.device for row in play(two).devices] == [None, None]
        hidden = play(two, CUDA_VISIBLE_DEVICES="1,0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
        assert [row.device for row in hidden.devices] == [1, 0]
        known = play(two, "tell(driver.read({0: '2'}))", CUDA_VISIBLE_DEVICES="0")
        assert [row.device for row in known.devices] == [None, 0]
