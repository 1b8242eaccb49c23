"""What something that is kept really is, as far as the code that keeps it has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

ElementKind = Literal["graph", "number", "leaf", "float64", "error", "model", "optimizer", "parts", "other"]


@dataclass(frozen=True, slots=True)
class Element:
    """What something that is kept really is.

    Attributes:
        kind: A tensor with its graph, or such a one that is a single number; a
            tensor on a GPU that has a gradient itself; an array of float64; an error; a model or an optimizer of
            PyTorch's; a tuple, list, dict or object of known parts; or anything else.
        parts: Of the last but one, by place or key.
        on_device: Whether it is a tensor, a model or an optimizer on a GPU.
        maker: Of an object with known fields: the name of its class; else "".
        listed: It lies in a list that is an item of what keeps it: `history[key].append(out)`.
    """

    kind: ElementKind
    parts: Mapping[object, Element] = field(default_factory=dict)
    on_device: bool = False
    maker: str = ""
    listed: bool = False

    def has(self, *kinds: ElementKind) -> bool:
        """Whether it is, or has a part that is, of one of these kinds."""
        return self.kind in kinds or any(part.has(*kinds) for part in self.parts.values())

    @property
    def reaches_device(self) -> bool:
        """Whether it, or a part of it, is on a GPU."""
        return self.on_device or any(part.reaches_device for part in self.parts.values())


def merged(first: Element, second: Element) -> Element:
    """Give what two elements have in common.

    Args:
        first, second: What two of the things that are kept are.
    """
    if first.listed != second.listed:
        return Element("other")
    if first.kind == second.kind == "parts" and first.parts.keys() == second.parts.keys():
        parts = {key: merged(part, second.parts[key]) for key, part in first.parts.items()}
        maker = first.maker if first.maker == second.maker else ""
        return Element("parts", parts, maker=maker, listed=first.listed)
    on_device = first.on_device and second.on_device
    if first.kind == second.kind:
        return replace(first, on_device=on_device)
    kind: ElementKind = "graph" if {first.kind, second.kind} == {"graph", "number"} else "other"
    return Element(kind, on_device=on_device, listed=first.listed)
