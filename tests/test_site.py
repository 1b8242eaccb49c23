"""The pages of the site: one an entry, one a fix, in both languages, and no link that leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.toml_tables import Language

pytestmark = pytest.mark.plain

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
LANGUAGES: tuple[Language, ...] = get_args(Language)
FENCED = re.compile(r"^( *)(`{3,}).*?^\1\2$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+).*?\1")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    subprocess.run([sys.executable, SITE / "pages.py", out], check=True, env={**os.environ, "PYTHONPATH": path})
    return out


def prose(file: Path) -> str:
    """A page without its code."""
    return CODE.sub("", FENCED.sub("", file.read_text("utf-8")))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_entry_and_every_fix_has_a_page(written: Path, language: Language) -> None:
    catalog = load_catalog()
    names = {f"entries/{entry.code}" for entry in catalog.entries} | {f"fixes/{fix.id}" for fix in catalog.fixes}
    names |= {"index", "suites", "inside/architecture", "messages/pytorch"}
    pages = {
        file.relative_to(written / language).with_suffix("").as_posix() for file in (written / language).rglob("*.md")
    }
    assert names <= pages
    told = (written / f"mkdocs-{language}.yml").read_text("utf-8")
    assert not [page for page in pages if f"{page}.md\n" not in told]  # each can be reached


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_link_leads_nowhere(written: Path, language: Language) -> None:
    links = 0
    for file in (written / language).rglob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", prose(file)):
            assert target.startswith("https://") or (file.parent / target).resolve().is_file(), (file.name, target)
            links += 1
    assert links > 300


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_open_and_nothing_is_markup_of_a_page(written: Path, language: Language) -> None:
    for file in (written / language).rglob("*.md"):
        text = prose(file)
        assert text.startswith("# "), file.name
        assert not re.search(r"</?[a-zA-Z]+[ >](?!/)", text.replace("<http", "")), file.name
        assert "{" not in text or file.parent.name == "inside", file.name
        assert "```" not in text, file.name


def test_a_page_speaks_its_language(written: Path) -> None:
    page = written / "zh" / "entries" / "CUDA-OOM-001.md"
    assert "## 解决办法" in page.read_text("utf-8")
    assert "[`reload-offload`](../fixes/reload-offload.md)" in page.read_text("utf-8")
    assert "[CUDA-OOM-003](CUDA-OOM-003.md)" in page.read_text("utf-8")
    assert "Workarounds" not in page.read_text("utf-8")


def test_what_builds_it_is_pinned() -> None:
    lines = (SITE / "requirements.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lines if not line.startswith("#"))
