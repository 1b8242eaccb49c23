"""A page a framework: each form of its out-of-memory messages with what is read of it, and what only looks like one."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.detect import class_of

from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.knowledge.toml_tables import Language
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.showing.wording import say, say_size

MESSAGES = Path(__file__).parents[2] / "tests" / "frameworks" / "messages"
_SIZES = ("requested", "free", "capacity", "allocated", "reserved", "limit")


def message_pages(language: Language, word: Callable[[str, Language], str]) -> Iterator[tuple[str, str]]:
    """Write the pages, from the messages that are also the tests.

    Args:
        language: "en" or "zh".
        word: Gives a text of the site's own.

    Yields:
        A page's name, without its end, and its Markdown.
    """
    for file in sorted(MESSAGES.glob("*.toml")):
        rows = tomllib.loads(file.read_text("utf-8"))["message"]
        lines = [f"# {file.stem}", "", word("messages_about", language)]
        for row in rows:
            event = detect_text(row["message"], class_of(row))
            if event is not None:
                lines += ["", f"## `{event.format}`", "", *_fenced(row), "", _read(event, language, word)]
        others = [row for row in rows if row["kind"] == "not_oom"]
        lines += ["", f"## {word('look_alikes', language)}"] if others else []
        lines += [line for row in others for line in ("", *_fenced(row))]
        yield f"messages/{file.stem}", "\n".join(lines) + "\n"


def _fenced(row: dict[str, Any]) -> list[str]:
    kind = class_of(row)
    return ["````text", *f"{kind}: {row['message']}".removeprefix(": ").splitlines(), "````"]


def _read(event: OomEvent, language: Language, word: Callable[[str, Language], str]) -> str:
    """Whose memory it was, how sure that is, and the sizes, in one line."""
    memory = word("host_memory" if event.backend == "host" else "device_memory", language)
    said = [memory, f"`{event.backend}`", word(event.certainty, language)]
    sizes = {name: getattr(event, name) for name in _SIZES}
    said += [f"`{name}` {say_size(size, language)}" for name, size in sizes.items() if size is not None]
    return say("list.of", language, head=f"**{word('is_read', language)}**", text=", ".join(said))
