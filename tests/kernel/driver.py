"""A real IPython kernel in its own process, driven as a front end drives it.

It sends what a notebook sends (execute requests, clicks and state changes of widgets) over the Jupyter protocol and
keeps what comes back: streams, display bundles, `error` messages and the state of every widget. Nothing of IPython runs
in the test's own process.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import queue
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

Message = dict[str, Any]


class KernelError(AssertionError):
    """The kernel did not answer in time, or it died; the text holds the end of what its process printed."""


@dataclass
class Reply:
    """What came back for one request: a cell, a click, or one stretch of `Kernel.poll`.

    `displays` has one row a `display_data` or `execute_result` message, with the keys `data`, `metadata`, `transient`
    and `type`; `update_display_data` appends a row too. `errors` has one `error` message's content a row: `ename`,
    `evalue` and `traceback`. `comms` has one row a message of a widget, with the keys `type`, `comm_id` and `data`.
    `kinds` has the type of every message in the order in which they came, streams in a row as one: "stream", "error",
    "comm_open", ….
    The status is that of the execute reply: "ok", "error" or "aborted"; "pending" before it has come; "" for a click,
    which has none. What a thread prints after its cell has ended is added when the kernel is next read.
    """

    status: str = ""
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    comms: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    execution_count: int | None = None
    user_expressions: dict[str, Any] = field(default_factory=dict)
    idle: bool = False

    def mime(self, mimetype: str) -> list[Any]:
        """Return the data of that type of every display, in their order."""
        return [row["data"][mimetype] for row in self.displays if mimetype in row["data"]]

    def take_shell(self, content: Message) -> None:
        """Take the content of the `execute_reply`."""
        self.status = content["status"]
        self.ename = content.get("ename", "")
        self.evalue = content.get("evalue", "")
        self.traceback = content.get("traceback", [])
        self.execution_count = content.get("execution_count")
        self.user_expressions = content.get("user_expressions", {})

    def take_iopub(self, message: Message) -> None:
        """Take one message of the iopub channel."""
        kind, content = message["msg_type"], message["content"]
        if kind != "stream" or self.kinds[-1:] != ["stream"]:  # how often a stream is flushed is chance
            self.kinds.append(kind)
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind in {"display_data", "execute_result", "update_display_data"}:
            row = {key: content.get(key, {}) for key in ("data", "metadata", "transient")}
            self.displays.append(row | {"type": kind})
        elif kind == "error":
            self.errors.append(content)
        elif kind in {"comm_open", "comm_msg", "comm_close"}:
            self.comms.append({"type": kind, "comm_id": content["comm_id"], "data": content.get("data", {})})
        elif kind == "status":
            self.idle = self.idle or content["execution_state"] == "idle"


class OneSpec(KernelSpecManager):
    """Answers every kernel name with the one command line, so that no kernelspec need be installed."""

    argv: list[str]

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(argv=self.argv, display_name=kernel_name, language="python")


def manage(python: str | Path, home: Path) -> KernelManager:
    """Return the manager of a kernel of this interpreter that is not started yet.

    Its sockets are files in `home`: a TCP port that was free when it was chosen may be taken when the kernel binds it,
    where other tests start kernels at the same time. The name is short: the path of a socket has room for 107 bytes.
    """
    specs = OneSpec()
    specs.argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return KernelManager(kernel_spec_manager=specs, connection_file=str(home / "k.json"), transport="ipc")


class Kernel:
    """One kernel process; a context manager that ends it, by its own id.

    Args:
        python: the interpreter whose ipykernel runs.
        home: an empty folder: the kernel's working folder, its IPYTHONDIR, and what it may write of its own.
        env: environment variables on top of this process's.

    The attribute `widgets` maps the model id of each living widget to its state, as the kernel last sent it.
    """

    def __init__(self, python: str | Path, home: Path, env: Mapping[str, str] | None = None) -> None:
        self.widgets: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, Reply] = {}
        self._log = home / "kernel.log"
        self._manager = manage(python, home)
        with self._log.open("w") as log:
            self._manager.start_kernel(cwd=str(home), env=private_env(home, env), stdout=log, stderr=log)
        self.pid: int = self._manager.provisioner.pid
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        try:
            self._client.wait_for_ready(timeout=60)
        except BaseException as error:
            self.end()
            raise KernelError(f"The kernel did not start: {error}\n{self._log_end()}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process and close the channels; may be called twice."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return bool(self._manager.is_alive())

    def interrupt(self) -> None:
        """Send SIGINT, as the stop button does."""
        self._manager.interrupt_kernel()

    # Cells

    def execute(self, code: str, timeout: float = 60, stop_on_error: bool = True, silent: bool = False) -> Reply:
        """Run a cell and wait until the kernel is idle again.

        Args:
            code: the cell's source.
            timeout: in seconds.
            stop_on_error: whether an error aborts cells that wait behind this one.
            silent: no history and no execution count, as the requests that front ends make on their own.
        """
        return self.finish(self.start(code, stop_on_error=stop_on_error, silent=silent), timeout)

    def start(
        self,
        code: str,
        stop_on_error: bool = True,
        silent: bool = False,
        user_expressions: Mapping[str, str] | None = None,
        subshell: str | None = None,
    ) -> str:
        """Send a cell and return its message id at once, for `finish`; `subshell` is from `create_subshell`."""
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": dict(user_expressions or {}),
            "allow_stdin": False,
            "stop_on_error": stop_on_error,
        }
        return self._send("execute_request", content, subshell, Reply(status="pending"))

    def finish(self, msg_id: str, timeout: float = 60) -> Reply:
        """Wait until the request has its answer and the kernel is idle after it.

        Raises:
            KernelError: neither came in `timeout` seconds, or the kernel died.
        """
        reply = self._replies[msg_id]
        deadline = time.monotonic() + timeout
        while not reply.idle or reply.status == "pending":
            if not self._pump(deadline):
                state = "did not answer in time" if self.alive else "died"
                raise KernelError(f"The kernel {state}; so far: {reply}\n{self._log_end()}")
        return reply

    def eval(self, expression: str, timeout: float = 60) -> Any:
        """Return the value of an expression that json can carry.

        The request is silent: no history, no count; but it does become the shell's last execution result.
        """
        asked = {"value": f"__import__('json').dumps({expression})"}
        msg_id = self.start("", silent=True, user_expressions=asked)
        value = self.finish(msg_id, timeout).user_expressions["value"]
        if value["status"] != "ok":
            raise AssertionError(f"{expression}: {value['ename']}: {value['evalue']}")
        return json.loads(ast.literal_eval(value["data"]["text/plain"]))

    def can_import(self, module: str) -> bool:
        """Tell whether the kernel's environment has a package, without importing it."""
        return bool(self.eval(f"__import__('importlib.util', fromlist=['util']).find_spec({module!r}) is not None"))

    def poll(self, seconds: float) -> Reply:
        """Read for so long whatever the kernel sends on its own, whichever cell it belongs to."""
        late = Reply()
        deadline = time.monotonic() + seconds
        while self._pump(deadline, late):
            pass
        return late

    # Widgets

    def find_widgets(self, **state: Any) -> list[str]:
        """Return the model ids whose state has all these values, such as `_model_name="ButtonModel"`."""
        return [key for key, have in self.widgets.items() if state.items() <= have.items()]

    def find_buttons(self, description: str) -> list[str]:
        """Return the model ids of the buttons with that text."""
        return self.find_widgets(_model_name="ButtonModel", description=description)

    def click(self, model_id: str, timeout: float = 60) -> Reply:
        """Click a button and wait until its handler has run; the reply holds what the handler printed and showed."""
        return self.finish(self.start_click(model_id), timeout)

    def start_click(self, model_id: str, subshell: str | None = None) -> str:
        """Send a click and return its message id at once, for `finish`.

        `subshell` is from `create_subshell`. ipykernel 7.4 heeds it only for a widget that has sent nothing yet; else
        the click goes to the (sub)shell where the widget last sent something (`BaseComm._reply_subshell_for`).
        """
        return self._send_comm(model_id, {"method": "custom", "content": {"event": "click"}}, subshell)

    def set_state(self, model_id: str, state: Mapping[str, Any], timeout: float = 60) -> Reply:
        """Change a widget's state as its view does (a slider moved, a text typed) and wait for the handlers."""
        self.widgets[model_id].update(state)
        return self.finish(self._send_comm(model_id, {"method": "update", "state": dict(state)}), timeout)

    def create_subshell(self, timeout: float = 10) -> str:
        """Ask the kernel for a subshell, as JupyterLab does for widgets beside a busy cell (ipykernel >= 7)."""
        self._client.control_channel.send(self._client.session.msg("create_subshell_request", {}))
        answer = self._client.get_control_msg(timeout=timeout)
        return str(answer["content"]["subshell_id"])

    # Messages

    def _send_comm(self, model_id: str, data: dict[str, Any], subshell: str | None = None) -> str:
        return self._send("comm_msg", {"comm_id": model_id, "data": data}, subshell, Reply())

    def _send(self, kind: str, content: dict[str, Any], subshell: str | None, reply: Reply) -> str:
        message = self._client.session.msg(kind, content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        msg_id: str = message["header"]["msg_id"]
        self._replies[msg_id] = reply
        self._client.shell_channel.send(message)
        return msg_id

    def _pump(self, deadline: float, also: Reply | None = None) -> bool:
        """Read one message of each channel; return False once the deadline has passed or the kernel has died."""
        with contextlib.suppress(queue.Empty):
            answer = self._client.get_shell_msg(timeout=0)
            reply = self._replies.get(answer["parent_header"].get("msg_id", ""))
            if reply and answer["msg_type"] == "execute_reply":
                reply.take_shell(answer["content"])
        left = deadline - time.monotonic()
        try:
            message = self._client.get_iopub_msg(timeout=max(0.0, min(0.05, left)))
        except queue.Empty:
            return left > 0 and self.alive
        self._follow(message)
        parent = message["parent_header"].get("msg_id", "")
        for reply in (self._replies.setdefault(parent, Reply()), also):
            if reply is not None:
                reply.take_iopub(message)
        return left > 0

    def _follow(self, message: Message) -> None:
        """Keep the state of the widgets up to date."""
        kind, content = message["msg_type"], message["content"]
        data = content.get("data", {})
        if kind == "comm_open" and content.get("target_name") == "jupyter.widget":
            self.widgets[content["comm_id"]] = dict(data.get("state", {}))
        elif kind == "comm_msg" and data.get("method") in {"update", "echo_update"}:
            self.widgets.setdefault(content["comm_id"], {}).update(data["state"])
        elif kind == "comm_close":
            self.widgets.pop(content["comm_id"], None)

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


def private_env(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, with every folder that Jupyter and IPython write to moved below `home`."""
    moved = {
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "jupyter/config",
        "JUPYTER_DATA_DIR": "jupyter/data",
        "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "XDG_DATA_HOME": "data",
        "XDG_STATE_HOME": "state",
    }
    for folder in moved.values():
        (home / folder).mkdir(parents=True, exist_ok=True)
    return dict(os.environ) | {name: str(home / folder) for name, folder in moved.items()} | dict(extra or {})
