"""The machine's own memory and its limits, and processes by name."""

from __future__ import annotations

import json
import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from nb_oomhelper.loading import disk
from nb_oomhelper.memory import host, processes

pytestmark = pytest.mark.plain
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or limits as Linux has them")

MIB = 1 << 20
GIB = 1 << 30
NO_LIMIT_V1 = "9223372036854771712\n"


def in_a_process(code: str) -> Any:
    """Run code in a Python of its own; what it printed last, as JSON, comes back."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


class TestReadHost:
    def test_figures_are_those_of_this_machine(self) -> None:
        memory = host.read_host()
        assert memory.capacity == psutil.virtual_memory().total
        assert memory.available is not None
        assert 0 < memory.available <= memory.capacity
        assert memory.this_process is not None
        assert memory.virtual is not None
        assert 4 * MIB < memory.this_process < memory.virtual

    def test_this_process_follows_what_it_holds(self) -> None:
        code = """
import json
import mmap
from nb_oomhelper.memory.host import read_host
before = read_host()
held = b"x" * (200 << 20)
after = read_host()
print(json.dumps([after.this_process - before.this_process, after.virtual - before.virtual]))
"""
        resident, virtual = in_a_process(code)
        assert resident > 190 * MIB
        assert virtual > 190 * MIB

    @on_linux
    def test_the_limit_of_the_address_space(self) -> None:
        code = """
import json, resource
from nb_oomhelper.memory.host import read_host
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, hard))
before = read_host().address_space_limit
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))
print(json.dumps([before, read_host().address_space_limit]))
"""
        assert in_a_process(code) == [None, 4 * GIB]

    @on_linux
    def test_the_limit_of_private_memory(self) -> None:
        code = """
import json, mmap, resource
from nb_oomhelper.memory.room import host_free, tightest
from nb_oomhelper.memory.segments import segments
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.records.memory import DriverReading, MemorySnapshot
def read():
    memory = read_host()
    snapshot = MemorySnapshot(taken_at=0, driver=DriverReading(), host=memory)
    bar = {part.kind: part.size for part in segments(snapshot, "host")}
    return [memory.data, memory.data_limit, tightest(memory)[0], host_free(memory), bar]
before = read()
resource.setrlimit(resource.RLIMIT_DATA, (before[0] + (300 << 20), resource.RLIM_INFINITY))
held = mmap.mmap(-1, 200 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print(json.dumps([before, read()]))
"""
        (data, limit, _, _, _), after = in_a_process(code)
        assert limit is None
        assert after[:3] == [pytest.approx(data + 200 * MIB, abs=8 * MIB), data + 300 * MIB, "RLIMIT_DATA"]
        assert after[3] == after[1] - after[0] == pytest.approx(100 * MIB, abs=8 * MIB)
        assert after[4] == {"mapped": after[0], "free": after[3]}

    @on_linux
    @pytest.mark.parametrize(
        ("missing", "expected"),
        [
            ("psutil", {"capacity", "available", "this_process", "virtual"}),
            ("resource", {"address_space_limit", "data_limit"}),  # as on Windows
        ],
    )
    def test_a_missing_module_leaves_only_its_figures_unknown(self, missing: str, expected: set[str]) -> None:
        code = f"""
import dataclasses, json, psutil, resource, sys
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.processes import describe_process
for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
    resource.setrlimit(kind, (8 << 30, resource.getrlimit(kind)[1]))
before = dataclasses.asdict(read_host())
sys.modules[{missing!r}] = None
after = dataclasses.asdict(read_host())
known = [{{name for name, figure in figures.items() if figure is not None}} for figures in (before, after)]
print(json.dumps([sorted(known[0] - known[1]), sorted(known[1]), describe_process(-1)]))
"""
        lost, left, described = in_a_process(code)
        assert set(lost) == expected
        assert left
        assert described == [None, None]

    @on_linux
    def test_names_of_limits_that_a_system_does_not_have(self) -> None:
        code = """
import json, resource
from nb_oomhelper.address_space import is_scarce, room
from nb_oomhelper.memory.host import read_host
del resource.RLIMIT_AS, resource.RLIMIT_DATA
memory = read_host()
print(json.dumps([memory.address_space_limit, memory.data_limit, room(), is_scarce(), memory.capacity > 0]))
"""
        assert in_a_process(code) == [None, None, None, False, True]

    def test_a_psutil_that_cannot_be_loaded(self, tmp_path: Path) -> None:
        (tmp_path / "psutil.py").write_text("raise RuntimeError('built for another system')")
        code = f"""
import json, sys
sys.path.insert(0, {str(tmp_path)!r})
from nb_oomhelper.loading.disk import scratch
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.processes import describe_process
memory = read_host()
print(json.dumps([memory.capacity, memory.this_process, describe_process(1), len(scratch())]))
"""
        assert in_a_process(code) == [None, None, [None, None], 2]

    @on_linux
    def test_a_proc_that_is_not_there(self) -> None:
        """Nothing below /proc can be opened, as where it is not mounted; psutil and we read it."""
        code = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
import psutil
from nb_oomhelper.address_space import room
from nb_oomhelper.loading.disk import mapped_files, scratch
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.processes import describe_process, sees_driver_pids
def deny(event, args):
    if event in ("open", "os.readlink", "os.listdir") and str(args[0]).startswith("/proc"):
        raise FileNotFoundError(args[0])
sys.addaudithook(deny)
memory = read_host()
print(json.dumps([
    [memory.capacity, memory.available, memory.this_process, memory.virtual, memory.data, memory.cgroup_limit],
    memory.address_space_limit, room(), describe_process(1), mapped_files("/usr"), sees_driver_pids(), len(scratch()),
]))
"""
        assert in_a_process(code) == [[None] * 6, 8 * GIB, None, [None, None], 0, True, 2]

    @on_linux
    def test_a_proc_that_cannot_be_read(self) -> None:
        code = """
import json, psutil
psutil.PROCFS_PATH = "/nowhere"
from nb_oomhelper.memory.host import read_host
from nb_oomhelper.memory.processes import describe_process
memory = read_host()
print(json.dumps([memory.capacity, memory.this_process, describe_process(1)]))
"""
        assert in_a_process(code) == [None, None, [None, None]]

    def test_importing_it_loads_nothing(self) -> None:
        code = """
import json, sys
import nb_oomhelper.memory.host
print(json.dumps([name for name in ("psutil", "ctypes") if name in sys.modules]))
"""
        assert in_a_process(code) == []


Groups = Callable[..., tuple[int | None, int | None]]


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    """Lay out control groups as files, `{"a/memory.max": "1024"}`, and read the limit of a process in them."""

    def read(own: str, files: dict[str, str]) -> tuple[int | None, int | None]:
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "own").write_text(own)
        return host.read_cgroup(tmp_path / "own", tmp_path / "cgroup")

    return read


class TestControlGroups:
    def test_version_2(self, groups: Groups) -> None:
        files = {"user/job/memory.max": f"{GIB}\n", "user/job/memory.current": f"{GIB // 2}\n"}
        assert groups("0::/user/job\n", files) == (GIB, GIB // 2)

    def test_file_cache_is_not_counted_as_used(self, groups: Groups) -> None:
        files = {
            "memory.max": str(GIB),
            "memory.current": str(GIB // 2),
            "memory.stat": f"anon 7\nactive_file 9\ninactive_file {100 * MIB}\n",
        }
        assert groups("0::/", files) == (GIB, GIB // 2 - 100 * MIB)

    def test_the_smallest_limit_above_counts_with_its_own_use(self, groups: Groups) -> None:
        files = {
            "a/b/c/memory.max": "max\n",
            "a/b/c/memory.current": "1",
            "a/b/memory.max": "3000",
            "a/b/memory.current": "2",
            "a/memory.max": "2000",
            "a/memory.current": "3",
            "memory.max": "9000",
            "memory.current": "4",
        }
        assert groups("0::/a/b/c\n", files) == (2000, 3)

    def test_the_group_with_the_least_left_counts_not_the_one_with_the_smallest_limit(self, groups: Groups) -> None:
        """As in a pod whose other container has used up what both may have together."""
        files = {
            "pod/own/memory.max": "8000",
            "pod/own/memory.current": "1000",
            "pod/memory.max": "16000",
            "pod/memory.current": "15900",
        }
        assert groups("0::/pod/own\n", files) == (16000, 15900)
        cache = {"pod/memory.stat": "inactive_file 9000\n"}  # the kernel drops it first: that much more is left
        assert groups("0::/pod/own\n", cache) == (8000, 1000)

    def test_the_least_left_in_version_1(self, groups: Groups) -> None:
        files = {
            "memory/pod/own/memory.limit_in_bytes": "8000",
            "memory/pod/own/memory.usage_in_bytes": "1000",
            "memory/pod/memory.limit_in_bytes": "16000",
            "memory/pod/memory.usage_in_bytes": "15900",
            "memory/pod/memory.stat": "total_inactive_file 50",
            "memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "memory/memory.usage_in_bytes": "99999",
        }
        assert groups("4:memory:/pod/own\n", files) == (16000, 15850)

    def test_a_container_that_sees_the_path_of_the_host(self, groups: Groups) -> None:
        files = {"memory.max": "5000", "memory.current": "10"}
        assert groups("0::/docker/0123abcd\n", files) == (5000, 10)
        assert groups("0::/../outside\n", files) == (5000, 10)

    def test_nothing_outside_of_the_mount_is_read(self, groups: Groups) -> None:
        files = {"memory.max": "5000", "memory.current": "10", "../outside/memory.max": "1"}
        assert groups("0::/../outside\n", files) == (5000, 10)

    def test_version_1(self, groups: Groups) -> None:
        own = "9:name=systemd:/x\n4:cpu,memory:/docker/abc\n1:cpu:/\n0::/\n"
        files = {
            "memory/docker/abc/memory.limit_in_bytes": "7000\n",
            "memory/docker/abc/memory.usage_in_bytes": "600\n",
            "memory/docker/abc/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n",
            "memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "memory/memory.usage_in_bytes": "9000\n",
        }
        assert groups(own, files) == (7000, 500)

    def test_version_2_beside_version_1(self, groups: Groups) -> None:
        files = {
            "memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "unified/job/memory.max": "800",
            "unified/job/memory.current": "80",
        }
        assert groups("4:memory:/\n0::/job\n", files) == (800, 80)

    @pytest.mark.parametrize(
        ("own", "files"),
        [
            ("", {}),
            ("0::/\n", {}),
            ("0::/\n", {"memory.max": "max", "memory.current": "5"}),
            ("4:memory:/\n", {"memory/memory.limit_in_bytes": NO_LIMIT_V1, "memory/memory.usage_in_bytes": "5"}),
            ("0::/\n", {"memory.max": "", "memory.current": "5"}),
            ("0::/\n", {"memory.max": "9" * 5000}),
            ("\x00\nnonsense\n0:\n::::\n", {"memory.max": "-3"}),
        ],
        ids=["no lines", "no files", "max", "v1 without limit", "empty", "absurd", "nonsense"],
    )
    def test_no_limit_is_none(self, groups: Groups, own: str, files: dict[str, str]) -> None:
        assert groups(own, files) == (None, None)

    def test_a_use_that_cannot_be_read(self, groups: Groups) -> None:
        assert groups("0::/\n", {"memory.max": "100"}) == (100, None)

    def test_no_such_files(self, tmp_path: Path) -> None:
        assert host.read_cgroup(tmp_path / "none", tmp_path / "none") == (None, None)


@contextmanager
def running(*command: str, folder: Path | None = None, **variables: str) -> Iterator[int]:
    """A Python process that waits; gives its pid once it runs."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env={name: text for name, text in os.environ.items() if name != "JPY_SESSION_NAME"} | variables,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.kill()


WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


class TestDescribeProcess:
    def test_a_script_by_its_file_name(self, tmp_path: Path) -> None:
        script = tmp_path / "train.py"
        script.write_text(WAIT)
        with running("-u", "-W", "ignore", str(script), "--epochs", "3") as pid:
            name, detail = processes.describe_process(pid)
        assert name is not None
        assert "python" in name
        assert detail == "train.py"

    def test_a_module(self, tmp_path: Path) -> None:
        (tmp_path / "serve.py").write_text(WAIT)
        with running("-m", "serve", folder=tmp_path) as pid:
            assert processes.describe_process(pid)[1] == "serve"

    def test_code_given_as_text_is_not_shown(self) -> None:
        with running("-c", WAIT) as pid:
            name, detail = processes.describe_process(pid)
        assert name is not None
        assert detail is None

    @on_linux
    @pytest.mark.parametrize(
        ("session", "detail"),
        [
            ("/home/ada/work/Fine tuning.ipynb", "Fine tuning.ipynb"),
            ("RTC:shared.ipynb", "shared.ipynb"),
            ("C:\\work\\nb.ipynb", "nb.ipynb"),
            ("", "Jupyter kernel"),
            (None, "Jupyter kernel"),
            ("a\nb\x1b[31m.ipynb", r"a b\x1b[31m.ipynb"),
            ("n" * 200 + ".ipynb", "n" * 79 + "…"),
        ],
    )
    def test_a_kernel_by_its_notebook(self, tmp_path: Path, session: str | None, detail: str) -> None:
        (tmp_path / "ipykernel_launcher.py").write_text(WAIT)
        variables = {} if session is None else {"JPY_SESSION_NAME": session}
        with running("-m", "ipykernel_launcher", "-f", "kernel-1.json", folder=tmp_path, **variables) as pid:
            assert processes.describe_process(pid)[1] == detail

    def test_a_notebook_does_not_name_the_scripts_that_it_starts(self, tmp_path: Path) -> None:
        script = tmp_path / "train.py"
        script.write_text(WAIT)
        with running(str(script), "ipykernel", JPY_SESSION_NAME="nb.ipynb") as pid:
            assert processes.describe_process(pid)[1] == "train.py"

    def test_one_that_has_ended(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        assert processes.describe_process(process.pid) == (None, None)

    @on_linux
    def test_one_that_has_ended_but_was_not_waited_for(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.describe_process(process.pid)[1] is None
        process.wait()

    @pytest.mark.parametrize("pid", [-1, 1 << 31, (1 << 32) - 1, 1 << 70])
    def test_a_pid_that_cannot_be(self, pid: int) -> None:
        assert processes.describe_process(pid) == (None, None)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
    def test_a_kernel_of_another_user_keeps_its_notebook_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "ipykernel_launcher.py").write_text(WAIT)
        with running("-m", "ipykernel_launcher", folder=tmp_path, JPY_SESSION_NAME="mine.ipynb") as pid:
            assert processes.describe_process(pid)[1] == "mine.ipynb"
            code = f"""
import json, os, psutil
from nb_oomhelper.memory.processes import describe_process
os.setuid(65534)
print(json.dumps(describe_process({pid})))
"""
            name, detail = in_a_process(code)
        assert "python" in name
        assert detail == "Jupyter kernel"

    @on_linux
    def test_pids_of_a_container_are_not_the_drivers(self) -> None:
        code = "from nb_oomhelper.memory.processes import sees_driver_pids; print(sees_driver_pids())"
        command = [
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            sys.executable,
            "-c",
            code,
        ]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            pytest.skip("unshare is not installed")
        if result.returncode:
            pytest.skip(f"this machine lends no pid namespace: {result.stderr.strip()}")
        assert result.stdout == "False\n"


class TestTrim:
    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps freed pages as it likes")
    def test_freed_pages_go_back(self) -> None:
        code = """
import json
import mmap
from nb_oomhelper.remedies.releasing import trim
from nb_oomhelper.memory.host import read_host
blocks = [bytearray(60_000) for _ in range(3_000)]
last = blocks.pop()
blocks.clear()
before = read_host().this_process
trim()
print(json.dumps(before - read_host().this_process))
"""
        assert in_a_process(code) > 100 * MIB

    def test_without_ctypes_or_the_function_it_does_nothing(self) -> None:
        code = """
import sys
from nb_oomhelper.remedies.releasing import trim
sys.modules["ctypes"] = None
print("true" if trim() is None else "false")
"""
        assert in_a_process(code) is True


# -- room for large files, and what is mapped of them ----------------------------------------------------------------


def test_a_folder_for_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "ext4"), (str(tmp_path / "memory"), "tmpfs"), (str(tmp_path / "memory" / "disk"), "xfs")]
    partitions = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: partitions)
    for folder in ("memory/disk", "plain", "work"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    for temporary, expected in (
        ("plain", str(tmp_path / "plain")),
        ("memory", str(tmp_path / "work")),  # what lies there takes the memory that it is to spare
        ("memory/disk", str(tmp_path / "memory" / "disk")),
        ("not there", str(tmp_path / "work")),
    ):
        monkeypatch.setattr("tempfile.gettempdir", lambda place=temporary: str(tmp_path / place))
        found, free = disk.scratch()
        assert found == expected, temporary
        assert free is not None
        assert free > 0
    monkeypatch.setattr("os.access", lambda *_: False)
    assert disk.scratch() == (None, None)


def test_files_that_are_mapped(tmp_path: Path) -> None:
    assert disk.mapped_files(str(tmp_path)) == 0
    (tmp_path / "a file").write_bytes(b"x" * (1 << 20))
    beside = tmp_path.with_name(f"{tmp_path.name}x")
    beside.mkdir()
    (beside / "file").write_bytes(b"x" * (1 << 20))
    with (tmp_path / "a file").open("rb") as one, (beside / "file").open("rb") as other:
        with mmap.mmap(one.fileno(), 0, access=mmap.ACCESS_READ), mmap.mmap(other.fileno(), 0, access=mmap.ACCESS_READ):
            assert disk.mapped_files(str(tmp_path)) == 1 << 20
        assert disk.mapped_files(str(tmp_path)) == 0
