"""Errors that only a text tells of: each once, with its place and its process."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb_oomhelper.errors import UsageError
from nb_oomhelper.failure import documents
from nb_oomhelper.failure.documents import MOST, read_file, read_pasted
from nb_oomhelper.failure.told import read_told
from nb_oomhelper.records.told import Reading, Spot, Told

pytestmark = pytest.mark.plain

GIB = 1 << 30
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB of which 1.20 GiB is free."
)
OTHER = CUDA.replace("2.00", "3.00").replace("GPU 0", "GPU 1")
ARRAY = "Unable to allocate 8.00 TiB for an array with shape (1099511627776,) and data type float64"


def read(text: str) -> Reading:
    return read_told(read_pasted(textwrap.dedent(text)))


def one(text: str) -> Told:
    (told,) = read(text).found
    return told


SCRIPT = f"""\
epoch 1 loss 3.2
Traceback (most recent call last):
  File "/home/me/train.py", line 12, in <module>
    main()
  File "/home/me/train.py", line 7, in step
    loss.backward()
    ^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/site-packages/torch/_tensor.py", line 525, in backward
    torch.autograd.backward(
  File "/usr/lib/python3.11/contextlib.py", line 81, in inner
    return func(*args, **kwds)
torch.OutOfMemoryError: {CUDA}
bye
"""

NEWER = f"""\
---------------------------------------------------------------------------
OutOfMemoryError                          Traceback (most recent call last)
Cell In[5], line 3
      1 x = 1
----> 3 train(model)

Cell In[4], line 7, in train(model)
      6 try:
----> 7     model(b)
      8 except MemoryError: pass

File /opt/lib/python3.11/site-packages/torch/nn/modules/module.py:1553, in Module._call_impl(self, *args)
   1551 return self._call_impl(*args, **kwargs)

OutOfMemoryError: {CUDA}
"""

OLDER = f"""\
RuntimeError                              Traceback (most recent call last)
<ipython-input-5-0123456> in <module>
      1 x = 1
----> 3 train(model)

~/work/layers.py in forward(self, x)
   1551 return self._call_impl(*args, **kwargs)
-> 1552     return x @ x
RuntimeError: {CUDA}
"""


def test_a_scripts_traceback() -> None:
    told = one(SCRIPT)
    assert told.spot == Spot(line=12)
    assert (told.file, told.event.function, told.event.line) == ("/home/me/train.py", "step", 7)
    assert (told.event.phase, told.event.stage, told.event.exception_type) == (
        "train",
        "backward",
        "torch.OutOfMemoryError",
    )
    assert (told.event.requested, told.event.device) == (2 * GIB, 0)


@pytest.mark.parametrize(
    ("text", "line", "file", "function", "at"),
    [
        (NEWER, 15, "<ipython-input-4>", "train", 7),
        (NEWER.replace("Cell In[4], line 7, in train", "Input In [4], in train"), 15, "<ipython-input-4>", "train", 7),
        (OLDER, 9, "~/work/layers.py", "forward", 1552),
    ],
)
def test_ipythons_tracebacks_of_all_versions(text: str, line: int, file: str, function: str, at: int) -> None:
    told = one(text)
    assert (told.spot.line, told.file, told.event.function, told.event.line) == (line, file, function, at)
    assert told.event.requested == 2 * GIB


def test_colors_are_no_part_of_it() -> None:
    colored = NEWER.replace("OutOfMemoryError", "\x1b[0;31mOutOfMemoryError\x1b[0m").replace("2.00", "2\x1b[39m.00")
    assert one(colored) == one(NEWER)


@pytest.mark.parametrize("kind", ["MemoryError", "numpy.core._exceptions._ArrayMemoryError: " + ARRAY, CUDA])
def test_a_line_alone(kind: str) -> None:
    assert one(kind).spot == Spot(line=1)


def test_what_a_log_says_after_an_error_is_not_its_message() -> None:
    assert one("MemoryError\nKilled\n").event.certainty == "sure"


def test_a_class_that_tells_by_itself_does_not_make_an_error_of_the_next_line() -> None:
    told = one("torch.OutOfMemoryError: Allocation on device 0\nepoch 2\n")
    assert (told.spot.line, told.event.device) == (1, 0)


def test_a_message_may_begin_below_the_class() -> None:
    told = one(f"RuntimeError: training failed:\n{CUDA}\n")
    assert (told.event.exception_type, told.event.requested, told.spot.line) == ("RuntimeError", 2 * GIB, 2)


def test_code_that_names_an_error_raises_none() -> None:
    code = """
        Traceback (most recent call last):
          File "a.py", line 3, in f
            except MemoryError:
            raise RuntimeError("CUDA out of memory")
        ValueError: no
    """
    assert read(code).found == ()


CHAIN = f"""
    Traceback (most recent call last):
      File "a.py", line 1, in f
    torch.OutOfMemoryError: {CUDA}

    During handling of the above exception, another exception occurred:

    Traceback (most recent call last):
      File "a.py", line 3, in g
    RuntimeError: it failed: {CUDA}
"""


def test_a_chain_is_one_error() -> None:
    told = one(CHAIN)
    assert (told.spot.line, told.event.function, told.times) == (4, "f", 1)


def test_a_chain_of_ipythons_is_one_error() -> None:
    second = NEWER.replace(f"OutOfMemoryError: {CUDA}", f"ValueError: it failed: {CUDA}")
    link = "\nThe above exception was the direct cause of the following exception:\n\n"
    assert one(NEWER + link + second).event.exception_type == "OutOfMemoryError"


def test_several_errors_each_once_with_its_place() -> None:
    text = f"{SCRIPT}{SCRIPT}torch.OutOfMemoryError: {OTHER}\nMemoryError\n"
    found = read(text).found
    assert [(told.spot.line, told.times) for told in found] == [(12, 2), (27, 1), (28, 1)]
    assert [told.event.requested for told in found] == [2 * GIB, 3 * GIB, None]


def test_the_same_lack_at_two_places_of_the_code_is_two_errors() -> None:
    assert len(read(SCRIPT + SCRIPT.replace("line 7", "line 8")).found) == 2


def test_a_group_names_its_members() -> None:
    text = """\
          + Exception Group Traceback (most recent call last):
          |   File "a.py", line 3, in f
          | ExceptionGroup: many (2 sub-exceptions)
          +-+---------------- 1 ----------------
            | Traceback (most recent call last):
            |   File "a.py", line 4, in g
            | MemoryError
            +---------------- 2 ----------------
            | ValueError: 3
    """
    assert one(text).event.function == "g"


@pytest.mark.parametrize(
    "before",
    [
        "2024-05-01T12:00:00.123Z ",
        "[rank1]: ",
        "(RayTrainWorker pid=12, ip=1.2.3.4) ",
        "> > ",
        "[1]<stderr>:",
        "12:00 | ERROR - ",
    ],
)
def test_what_launchers_and_logs_put_before_a_line(before: str) -> None:
    assert one(f"{before}torch.OutOfMemoryError: {CUDA}").event.exception_type == "torch.OutOfMemoryError"


REMOTE = {
    "dataloader worker": f"""
        torch.OutOfMemoryError: Caught OutOfMemoryError in DataLoader worker process 0.
        Original Traceback (most recent call last):
          File "d.py", line 5, in __getitem__
        torch.OutOfMemoryError: {CUDA}
    """,
    "ray": f"""
        ray.exceptions.RayTaskError(OutOfMemoryError): \x1b[36mray::f()\x1b[39m (pid=12, ip=192.0.2.1)
          File "a.py", line 3, in f
        torch.OutOfMemoryError: {CUDA}
    """,
    "launcher": f"""
        torch.multiprocessing.spawn.ProcessRaisedException:{" "}

        -- Process 1 terminated with the following error:
        Traceback (most recent call last):
          File "a.py", line 3, in f
        torch.OutOfMemoryError: {CUDA}
    """,
    "process pool": f'''
        concurrent.futures.process._RemoteTraceback:{" "}
        """
        Traceback (most recent call last):
          File "w.py", line 5, in work
        numpy._core._exceptions._ArrayMemoryError: {ARRAY}
        """

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "m.py", line 9, in <module>
        numpy._core._exceptions._ArrayMemoryError: {ARRAY}
    ''',
    "java": """
        Traceback (most recent call last):
          File "a.py", line 3, in <module>
        py4j.protocol.Py4JJavaError: An error occurred while calling o12.collectToPython.
        : java.lang.OutOfMemoryError: Java heap space
        \tat java.base/java.util.Arrays.copyOf(Arrays.java:1)
    """,
}  # fmt: skip


@pytest.mark.parametrize("kind", REMOTE)
def test_whose_memory_it_was(kind: str) -> None:
    assert one(REMOTE[kind]).event.remote == kind


@pytest.mark.parametrize(
    ("before", "kind", "host"),
    [
        ("(f pid=1062) ", "ray", None),
        ("(RayTrainWorker pid=1062, ip=192.0.2.1) ", "ray", "192.0.2.1"),
        ("(EngineCore_DP0 pid=1062) ", "other", None),
        ("2026-06-09 14:01:52.982 (Worker_TP0 pid=1062) ERROR 06-09 14:01:52 [core.py:1136] ", "other", None),
    ],
)
@pytest.mark.parametrize("traceback", ['Traceback (most recent call last):\n  File "a.py", line 3, in f', "log"])
def test_the_process_that_printed_a_line_is_the_one_that_ran_out(
    before: str, kind: str, host: str | None, traceback: str
) -> None:
    lines = [*traceback.split("\n"), f"RuntimeError: {CUDA}"]
    event = one("\n".join(before + line for line in lines)).event
    assert event.worker is not None
    assert (event.remote, event.worker.pid, event.worker.host) == (kind, 1062, host)


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("distributed.utils - ERROR - std::bad_alloc: out_of_memory: CUDA error at: pool.hpp:183", "dask"),
        (
            f"torch.OutOfMemoryError: {CUDA}\n[2023-07-04 17:31:27] [INFO] [launch.py:315:sigkill_handler] Killing 41",
            "launcher",
        ),
        ("java.lang.Exception: Dataset create call failed with error: std::bad_alloc", "java"),
    ],
)
def test_a_log_tells_whose_memory_it_was(text: str, remote: str) -> None:
    assert one(text).event.remote == remote


def test_a_bare_exception_is_one() -> None:
    told = one("Exception: text: Cannot load ./labels.bin due to an extension that failed to allocate the memory")
    assert told.event.exception_type == "Exception"


def test_a_cell_without_a_call_in_ipythons_older_tracebacks() -> None:
    told = one(
        f"""\
        MemoryError                               Traceback (most recent call last)
        <ipython-input-3-6e91213> in <module>
        ----> 3 dummies = pd.get_dummies(frame)

        ~\\lib\\site-packages\\pandas\\reshape.py in get_dummies(data, prefix)
        -> 1005         dummy_mat = np.eye(number)

        MemoryError: {ARRAY}
        """
    )
    assert told.event.requested == 8 << 40


def test_the_rest_of_a_message_is_no_further_error() -> None:
    told = one(CUDA.replace("memory. ", "memory. \n").replace("CUDA", "HIP"))
    assert told.event.backend == "hip"


def test_a_line_of_javas_is_none_of_pythons() -> None:
    told = one(
        "24/05/01 10:00:00 INFO Executor: start\njava.lang.OutOfMemoryError: Java heap space\n\tat a.b(C.java:1)"
    )
    assert (told.event.remote, told.event.exception_type, told.spot.line) == ("java", "", 2)


def test_two_errors_in_a_row_are_not_one_of_another_process() -> None:
    found = read("MemoryError\nTraceback (most recent call last):\n  File 'a.py', line 1\nValueError: x").found
    assert [told.event.remote for told in found] == [None]


@pytest.mark.parametrize("width", [20, 40, 79])
def test_a_wrapped_text(width: int) -> None:
    words = textwrap.wrap(f"{'step 3 ' * 100}RuntimeError: {CUDA} {'x ' * 500}", width)
    (told,) = read("\r\n".join(words)).found
    assert (told.event.requested, told.event.capacity) == (2 * GIB, round(23.65 * GIB))
    assert "CUDA out" in " ".join(words[told.spot.line - 1 : told.spot.line + 1])


@pytest.mark.parametrize("lines", range(30, 50))
def test_a_message_may_lie_anywhere_between_other_lines(lines: int) -> None:
    text = ["step 3 took 4 s"] * lines + textwrap.wrap(CUDA, 30) + ["done"] * 60
    (told,) = read("\n".join(text)).found
    assert (told.spot.line, told.event.capacity, told.times) == (lines + 1, round(23.65 * GIB), 1)
    assert told.event.message.startswith("CUDA")


SAYS = {
    "xgboost": "[10:00:00] Memory allocation error on worker 0: x\n- Free memory: 1000\n- Requested memory: 2000",
    "pytorch": CUDA,
    "numpy": ARRAY,
    "tensorflow": "OOM when allocating tensor with shape[10,20] and type float on /job:localhost/device:GPU:0",
    "jax": "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1073741824 bytes.",
}


@pytest.mark.parametrize("order", list(itertools.permutations(SAYS)), ids="-".join)
def test_errors_of_several_frameworks_come_in_the_order_of_their_lines(order: tuple[str, ...]) -> None:
    found = read("\n".join(SAYS[name] for name in order)).found
    assert [told.event.framework for told in found] == list(order)
    assert [told.event.requested for told in found] == [read(SAYS[name]).found[0].event.requested for name in order]


def test_what_a_program_says_once_more_in_other_words_is_no_further_error() -> None:
    told = one(
        """\
        [10:00:00] Memory allocation error on worker 0: bad alloc
        - Free memory: 1000
        - Requested memory: 2000
        terminate called after throwing an instance of 'thrust::system::system_error'
        what():  cudaErrorMemoryAllocation
        """
    )
    assert (told.event.framework, told.event.requested) == ("xgboost", 2000)


@pytest.mark.parametrize("marks", ["`", "**", "```"])
def test_marks_of_code_and_bold_text_are_no_part_of_a_line(marks: str) -> None:
    text = f'{marks}Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x = x * 9\nMemoryError {marks}'
    assert (one(text).event.format, one(text).event.line) == ("python.memory", 3)


def test_memory_that_was_to_be_pinned_is_the_hosts() -> None:
    text = SCRIPT.replace(CUDA, "CUDA error: out of memory").replace("torch/_tensor.py", "torch/utils/data/x.py")
    assert one(text).event.backend == "cuda"
    assert one(text.replace("in inner", "in pin_memory")).event.format == "pt.pinned"
    assert one(text.replace("in inner", "in pin_memory")).event.backend == "host"


def test_what_cuda_has_logged_before_a_program_says_it_is_the_same_error() -> None:
    told = one(
        """\
        E cuda_driver.cc:771] failed to alloc 2147483648 bytes unified memory; result: CUDA_ERROR_OUT_OF_MEMORY
        E pjrt_client.cc:85] Execution failed: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4096 bytes.
        """
    )
    assert (told.event.framework, told.event.requested) == ("jax", 4096)


def test_an_error_within_a_traceback_of_an_unknown_log() -> None:
    lines = ["Traceback (most recent call last):", '  File "a.py", line 3', f"RuntimeError: {CUDA}"]
    text = "\n".join(f"[job:ERRR] {line}" for line in lines)
    assert one(text).event.requested == 2 * GIB


def test_what_stands_before_a_traceback_on_its_line() -> None:
    text = f'RuntimeError("{CUDA}")Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x = 1\n'
    assert one(text).event.requested == 2 * GIB


def test_what_only_speaks_of_it_yields_to_an_error() -> None:
    words = "retrying after CUDA out of memory"
    assert one(words).event.certainty == "probable"
    assert one(f"{words}\n{SCRIPT}").event.certainty == "sure"


def test_no_match_tells_what_could_be_read() -> None:
    reading = read("we held 3.0 GiB\nand 17 MB\nValueError: nope\n")
    assert (reading.found, reading.lines) == ((), 3)
    assert reading.others == (("ValueError", Spot(line=3)),)
    assert reading.sizes == (("3.0 GiB", Spot(line=1)), ("17 MB", Spot(line=2)))


# -- files -----------------------------------------------------------------------------------------------------------


def in_file(folder: Path, data: bytes, name: str = "train.log") -> Reading:
    path = folder / name
    path.write_bytes(data)
    return read_told(read_file(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    (told,) = in_file(tmp_path, f"内存不足\r\nRuntimeError: {CUDA}\r\n".encode(encoding)).found
    assert (told.spot.line, told.event.requested) == (2, 2 * GIB)


def test_a_traceback_that_was_cut_before_its_last_line_was_begun_with_its_class() -> None:
    cut = OLDER.replace("RuntimeError", "MemoryError", 1).partition("\n\n")[0] + "\n"
    assert one(cut).event.format == "python.memory"
    assert one(cut + "and what came then\nwas another thing").event.requested is None
    assert one(cut + "MemoryError: " + ARRAY).event.requested == 8 << 40
    assert one(cut + "MemoryError: ").event.requested is None
    glued = f"ResourceExhaustedError{OLDER[OLDER.index('Traceback') :].rpartition('RuntimeError')[0]}"
    assert one(glued).event.format == "tf.class"


def test_a_traceback_that_a_servers_log_has_indented() -> None:
    indented = SCRIPT.partition("Traceback")[2].partition("torch.Out")[0]
    lines = f"Traceback{indented}MemoryError".splitlines()
    log = "\n".join(
        ("[E 11:17:51 App] Unhandled error", *(f"\t    {line}" for line in lines), "[I 11:17:52 App] Saved")
    )
    told = one(log)
    assert (told.event.format, told.event.certainty, told.file) == ("python.memory", "sure", "/home/me/train.py")


def test_numbers_of_lines_and_names_and_times_of_a_batch_service() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/build/join.py", line 34, in <module>',
        "    main()",
        "MemoryError",
    ]
    text = "\n".join(
        f"    {number} [batch] [2022-12-12T20:50:46+01:00] {line}" for number, line in enumerate(lines, 459)
    )
    assert one(text).event.format == "python.memory"
    assert one(text).event.line == 34


def test_what_a_program_says_in_two_lines_is_one_error() -> None:
    told = one(
        """\
        [E] Error[2]: OutOfMemory (no further information)
        [E] Requested amount of GPU memory (4194304 bytes) could not be allocated.
        """
    )
    assert told.event.requested == 4 << 20


def test_a_log_that_was_cut_while_it_was_written_begins_with_zeros(tmp_path: Path) -> None:
    assert in_file(tmp_path, bytes(1 << 20) + SCRIPT.encode()).found


@pytest.mark.parametrize("data", [bytes(range(256)) * 64 + bytes(9000), b"\x7fELF" + bytes(60) + b"\1\0\0\2" * 999])
def test_a_binary_file_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no text"):
        in_file(tmp_path, data)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None])
def test_what_is_no_file_is_refused(make: object, tmp_path: Path) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(UsageError, match="is no file"):
        read_file(tmp_path / "x")


@pytest.mark.thorough
def test_of_a_huge_text_the_end_is_read_and_its_lines_are_counted(tmp_path: Path) -> None:
    line = b"epoch 1\n"
    count = 3 * MOST // len(line)
    (told,) = (reading := in_file(tmp_path, line * count + f"RuntimeError: {CUDA}\n".encode())).found
    assert told.spot.line == count + 1
    assert MOST <= reading.skipped <= 2 * MOST + 100


def cell(*outputs: Mapping[str, object], count: int | None = 1) -> dict[str, object]:
    return {"cell_type": "code", "execution_count": count, "outputs": list(outputs), "source": ["raise MemoryError"]}


def book(*cells: Mapping[str, object]) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}).encode()


ERROR = {"output_type": "error", "ename": "OutOfMemoryError", "evalue": CUDA, "traceback": NEWER.splitlines()}
PANEL = {"output_type": "display_data", "data": {"text/plain": f"RuntimeError: {CUDA}"}}


def test_a_notebook_tells_the_cell(tmp_path: Path) -> None:
    markdown = {"cell_type": "markdown", "source": "MemoryError"}
    stderr = {"output_type": "stream", "name": "stderr", "text": ["epoch 1\n", f"RuntimeError: {OTHER}\n"]}
    found = in_file(tmp_path, book(markdown, cell(ERROR, PANEL, count=7), cell(stderr, count=None)), "a.ipynb").found
    assert [told.spot for told in found] == [Spot(line=15, cell=2, count=7), Spot(line=2, cell=3)]
    assert found[0].event.function == "train"


def test_a_huge_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST", 1 << 16)
    stream = {"output_type": "stream", "name": "stdout", "text": "epoch 1 loss 3.2\n" * (1 << 18)}
    data = book(cell(stream), cell(ERROR, count=2))
    (told,) = in_file(tmp_path, data, "long.ipynb").found
    assert told.spot.cell == 2
    monkeypatch.setattr(documents, "_NOTEBOOK", 1 << 17)
    (told,) = (reading := in_file(tmp_path, data, "long.ipynb")).found  # as the text that its end is
    assert told.event.requested == 2 * GIB
    assert reading.skipped > 1 << 16


def test_an_error_without_its_traceback(tmp_path: Path) -> None:
    bare = {**ERROR, "traceback": []}
    assert in_file(tmp_path, book(cell(bare)), "a.ipynb").found[0].event.requested == 2 * GIB


def test_equal_errors_of_two_cells_are_two(tmp_path: Path) -> None:
    assert len(in_file(tmp_path, book(cell(ERROR), cell(ERROR)), "a.ipynb").found) == 2


def test_a_notebook_of_version_3(tmp_path: Path) -> None:
    old = {"cell_type": "code", "prompt_number": 4, "outputs": [{**ERROR, "output_type": "pyerr"}]}
    data = json.dumps({"nbformat": 3, "worksheets": [{"cells": [old]}]}).encode()
    assert in_file(tmp_path, data, "a.ipynb").found[0].spot == Spot(line=15, cell=1, count=4)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_damaged_notebook_is_read_as_text(indent: int | None, tmp_path: Path) -> None:
    damaged = json.dumps(json.loads(book(cell(ERROR))), indent=indent)[:-40].encode()
    (told,) = in_file(tmp_path, damaged, "a.ipynb").found
    assert told.event.requested == 2 * GIB
    assert indent is None or told.event.exception_type == "OutOfMemoryError"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"cells": 3}',
        b'{"cells": [3, {"outputs": "x"}, {"outputs": [3, {}]}]}',
        b"[" * 99999,
    ],
)
def test_odd_notebooks(data: bytes, tmp_path: Path) -> None:
    assert in_file(tmp_path, data, "a.ipynb").found == ()


# -- whatever it is ----------------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        SCRIPT,
        NEWER,
        OLDER,
        CHAIN,
        *REMOTE.values(),
        CUDA,
        "MemoryError",
        '"""',
        "-----------",
        "\r",
        "\x1b[31m",
        "| ",
        "\x00",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS | st.text(max_size=30), max_size=12))
def test_nothing_breaks_it(parts: list[str]) -> None:
    for joint in ("", "\n", " "):
        text = joint.join(parts)
        found = read_told(read_pasted(text)).found
        assert all(1 <= told.spot.line <= text.count("\n") + 1 for told in found)
