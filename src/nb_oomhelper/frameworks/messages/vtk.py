"""VTK, below PyVista and Mayavi: it logs what it could not allocate, and ends or throws then."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="vtk",
    module="vtkmodules",
    rules=(Rule("vtk.array", "host", r"vtk\w{1,60} ?\([^()]{1,40}\): Unable to allocate \d{1,20} elements of size"),),
)
