"""FFmpeg, below pydub, moviepy and others: a command, mostly."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="ffmpeg",
    module="ffmpeg",
    rules=(
        Rule("ffmpeg.nvenc", "cuda", r" failed: out of memory \(10\)"),  # NV_ENC_ERR_OUT_OF_MEMORY
    ),
)
