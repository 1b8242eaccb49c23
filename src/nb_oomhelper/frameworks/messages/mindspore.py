"""MindSpore: on Ascend's devices, and on GPUs."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="mindspore",
    module="mindspore",
    rules=(
        Rule("mindspore.memory", "npu", r"[Mm]emory not enough: Device\(id:\d{1,4}\)"),
        Rule("mindspore.malloc", "npu", r"Malloc device memory failed, size\["),
        Rule("mindspore.memory", "npu", r"Device\(id:\d{1,4}\) memory isn't enough"),
    ),
    fields={
        "requested": r"alloc size: (\d{1,20}B)|memory failed, size\[(\d{1,20})\]",
        "device": r"Device\(id:(\d{1,4})\)|, Device (\d{1,4}) ",
    },
)
