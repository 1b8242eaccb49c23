"""The benchmarks run and tell what they saw. No time is judged here: a busy machine would fail it."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks import choice, detect, device, lookup, panel, run
from benchmarks.timing import Result, Side, take_turns

from nb_oomhelper.knowledge.catalog import load_catalog

ROOT = Path(__file__).parents[1]
NEEDS = {"holdings": ["torch"], "reload": ["transformers", "accelerate"]}
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.plain
class TestTurns:
    def test_sides_alternate_and_the_warm_up_does_not_count(self) -> None:
        order: list[str] = []

        def timed(name: str) -> float:
            order.append(name)
            return float(len(order))

        sides = take_turns({"a": lambda: timed("a"), "b": lambda: timed("b")}, repeats=2, warm_up=1)
        assert "".join(order) == "abbaab"
        assert sides == (Side(name="a", times=(4.0, 5.0)), Side(name="b", times=(3.0, 6.0)))

    def test_medians_and_quartiles(self) -> None:
        side = Side(name="a", times=(5.0, 1.0, 2.0, 4.0, 3.0))
        assert (side.median, side.quartiles) == (3.0, (2.0, 4.0))
        assert Side(name="a", times=(7.0,)).quartiles == (7.0, 7.0)

    def test_the_ratio_is_to_the_second_side(self) -> None:
        ours, theirs = Side(name="ours", times=(1.0,)), Side(name="theirs", times=(4.0,))
        assert Result(name="x", title="", sides=(ours, theirs)).ratio == 0.25
        assert Result(name="x", title="", sides=(ours,)).ratio is None


@pytest.mark.plain
class TestReport:
    SIDES = (Side(name="ours", times=(1.0, 1.0)), Side(name="theirs", times=(4.0, 4.0)))

    def test_text_has_unit_spread_and_ratio(self) -> None:
        text = run.to_text(Result(name="x", title="One against the other", sides=self.SIDES, goal=0.25, notes=("so",)))
        assert "[x] One against the other" in text
        assert "1.000 ms  (1.000 to 1.000, n = 2)" in text
        assert "0.25" in text
        assert "goal: a ratio of at most 0.25: met" in text
        assert text.endswith("  so")

    def test_a_missed_goal_is_called_so(self) -> None:
        assert run.to_text(Result(name="x", title="", sides=self.SIDES, goal=0.2)).endswith("missed")

    def test_what_was_skipped_tells_why(self) -> None:
        assert run.to_text(Result(name="x", title="", skipped="no device")).endswith("skipped: no device")

    def test_the_record_does_not_name_the_machine(self) -> None:
        record = run.to_record([Result(name="x", title="", sides=self.SIDES)])
        assert record["results"][0]["ratio"] == 0.25
        text = json.dumps(record)
        assert platform.node() not in text or not platform.node()
        assert str(Path.home()) not in text
        assert str(ROOT) not in text

    @pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--repeats", "0"]])
    def test_wrong_arguments(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit):
            run.main(arguments)


@pytest.mark.plain
@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_kept_results_are_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    record = json.loads(text)
    assert set(record) == {"date", "machine", "unit", "results"}
    assert path.stem.startswith(record["date"][:10])
    assert {row["name"] for row in record["results"]} >= set(run.BENCHMARKS)
    for row in record["results"]:
        assert row["skipped"] or all(side["median"] > 0 for side in row["sides"]), row["title"]
    assert "/home/" not in text


@pytest.mark.kernel
@pytest.mark.parametrize("name", [*run.BENCHMARKS, *run.ON_DEVICE])
@pytest.mark.thorough
def test_each_benchmark_runs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    monkeypatch.setattr(panel, "SIZES", (1_000,))
    monkeypatch.setattr(device, "missing", lambda: "left out of the tests")
    file = tmp_path / "result.json"
    assert run.main(["--only", name, "--repeats", "1", "--json", str(file)]) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert {row["name"] for row in rows} == {name}
    assert capsys.readouterr().out.count(f"[{name}]") == len(rows)


@pytest.mark.plain
def test_look_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MANY", 300)
    monkeypatch.setattr(lookup, "FEW", 100)
    assert lookup.main(["--repeats", "1"]) == 0
    assert capsys.readouterr().out.count("300 entries") == 2
    larger = lookup.larger(300)
    assert len({entry.code for entry in larger.entries}) == 300
    case = next(one for one in choice.situations(load_catalog()) if one.expected == "CUDA-OOM-013")
    assert choice.choose(larger, case) == choice.choose(load_catalog(), case)  # the others are about something else


@pytest.mark.plain
class TestChoice:
    def test_no_wrong_entry_is_called_the_match(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert choice.main([]) == 0
        text = capsys.readouterr().out
        assert "wrong match: 0; goal: 0" in text

    def test_a_wrong_match_is_seen(self) -> None:
        catalog = load_catalog()
        right = next(one for one in choice.situations(catalog) if one.expected == "CUDA-OOM-013")
        (verdict,) = choice.judge(catalog, [replace(right, expected="CUDA-OOM-001")])
        assert verdict.wrong_match
        lines = choice.to_text([verdict]).splitlines()
        assert "wrong match: 1; goal: 0" in lines
        assert lines[-1].split() == ["CUDA-OOM-001", "CUDA-OOM-013", "match", "1"]

    def test_a_corpus(self, tmp_path: Path) -> None:
        rows = [
            {
                "kind": "not_oom",
                "exc_type": "ValueError",
                "exc_module": None,
                "message": "no such file",
                "phase": "load",
            },
            {"kind": "oom", "exc_type": "OutOfMemoryError", "message": "CUDA out of memory.", "phase": "train"},
        ]
        path = tmp_path / "texts.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        lines = choice.read_corpus(load_catalog(), path).splitlines()
        assert [line.split() for line in lines[1:]] == [["not_oom", "not", "read", "1"], ["oom", "none", "1"]]


@pytest.mark.plain
class TestDetect:
    ROWS: tuple[dict[str, Any], ...] = (
        {
            "kind": "oom",
            "framework": "a",
            "exc_type": "OutOfMemoryError",
            "exc_module": "torch",
            "message": "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has",
            "fields": {"requested": "2.00 GiB", "device": "1"},
        },
        {
            "kind": "host_oom",
            "framework": "b",
            "exc_type": None,
            "exc_module": None,
            "message": "nothing known",
            "fields": {},
        },
        {
            "kind": "not_oom",
            "framework": "b",
            "exc_type": "MemoryError",
            "exc_module": "builtins",
            "message": "",
            "fields": {},
        },
    )

    def test_what_is_missed_and_what_is_wrong_is_told(self) -> None:
        right, missed, alarm = (detect.judge(dict(row)) for row in self.ROWS)
        assert (right.right, missed.right, alarm.right) == (True, False, False)
        assert (right.memory, right.wrong, right.fields) == (True, (), 2)
        wrong = detect.judge({**self.ROWS[0], "kind": "host_oom", "fields": {"requested": "3.00 GiB", "device": "2"}})
        assert (wrong.memory, wrong.wrong) == (False, ("requested", "device"))
        text = detect.report([right, missed, alarm])
        assert "nb_oomhelper: recall 1/2 = 50.0%, precision 50.0% (1 false)" in text
        assert "host_oom missed" in text
        assert "not_oom false alarm" in text
        assert {"oom → GPU 1", "host_oom → nothing 1", "not_oom → host 1", "b → nothing 1, python 1"} <= set(
            text.splitlines()
        )
        assert detect.table([right, missed, alarm]).splitlines()[-1] == "| all | 2 | 1 | 0 | 1 of 1 | 2 of 2 | 1 | 1 |"

    def test_both_forms_of_files_are_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lines = tmp_path / "rows.jsonl"
        lines.write_text(json.dumps(self.ROWS[0]) + "\n", encoding="utf-8")
        (tmp_path / "name.toml").write_text('[[message]]\nkind = "not_oom"\nmessage = "no"\n', encoding="utf-8")
        assert [row["framework"] for row in detect.read(tmp_path)] == ["name", "a"]
        record = tmp_path / "figures.json"
        assert detect.main([str(lines), "--json", str(record)]) == 0
        assert "recall 1/1 = 100.0%" in capsys.readouterr().out
        figures = json.loads(record.read_text(encoding="utf-8"))
        assert (figures["found"], figures["false_alarms"], figures["wrong_fields"]) == (1, 0, 0)
        assert set(figures["growth_ms"]) == {"1", "10", "100", "1000"}

    def test_the_documents_table_is_that_of_the_messages_here(self) -> None:
        judged = [detect.judge(row) for row in detect.read(ROOT / "tests" / "frameworks" / "messages")]
        assert detect.table(judged) in (ROOT / "docs" / "recognition.md").read_text("utf-8")
        assert all(one.right for one in judged)
