"""Which worker an error came from, as far as its text and its own attributes tell; nothing is imported or called."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from nb_oomhelper.introspection import class_name, exception_args, instance_dict
from nb_oomhelper.records.event import Remote, Worker

_READ = 20_000  # characters of a text
_MOST = 8  # workers that are named
_BEFORE_LINE = re.compile(r"^\(\w[^()]{0,80}\bpid=(?P<pid>\d{1,9})(?:, ip=(?P<host>[\w.:]{1,60}))?")
# What the programs print of their workers. Groups are `id`, `pid` and `host`.
_TEXTS: dict[Remote, tuple[re.Pattern[str], ...]] = {
    "ray": (
        re.compile(
            r"ray::\S{1,300} \(pid=(?P<pid>\d{1,9})(?:, ip=(?P<host>[\w.:]{1,60}))?(?:, actor_id=(?P<id>\w{1,60}))?"
        ),
        re.compile(
            r"actor_id: (?P<id>\w{1,60})\s{1,9}pid: (?P<pid>\d{1,9})[^:]{1,20}:[^:]{1,90}\sip: (?P<host>[\w.]{1,60})"
        ),
        re.compile(r"on the node \(IP: (?P<host>[\w.:]{1,60}), ID: .{1,250}?\bpid=(?P<pid>\d{1,9})", re.DOTALL),
        _BEFORE_LINE,
    ),
    "other": (_BEFORE_LINE,),
    "ipyparallel": (re.compile(r"\[(?:Engine )?(?P<id>\d{1,6})[:\]]"),),
    "dask": (
        re.compile(r"last worker that attempt\w{0,2} to run the task was (?P<id>\w{1,20}://[\w.:\[\]-]{1,80}\w)"),
    ),
    "server": (re.compile(r"\bfor url:? '?https?://(?:[^\s/@]{1,200}@)?(?P<host>[\w.:\[\]-]{1,80})"),),
    "dataloader worker": (
        re.compile(r"in DataLoader worker process (?P<id>\d{1,6})"),
        re.compile(r"DataLoader worker \(pid(?:\(s\))? (?P<pid>\d{1,9})"),
    ),
    "launcher": (
        re.compile(r"-- Process (?P<id>\d{1,6}) terminated with"),
        re.compile(r"process (?P<id>\d{1,6}) terminated with (?:signal|exit)"),
        re.compile(
            r"host {1,20}: (?P<host>[\w.-]{1,80})\s{1,20}rank {1,20}: (?P<id>\d{1,6}) \(local_rank: \d{1,6}\)\s{1,20}"
            r"exitcode {1,20}: -?\d{1,4} \(pid: (?P<pid>\d{1,9})\)"
        ),
    ),
}
_ENDED = re.compile(
    r"killed by signal|exited unexpectedly|workers died|terminated|died unexpectedly|Task was killed|process has died"
)
_DASKS_SCHEDULER = "distributed.scheduler"
_TOGETHER = 1.0  # seconds within which tasks of one call fail


def read_worker(kind: Remote, errors: Sequence[BaseException], text: str) -> Worker | None:
    """Tell which worker it was.

    Args:
        kind: What kind of process ran out.
        errors: The error and those that it came with.
        text: The text that tells of the lack of memory.

    Returns:
        What is known of it; None where nothing is.
    """
    texts = [text[:_READ], *(one[:_READ] for error in errors for one in exception_args(error) if type(one) is str)]
    found = next((match for one in texts for rule in _TEXTS.get(kind, ()) if (match := rule.search(one))), None)
    parts = {} if found is None else {name: value for name, value in found.groupdict().items() if value}
    each = tuple(dict.fromkeys(engine for error in errors for engine in _engines(error)))
    if kind == "dask" and not parts:
        each, parts = _dasks(errors)
    if each:
        parts["id"] = ", ".join([name for name, _ in each][:_MOST])
    pid = parts.get("pid") or next((str(pid) for error in errors if (pid := _number(error, "error_pid"))), None)
    number = parts.get("id") or next(
        (str(index) for error in errors if (index := _number(error, "error_index")) is not None), None
    )
    alive = _lives(kind, texts)
    if number is pid is alive is None and "host" not in parts:
        return None
    return Worker(id=number, host=parts.get("host"), pid=None if pid is None else int(pid), alive=alive, each=each)


def _lives(kind: Remote, texts: Sequence[str]) -> bool | None:
    """Whether it goes on after its error: one that has answered by it does, one of a launcher does not."""
    if kind == "launcher" or any(_ENDED.search(one) for one in texts):
        return False
    return True if kind in ("ipyparallel", "ray", "dask", "server") else None


def _engines(error: BaseException) -> Iterator[tuple[str, str]]:
    """Number and uuid of ipyparallel's engines that an error names: `engine_info` of one, `elist` of several."""
    names = instance_dict(error)
    within = names.get("original_error")
    if isinstance(within, BaseException):  # AlreadyDisplayedError
        yield from _engines(within)
    infos = [names.get("engine_info")]
    listed = names.get("elist")
    if type(listed) is list:
        infos += [row[-1] for row in listed if type(row) is tuple and row]
    for info in infos:
        engine, uuid = (info.get("engine_id"), info.get("engine_uuid")) if type(info) is dict else (None, None)
        if type(engine) is int:
            yield str(engine), uuid if type(uuid) is str else ""


def _number(error: BaseException, name: str) -> int | None:
    value = instance_dict(error).get(name)
    return value if type(value) is int else None


def _dasks(errors: Sequence[BaseException]) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """The workers that such an error came from, where Dask's scheduler runs in this process: as `LocalCluster` has it.

    The error itself names none. A scheduler elsewhere is not asked: it may not answer.

    Returns:
        Their addresses and processes; and of a single one its machine and process.
    """
    try:
        newest, like = _failed_with(errors)
        found = {
            address: one for row, one in like if abs(newest - row.timestamp) < _TOGETHER for address in row.erred_on
        }
        workers = [(address, one.workers.get(address)) for address, one in found.items()]
        each = tuple((address, "" if worker is None else str(int(worker.pid))) for address, worker in workers)
        if len(workers) > 1:
            return each, {}
        ((_, worker),) = workers
        return each, {} if worker is None else {"host": str(worker.host), "pid": str(int(worker.pid))}
    except Exception:  # not loaded, none that failed, or another version
        return (), {}


def dask_clients() -> list[Any]:
    """Give the clients of Dask that this process has; those that are closed may be among them."""
    kind = getattr(sys.modules.get("distributed.client"), "Client", None)
    return list(getattr(kind, "_instances", ()))


def is_open(client: Any) -> bool:
    """Tell whether a client of Dask is connected, as far as it knows: not one of an `asyncio.run` that has ended."""
    return client.status == "running" and not client.loop.asyncio_loop.is_closed()


def _failed_with(errors: Sequence[BaseException]) -> tuple[float, list[tuple[Any, Any]]]:
    """When the task of an error failed, and the failed tasks of its class with their schedulers.

    A future that is kept has the very error. Where none is, the newest one was it, if no client has another cluster.

    Raises:
        LookupError: It may be another cluster's.
    """
    schedulers = {str(one.address): one for one in list(sys.modules[_DASKS_SCHEDULER].Scheduler._instances)}
    clients = [one for one in dask_clients() if is_open(one)]
    ids = set(map(id, errors))
    rows = [(client, key, state) for client in clients for key, state in list(client.futures.items())]
    of = {client: key for client, key, state in rows if id(state.exception) in ids}
    wanted = {str(client.scheduler.address) for client in of or clients} or set(schedulers)
    if not wanted <= set(schedulers):
        raise LookupError(wanted)
    failed = [(row, schedulers[one]) for one in wanted for row in list(schedulers[one].erred_tasks)]
    like = [(row, one) for row, one in failed if row.exception_text.startswith(class_name(type(errors[-1])) + "(")]
    return max(row.timestamp for row, _ in like if not of or row.key in of.values()), like
