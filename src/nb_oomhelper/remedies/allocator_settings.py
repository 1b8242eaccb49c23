"""How the frameworks' allocators are set by the environment, and the same with what a fix changes."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OLD_NAME, _NEW_NAME = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
_GROWS = re.compile(r"expandable_segments\s*:\s*(\w+)")


def takes_as_needed(environment: Mapping[str, str]) -> bool:
    """Tell whether JAX, started with this environment, takes memory only as it needs it; by the words that it knows."""
    told = environment.get("XLA_PYTHON_CLIENT_PREALLOCATE")
    return told in ("false", "False", "0") or environment.get("XLA_PYTHON_CLIENT_ALLOCATOR", "").lower() == "platform"


def merge_setting(environment: Mapping[str, str], renamed: bool) -> tuple[str, str] | None:
    """Write the user's setting of PyTorch's allocator with segments that grow.

    Setting one option resets all the others, so those that are set stay in.

    Args:
        environment: The variables that are set.
        renamed: Whether PyTorch reads the new name, too.

    Returns:
        The variable to set, and what to; None where its segments grow already.
    """
    variable = _NEW_NAME if renamed and not environment.get(_OLD_NAME) else _OLD_NAME
    setting = environment.get(variable, "").strip().rstrip(",")
    written = _GROWS.search(setting)
    if "cudaMallocAsync" in setting or (written and written[1] == "True"):  # CUDA's own allocator has no segments
        return None
    if written:
        return variable, f"{setting[: written.start()]}expandable_segments:True{setting[written.end() :]}"
    return variable, f"{setting},expandable_segments:True" if setting else "expandable_segments:True"
