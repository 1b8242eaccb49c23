"""Vulkan, below ncnn and its programs: a call that failed, with the number of its result."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_FAILED = r"vk(?:Allocate|Create|Map|Bind)\w{3,40} failed[: ]{1,2}"
MESSAGES = Messages(
    name="vulkan",
    module="ncnn",
    rules=(
        Rule("vulkan.host", "host", rf"{_FAILED}-1\b"),  # VK_ERROR_OUT_OF_HOST_MEMORY
        Rule("vulkan.device", "vulkan", rf"{_FAILED}-2\b"),  # VK_ERROR_OUT_OF_DEVICE_MEMORY
    ),
)
