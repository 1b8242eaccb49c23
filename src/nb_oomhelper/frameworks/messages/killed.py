"""A worker process that is gone. Most often the system has killed it for its memory, and nothing proves it."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule
from nb_oomhelper.records.event import Remote

# A worker that crashed says so by its signal: 11 and 7 are bad addresses, 6 is an abort.
_CRASHED = r"SIG(?:SEGV|BUS|ILL|FPE|ABRT|TERM|INT)\b"
_WORKER = r"DataLoader worker \(pid\(?s?\)? [\d, ]{1,200}\)"
_RAY = r"^ray\.(?:\w{1,20}\.){0,3}"


def _gone(form: str, remote: Remote, trigger: str, *, kind: str = "", known: bool = False) -> Rule:
    """A rule of a worker that has ended without a word."""
    return Rule(form, "host", trigger, probable=True, without=_CRASHED, kind=kind, known=known, remote=remote)


MESSAGES = Messages(
    name="python",
    module="",
    rules=(
        _gone("dataloader.killed", "dataloader worker", rf"{_WORKER} is killed by signal: Killed"),
        Rule(  # after a bus error, which is a container's shared memory, it is that worker
            "dataloader.exited",
            "host",
            rf"(?:{_WORKER} is killed by signal: Bus error.{{0,500}}?)?{_WORKER} exited unexpectedly",
            probable=True,
            without=f"{_CRASHED}|^.{{0,250}}Bus error",
            remote="dataloader worker",
        ),
        _gone("joblib.killed", "process pool", "worker process managed by the executor was unexpectedly terminated"),
        _gone("pool.broken", "process pool", "process in the process pool was terminated abruptly"),
        _gone("pool.broken", "process pool", "A child process terminated abruptly, the process pool is not usable"),
        _gone("pool.broken", "process pool", "A process in the executor was terminated abruptly"),  # loky, to 0.12
        _gone(
            "pool.broken", "process pool", "Background workers died. Look for the error message further up"
        ),  # nnU-Net
        _gone("dask.killed", "dask", r"\bKilledWorker\b|all those workers died while running it"),
        _gone("dask.killed", "dask", "^", kind=r"^distributed\.(?:\w{1,20}\.){0,3}KilledWorker$", known=True),
        Rule("dask.nanny", "host", r"exceeded \d{1,3}% memory budget", remote="dask"),
        Rule(  # what a task has raised, in a worker's log
            "dask.task",
            "host",
            r"distributed\.worker - (?:WARNING|ERROR) - Compute Failed",
            r"Exception: \W{0,2}MemoryError\(",
            without=r"(?i:cuda|rmm|gpu|std::bad_alloc|\bdevice)",
            remote="dask",
        ),
        Rule(  # a raylet's log
            "ray.node_oom", "host", "Node memory usage above threshold, used", "to free up memory", remote="ray"
        ),
        Rule("ray.node_oom", "host", "due to the node running low on memory", remote="ray"),
        Rule("ray.node_oom", "host", r"More than \d{1,3}% of the memory on node", remote="ray"),  # older
        Rule("ray.node_oom", "host", r"\bRayOutOfMemoryError\b", probable=True, remote="ray"),
        Rule("ray.node_oom", "host", "^", kind=rf"{_RAY}OutOfMemoryError$", known=True, remote="ray"),
        Rule("ray.store_full", "host", "^", kind=rf"{_RAY}ObjectStoreFullError$", known=True, remote="ray"),
        Rule(
            "ray.node_oom",
            "host",
            r"\b[1-9]\d{0,6} Workers \(tasks / actors\) killed due to memory pressure",
            remote="ray",
        ),
        _gone("ray.killed", "ray", "killed by SIGKILL by OOM killer"),
        Rule(
            "ray.node_oom", "host", r"killing latest task with name|task assigned time to free up memory", remote="ray"
        ),
        Rule("ray.died", "host", "was killed by the OOM killer due to high memory usage", probable=True, remote="ray"),
        _gone("ray.died", "ray", "^", kind=rf"{_RAY}WorkerCrashedError$", known=True),
        _gone("ray.died", "ray", "A worker died or was killed while executing a task"),  # in the driver's log
        _gone("launcher.killed", "launcher", r"process \d+ terminated with signal SIGKILL"),
        _gone("launcher.killed", "launcher", r"Signal 9 \(SIGKILL\) received by PID"),
        _gone("launcher.killed", "launcher", r"failed \(exitcode: -9\) local_rank"),  # torchrun's log
        _gone("launcher.killed", "launcher", r"exits with return code = -9\b"),  # DeepSpeed's
        _gone("subprocess.killed", "launcher", r"died with <Signals\.SIGKILL: 9>"),
        _gone("linux.oom_killer", "other", r"Out of memory: Kill(?:ed)? process \d+"),
        _gone("linux.oom_killer", "other", r"Killed process \d{1,9},? [^:]{1,60} total-vm:\d"),  # to Linux 4
        _gone("linux.oom_killer", "other", r"\btask \d+: Out Of Memory"),  # srun
        Rule("linux.pages", "host", r": page allocation failure: order:\d", probable=True, remote="other"),
        _gone(
            "shell.killed",
            "command",
            r"\bline \d{1,6}: {0,1}\d{1,9} Killed\b|zsh: killed\b|shell: Killed\b|\bKilled: 9\b"
            r"|eta [\d:-]{4,9} ?Killed\b",  # pip, below its bar
        ),
        _gone("shell.killed", "command", r"行 ?\d{1,6}: {0,1}\d{1,9} 已杀死"),
        _gone("shell.killed", "command", r"\[\d{1,4}\] {0,2}[+-]? {0,2}\d{2,9} killed\b"),  # zsh, of a job
        _gone(
            "shell.killed",
            "command",
            r"(?<!process )\b(?:terminated (?:by|with)|[Kk]illed by) signal:? (?:SIGKILL|9\b)",
        ),
        _gone(
            "shell.killed",
            "command",
            r"[Ee]xit(?:(?:ed)?(?: with)?(?: status)? (?:status|code)(?: is|:)? ?\(?|: )(?:137|-9)\b(?! is\b)",
        ),
        _gone(
            "compiler.killed",
            "command",
            r"Killed signal terminated program|internal compiler error: Killed|died (?:due to|of) signal 9\b",
        ),
        Rule(
            "batch.limit",
            "host",
            r"slurmstepd: error: .{0,40}?[Ee]xceeded (?:\w{1,10} ){0,2}memory limit",
            remote="other",
        ),
        Rule("batch.limit", "host", r"PBS: job killed: v?mem \d{1,20}(?:kb)? exceeded limit", remote="other"),
        Rule("batch.limit", "host", r"TERM_MEMLIMIT\b", remote="other"),  # LSF
        Rule("hosted.memory", "host", r"session crashed after using all available RAM", remote="other"),  # Colab
        Rule(
            "hosted.memory", "host", r"notebook tried to allocate more memory than is available", remote="other"
        ),  # Kaggle
        Rule(
            "hosted.memory", "host", r"use an instance type with more memory", probable=True, remote="other"
        ),  # SageMaker
        _gone("linux.oom_killer", "other", r"Memory cgroup out of memory|oom[-_]kill event|invoked oom-killer"),
        _gone(
            # Kubernetes, Docker; not "when they get OOM killed", nor what somebody is to look for
            "linux.oom_killer",
            "other",
            r"OOM(?<!says .OOM)(?<!\bget OOM)(?<!\bgets OOM)(?<!\bbe OOM)(?:Killed|[- ]killed)"
            r"(?!['\"]{0,2} ?[:=] ?[Ff]alse)",
        ),
    ),
    fields={
        "allocated": (
            r"where the task .{0,300}? was running was (\d[\d.]{0,12}[KMGT]?i?B) /|threshold, used: (\d{1,20})"
        ),
        "capacity": (
            r"was running was \d[\d.]{0,12}[KMGT]?i?B / (\d[\d.]{0,12}[KMGT]?i?B)"
            r"|is used \(\d[\d.]{0,12} / (\d[\d.]{0,12} [KMGT]?i?B)\)|threshold, used: \d{1,20}, total: (\d{1,20})"
        ),
    },
)
