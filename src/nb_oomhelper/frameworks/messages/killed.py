"""A worker process that is gone. Most often the system has killed it for its memory, and nothing proves it."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

# A worker that crashed says so by its signal: 11 and 7 are bad addresses, 6 is an abort.
_CRASHED = r"SIG(?:SEGV|BUS|ILL|FPE|ABRT|TERM|INT)\b"
MESSAGES = Messages(
    name="python",
    module="",
    rules=(
        Rule(
            "dataloader.killed",
            "host",
            r"DataLoader worker \(pid\(?s?\)? [\d, ]{1,200}\) is killed by signal: Killed",
            probable=True,
        ),
        Rule(
            "dataloader.exited",
            "host",
            r"DataLoader worker \(pid\(?s?\)? [\d, ]{1,200}\) exited unexpectedly",
            probable=True,
        ),
        Rule(
            "joblib.killed",
            "host",
            "worker process managed by the executor was unexpectedly terminated",
            probable=True,
            without=_CRASHED,
        ),
        Rule("pool.broken", "host", "process in the process pool was terminated abruptly", probable=True),
        Rule(
            "pool.broken", "host", "A child process terminated abruptly, the process pool is not usable", probable=True
        ),
        Rule("dask.killed", "host", r"KilledWorker|all those workers died while running it", probable=True),
        Rule(
            "dask.killed",
            "host",
            "^",
            kind=r"^distributed\.(?:\w{1,20}\.){0,3}KilledWorker$",
            known=True,
            probable=True,
        ),
        Rule("dask.nanny", "host", r"exceeded \d{1,3}% memory budget"),
        Rule("ray.node_oom", "host", "due to the node running low on memory"),
        Rule("ray.node_oom", "host", "^", kind=r"^ray\.(?:\w{1,20}\.){0,3}OutOfMemoryError$", known=True),
        Rule("ray.killed", "host", r"killed by SIGKILL by OOM killer", probable=True),
        Rule("ray.store_full", "host", "^", kind=r"^ray\.(?:\w{1,20}\.){0,3}ObjectStoreFullError$", known=True),
        Rule("launcher.killed", "host", r"process \d+ terminated with signal SIGKILL", probable=True),
        Rule("launcher.killed", "host", r"Signal 9 \(SIGKILL\) received by PID", probable=True),
        Rule("subprocess.killed", "host", r"died with <Signals\.SIGKILL: 9>", probable=True),
        Rule("linux.oom_killer", "host", r"Out of memory: Kill(?:ed)? process \d+", probable=True),
        Rule("linux.oom_killer", "host", r"Memory cgroup out of memory|oom[-_]kill event", probable=True),
    ),
    fields={
        "allocated": r"where the task .{0,300}? was running was (\d[\d.]{0,12}[KMGT]?i?B) /",
        "capacity": r"was running was \d[\d.]{0,12}[KMGT]?i?B / (\d[\d.]{0,12}[KMGT]?i?B)",
    },
)
