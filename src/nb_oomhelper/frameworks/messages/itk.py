"""ITK, below SimpleITK: medical images."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="itk",
    module="SimpleITK",
    rules=(
        Rule("itk.memory", "host", r"Failed to allocate memory for image"),
        Rule("itk.memory", "host", r"itk::MemoryAllocationError"),
    ),
)
