"""Java virtual machines, which Spark, Hail and H2O run in: the heap has a limit of its own, in another process.

An exception whose own class is Java's is none: JPype's virtual machine runs inside this process.
"""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

# What else is an OutOfMemoryError there is none: a thread too many, an array that is longer than one may be
_HEAP = (
    r"(?:Java heap space|GC overhead limit exceeded|Metaspace\b|PermGen space|Direct buffer memory"
    r"|Cannot reserve \d{1,20} bytes of direct buffer memory|Not enough memory to build and broadcast the table)"
)
_USED = r"\d[\d.]{0,12} ?[KMGT]?i?B"

MESSAGES = Messages(
    name="java",
    module="py4j",
    rules=(
        Rule("java.heap", "host", rf"OutOfMemoryError: {_HEAP}", remote="java"),
        Rule("java.heap", "host", "OutOfMemoryError thrown from the UncaughtExceptionHandler", remote="java"),
        Rule(
            "java.heap",
            "host",
            r"(?i:java heap ?space (?:error|exception|oom|exhausted|exceeded)"
            r"|(?:error|exception|out of):? java heap ?space)",
            probable=True,
            remote="java",
        ),
        Rule("java.heap", "host", r"^GC overhead limit exceeded\.?$", kind="^$", probable=True, remote="java"),
        # the machine refused it: no limit of its own
        Rule("java.native", "host", "insufficient memory for the Java Runtime Environment", remote="java"),
        Rule(
            "java.native",
            "host",
            r"os::commit_memory\(",
            r"^.{0,200}(?:Cannot allocate memory|errno=12\b)",
            remote="java",
        ),
        Rule("java.native", "host", r"# Out of Memory Error \(\w{1,40}\.cpp:\d", remote="java"),  # hs_err_pid*.log
        Rule("java.native", "host", r"Could not reserve enough space for (?:\d{1,20}KB )?object heap", remote="java"),
        Rule("java.native", "host", r"Native memory allocation (?:\(\w{1,12}\) )?failed to ", remote="java"),
        Rule("spark.acquire", "host", rf"Unable to acquire {SIZE} of memory, got \d", remote="java"),
        Rule(
            "spark.yarn", "host", r"[Cc]ontainer killed by YARN for exceeding .{0,20}memory limits(?!,)", remote="java"
        ),
        Rule("spark.container", "host", r"SIGKILL, possible container OOM", probable=True, remote="java"),  # Kubernetes
        Rule(
            "spark.driver", "host", "The spark driver has stopped unexpectedly", probable=True, remote="java"
        ),  # Databricks
    ),
    fields={
        "requested": (
            rf"Unable to acquire ({SIZE})|reserve (\d{{1,20}}) bytes|failed to (?:map|allocate) ({SIZE})"
            r"|commit_memory\(\w{1,20}, (\d{1,20})|space for (\d{1,20}KB)"
        ),
        "free": r"of memory, got (\d{1,20})",
        "allocated": rf"memory limits\. ({_USED}) of {_USED} physical",
        "limit": rf"memory limits\. {_USED} of ({_USED}) physical|limit: (\d{{1,20}})\)",
    },
)
