"""MATLAB's engine, in a process of its own, and Octave."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="matlab",
    module="matlab",
    rules=(
        Rule("matlab.memory", "host", r"^Out of memory\b", kind=r"^matlab\.", known=True, remote="other"),
        Rule("matlab.memory", "host", r"Out of memory\. Type .{0,3}help memory", remote="other"),
        Rule(
            "matlab.limit",
            "host",
            r"Requested \d[\dx]{1,60} \(.{1,20}\) array exceeds maximum array size",
            remote="other",
        ),
        Rule("octave.memory", "host", r"out of memory or dimension too large for Octave's index type", remote="other"),
    ),
    fields={
        "requested": rf"Requested [\dx]{{1,60}} \(({SIZE})\)",
        "limit": rf"maximum array size preference \(({SIZE})\)",
    },
)
