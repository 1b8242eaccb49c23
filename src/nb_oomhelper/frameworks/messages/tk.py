"""Tk and Tcl, below matplotlib's windows: pictures that find no room."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="tk",
    module="_tkinter",
    rules=(
        Rule("tk.image", "host", r"not enough free memory for image buffer"),
        Rule("tk.image", "host", r"Fail to (?:allocate|create) (?:bitmap|pixmap)"),
        Rule("tcl.alloc", "host", r"unable to (?:re)?alloc \d{1,20} bytes"),
    ),
    fields={"requested": r"alloc (\d{1,20} bytes)"},
)
