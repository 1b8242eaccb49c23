"""Knowledge from outside the package: what packages bring, what a person trusts, and what is left out."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.outside import GROUP, distrust, fix_files, hash_of, read_trusted, trust
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.loading.reload import study
from nb_oomhelper.remedies.planning import plan
from nb_oomhelper.showing.report import write
from tests.cases import rich_case

pytestmark = pytest.mark.plain

PACKAGED = resources.files("nb_oomhelper.knowledge")
ENTRY = (PACKAGED / "entries/CUDA-OOM-001.toml").read_text("utf-8")
ENTRY = ENTRY.replace('"CUDA-OOM-001"', '"ACME-1"').replace("llm/huggingface-model-load-oom-on-cpu", "acme/one")
FIX = (PACKAGED / "fixes/delete-variable.toml").read_text("utf-8").replace("delete-variable", "acme-delete")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with one that brings knowledge and must not be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "acme_oom", "team = acme_oom.inner.knowledge")
    (tmp_path / "acme_oom" / "__init__.py").write_text("raise SystemExit('imported')", "utf-8")
    for kind, text in (("entries", ENTRY), ("fixes", FIX)):
        folder = tmp_path / "acme_oom" / "inner" / "knowledge" / kind
        folder.mkdir(parents=True)
        (folder / "acme.toml").write_text(text, "utf-8")
    return tmp_path


def install(site: Path, name: str, *points: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *points]), "utf-8")
    (site / name).mkdir(exist_ok=True)


def keep(tmp_path: Path, *files: Path) -> Path:
    kept = tmp_path / "state" / "trusted.json"
    trust(kept, {hash_of(file.read_bytes()): file for file in files})
    return kept


# -- packages --------------------------------------------------------------------------------------------------------


def test_what_a_package_brings_is_read_without_importing_it(site: Path) -> None:
    catalog = load_catalog()
    inner = site / "acme_oom" / "inner" / "knowledge"
    assert catalog.problems == ()
    assert catalog.entry("ACME-1").origin == inner / "entries" / "acme.toml"
    assert catalog.fix("acme-delete").origin == inner / "fixes" / "acme.toml"
    assert "acme_oom" not in sys.modules


def test_a_persons_own_stands_before_what_a_package_brings(site: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "entries" / "mine.toml"
    own.parent.mkdir(parents=True)
    own.write_text(ENTRY, "utf-8")
    catalog = load_catalog(tmp_path / "own")
    assert catalog.entry("ACME-1").origin == own
    assert catalog.replaced == (f"entry acme/one by {own}",)


@pytest.mark.parametrize(
    "point", ["bad = no_such_package.knowledge", "bad = acme_oom.nowhere", "bad = json", "bad = ..."]
)
def test_an_entry_point_that_leads_nowhere_is_one_line(site: Path, point: str) -> None:
    install(site, "broken", point)
    catalog = load_catalog()
    (problem,) = catalog.problems
    assert problem == f"entry point {point}: there is no folder with entries/ or fixes/"
    assert catalog.entry("ACME-1")


def test_a_bad_file_is_one_line_and_the_others_load(site: Path) -> None:
    folder = site / "acme_oom" / "inner" / "knowledge" / "entries"
    (folder / "bad.toml").write_text(ENTRY.replace("ai_generated = true", 'ai_generated = "yes"'), "utf-8")
    (folder / "film.toml").write_bytes(b"#" * (10 << 20))
    (folder / "latin.toml").write_bytes("title = 'größer'".encode("latin-1"))
    problems = load_catalog().problems
    assert problems == (
        f"{folder}/bad.toml: ai_generated: must be true or false, not 'yes'",
        f"{folder}/film.toml: is larger than 1.00 MiB",
        f"{folder}/latin.toml: is not UTF-8 text: byte 11 ends it",
    )
    assert load_catalog().entry("ACME-1")


# -- trust -----------------------------------------------------------------------------------------------------------


def test_a_fix_is_only_shown_until_its_content_is_trusted(site: Path, tmp_path: Path) -> None:
    file = site / "acme_oom" / "inner" / "knowledge" / "fixes" / "acme.toml"
    fix = load_catalog().fix("acme-delete")
    assert (fix.trusted, fix.applicability) == (False, "display_only")
    kept = keep(tmp_path, file)
    fix = load_catalog(trusted=kept).fix("acme-delete")
    assert (fix.trusted, fix.applicability) == (True, "unsafe")
    file.write_text(FIX + "\n# one more line\n", "utf-8")
    assert not load_catalog(trusted=kept).fix("acme-delete").trusted


@pytest.mark.parametrize("language", get_args(Language))
def test_nothing_that_is_not_trusted_can_be_run_whatever_it_is_about(tmp_path: Path, language: Language) -> None:
    """Every packaged fix as a file of somebody else's: some take what they run from the notebook, and not from it."""
    folder = tmp_path / "fixes"
    folder.mkdir()
    for fix in (PACKAGED / "fixes").iterdir():
        (folder / fix.name).write_text(fix.read_text("utf-8"), "utf-8")
    case, catalog = rich_case(), load_catalog(tmp_path)
    load = study(case.event, case.snapshot, frozenset({"llm"}))
    case.plans = plan(catalog, case.event, case.snapshot, case.diagnosis, load)
    assert {one.fix for one in case.plans} >= {"release-failed-cell", "reload-offload", "delete-variable"}
    assert {one.applicability for one in case.plans} == {"display_only"}
    row = next(one for one in write(case, catalog, language).fixes if one.plan.fix == "reload-offload")
    assert f"`{folder / 'reload-offload.toml'}`" in row.note
    trusted = load_catalog(tmp_path, keep(tmp_path, *folder.iterdir()))
    assert {one.applicability for one in plan(trusted, case.event, case.snapshot, case.diagnosis, load)} == {
        one.applicability for one in rich_case().plans
    }


def test_the_same_content_is_trusted_wherever_it_lies(site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.toml"
    copy.write_text(FIX, "utf-8")
    assert load_catalog(trusted=keep(tmp_path, copy)).fix("acme-delete").trusted


def test_what_is_packaged_needs_no_trust() -> None:
    assert all(fix.trusted for fix in load_catalog().fixes)


def test_trust_is_taken_back(tmp_path: Path) -> None:
    files = [tmp_path / "fixes" / name for name in ("a.toml", "b.toml")]
    files[0].parent.mkdir()
    for number, file in enumerate(files):
        file.write_text(f"{FIX}# {number}", "utf-8")
    kept = keep(tmp_path, *files)
    assert set(read_trusted(kept).values()) == {str(file) for file in files}
    assert distrust(kept, [files[0]]) == 1
    assert set(read_trusted(kept).values()) == {str(files[1])}
    assert distrust(kept, [tmp_path]) == 1
    assert read_trusted(kept) == {}


def test_what_a_file_held_before_is_trusted_no_longer(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("first", "utf-8")
    keep(tmp_path, file)
    file.write_text("second", "utf-8")
    assert list(read_trusted(keep(tmp_path, file))) == [hash_of(b"second")]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '"a"', "\udcff", "[" * 100_000])
def test_a_damaged_list_trusts_nothing_and_says_so(site: Path, tmp_path: Path, text: str) -> None:
    kept = tmp_path / "trusted.json"
    kept.write_text(text, "utf-8", errors="surrogateescape")
    catalog = load_catalog(trusted=kept)
    assert len(catalog.problems) == 1
    assert catalog.problems[0].startswith(f"{kept}: is ")
    assert not catalog.fix("acme-delete").trusted


def test_a_list_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file", "utf-8")
    with pytest.raises(KnowledgeError, match="cannot be written"):
        trust(tmp_path / "state" / "trusted.json", {"a": tmp_path})


def test_the_list_is_whole_at_all_times(tmp_path: Path) -> None:
    kept = tmp_path / "trusted.json"
    trust(kept, {"a": tmp_path / "\udcff.toml"})  # a name that is no text
    assert list(read_trusted(kept)) == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["trusted.json"]


def test_which_files_a_path_stands_for(tmp_path: Path) -> None:
    inner = tmp_path / "fixes"
    inner.mkdir()
    for name in ("b.toml", "a.toml", "note.txt"):
        (inner / name).write_text("", "utf-8")
    files = [inner / "a.toml", inner / "b.toml"]
    assert fix_files(tmp_path) == fix_files(inner) == files
    assert fix_files(files[0]) == files[:1]
    assert fix_files(tmp_path / "nowhere") == []
