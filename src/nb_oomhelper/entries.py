"""The entries of the knowledge base, for programs: all, one, those with some words; as JSON, as Markdown.

In a notebook where the extension is loaded a person's own entries (`knowledge_dir`) are among them.
"""

from __future__ import annotations

import json
from typing import Any

from nb_oomhelper.knowledge.catalog import Catalog, load_catalog
from nb_oomhelper.knowledge.entry import Entry
from nb_oomhelper.knowledge.schema import schema_of
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.session import current_shell, extension_of
from nb_oomhelper.showing import entry_page

__all__ = ["Entry", "get", "list", "schema", "search", "to_json", "to_markdown"]


def list() -> tuple[Entry, ...]:
    """Give all entries, by code."""
    return _catalog().entries


def get(code_or_id: str) -> Entry:
    """Give one entry.

    Args:
        code_or_id: "CUDA-OOM-001" or its id, whatever the case.

    Raises:
        KnowledgeError: There is none; the text offers names that are near.
    """
    return _catalog().entry(code_or_id)


def search(words: str) -> tuple[Entry, ...]:
    """Give the entries that hold every word, in either language.

    Args:
        words: Words, with spaces between them.
    """
    return _catalog().search(words)


def to_json(*entries: Entry) -> str:
    """Write entries as a JSON array; `schema()` describes one of its items.

    Args:
        *entries: Which; all where none is given.
    """
    rows = [json.loads(entry_page.to_json(entry)) for entry in entries or list()]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def to_markdown(*entries: Entry, language: Language = "en") -> str:
    """Write entries as Markdown, with the versions that are installed here beside their own.

    Args:
        *entries: Which; all where none is given.
        language: "en" or "zh".
    """
    return "\n".join(entry_page.entry_page(entry, language) for entry in entries or list())


def schema() -> dict[str, Any]:
    """Give the JSON Schema of one entry."""
    return schema_of(Entry, "An entry of nb_oomhelper's knowledge base")


def _catalog() -> Catalog:
    extension = extension_of(current_shell())
    return load_catalog() if extension is None else extension.services.catalog()
