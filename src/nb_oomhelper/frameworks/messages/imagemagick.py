"""ImageMagick, below Wand and in commands: what its policy allows of memory and disk, or the machine."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="imagemagick",
    module="wand",
    rules=(
        Rule("imagemagick.cache", "host", r"cache resources exhausted [`'\"]", probable=True),
        Rule("imagemagick.memory", "host", r"memory allocation failed [`'\"].{0,200}@ (?:error|fatal)/"),
    ),
)
