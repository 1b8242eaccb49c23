"""VTK, below PyVista and Mayavi: it logs what it could not allocate, and ends or throws then."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nb_oomhelper.frameworks._messages import Messages, Rule
from nb_oomhelper.records.event import OomEvent

_ELEMENTS = re.compile(r"allocate (\d{1,20}) elements of size (\d{1,6}) bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages(Messages):
    """The number of elements and the bytes of one are printed, and not what they come to."""

    def complete(self, event: OomEvent, window: str) -> OomEvent:
        """Multiply them.

        Args:
            event: As the patterns have read it.
            window: The message, on one line.
        """
        found = _ELEMENTS.search(window)
        size = int(found[1]) * int(found[2]) if found else 0
        return replace(event, requested=size) if 0 < size < 1 << 60 else event


MESSAGES = _Messages(
    name="vtk",
    module="vtkmodules",
    rules=(Rule("vtk.array", "host", r"vtk\w{1,60} ?\([^()]{1,40}\): Unable to allocate \d{1,20} elements of size"),),
)
