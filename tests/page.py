"""HTML as a browser reads it, for tests of what is drawn."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"br"}
TAGS = {
    "style",
    "details",
    "div",
    "b",
    "span",
    "i",
    "br",
    "table",
    "tr",
    "td",
    "code",
    "pre",
    "summary",
    "ul",
    "li",
    "svg",
    "polyline",
    "del",
    "ins",
}
ATTRIBUTES = {
    *("class", "style", "role", "aria-label", "aria-level", "aria-hidden", "lang", "tabindex", "title"),
    *("viewbox", "width", "height", "preserveaspectratio", "points", "fill", "stroke", "stroke-width"),
}


class Page(HTMLParser):
    """Reads HTML as a browser would, and notes what does not belong there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()
        self.wrong += [f"not closed: {tag}" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        names = [name for name, _ in attrs]
        self.wrong += [f"<{tag}>"] * (tag not in TAGS)
        self.wrong += [f"{tag} {name}" for name in names if name not in ATTRIBUTES or names.count(name) > 1]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)
