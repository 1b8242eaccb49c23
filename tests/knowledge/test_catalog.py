"""What is loaded, what a person's own files change, and what is chosen for an event."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.knowledge.packaged import kept_as, pack, packaged
from nb_oomhelper.records.diagnosis import Cause, CauseKind, Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent, Phase
from nb_oomhelper.showing.entry_page import to_json

pytestmark = pytest.mark.plain

PACKAGED = resources.files("nb_oomhelper.knowledge")
ENTRY_FILE = (PACKAGED / "entries/CUDA-OOM-001.toml").read_text("utf-8")
FIX_FILE = (PACKAGED / "fixes/delete-variable.toml").read_text("utf-8")
CATALOG = load_catalog()
CODES = [entry.code for entry in CATALOG.entries]
GIB = 1 << 30
LOADER = FailedCall(loader="AutoModel.from_pretrained", module="transformers", model="'gpt2'", target="model")


def event(
    framework: str = "pytorch", backend: str = "cuda", phase: Phase = "load", call: FailedCall | None = None
) -> OomEvent:
    return OomEvent(
        framework=framework,
        backend=backend,
        phase=phase,
        call=call,
        exception_type="torch.OutOfMemoryError",
        message="CUDA out of memory.",
        format="pt.cuda.capacity",
    )


def cause(kind: CauseKind) -> Cause:
    return Cause(kind=kind, size=1 << 30)


def diagnosis(*kinds: CauseKind) -> Diagnosis:
    return Diagnosis(requested=GIB, free=0, capacity=None, short=GIB, causes=tuple(cause(kind) for kind in kinds))


def own_entry(code: str = "MINE-1", entry_id: str = "mine/one", **changes: str) -> str:
    text = ENTRY_FILE.replace('"CUDA-OOM-001"', f'"{code}"').replace("llm/huggingface-model-load-oom-on-cpu", entry_id)
    for key, value in changes.items():
        line = f"{key} = {value}".replace("\\", r"\\")
        text = re.sub(rf"(?m)^{key} = .*$", line, text, count=1)
    return text


@pytest.fixture
def user_dir(tmp_path: Path) -> Path:
    for kind in ("entries", "fixes"):
        (tmp_path / kind).mkdir()
    return tmp_path


class TestPackaged:
    def test_whole_and_without_problems(self) -> None:
        assert len(CATALOG.entries) == len(
            list(resources.files("nb_oomhelper.knowledge").joinpath("entries").iterdir())
        )
        assert [entry.code for entry in CATALOG.entries] == sorted(entry.code for entry in CATALOG.entries)
        assert len(CATALOG.fixes) == len(list(resources.files("nb_oomhelper.knowledge").joinpath("fixes").iterdir()))
        assert CATALOG.problems == ()

    def test_a_damaged_installation_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resources, "files", lambda _: tmp_path)
        with pytest.raises(KnowledgeError, match="packaged entries cannot be read"):
            load_catalog()
        (tmp_path / "entries").mkdir()
        with pytest.raises(KnowledgeError, match="packaged entries are missing"):
            load_catalog()
        (tmp_path / "entries" / "a.toml").write_text("code = 1", "utf-8")
        with pytest.raises(KnowledgeError, match=r"entries/a\.toml: code: must be a text, not 1"):
            load_catalog()
        (tmp_path / "entries" / "a.toml").write_bytes(b"\xff")
        with pytest.raises(KnowledgeError, match="packaged entries cannot be read"):
            load_catalog()

    def test_records_that_were_kept_count_for_their_files_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the wheel's hook writes; a folder stands for the installed package."""
        file = tmp_path / "fixes" / "a.toml"
        file.parent.mkdir()
        file.write_text(FIX_FILE, "utf-8")
        monkeypatch.setattr(resources, "files", lambda _: tmp_path)
        kept = tmp_path / kept_as("fixes")
        data = pack("fixes")
        read = packaged("fixes")
        marked = data.replace(b"delete-variable", b"delete-variablx")
        assert marked != data
        kept.write_bytes(marked)
        assert [fix.id for fix in packaged("fixes").values()] == ["delete-variablx"]  # it is what was kept
        for damaged in (marked[:-20], marked[:32], marked[32:], b"", b"\x80"):
            kept.write_bytes(damaged)
            assert packaged("fixes") == read
        kept.write_bytes(marked)
        file.write_text(f"{FIX_FILE}\n", "utf-8")
        assert packaged("fixes") == read


class TestUserDir:
    def test_need_not_exist(self, tmp_path: Path) -> None:
        assert load_catalog(tmp_path / "nowhere") == CATALOG

    def test_may_be_empty(self, user_dir: Path) -> None:
        assert load_catalog(user_dir) == CATALOG

    def test_adds(self, user_dir: Path) -> None:
        (user_dir / "entries" / "mine.toml").write_text(own_entry(), "utf-8")
        (user_dir / "fixes" / "mine.toml").write_text(FIX_FILE.replace("delete-variable", "mine"), "utf-8")
        catalog = load_catalog(user_dir)
        assert [entry.code for entry in catalog.entries] == sorted([*CODES, "MINE-1"])
        assert [fix.id for fix in catalog.fixes if fix.order >= 60][:3] == [
            "delete-variable",
            "mine",
            "stop-other-process",
        ]
        assert catalog.problems == ()

    def test_the_same_id_replaces(self, user_dir: Path) -> None:
        (user_dir / "entries" / "x.toml").write_text(ENTRY_FILE.replace("fix_rate = 88", "fix_rate = 5"), "utf-8")
        (user_dir / "fixes" / "x.toml").write_text(FIX_FILE.replace("order = 60", "order = 1"), "utf-8")
        catalog = load_catalog(user_dir)
        assert catalog.entry("CUDA-OOM-001").fix_rate == 5
        assert len(catalog.entries) == len(CATALOG.entries)
        assert catalog.fixes[0].id == "delete-variable"
        assert len(catalog.fixes) == len(CATALOG.fixes)
        assert catalog.problems == ()

    def test_what_is_own_is_named_so(self, user_dir: Path) -> None:
        (user_dir / "entries" / "x.toml").write_text(ENTRY_FILE, "utf-8")
        (user_dir / "fixes" / "x.toml").write_text(FIX_FILE, "utf-8")
        (user_dir / "fixes" / "y.toml").write_text(FIX_FILE.replace("delete-variable", "mine"), "utf-8")
        catalog = load_catalog(user_dir)
        entry, fix = user_dir / "entries" / "x.toml", user_dir / "fixes" / "x.toml"
        assert catalog.replaced == (f"entry {CATALOG.entries[0].id} by {entry}", f"fix delete-variable by {fix}")
        assert catalog.entries[0].origin == entry
        origins = {one.id: one.origin for one in catalog.fixes if one.origin}
        assert origins == {"delete-variable": fix, "mine": user_dir / "fixes" / "y.toml"}
        assert to_json(catalog.entries[0]) == to_json(CATALOG.entries[0])

    def test_a_relative_folder_is_refused(self, user_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would lead into the working folder, and a notebook of somebody else's may come with one."""
        (user_dir / "fixes" / "x.toml").write_text(FIX_FILE, "utf-8")
        monkeypatch.chdir(user_dir.parent)
        catalog = load_catalog(Path(user_dir.name))
        (problem,) = catalog.problems
        assert problem == f"knowledge_dir: {user_dir.name!r} is refused: it must be an absolute path, or begin with ~"
        assert replace(catalog, problems=()) == CATALOG

    def test_reads_what_windows_editors_write(self, user_dir: Path) -> None:
        data = b"\xef\xbb\xbf" + own_entry().replace("\n", "\r\n").encode()
        (user_dir / "entries" / "mine.toml").write_bytes(data)
        catalog = load_catalog(user_dir)
        assert catalog.problems == ()
        assert catalog.entry("mine-1").title == CATALOG.entries[0].title

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"\xff\xfe", "entries/bad.toml: is not UTF-8 text: byte 0 ends it"),
            (b"", "entries/bad.toml: code: is missing"),
            (b"code =", "entries/bad.toml: Invalid value"),
            (own_entry(fix_rate="200").encode(), "entries/bad.toml: fix_rate: must be a whole number from 0 to 100"),
            (own_entry(rate='"a"').encode(), "entries/bad.toml: workarounds[1].rate: must be a whole number"),
            (b"#" * (1 << 20) + b"\n", "entries/bad.toml: is larger than 1.00 MiB"),
            (own_entry("CUDA-OOM-001").encode(), "entry mine/one: code: CUDA-OOM-001 already belongs to llm/"),
        ],
    )
    def test_a_broken_file_is_left_out_and_nothing_else(self, user_dir: Path, data: bytes, problem: str) -> None:
        (user_dir / "entries" / "bad.toml").write_bytes(data)
        (user_dir / "entries" / "good.toml").write_text(own_entry("GOOD-1", "mine/good"), "utf-8")
        catalog = load_catalog(user_dir)
        assert [entry.code for entry in catalog.entries] == sorted([*CODES, "GOOD-1"])
        assert catalog.entries[0] == CATALOG.entries[0]
        assert catalog.fixes == CATALOG.fixes
        assert len(catalog.problems) == 1
        assert catalog.problems[0].startswith(problem)
        assert "\n" not in catalog.problems[0]

    def test_a_broken_fix_is_left_out(self, user_dir: Path) -> None:
        text = FIX_FILE.replace("$names_literal", "[$nmae_literal]")
        (user_dir / "fixes" / "bad.toml").write_text(text, "utf-8")
        catalog = load_catalog(user_dir)
        assert catalog.fixes == CATALOG.fixes
        assert catalog.problems == (
            "fixes/bad.toml: code: uses $nmae_literal, which a fix about 'variable' does not have",
        )

    def test_a_film_is_not_read_to_its_end(self, user_dir: Path) -> None:
        with (user_dir / "fixes" / "film.toml").open("wb") as film:
            film.truncate(50 << 20)
        assert load_catalog(user_dir).problems == ("fixes/film.toml: is larger than 1.00 MiB",)

    def test_what_is_no_file(self, user_dir: Path) -> None:
        (user_dir / "entries" / "a.toml").mkdir()
        (user_dir / "entries" / "b.toml").symlink_to(user_dir / "nowhere")
        os.mkfifo(user_dir / "entries" / "c.toml")
        (user_dir / "entries" / "notes.txt").write_text("not looked at", "utf-8")
        names = ("a", "b", "c")
        assert load_catalog(user_dir).problems == tuple(f"entries/{name}.toml: is not a file" for name in names)

    def test_what_cannot_be_read(self, user_dir: Path) -> None:
        """Root may read everything, so no mode of a file would do: the first page of this one belongs to nobody."""
        (user_dir / "entries" / "secret.toml").symlink_to("/proc/self/mem")
        assert load_catalog(user_dir).problems == ("entries/secret.toml: cannot be read: Input/output error",)

    def test_a_file_in_place_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "entries").write_text("", "utf-8")
        catalog = load_catalog(tmp_path)
        assert catalog.entries == CATALOG.entries
        assert catalog.problems == ("entries: cannot be read: Not a directory",)

    def test_two_files_with_one_id(self, user_dir: Path) -> None:
        for name in ("a", "b"):
            (user_dir / "entries" / f"{name}.toml").write_text(own_entry(f"MINE-{name}", "Mine/One"), "utf-8")
        catalog = load_catalog(user_dir)
        assert catalog.problems == ("entries/b.toml: id: 'Mine/One' is already in another file of this folder",)
        assert len(catalog.entries) == len(CATALOG.entries) + 1

    def test_references_that_lead_nowhere_are_told_and_kept(self, user_dir: Path) -> None:
        (user_dir / "entries" / "mine.toml").write_text(own_entry(fix='"relaod"'), "utf-8")
        fix = FIX_FILE.replace("delete-variable", "mine").replace("order = 60", 'order = 60\nentry="X"\nclaimed_rate=1')
        (user_dir / "fixes" / "mine.toml").write_text(fix, "utf-8")
        catalog = load_catalog(user_dir)
        assert len(catalog.entries) == len(CATALOG.entries) + 1
        assert len(catalog.fixes) == len(CATALOG.fixes) + 1
        assert catalog.problems == (
            "entry MINE-1: workarounds[1].fix: there is no fix 'relaod'",
            "fix mine: entry: there is no entry 'X'",
        )

    def test_problems_are_short_lines(self, user_dir: Path) -> None:
        (user_dir / "entries" / "a\nb.toml").write_text(own_entry(domain=f'"x"\n"{"k" * 5_000}" = 1'), "utf-8")
        (problem,) = load_catalog(user_dir).problems
        assert problem.startswith("entries/a b.toml: 'kkk")
        assert len(problem) <= 301


class TestChoose:
    @pytest.mark.parametrize(
        ("framework", "backend", "phase", "call", "expected"),
        [
            ("pytorch", "cuda", "load", LOADER, ("match", ())),
            ("pytorch", "hip", "load", LOADER, ("related", ("backend",))),
            ("pytorch", "cuda", "unknown", LOADER, ("related", ("phase",))),
            ("pytorch", "cuda", "load", None, None),  # nothing tells of what the load was
            ("pytorch", "cuda", "train", None, None),
            ("numpy", "host", "load", None, None),
            ("jax", "cuda", "load", None, None),
        ],
    )
    def test_relation(
        self,
        framework: str,
        backend: str,
        phase: Phase,
        call: FailedCall | None,
        expected: tuple[str, tuple[str, ...]] | None,
    ) -> None:
        best = CATALOG.choose(event(framework, backend, phase, call)).best
        assert (best and (best.entry.code, best.relation, best.differs)) == (expected and ("CUDA-OOM-001", *expected))

    def test_where_none_fits_it_is_told_what_was_read(self) -> None:
        found = CATALOG.choose(event(phase="train"), diagnosis("stale_optimizer"))
        assert found.best is None
        assert dict(found.read) == {
            "framework": "pytorch",
            "backend": "cuda",
            "phase": "train",
            "format": "pt.cuda.capacity",
            "cause": "stale_optimizer",
        }

    def test_runners_up_come_with_what_speaks_against_them(self) -> None:
        found = CATALOG.choose(event(phase="train"), diagnosis("failed_cell"))
        assert found.best is not None
        assert (found.best.entry.code, found.best.relation) == ("CUDA-OOM-007", "related")
        against = {one.entry.code: one.differs for one in CATALOG.choose(event(), diagnosis("graph", "copies")).others}
        assert against["CUDA-OOM-005"] == ("phase",)

    @pytest.mark.parametrize(
        ("size", "short", "expected"),
        [(GIB, GIB, "CUDA-OOM-015"), (GIB, GIB + 1, None), (None, GIB, "CUDA-OOM-015"), (GIB, None, None)],
    )
    def test_a_cause_must_explain_what_is_missing(self, size: int | None, short: int | None, expected: str) -> None:
        causes = (Cause(kind="other_process", size=size),)
        reading = Diagnosis(requested=GIB, free=0, capacity=None, short=short, causes=causes)
        best = CATALOG.choose(event(phase="train"), reading).best
        assert (best and best.entry.code) == expected

    @pytest.mark.parametrize(
        ("causes", "expected"),
        [
            (("limit", "output_history"), "CUDA-OOM-004"),
            (("limit", "failed_cell"), "HOST-OOM-010"),
            (("limit", "variable"), None),  # which the cell may need
            (("limit",), "HOST-OOM-002"),
        ],
    )
    def test_a_limit_explains_where_nothing_else_does(self, causes: tuple[CauseKind, ...], expected: str) -> None:
        best = CATALOG.choose(event("numpy", "host", "unknown"), diagnosis(*causes)).best
        assert (best and best.entry.code) == expected

    def test_another_processs_error_is_not_explained_by_this_ones_memory(self) -> None:
        remote = replace(event(phase="train"), remote="ray")
        best = CATALOG.choose(remote, diagnosis("failed_cell")).best
        assert best is not None
        assert best.entry.code == "CUDA-OOM-070"

    @pytest.mark.parametrize("cell", ["out = model.generate(x)", "out = call('generate')", "f(generate=1)"])
    def test_names_of_the_cell(self, cell: str) -> None:
        best = CATALOG.choose(event(phase="infer"), diagnosis("failed_cell"), cell).best
        assert best is not None
        assert (best.entry.code, best.relation) == ("CUDA-OOM-010", "related")

    @pytest.mark.parametrize("cell", ["", "def (", "# model.generate(x)\nrun()", "'to generate a text'"])
    def test_what_is_no_name_of_the_cell(self, cell: str) -> None:
        assert CATALOG.choose(event(phase="infer"), diagnosis("failed_cell"), cell).best is None

    def test_a_mistake_that_was_found_goes_before_what_the_cell_has_made(self) -> None:
        train, made = event(phase="train"), diagnosis("failed_cell")
        assert [CATALOG.choose(train, made, mends=mends).best for mends in ((), ("no-grad",), ("unheard-of",))] == [
            CATALOG.choose(train, made).best
        ] * 3  # these tell of no mistake in the code
        best = CATALOG.choose(train, made, mends=["release-failed-cell", "append-detached", "backward-once"]).best
        assert best is not None
        assert (best.entry.code, best.relation) == ("CUDA-OOM-005", "match")

    @pytest.mark.parametrize("mends", ["smaller-batch-cell", "append-detached"])
    def test_a_change_of_the_code_does_not_go_before_what_explains_all(self, mends: str) -> None:
        best = CATALOG.choose(event(phase="train"), diagnosis("other_process", "failed_cell"), mends=[mends]).best
        assert best is not None
        assert best.entry.code == "CUDA-OOM-015"

    def test_of_two_mistakes_with_graphs_the_code_tells_which(self) -> None:
        best = CATALOG.choose(event(phase="train"), diagnosis("graph"), mends=["backward-once"]).best
        assert best is not None
        assert (best.entry.code, best.relation) == ("CUDA-OOM-052", "match")

    def test_what_is_better_than_a_change_of_the_code_goes_before_it(self) -> None:
        for mends, expected in ((["float32"], "HOST-OOM-010"), (["delete-variable", "float32"], None)):
            best = CATALOG.choose(event("numpy", "host", "unknown"), diagnosis("variable"), mends=mends).best
            assert (best and best.entry.code) == expected

    def test_a_mistake_does_not_go_before_what_explains_all(self) -> None:
        best = CATALOG.choose(event(phase="train"), diagnosis("other_process"), mends=["float32"]).best
        assert best is not None
        assert best.entry.code == "CUDA-OOM-015"

    def test_the_larger_of_what_the_cell_and_the_variables_hold_counts(self) -> None:
        for cell, variable, expected in ((2 * GIB, GIB, "CUDA-OOM-007"), (GIB, 2 * GIB, None)):
            causes = (Cause(kind="failed_cell", size=cell), Cause(kind="variable", size=variable))
            reading = Diagnosis(requested=GIB, free=0, capacity=None, short=GIB, causes=causes)
            best = CATALOG.choose(event(phase="train"), reading).best
            assert (best and best.entry.code) == expected

    def test_of_two_that_are_only_likely_none_is_named(self) -> None:
        found = CATALOG.choose(event(phase="unknown"), diagnosis("graph"))
        assert found.best is None
        assert {one.entry.code for one in found.others} >= {"CUDA-OOM-005", "CUDA-OOM-006"}

    def test_two_that_fit_as_well_are_not_sure(self, user_dir: Path) -> None:
        for name in ("a", "b"):
            (user_dir / "entries" / f"{name}.toml").write_text(own_entry(f"MINE-{name}", f"mine/{name}"), "utf-8")
        found = load_catalog(user_dir).choose(event(call=LOADER))
        assert found.best is not None
        assert (found.best.relation, found.best.differs) == ("related", ("others",))

    def test_a_persons_own_goes_first(self, user_dir: Path) -> None:
        (user_dir / "entries" / "mine.toml").write_text(own_entry(), "utf-8")
        best = load_catalog(user_dir).choose(event(call=LOADER)).best
        assert best is not None
        assert (best.entry.code, best.relation) == ("MINE-1", "match")

    def test_a_persons_own_may_be_about_all(self, user_dir: Path) -> None:
        text = own_entry(modules="[]", phases="[]", backends="[]")
        (user_dir / "entries" / "mine.toml").write_text(text, "utf-8")
        best = load_catalog(user_dir).choose(event(phase="train")).best
        assert best is not None
        assert (best.entry.code, best.relation) == ("MINE-1", "match")

    @given(st.text(), st.text(), st.sampled_from(["load", "train", "infer", "unknown"]), st.text())
    def test_never_fails(self, framework: str, backend: str, phase: Phase, cell: str) -> None:
        found = CATALOG.choose(event(framework, backend, phase), cell=cell)
        for match in (*([found.best] if found.best else []), *found.others):
            assert (match.relation == "match") == (not match.differs)


# What changes the failed cell or what it uses, and when that helps. Not in this table: what is about the allocator.
WORK = {
    fix.id: fix.phases
    for fix in CATALOG.fixes
    if fix.subject
    in ("cell", "number", "definition", "trainer", "data loader", "adam", "allocator", "mistake", "container")
}
RELOADS = [fix.id for fix in CATALOG.fixes if fix.subject == "call"]


class TestFixesFor:
    @pytest.mark.parametrize(
        ("what", "kinds", "expected"),
        [
            (event(call=LOADER), ["failed_cell"], RELOADS),
            (event(call=LOADER), [], RELOADS),
            (event(), ["too_large"], RELOADS),  # a load whose call could not be read
            (event(backend="host", call=LOADER), ["failed_cell"], RELOADS),
            (event(phase="train"), ["variable"], ["gradient-checkpointing", "delete-variable"]),
            (event(phase="train", call=LOADER), ["too_large"], ["gradient-checkpointing"]),
            (event(phase="infer"), ["output_history", "variable"], ["forget-output-history", "delete-variable"]),
            (event(phase="infer"), ["other_process"], ["stop-other-process"]),
            (event(phase="infer"), ["too_large", "limit", "fragmentation", "rest", "unnamed"], []),
            (event(phase="unknown"), ["failed_cell"], ["gradient-checkpointing"]),
            (event(phase="unknown", call=LOADER), ["limit"], [*RELOADS, "gradient-checkpointing"]),
            (
                event("numpy", "host", "unknown"),
                ["failed_cell", "variable"],
                ["delete-variable"],
            ),
            (event(call=FailedCall(loader="load", module="diffusers.pipelines")), ["too_large"], RELOADS),
        ],
    )
    def test_table(self, what: OomEvent, kinds: list[CauseKind], expected: list[str]) -> None:
        """Releasing the failed cell is always offered: it loses nothing, and may find what has no name."""
        found = [fix.id for fix in CATALOG.fixes_for(what, [cause(kind) for kind in kinds]) if fix.id not in WORK]
        assert found == ["release-failed-cell", *expected]

    @pytest.mark.parametrize("phase", ["load", "train", "infer"])
    def test_fixes_of_work_are_for_their_phase(self, phase: Phase) -> None:
        found = {fix.id for fix in CATALOG.fixes_for(event(phase=phase), []) if fix.id in WORK}
        numpys = {fix.id for fix in CATALOG.fixes if fix.frameworks == ("numpy",)}
        fitting = {one for one, phases in WORK.items() if phase in phases or not phases}
        assert found == fitting - numpys - {"expandable-segments"}


class TestLookUp:
    @pytest.mark.parametrize(
        "name", ["CUDA-OOM-001", "cuda-oom-001", " CUDA-OOM-001\n", "LLM/huggingface-model-load-oom-on-cpu"]
    )
    def test_entry(self, name: str) -> None:
        assert CATALOG.entry(name).code == "CUDA-OOM-001"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("CUDA-OOM-01", "there is no entry 'CUDA-OOM-01'; near it: CUDA-OOM-0"),
            ("huggingface-model-load", "; near it: llm/huggingface-model-load-oom-on-cpu"),
            ("zzz", r"there is no entry 'zzz'$"),
            ("", r"there is no entry ''$"),
            ("x\n" * 10_000, "there is no entry 'x x x"),
        ],
    )
    def test_no_such_entry(self, name: str, message: str) -> None:
        with pytest.raises(KnowledgeError, match=message) as raised:
            CATALOG.entry(name)
        assert len(str(raised.value)) < 500

    def test_fix(self) -> None:
        assert CATALOG.fix("delete-variable").order == 60
        with pytest.raises(KnowledgeError, match="there is no fix 'x'; there are: release-failed-cell, "):
            CATALOG.fix("x")

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", True),
            ("cuda-oom", True),
            ("HUGGINGFACE model-load", True),
            ("7.80 GiB", True),
            ("data loader", True),
            ("数据加载器", True),
            ("梯度检查点 GPU", True),
            ("reset_peak_memory_stats", True),
            ("hugging tensorflow", False),
            ("碎片化整理", False),
        ],
    )
    def test_search(self, text: str, found: bool) -> None:
        assert bool(CATALOG.search(text)) == found

    def test_those_with_the_words_in_their_names_come_first(self) -> None:
        found = [entry.code for entry in CATALOG.search("kv cache")]
        assert found[:2] == ["CUDA-OOM-010", "CUDA-OOM-034"]
        found = [entry.code for entry in CATALOG.search("checkpointing")]
        assert found[0] == "CUDA-OOM-064"
        assert len(found) > 1

    def test_nothing_to_search_in(self) -> None:
        assert Catalog(entries=(), fixes=()).search("") == ()
