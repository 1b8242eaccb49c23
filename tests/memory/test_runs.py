"""How a kernel ended: the file that it leaves, and what control groups count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.memory.kills import Group, read_group
from nb_oomhelper.memory.processes import started_at
from nb_oomhelper.memory.runs import Ended, Run, path_of, take_ended, this_run, write_run
from nb_oomhelper.showing.ended_text import say_ended

pytestmark = pytest.mark.plain

GIB = 1 << 30
GROUP = Group(path="/sys/fs/cgroup", kills=2, peak=4 * GIB, limit=4 * GIB)


def own(cell: int = 3, group: Group | None = GROUP) -> Run:
    run = this_run(cell, group)
    assert run is not None
    return run


def dead(**changes: Any) -> Run:
    """A run of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return replace(own(), **{"pid": process.pid, **changes})


def left(run: Run, folder: Path) -> Path:
    path = path_of(run, folder / "runs")
    write_run(run, path)
    return path


def taken(folder: Path, group: Group | None = GROUP) -> list[Ended]:
    return take_ended(Path.cwd(), folder / "runs", group)


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_kernel_that_ended_is_told_once(tmp_path: Path) -> None:
    run = dead()
    left(run, tmp_path)
    assert [ended.run for ended in taken(tmp_path)] == [run]
    assert taken(tmp_path) == []
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_kernel_that_lives_is_left_alone(tmp_path: Path) -> None:
    path = left(own(), tmp_path)
    assert taken(tmp_path) == []
    assert path.exists()


def test_another_process_with_its_number_is_not_it(tmp_path: Path) -> None:
    left(replace(own(), started=1.0), tmp_path)
    assert len(taken(tmp_path)) == 1


def test_a_process_that_nobody_has_waited_for_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(process.pid) is None
    process.wait()
    process.stdout.close()


def test_several_kernels_of_one_folder(tmp_path: Path) -> None:
    first, second = dead(begun=1.0, cell=1), dead(begun=2.0, cell=2)
    for run in (second, own(), first):
        left(run, tmp_path)
    assert [ended.run.cell for ended in taken(tmp_path)] == [1, 2]


@pytest.mark.parametrize("changes", [{"folder": "/elsewhere"}, {"host": "another"}])
def test_other_folders_and_machines_are_not_spoken_for(changes: dict[str, Any], tmp_path: Path) -> None:
    path = left(dead(**changes), tmp_path)
    assert taken(tmp_path) == []
    assert path.exists()


def test_before_the_machines_last_start_nobody_lives(tmp_path: Path) -> None:
    left(replace(own(), boot="before"), tmp_path)
    (ended,) = taken(tmp_path)
    assert ended.killed is None


BROKEN = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b"[" * 9000, b'"x"']


@pytest.mark.parametrize("data", BROKEN)
def test_a_damaged_file_is_taken_away_and_tells_nothing(data: bytes, tmp_path: Path) -> None:
    path = left(dead(), tmp_path)
    path.write_bytes(data)
    assert taken(tmp_path) == []
    assert not path.exists()


@pytest.mark.parametrize("name", sorted(asdict(own())))
@pytest.mark.parametrize("value", [[], {}, "missing"])
def test_a_field_of_another_kind(name: str, value: object, tmp_path: Path) -> None:
    table = asdict(dead())
    if value == "missing":
        del table[name]
    else:
        table[name] = value
    left(dead(), tmp_path).write_text(json.dumps(table))
    assert taken(tmp_path) == []


def test_a_folder_that_is_not_there_or_is_a_file(tmp_path: Path) -> None:
    assert taken(tmp_path) == []
    (tmp_path / "runs").write_text("")
    assert taken(tmp_path) == []
    with pytest.raises(OSError, match="runs"):
        left(own(), tmp_path)


def test_no_half_of_a_file_is_left_behind(tmp_path: Path) -> None:
    path = path_of(own(), tmp_path)
    path.mkdir(parents=True)
    (path / "in the way").touch()
    with pytest.raises(OSError):  # noqa: PT011
        write_run(own(), path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


# -- what is proved --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "killed"),
    [
        (GROUP, 0),
        (replace(GROUP, kills=5), 3),
        (replace(GROUP, kills=1), None),  # it was made anew
        (replace(GROUP, path="/another"), None),
        (replace(GROUP, kills=None), None),
        (None, None),
    ],
)
def test_the_killed_since_the_cell_began(now: Group | None, killed: int | None, tmp_path: Path) -> None:
    left(dead(), tmp_path)
    (ended,) = taken(tmp_path, now)
    assert ended.killed == killed
    assert (ended.limit is None) == (killed is None)


@pytest.mark.parametrize(
    ("killed", "words"),
    [(0, "ended for another reason"), (1, "probably among them"), (None, "Why is not known")],
)
def test_no_more_is_said_than_is_proved(killed: int | None, words: str) -> None:
    run = replace(own(), notebook="train.ipynb", read=own().begun + 12.3, resident=3 * GIB)
    text = "\n".join(say_ended(Ended(run=run, killed=killed), "en"))
    assert "(train.ipynb) ended in the middle of cell [3]" in text
    assert "12 s after the cell had begun, it held 3.00 GiB of host memory" in text
    assert words in text
    assert "GPU" not in text


def test_the_limit_was_reached_or_not() -> None:
    near, far = Ended(run=own(), killed=0, peak=4 * GIB, limit=4 * GIB), Ended(run=own(), peak=GIB, limit=4 * GIB)
    assert "its limit was reached" in say_ended(near, "en")[-1]
    assert "1.00 GiB of its 4.00 GiB" in say_ended(far, "en")[-1]
    gpu = replace(own(), allocated=2 * GIB)
    assert "2.00 GiB on GPUs" in say_ended(Ended(run=gpu), "en")[1]


# -- control groups --------------------------------------------------------------------------------------------------


def groups(folder: Path, own_lines: str, files: dict[str, str]) -> Group | None:
    (folder / "self").write_text(own_lines)
    for name, text in files.items():
        path = folder / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_group(folder / "self", folder / "fs")


def test_version_2(tmp_path: Path) -> None:
    files = {
        "pod/memory.events": "low 0\nhigh 0\nmax 17\noom 4\noom_kill 3\noom_group_kill 0\n",
        "pod/memory.peak": "4194304\n",
        "pod/memory.max": "max\n",
        "memory.max": "8388608\n",
    }
    found = groups(tmp_path, "0::/pod\n", files)
    assert found == Group(path=str(tmp_path / "fs/pod"), kills=3, peak=4 << 20, limit=8 << 20)


def test_version_1(tmp_path: Path) -> None:
    files = {
        "memory/pod/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "memory/pod/memory.max_usage_in_bytes": "4194304\n",
        "memory/pod/memory.limit_in_bytes": "4194304\n",
        "memory/memory.limit_in_bytes": f"{(1 << 63) - 4096}\n",
    }
    found = groups(tmp_path, "5:cpu:/pod\n4:memory:/pod\n", files)
    assert found == Group(path=str(tmp_path / "fs/memory/pod"), kills=1, peak=4 << 20, limit=4 << 20)


@pytest.mark.parametrize("files", [{}, {"memory.events": "oom_kill many\n"}, {"memory.events": "oom 3\n"}])
def test_a_group_that_does_not_count(files: dict[str, str], tmp_path: Path) -> None:
    assert groups(tmp_path, "0::/\n", files) is None
