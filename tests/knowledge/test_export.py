"""An entry as JSON and as Markdown: nothing of the file is lost, and no claimed rate stands without its source."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from datetime import date
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.knowledge.entry import Entry
from nb_oomhelper.knowledge.toml_tables import Language, Text
from nb_oomhelper.showing.entry_page import to_json, to_markdown

pytestmark = pytest.mark.plain

ENTRY = load_catalog().entry("CUDA-OOM-001")
INSTALLED = {"transformers": "5.23.0", "torch": "2.13.0+cpu", "accelerate": None}
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def said_of(file: Any, written: Any) -> Any:
    """Of what was written the keys that the file has: others have their defaults."""
    if isinstance(file, dict):
        return {key: said_of(one, written[key]) for key, one in file.items()}
    return [said_of(*pair) for pair in zip(file, written, strict=True)] if isinstance(file, list) else written


class TestJson:
    def test_is_the_file_again_in_its_order(self) -> None:
        text = (resources.files("nb_oomhelper.knowledge") / "entries/CUDA-OOM-001.toml").read_text("utf-8")
        file: dict[str, Any] = tomllib.loads(text)
        first_seen = file["first_seen"]
        assert isinstance(first_seen, date)
        file["first_seen"] = first_seen.isoformat()
        for row in file["sources"]:
            row["checked"] = row["checked"].isoformat()
        written = json.loads(to_json(ENTRY))
        assert list(written) == list(file)
        assert said_of(file, written) == file

    @pytest.mark.parametrize("entry", load_catalog().entries, ids=lambda entry: entry.code)
    def test_nothing_of_a_file_is_lost(self, entry: Entry) -> None:
        text = (resources.files("nb_oomhelper.knowledge") / f"entries/{entry.code}.toml").read_text("utf-8")
        file = json.loads(json.dumps(tomllib.loads(text), default=str))
        assert said_of(file, json.loads(to_json(entry))) == file

    def test_is_readable(self) -> None:
        text = to_json(ENTRY)
        assert '\n  "first_seen": "2023-12-01",\n' in text
        assert "加载 Hugging Face 模型时显存不足" in text
        assert "\\u" not in text


class TestMarkdown:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_holds_every_fact(self, language: Language) -> None:
        text = to_markdown(ENTRY, language, INSTALLED)
        facts = [
            *(ENTRY.code, ENTRY.id, ENTRY.domain, ENTRY.category, ENTRY.signature, *ENTRY.documentation),
            *("88 %", "90 %", "95 %", "85 %", "75 %", "60 %", "80 %", "2023-12-01", "generic"),
            *("4.36.0", "2.1.0", "0.25.0", "5.23.0", "2.13.0+cpu"),
            *(words.get(language) for words in (ENTRY.title, ENTRY.root_cause)),
            *(row.code for row in ENTRY.workarounds),
            *(row.text.get(language) for row in ENTRY.workarounds),
            *(words.get(language) for row in ENTRY.dead_ends for words in (row.tried, row.reason)),
        ]
        assert [fact for fact in facts if fact not in text] == []

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_no_rate_without_its_source(self, language: Language) -> None:
        lines = [line for line in to_markdown(ENTRY, language, INSTALLED).splitlines() if re.search(r"\d %", line)]
        assert len(lines) == 8
        assert ENTRY.source is not None
        assert all(ENTRY.source.get(language) in line for line in lines)

    def test_english_headings(self) -> None:
        text = to_markdown(ENTRY, "en", INSTALLED)
        assert re.findall(r"(?m)^#+ .*$", text) == [
            "# CUDA-OOM-001 · A Hugging Face model does not fit on the GPU while it is loaded",
            "## Workarounds",
            "## Dead ends",
            "## Root cause (generic)",
            "## Versions",
            "## Applies to",
            "## Related entries",
            "## Official documentation",
            "## Sources",
            "## About this entry",
        ]
        assert not re.search(r"[\u4e00-\u9fff]", text)

    def test_chinese_headings(self) -> None:
        text = to_markdown(ENTRY, "zh", INSTALLED)
        assert re.findall(r"(?m)^#+ .*$", text) == [
            "# CUDA-OOM-001 · 加载 Hugging Face 模型时显存不足",
            "## 解决办法",
            "## 行不通的做法",
            "## 根本原因（generic）",
            "## 版本",
            "## 适用范围",
            "## 相关条目",
            "## 官方文档",
            "## 出处",
            "## 关于本条目",
        ]
        assert ENTRY.root_cause.en not in text

    def test_version_table(self) -> None:
        text = to_markdown(ENTRY, "en", {"torch": "2.13.0", "accelerate": None})
        assert [line for line in text.splitlines() if line.startswith("|")] == [
            "| Package | Version | Status | Introduced | Deprecated | Notes | Installed here |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            "| transformers | 4.36.0 | active |  |  |  | unknown |",
            "| torch | 2.1.0 | active |  |  |  | 2.13.0 |",
            "| accelerate | 0.25.0 | active |  |  |  | not installed |",
        ]
        assert "| accelerate | 0.25.0 | 有效 |  |  |  | 未安装 |" in to_markdown(ENTRY, "zh", {"accelerate": None})

    def test_ends_with_one_line_break(self) -> None:
        text = to_markdown(ENTRY, "en", {})
        assert text.endswith("Reviewed by a person: no\n")
        assert "\n\n\n" not in text

    @pytest.mark.parametrize("entry", load_catalog().entries, ids=lambda entry: entry.code)
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_entrys_page_is_whole(self, entry: Entry, language: Language) -> None:
        text = to_markdown(entry, language, {})
        words = [row.text for row in entry.workarounds] + [row.when for row in entry.workarounds if row.when]
        words += [one for row in entry.dead_ends for one in (row.tried, row.reason)]
        assert [one for one in words if one.get(language) not in text] == []
        assert [source.url for source in entry.sources if f"<{source.url}>" not in text] == []
        assert [code for code in entry.related() if code not in text] == []
        assert "\n\n\n" not in text

    def test_entries_of_a_persons_own_cannot_break_the_page(self) -> None:
        row = replace(ENTRY.versions[0], notes="a | b\nc")
        workaround = replace(ENTRY.workarounds[0], code="print('''\n```\n''')", text=Text(en="one\ntwo", zh="一\n二"))
        entry = replace(ENTRY, title=Text(en="a\n# b", zh="甲"), versions=(row,), workarounds=(workaround,))
        text = to_markdown(entry, "en", {})
        assert "# CUDA-OOM-001 · a # b\n" in text
        assert "| a \\| b c |" in text
        assert "   ````python\n   print('''\n   ```\n   ''')\n   ````" in text
        assert "   one\n   two" in text

    @given(st.text(min_size=1), st.sampled_from(LANGUAGES))
    def test_any_code_stays_inside_its_fence(self, code: str, language: Language) -> None:
        entry = replace(ENTRY, workarounds=(replace(ENTRY.workarounds[0], code=code),))
        text = to_markdown(entry, language, {})
        fence = re.search(r"(?m)^   (`{3,})python$", text)
        assert fence is not None
        inside = text[fence.end() + 1 :].split(f"\n   {fence[1]}\n", 1)[0]
        assert "\n".join(line.removeprefix("   ") for line in inside.split("\n")) == code
