"""`%oom`, `%gpumem` and `%%gpumem`, in every form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nb_oomhelper.showing.case_record import MIME
from tests.conftest import StartKernel
from tests.kernel.cells import (
    CASE,
    CUDA,
    FAIL,
    LOAD,
    LOADER,
    MIB,
    SETUP,
    VIEW,
    Panel,
    run_of,
    shown,
    start_busy,
    wait_for,
)
from tests.kernel.conftest import SharedKernel
from tests.kernel.driver import Kernel

pytestmark = pytest.mark.kernel

BROKEN = {
    "%oom nonsense": "%oom does not know 'nonsense'; it knows: fix, entry",
    "%oom 'open": "No closing quotation",
    "%oom status now": "%oom status [--traceback]: unrecognized arguments: now",
    "%oom fix": "wants the number of a fix",
    "%oom fix x": "wants the number of a fix",
    "%oom fix 1 2": "wants the number of a fix",
    "%oom fix -1": "wants the number of a fix",
    "%oom fix 99": "there is no fix 99",
    "%oom fix 0 --yes": "there is no fix 0",
    "%oom export": "the following arguments are required: FILE",
    "%oom export no/such/folder/x.json": "cannot be written",
    "%oom release --no-such": "%oom release [--deep] [--history]",
    "%oom release no_such_name": "no variable called no_such_name",
    "%oom entry --lang": "[--lang en|zh]: argument --lang: expected one argument",
    "%oom entry --lang fr": "[--lang en|zh]: argument --lang: invalid choice: 'fr'",
    "%oom entry CUDA-OOM-001 --xml": "%oom entry CODE",
    "%oom entry CUDA-OOM-001 --json --markdown": "%oom entry CODE",
    "%oom entry NO-SUCH-1": "there is no entry 'NO-SUCH-1'",
    "%oom entry --new no/such/folder/x.toml": "cannot be written",
    "%oom entry --new --json": "%oom entry CODE",
    "%oom trust": "no fixes from outside the package",
    "%oom trust no/such/folder": "no/such/folder holds no file of a fix: fixes/*.toml",
    "%oom trust pyproject.toml": "holds no file of a fix",
}


@pytest.fixture
def kernel(shared: SharedKernel) -> Kernel:
    """The file's kernel of each pair, with the extension and memory for two arrays."""
    kernel = shared("magics")
    if not kernel.eval("'huge' in globals()"):
        for code in (LOAD, "%config OOMHelper.refresh_seconds = 0.2", SETUP, "import nb_oomhelper"):
            assert kernel.execute(code).status == "ok"
        assert kernel.execute("%oom").stdout == "no out-of-memory error since nb_oomhelper was loaded\n"
        assert kernel.execute("%oom fix 1").stdout == "no out-of-memory error since nb_oomhelper was loaded\n"
        kernel.execute("huge()")
    kernel.execute("globals().pop('numbers', None)\nnb_oomhelper.release(deep=True, history=True);")
    assert kernel.execute("limit(370 << 20)").status == "ok"
    return kernel


class TestOom:
    def test_stats(self, kernel: Kernel, tmp_path: Path) -> None:
        (table,) = kernel.execute("%oom stats").displays
        assert "advice suite, host memory" in table["data"]["text/plain"]
        kernel.execute(f"%oom stats --export {tmp_path}/stats.json")
        assert json.loads((tmp_path / "stats.json").read_text("utf-8"))["fixes"]

    @pytest.mark.parametrize("line", BROKEN)
    def test_what_makes_no_sense_is_one_line(self, kernel: Kernel, line: str) -> None:
        reply = kernel.execute(line)
        assert (reply.status, reply.stderr, reply.displays) == ("ok", "", [])
        assert BROKEN[line] in reply.stdout
        assert len(reply.stdout.splitlines()) == 1

    def test_shows_the_last_panel_again(self, kernel: Kernel, tmp_path: Path) -> None:
        first = kernel.execute(FAIL)
        reply = kernel.execute("%oom")
        assert set(shown(reply)[0]) == {VIEW, "text/html", "text/plain", MIME}
        panel = Panel(kernel, reply)
        assert panel.root == Panel(kernel, first).root  # the same panel, at two places
        assert panel.text.count("freed") == 0
        kernel.execute("%oom fix 1")
        assert "freed" in panel.text  # what a magic has run is seen in the panel, too
        panel.unfold()
        assert "[✓ Only the fix]" in panel.buttons
        assert "freed" in shown(kernel.execute("%oom"))[0]["text/plain"]  # it tells what was done, too
        assert "oom.json" in kernel.execute(f"%oom export {tmp_path}/oom.json").stdout
        assert json.loads((tmp_path / "oom.json").read_text("utf-8"))["outcomes"]
        kernel.execute(f"%oom export --anonymize {tmp_path}/oom.md")
        assert (tmp_path / "oom.md").read_text("utf-8").startswith("# Host memory exhausted")

    def test_a_new_entry(self, kernel: Kernel, tmp_path: Path) -> None:
        kernel.execute(FAIL)
        file = tmp_path / "entries" / "mine.toml"
        file.parent.mkdir()
        assert f"written: {file}" in kernel.execute(f"%oom entry --new {file}").stdout
        assert f"{file} is there already" in kernel.execute(f"%oom entry --new {file}").stdout
        assert kernel.execute("%oom entry --new").stdout == file.read_text("utf-8")
        kernel.execute(f"%config OOMHelper.knowledge_dir = {str(tmp_path)!r}")
        kernel.execute(FAIL)
        others = "get_ipython()._nb_oomhelper.case.choice.others"
        assert "MINE-001" in kernel.eval(f"[one.entry.code for one in {others}]")
        kernel.execute("%config OOMHelper.knowledge_dir = ''")

    def test_fix(self, kernel: Kernel) -> None:
        kernel.execute(FAIL)
        before = kernel.eval("resident()")
        lines = kernel.execute("%oom fix 1").stdout.splitlines()
        assert before - kernel.eval("resident()") > 240 * MIB
        assert lines[0].startswith("Release the failed cell: freed 25")
        assert lines[1] == "Predicted: 256 MiB."
        assert lines[2].startswith("That is enough for the failed request of 128 MiB now")
        assert kernel.eval("get_ipython().history_manager.input_hist_raw[-1]") == "%oom fix 1"
        again = kernel.execute("%oom fix 1")
        assert again.status == "ok"
        assert again.stdout.startswith("Release the failed cell: ")  # a little more or less, by chance

    def test_plan(self, kernel: Kernel, tmp_path: Path) -> None:
        header = json.dumps({"x.weight": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 1 << 22]}}).encode()
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + (1 << 22))
        text = kernel.execute(f"%oom plan {tmp_path} --dtype auto").mime("text/plain")[0]
        assert f"{tmp_path}: 4.00 MiB on disk (float32 4.00 MiB), from the files' headers" in text
        assert re.search(r"Load it in 16 bits +– +2\.00 MiB +– +(✓ fits|\? tight)", text), text
        kernel.execute(f"WHERE = {str(tmp_path)!r}")
        assert json.loads(kernel.execute("%oom plan WHERE --json").stdout)["checkpoint"]["size"] == 4 * MIB
        assert "no such file or folder" in kernel.execute("%oom plan nothing/here").stdout
        for wrong in ("", "a b", "x --device", "x --device one", "--dtype auto"):
            assert kernel.execute(f"%oom plan {wrong}").stdout.startswith("%oom plan MODEL [--device N | --engines]")

    def test_release(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nnumbers")
        kernel.execute("limit(370 << 20)")
        for line, least in (("", 250), ("--history", 250), ("--deep numbers", 310)):
            kernel.execute(FAIL)
            before = kernel.eval("resident()")
            reply = kernel.execute(f"%oom release {line}")
            assert "freed" in reply.stdout
            assert before - kernel.eval("resident()") > least * MIB
        assert kernel.eval("[len(Out), 'numbers' in globals()]") == [0, False]
        kernel.execute("a = b = c = 1")
        kernel.execute("%oom release a --deep b --history c")  # on both sides of an option
        assert kernel.eval("[name in globals() for name in 'abc']") == [False] * 3

    def test_unsafe_fix_wants_yes(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nlimit(370 << 20)")
        kernel.execute(FAIL)
        numbers = dict(kernel.eval(f"[[plan.fix, plan.number] for plan in {CASE}.plans]"))
        line = f"%oom fix {numbers['delete-variable']}"
        reply = kernel.execute(line)
        assert "nb_oomhelper.release(names=['numbers'])" in reply.stdout
        assert "What it costs: `numbers`" in reply.stdout
        assert f"To run it: {line} --yes" in reply.stdout
        assert kernel.eval(f"['numbers' in globals(), len({CASE}.outcomes)]") == [True, 0]
        assert "freed 3" in kernel.execute(f"{line} --yes").stdout
        assert not kernel.eval("'numbers' in globals()")
        kernel.execute("limit(370 << 20)")
        kernel.execute(FAIL)
        numbers = dict(kernel.eval(f"[[plan.fix, plan.number] for plan in {CASE}.plans]"))
        assert "freed" in kernel.execute(f"%oom fix --yes {numbers['release-failed-cell']}").stdout

    def test_entry(self, kernel: Kernel) -> None:
        reply = kernel.execute("%oom entry CUDA-OOM-001")
        assert set(reply.displays[0]["data"]) == {"text/plain", "text/markdown"}
        assert reply.mime("text/markdown")[0].startswith("# CUDA-OOM-001 · A Hugging Face model")
        assert kernel.execute("%oom entry cuda-oom-001 --markdown").stdout.startswith("# CUDA-OOM-001")
        assert json.loads(kernel.execute("%oom entry CUDA-OOM-001 --json").stdout)["fix_rate"] == 88
        assert "显存不足" in kernel.execute("%oom entry CUDA-OOM-001 --lang zh").mime("text/markdown")[0]
        assert "显存不足" in kernel.execute("%oom entry --lang zh --markdown CUDA-OOM-001").stdout
        assert kernel.execute("%oom entry").stdout.startswith("CUDA-OOM-001  A Hugging Face model")
        assert "加载" in kernel.execute("%oom entry --lang zh").stdout
        assert "CUDA-OOM-001" in kernel.execute("%oom entry offload hugging").mime("text/plain")[0]

    def test_language(self, kernel: Kernel) -> None:
        kernel.execute(FAIL)
        kernel.execute("%config OOMHelper.language = 'zh'")
        try:
            assert "主机内存不足" in shown(kernel.execute("%oom"))[0]["text/plain"]
            assert "释放了" in kernel.execute("%oom fix 1").stdout
            assert kernel.execute("%oom fix 99").stdout.startswith("没有第 99 个修复方法；最近的面板有 ")
            assert "语言：zh（设置：zh）" in kernel.execute("%oom status").stdout
        finally:
            kernel.execute("%config OOMHelper.language = 'auto'")
        assert "language: en (setting: auto)" in kernel.execute("%oom status").stdout

    def test_status(self, kernel: Kernel) -> None:
        lines = dict(line.split(": ", 1) for line in kernel.execute("%oom status").stdout.splitlines())
        assert lines["exception handler"] == "in place"
        assert lines["live readout"] == "every 0.2 s, for 10 minutes"
        assert lines["history"].endswith("nb_oomhelper/history.sqlite")
        assert re.match(r"\d\d entries, ", lines["knowledge"])
        assert "last problem" not in lines

    def test_cuda_error_whose_call_is_known(self, kernel: Kernel) -> None:
        reply = kernel.execute(LOADER)
        text = Panel(kernel, reply).text
        assert "CUDA out of memory cuda:0 · 8.00 GiB" in text
        assert "The cell asked for 2.00 GiB; 205 MiB was free: 1.80 GiB too little." in text
        assert "a smaller batch: the error came while a model was loading" in text
        assert "CUDA-OOM-001" not in text  # what the notebook itself calls from_pretrained may load anything
        assert CUDA in reply.evalue


class TestGpumem:
    def test_table(self, kernel: Kernel) -> None:
        (row,) = kernel.execute("%gpumem").displays
        assert set(row["data"]) == {"text/plain", "text/html"}
        assert "host" in row["data"]["text/plain"]
        assert "<table" in row["data"]["text/html"]
        assert "limited by RLIMIT_AS" in row["data"]["text/plain"]

    def test_json(self, kernel: Kernel) -> None:
        (host,) = [
            row for row in json.loads(kernel.execute("%gpumem --json").stdout)["devices"] if row["device"] == "host"
        ]
        assert abs(host["rest"] - kernel.eval("resident()")) < 16 * MIB
        assert host["allocated"] is None

    def test_device_that_is_not_there(self, kernel: Kernel) -> None:
        told = json.loads(kernel.execute("%gpumem -i 7 --json").stdout)
        assert [row["device"] for row in told["devices"]] == ["host"]
        assert told["note"].startswith("there is no GPU 7 that the driver shows")
        assert "there is no GPU 0" in kernel.execute("%gpumem -i 0").mime("text/plain")[0]

    def test_by_variable(self, kernel: Kernel) -> None:
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)\nlimit(370 << 20)")
        kernel.execute(FAIL)
        text = kernel.execute("%gpumem --by-variable").mime("text/plain")[0]
        assert "numbers" in text
        assert "64.0 MiB" in text
        assert "256 MiB" in text

    def test_by_variable_where_there_is_nothing(self, start_kernel: StartKernel, kernel_python: Path) -> None:
        kernel = start_kernel(kernel_python)
        kernel.execute(LOAD)
        reply = kernel.execute("%gpumem --by-variable")
        assert reply.stdout.startswith("Nothing keeps a tensor or an array here")
        assert reply.displays == []
        assert kernel.execute("%gpumem --by-variable --json").stdout.strip() == "[]"
        kernel.execute("%config OOMHelper.language = 'zh'")
        assert kernel.execute("%gpumem --by-variable").stdout.startswith("这里没有")

    @pytest.mark.parametrize("line", ["%gpumem -i x", "%gpumem --no-such", "%gpumem more words"])
    def test_what_makes_no_sense(self, kernel: Kernel, line: str) -> None:
        reply = kernel.execute(line)
        assert reply.stderr.startswith("UsageError: ")

    def test_live(self, kernel: Kernel, go_on: Path) -> None:
        reply = kernel.execute("%gpumem --live")
        model_id = reply.displays[0]["data"][VIEW]["model_id"]
        assert "\n[####" in reply.displays[0]["data"]["text/plain"]  # for a console, which shows no widgets
        values: set[str] = set()
        # more than glibc keeps for itself (32 MiB), so that what is mapped goes up and down
        grow = "kept = [] if len(kept) > 4 else [*kept, numpy.empty(40 << 20, numpy.uint8)]"
        cell = start_busy(kernel, go_on, grow=grow)

        def follow() -> bool:
            values.add(kernel.widgets[model_id]["value"])
            return len(values) >= 3

        wait_for(kernel, follow)
        assert all("oomh-bar" in value for value in values)
        go_on.touch()
        kernel.finish(cell)
        panel = kernel.execute("huge()")  # one thing is live at a time
        assert "stopped at" in kernel.widgets[model_id]["value"]
        wait_for(kernel, lambda: "live, every" in Panel(kernel, panel).text)

    def test_bars_that_have_ended_stay_as_they_were_read(self, kernel: Kernel) -> None:
        kernel.execute("%config OOMHelper.live_minutes = 0")
        try:
            model_id = kernel.execute("%gpumem --live").displays[0]["data"][VIEW]["model_id"]
            wait_for(kernel, lambda: "stopped at" in kernel.widgets[model_id]["value"])
        finally:
            kernel.execute("%config OOMHelper.live_minutes = 10")
        last = kernel.widgets[model_id]["value"]
        kernel.execute("numbers = numpy.ones(64 << 20, numpy.uint8)")
        kernel.execute("huge()")  # its panel takes their place
        assert kernel.widgets[model_id]["value"] == last

    def test_help(self, kernel: Kernel) -> None:
        for name, words in (
            ("gpumem", ("%%gpumem", "--json", "-i", "--live")),
            ("oom", ("fix N", "entry CODE", "status")),
        ):
            inspected = kernel.eval(f"get_ipython().object_inspect_mime('%{name}', 0)['text/plain']")
            assert all(word in inspected for word in words), inspected
            assert kernel.execute(f"%{name}?").status == "ok"

    @pytest.mark.parametrize("flag", ["-h", "--help"])
    def test_help_of_the_subcommands(self, kernel: Kernel, flag: str) -> None:
        """It is printed, and neither ends the kernel nor runs anything."""
        names = ("fix", "entry", "release", "plan", "status")
        told = kernel.execute(f"%oom {flag}")
        assert (told.status, told.stderr) == ("ok", "")
        assert told.stdout.startswith("usage: %oom ")
        assert all(f"\n    {name} " in told.stdout for name in names)
        for name in names:
            told = kernel.execute(f"%oom {name} 1 {flag} --no-such")
            assert (told.status, told.stderr, told.displays) == ("ok", "", [])
            assert told.stdout.startswith(f"usage: %oom {name}")


class TestMeteredCell:
    def test_tells_peak_and_change_and_gives_the_value(self, kernel: Kernel) -> None:
        reply = kernel.execute("%%gpumem\nnumbers = numpy.ones(64 << 20, numpy.uint8)\nnumbers.size")
        assert reply.stdout.startswith("host, seen every 0.1 s: peak ")
        assert "change +64." in reply.stdout
        assert reply.mime("text/plain") == [str(64 << 20)]
        assert kernel.eval("numbers.size") == 64 << 20
        ended = [kernel.execute(f"{magic}\n1 + 1;").mime("text/plain") for magic in ("%%gpumem", "%%time")]
        assert ended[0] == ended[1]  # nothing; IPython 7 shows the value all the same
        assert kernel.execute("%%gpumem\nvalue = 1").displays == []
        assert kernel.execute("%%gpumem\n%time value = 2\nvalue").mime("text/plain") == ["2"]
        assert kernel.execute("%%gpumem\nfrom __future__ import annotations\n# nothing").status == "ok"

    def test_error_passes_on(self, kernel: Kernel) -> None:
        reply = kernel.execute("%%gpumem\ndef f():\n    return 1 / 0\nf()")
        assert (reply.status, reply.ename) == ("error", "ZeroDivisionError")
        assert reply.stdout.startswith("host, seen every")
        assert reply.kinds.index("stream") < reply.kinds.index("error")
        assert "return" in "".join(reply.traceback)  # the cell's own lines are in the traceback

    def test_out_of_memory_has_its_panel(self, kernel: Kernel) -> None:
        reply = kernel.execute(f"%%gpumem\n{FAIL}")
        assert reply.status == "error"
        assert len(shown(reply)) == 1
        panel = Panel(kernel, reply)
        assert "still held by the failed cell: batch, outputs (train_step" in panel.text
        panel.only(run_of(panel, "release-failed-cell"))
        assert "freed 25" in panel.text
        kernel.execute(f"{FAIL.split('(')[0]} = lambda size: 'small enough'")
        again = panel.click("Run the cell again")
        assert "finished without an error" in panel.text
        assert again.stdout.startswith("host, seen every")
        kernel.execute(SETUP)

    @pytest.mark.parametrize("cell", ["x = = 1", "x = 1\nawait x", "def f(:"])
    def test_code_that_does_not_compile_runs_not_at_all(self, kernel: Kernel, cell: str) -> None:
        kernel.execute("globals().pop('x', None)")
        reply = kernel.execute(f"%%gpumem\n{cell}")
        assert (reply.status, reply.ename, reply.stdout) == ("error", "SyntaxError", "")
        assert not kernel.eval("'x' in globals()")


def test_a_pasted_text_is_explained_beside_the_live_panel(kernel: Kernel) -> None:
    case = kernel.eval(f"id({CASE})")
    reply = kernel.execute(f"%%oom explain\nRuntimeError: {CUDA}")
    assert reply.stdout == "One out-of-memory error in the text (lines read: 1).\n"
    (bundle,) = [row["data"] for row in reply.displays]
    assert "What to do" in bundle["text/html"]
    assert "It asked for 2.00 GiB" in bundle["text/plain"]
    assert VIEW not in bundle
    assert kernel.eval(f"id({CASE})") == case
