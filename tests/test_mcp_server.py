"""What coding assistants are answered: by the functions, and by a real client on standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from nb_oomhelper.errors import KnowledgeError
from nb_oomhelper.mcp_server import entry, explain, gpus, plan

pytestmark = pytest.mark.plain

TEXT = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
    "GPU 0 has a total capacity of 8.00 GiB of which 1.00 GiB is free."
)


def test_a_text_is_explained() -> None:
    (found,) = json.loads(explain(TEXT))["found"]
    assert found["event"]["requested"] == 2 << 30
    assert json.loads(explain("all is well \ud800"))["found"] == []


def test_entries() -> None:
    assert entry("cuda-oom-001").startswith("# CUDA-OOM-001")
    assert len(entry("").splitlines()) > 10
    with pytest.raises(KnowledgeError, match="there is no entry"):
        entry("NO-SUCH-1")


def test_a_model_that_is_not_here() -> None:
    assert json.loads(plan("nothing/here"))["checkpoint"]["size"] is None


def test_memory() -> None:
    assert json.loads(gpus())["devices"][-1]["device"] == "host"


def test_a_client() -> None:
    pytest.importorskip("mcp")
    names, answer, error = asyncio.run(_asked())
    assert names == ["explain", "entry", "plan", "gpus"]
    assert json.loads(answer)["found"]
    assert "there is no entry" in json.loads(error)["error"]


async def _asked() -> tuple[list[str], str, str]:
    from mcp import ClientSession, StdioServerParameters, stdio_client

    server = StdioServerParameters(
        command=sys.executable, args=["-m", "nb_oomhelper", "serve-mcp"], env=dict(os.environ)
    )

    async def text(session: Any, tool: str, **given: str) -> str:
        return str((await session.call_tool(tool, given)).content[0].text)

    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        names = [tool.name for tool in (await session.list_tools()).tools]
        return names, await text(session, "explain", text=TEXT), await text(session, "entry", code_or_words="NO-SUCH-1")


def test_without_the_package_it_is_one_line() -> None:
    code = (
        "import sys; sys.modules['mcp'] = None; from nb_oomhelper.__main__ import main; sys.exit(main(['serve-mcp']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "nb-oomhelper[mcp]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
