"""`python -m nb_oomhelper serve-mcp`: what is known here, for coding assistants, by standard input and output alone.

Needs the extra `mcp`. Nothing listens on a network; what is asked is neither run nor kept.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from nb_oomhelper import entries
from nb_oomhelper.errors import OomHelperError, UsageError


def serve() -> None:
    """Answer on standard input and output until it ends.

    Raises:
        UsageError: The `mcp` package is not there, or is another one's.
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError:
        try:  # mcp 1
            from mcp.server.fastmcp import FastMCP as MCPServer
        except ImportError:
            from nb_oomhelper.showing.wording import pick_language, say

            raise UsageError(say("told.no_mcp", pick_language("auto"))) from None
    server = MCPServer("nb_oomhelper", instructions=__doc__)
    for tool in (explain, entry, plan, gpus):
        server.tool()(_told(tool))
    server.run("stdio")


def explain(text: str) -> str:
    """Find the out-of-memory errors in a text (a traceback, a log, or the JSON of a notebook) and explain them.

    Args:
        text: All of it; nothing of it is run.
    """
    import io

    from nb_oomhelper.failure.documents import read_stream
    from nb_oomhelper.services import without_shell
    from nb_oomhelper.showing.explanation import explained, to_json

    data = text.encode("utf-8", "replace")
    return to_json(*explained(read_stream(io.BytesIO(data), len(data), ""), without_shell()), "")


def entry(code_or_words: str) -> str:
    """Give an entry of the knowledge base about out-of-memory errors as Markdown, or list those with some words.

    Args:
        code_or_words: Such as "CUDA-OOM-001", or words to search for; "" lists all.
    """
    found = entries.search(code_or_words)
    if not code_or_words or len(found) > 1:
        return "\n".join(f"{one.code}  {one.title.get('en')}" for one in found)
    return entries.to_markdown(found[0] if found else entries.get(code_or_words))


def plan(
    model: str,
    device: int | None = None,
    dtype: str | None = None,
    tokens: int | None = None,
    batch: int | None = None,
    cache: str | None = None,
) -> str:
    """Weigh every way of loading a model that is on this machine: bytes on GPU, host and disk. Nothing is loaded.

    Args:
        model: A folder, a file, or a name in the hub's cache.
        device: Number of a GPU; without it, the first.
        dtype: "auto", "float16", "bfloat16", "float32" or "float64".
        tokens: Length of a text that is to be generated: its KV cache, and the largest batch and length that fit.
        batch: How many texts side by side.
        cache: What the KV cache is kept in: "float16", "fp8", "int8", "int4", "int2", "q8_0", "q4_0".
    """
    from nb_oomhelper.loading import estimate
    from nb_oomhelper.showing.load_table import to_json

    return to_json(estimate.plan(model, device=device, dtype=dtype, tokens=tokens, batch=batch, cache=cache))


def gpus() -> str:
    """Give the memory of every GPU and of the host as JSON: bytes free, and held by which process."""
    from nb_oomhelper.memory.snapshot import open_driver
    from nb_oomhelper.memory.usage import read_usage
    from nb_oomhelper.session import current_shell
    from nb_oomhelper.showing.memory_table import to_json

    with open_driver(current_shell()) as driver:
        return to_json(*read_usage(driver, None))


def _told(tool: Any) -> Any:
    """A tool whose errors are an answer, and which prints nothing where the protocol is spoken."""
    import functools

    @functools.wraps(tool)
    def answered(*args: Any, **given: Any) -> str:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return str(tool(*args, **given))
        except OomHelperError as error:
            return json.dumps({"error": str(error)}, ensure_ascii=False)

    return answered
