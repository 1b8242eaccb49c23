"""Write the pages of the site, English and Chinese, from the files of the knowledge: `python docs/site/pages.py OUT`.

OUT gets a folder of Markdown for each language, and a configuration beside it, which `mkdocs build --strict` takes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import get_args

from benchmarks.choice import judge, situations
from benchmarks.choice import to_text as confusion
from message_pages import message_pages

from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.knowledge.entry import Entry
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.remedies.suite_rates import advice_rate
from nb_oomhelper.showing import stats_table
from nb_oomhelper.showing.entry_page import to_markdown
from nb_oomhelper.showing.wording import knows, say

HERE = Path(__file__).parent
DOCS = HERE.parent
INSIDE = (
    "architecture",
    "before-it-runs",
    "recognition",
    "predictions",
    "routes",
    "engines",
)  # pages of docs/, English alone
WORDS: dict[str, dict[str, str]] = tomllib.loads((HERE / "words.toml").read_text("utf-8"))
_CODE = re.compile(r"(`+).*?\1")


def main(out: Path) -> None:
    """Write everything.

    Args:
        out: The folder; what is there of an earlier run is written over.
    """
    catalog = load_catalog()
    for language in get_args(Language):
        pages = dict(site(catalog, language))
        for name, text in pages.items():
            file = out / language / f"{name}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        (out / f"mkdocs-{language}.yml").write_text(configuration(pages, out, language), "utf-8")


def configuration(pages: Iterable[str], out: Path, language: Language) -> str:
    """Write the configuration of one language.

    Args:
        pages: Their names.
        out: The folder of all of it.
        language: "en" or "zh".
    """
    sections: dict[str, list[str]] = {"entries": [], "fixes": [], "messages": [], "inside": []}
    for name in pages:
        section, _, rest = name.partition("/")
        if rest and section in sections:
            sections[section].append(f"      - {name}.md")
    nav = [f"  - {word('home', language)}: index.md"]
    for section, rows in sections.items():
        nav += [f"  - {word(section, language)}:", *rows]
        nav += [f"  - {word('suites', language)}: suites.md"] if section == "fixes" else []
    search = "en" if language == "en" else "[en, zh]"
    switch = [f'    - {{ name: {name}, link: "{link}", lang: {code} }}' for name, link, code in _languages(language)]
    lines = [
        f"INHERIT: {(HERE / 'mkdocs.yml').resolve()}",
        f"docs_dir: {(out / language).resolve()}",
        f"site_dir: {(out / 'site' / ('zh' if language == 'zh' else '')).resolve()}",
        "theme:",
        f"  language: {language}",
        "plugins:",
        "  search:",
        f"    lang: {search}",
        r"    separator: '[\s\u200b\-_,:!=\[\]()\"`/]+|\.(?!\d)'",
        "extra:",
        "  alternate:",
        *switch,
        "nav:",
        *nav,
    ]
    return "\n".join(lines) + "\n"


def _languages(language: Language) -> tuple[tuple[str, str, str], ...]:
    """The two languages for the switch; the Chinese site lies in a folder of the English one."""
    return ("English", "./" if language == "en" else "../", "en"), ("中文", "zh/" if language == "en" else "./", "zh")


def word(key: str, language: Language) -> str:
    """Give a text of the site's own."""
    return WORDS[key][language]


def site(catalog: Catalog, language: Language) -> Iterator[tuple[str, str]]:
    """Write the pages of one language.

    Args:
        catalog: The knowledge.
        language: "en" or "zh".

    Yields:
        A page's name, without its end, and its Markdown.
    """
    yield "index", home(catalog, language)
    for entry in catalog.entries:
        yield f"entries/{entry.code}", entry_page(entry, catalog, language)
    for fix in catalog.fixes:
        yield f"fixes/{fix.id}", fix_page(fix, catalog, language)
    yield "suites", suites(catalog, language)
    yield from message_pages(language, word)
    for name in INSIDE:
        yield f"inside/{name}", inside((DOCS / f"{name}.md").read_text("utf-8"), language)


def home(catalog: Catalog, language: Language) -> str:
    """Write the first page: all entries, by what ran out, and all fixes."""
    about = word("about", language).format(entries=len(catalog.entries), fixes=len(catalog.fixes))
    lines = [f"# {word('home', language)}", "", about, "", f"## {word('entries', language)}", ""]
    lines += [f"- [{one.code}](entries/{one.code}.md) {one.title.get(language)}" for one in catalog.entries]
    lines += ["", f"## {word('fixes', language)}", ""]
    lines += [f"- [{one.id}](fixes/{one.id}.md) {one.title.get(language)}" for one in catalog.fixes]
    return "\n".join(lines) + "\n"


def entry_page(entry: Entry, catalog: Catalog, language: Language) -> str:
    """Write an entry's page: that of the panel, with links to the entries and fixes that it names."""
    fixes, codes = {fix.id for fix in catalog.fixes}, {one.code for one in catalog.entries} - {entry.code}
    lines = []
    for line in indented(to_markdown(entry, language, None)):
        if line.lstrip().startswith(say("page.here", language)):
            line = re.sub(r"`([^`]+)`", lambda found: _link(found[1], f"../fixes/{found[1]}.md", fixes), line)
        lines.append(linked(line, codes))
    return "\n".join(lines) + "\n"


def _link(name: str, to: str, known: set[str]) -> str:
    return f"[`{name}`]({to})" if name in known else f"`{name}`"


def linked(line: str, codes: set[str]) -> str:
    """Make links of the codes of entries in a line that is no code itself."""
    if not codes or line.startswith(("    ", "```", "#")):
        return line
    name = re.compile(rf"(?<![\w-])({'|'.join(sorted(codes))})(?![\w-])")
    ends = [0, *(end for found in _CODE.finditer(line) for end in found.span()), len(line)]
    parts = [line[first:last] for first, last in pairwise(ends)]
    return "".join(part if odd % 2 else name.sub(r"[\1](\1.md)", part) for odd, part in enumerate(parts))


def indented(text: str) -> Iterator[str]:
    """Indent what belongs to a numbered item by four: Python-Markdown wants as many, where others take three."""
    fence = ""
    for line in text.splitlines():
        if not fence and line.startswith("```"):
            fence = line[: len(line) - len(line.lstrip("`"))]
        elif fence and line == fence:
            fence = ""
        yield f" {line}" if not fence and line.startswith("   ") else line


def fix_page(fix: Fix, catalog: Catalog, language: Language) -> str:
    """Write a fix's page: what it does and costs, its code, who recommends it, and how often it has helped."""
    words = fix.zh if language == "zh" else fix.en
    facts = {
        "id": f"`{fix.id}`",
        "who": word(fix.applicability, language),
        "loses": words.loses,
        "against": _named(fix.causes, "cause_kind", language),
        "frameworks": _named(fix.frameworks, "", language),
        "backends": _named(fix.backends, "entry.backend", language),
        "phases": _named(fix.phases, "entry.phase", language),
    }
    lines = [f"# {words.title}", "", words.note, ""]
    lines += [
        "- " + say("list.of", language, head=f"**{word(key, language)}**", text=text)
        for key, text in facts.items()
        if text
    ]
    kind = "text" if fix.applicability == "display_only" else "python"
    lines += ["", f"## {word('code', language)}", "", word("code_about", language), "", *fenced(fix.code, kind)]
    for example in fix.examples[:1]:
        lines += ["", f"## {word('example', language)}", "", *fenced(example.code, kind)]
    recommended = [
        f"- [{one.code}](../entries/{one.code}.md) {one.title.get(language)}"
        for one in catalog.entries
        if any(row.fix == fix.id for row in one.workarounds)
    ]
    if recommended:
        lines += ["", f"## {word('recommended', language)}", "", *recommended]
    if (rate := advice_rate(fix.id)) is not None:
        good, total, version, date = rate
        said = say("fix.suite", language, good=good, total=total, version=version, date=date)
        lines += ["", f"## {word('measured', language)}", "", said]
    return "\n".join(lines) + "\n"


def _named(values: Iterable[str], section: str, language: Language) -> str:
    """Values in words, where there are some for them."""
    keys = {value: f"{section}.{value}" if section == "cause_kind" else f"{section}_{value}" for value in values}
    said = [say(key, language) if section and knows(key) else f"`{value}`" for value, key in keys.items()]
    return ", ".join(said) or word("any", language)


def fenced(code: str, kind: str) -> list[str]:
    """Fence code that holds no fence of its own."""
    return [f"```{kind}", *code.splitlines(), "```"]


def suites(catalog: Catalog, language: Language) -> str:
    """Write how often fixes have helped in the suites, and how often the right entry was chosen."""
    columns, rows = stats_table.table(catalog, {}, language)
    shown = [columns[:-1], tuple("---" for _ in columns[:-1])]  # the last is this machine's
    shown += [(f"[{row[0]}](fixes/{row[0]}.md)", *row[1:-1]) for row in rows]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in shown]
    below = [line for text in stats_table.below(language) for line in ("", text)]
    chosen = fenced(confusion(judge(catalog, situations(catalog))), "text")
    return "\n".join(
        [
            f"# {word('suites', language)}",
            "",
            *table,
            *below,
            "",
            f"## {word('choice', language)}",
            "",
            word("choice_about", language),
            "",
            *chosen,
            "",
        ]
    )


def inside(text: str, language: Language) -> str:
    """Take a page of docs/ over: links that lead out of it become text."""
    text = re.sub(r"\[([^\]]+)\]\(\.\.?/[^)]*\)", r"\1", text)
    note = word("english_only", language)
    title, _, rest = text.partition("\n")
    return f"{title}\n\n*{note}*\n{rest}" if note else text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
