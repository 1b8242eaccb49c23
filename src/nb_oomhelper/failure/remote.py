"""Whether an error came here from another process, told by classes, causes, texts and tracebacks; nothing is imported.

Threads are this process: DataParallel's replicas, the thread of a DataLoader that pins, those of a ThreadPoolExecutor.
"""

from __future__ import annotations

import gc
import re
import sys

from nb_oomhelper.introspection import (
    cause_of,
    class_dict,
    class_mro,
    class_name,
    exception_args,
    instance_dict,
    traceback_of,
)
from nb_oomhelper.records.event import Remote

# The package that defines a class ("" is any), names of classes, and the kind of process that they tell of.
_CLASSES: tuple[tuple[str, tuple[str, ...], Remote], ...] = (
    ("ray", ("RayTaskError", "RayActorError", "WorkerCrashedError", "OutOfMemoryError"), "ray"),
    ("ipyparallel", ("RemoteError", "CompositeError", "AlreadyDisplayedError"), "ipyparallel"),
    ("distributed", ("KilledWorker",), "dask"),
    ("dask", ("RemoteException",), "dask"),
    ("torch", ("ProcessRaisedException", "ProcessExitedException", "ChildFailedError"), "launcher"),
    ("papermill", ("PapermillExecutionError",), "launcher"),  # of another notebook's kernel
    ("nbclient", ("CellExecutionError",), "launcher"),
    ("pyspark", ("PythonException",), "other"),
    ("py4j", ("Py4JJavaError",), "other"),
    ("subprocess", ("CalledProcessError",), "command"),  # it quotes the command, of a script all of its code
    ("multiprocessing", ("RemoteError",), "other"),  # of a manager
    # what clients raise for a server's answer
    ("openai", ("APIError",), "server"),
    ("litellm", ("APIError",), "server"),
    ("ollama", ("ResponseError",), "server"),
    ("requests", ("HTTPError",), "server"),
    ("httpx", ("HTTPStatusError",), "server"),
    ("aiohttp", ("ClientResponseError",), "server"),
    ("urllib", ("HTTPError",), "server"),
    ("gradio_client", ("AppError",), "server"),
    ("huggingface_hub", ("HfHubHTTPError",), "server"),
    ("tritonclient", ("InferenceServerException",), "server"),
    ("grpc", ("RpcError",), "server"),
    ("", ("RemoteTraceback", "_RemoteTraceback"), "process pool"),  # multiprocessing, concurrent.futures, joblib, …
)
_CARRIED = "RemoteTraceback"
# How a text begins that was made anew after another process's error. One that only quotes it begins otherwise.
_TEXTS: tuple[tuple[re.Pattern[str], Remote], ...] = (
    (re.compile(r"Caught \w{1,80} in DataLoader worker process \d"), "dataloader worker"),  # torch/_utils.py
    (re.compile(r"(?:\x1b\[\d+m)?ray::\S{1,300} \(pid=\d"), "ray"),
    (re.compile(r"\s*-- Process \d+ terminated with the following error:"), "launcher"),  # torch/multiprocessing
    (
        re.compile(r"Command .{1,2000}? failed with return code -?\d", re.DOTALL),
        "launcher",
    ),  # pyspark's TorchDistributor
    (
        re.compile(
            r"50\d Server Error|[\w ,]{0,60}?\b(?:HTTP[\w/. ]{0,12}|error code|status(?: code)?|"
            r"server (?:error|returned|responded with))\W{1,3}50\d\b(?! ?[KMGT]i?B)",
            re.IGNORECASE,
        ),
        "server",
    ),
    (re.compile(r"""\s{0,9}\{\s{0,9}["'](?:error|detail|message|object)["']\s{0,9}:"""), "server"),  # an answer's JSON
)
# Before each line that a process prints for another one's log.
_PRINTED_BY: tuple[tuple[re.Pattern[str], Remote], ...] = (
    (re.compile(r"\((?:EngineCore|APIServer|Worker_|VllmWorker)"), "other"),  # vLLM
    (re.compile(r"\(\w[^()]{0,80}\bpid=\d"), "ray"),
)
# What is printed only where another process's failure is told of.
_LOGS: tuple[tuple[re.Pattern[str], Remote], ...] = (
    (
        re.compile(r"\bdistributed\.(?:worker|nanny|utils|core) - (?:ERROR|WARNING|CRITICAL)\b|<Worker\.execute\(\)"),
        "dask",
    ),
    (re.compile(r"\blaunch\.py:\d{1,5}:sigkill_handler\]|\bdistributed\.elastic\.multiprocessing\b"), "launcher"),
    (re.compile(r"\bjava\.lang\.\w{0,40}(?:Exception|Error): (?!.{0,40}OutOfMemory)"), "java"),
)
_BODY = 20_000
_FRAMES = 2_000
_REBUILT = ("__traceback_maker",)  # tblib's frames, made here after those of another process, name nothing else
_DASK = re.compile(r"/(?:distributed|dask)/")
_MANAGER = ("_callmethod", "multiprocessing/managers.py")  # it raises what the manager's process has sent


def came_from(error: BaseException) -> Remote | None:
    """Tell what kind of process an error came here from, by its own class, cause, text and traceback.

    Returns:
        A kind, as `OomEvent.remote` has it; None where it is this process's own, as far as can be seen.
    """
    return _by_class(error) or _by_cause(error) or _by_text(error) or _by_traceback(error)


def is_carried(error: BaseException) -> bool:
    """Tell whether an exception is only the text of another process's traceback: the cause of what is raised here."""
    return any(class_name(kind).endswith(_CARRIED) for kind in class_mro(type(error)))


def answer_of(error: BaseException) -> str:
    """Give the body of a server's answer that an error keeps and does not print, as those of `raise_for_status` do.

    Args:
        error: One of a class of any package; only what has been received is read.

    Returns:
        Its end, at most 20,000 characters; "" where there is none.
    """
    if _by_class(error) != "server":
        return ""
    body = instance_dict(instance_dict(error).get("response")).get("_content")  # of requests and of httpx
    return body[-_BODY:].decode("utf-8", "replace") if type(body) is bytes else ""


def _by_class(error: BaseException) -> Remote | None:
    classes = [(_package(kind), class_name(kind)) for kind in class_mro(type(error))]
    for package, names, told in _CLASSES:
        if any(name in names and package in ("", home) for home, name in classes):
            return None if _is_of_joblibs_threads(error, classes) else told
    return None


def _is_of_joblibs_threads(error: BaseException, classes: list[tuple[str, str]]) -> bool:
    """Joblib carries texts between threads as well: of its own alone only loky's workers are surely processes."""
    carried = any(home == "joblib" and name.endswith(_CARRIED) for home, name in classes)
    return carried and not any("process_executor" in text for text in _texts(error))


def _package(kind: type) -> str:
    return str(class_dict(kind).get("__module__")).partition(".")[0]


def _by_cause(error: BaseException) -> Remote | None:
    cause = cause_of(error)
    if cause is None or not is_carried(cause):
        return None
    return _by_class(cause) or ("process pool" if _is_of_joblibs_pool(error) else None)


def _is_of_joblibs_pool(error: BaseException) -> bool:
    """Joblib's back end "multiprocessing", whose texts are those of its threads: the frames of the call have it."""
    link = traceback_of(error)
    for _ in range(_FRAMES):
        if link is None:
            return False
        if link.tb_frame.f_code.co_filename.replace("\\", "/").endswith("joblib/parallel.py"):
            kinds = (class_name(type(one)) for one in gc.get_referents(link.tb_frame))
            if any(name == "MultiprocessingBackend" for name in kinds):
                return True
        link = link.tb_next
    return False


def _by_text(error: BaseException) -> Remote | None:
    return next((told for one in _texts(error) for begins, told in _TEXTS if begins.match(one)), None)


def _texts(error: BaseException) -> list[str]:
    return [one for one in exception_args(error) if type(one) is str]


def _by_traceback(error: BaseException) -> Remote | None:
    """Frames that were made here after another process's, or the call that brings a manager's error."""
    link, dask = traceback_of(error), False
    for _ in range(_FRAMES):
        if link is None:
            return None
        code = link.tb_frame.f_code
        file = code.co_filename.replace("\\", "/")
        dask = dask or _DASK.search(file) is not None
        if code.co_names == _REBUILT:
            return None if dask and _has_dask_worker() else "dask" if dask else "other"
        if link.tb_next is None and code.co_name == _MANAGER[0] and file.endswith(_MANAGER[1]):
            return "other"
        link = link.tb_next
    return None


def _has_dask_worker() -> bool:
    """Whether a worker of Dask's runs in this process, as with `Client(processes=False)`."""
    try:
        return len(sys.modules["distributed.worker"].Worker._instances) > 0
    except Exception:  # not loaded, or another version
        return False


def is_named_in(exception_type: str, text: str) -> Remote | None:
    """Tell the same by what a traceback prints of an exception, as far as that tells it.

    Args:
        exception_type: Its class, with the module where that is printed.
        text: Its message.
    """
    home, _, name = exception_type.partition("(")[0].rpartition(".")
    package = home.partition(".")[0]
    by_class = (told for one, names, told in _CLASSES if name in names and package and one in ("", package))
    carried = name.endswith(_CARRIED) or name == "KilledWorker"
    bare = ("dask" if name == "KilledWorker" else "process pool") if carried and not package else None
    by_text = (told for begins, told in _TEXTS if begins.match(text))
    return next(by_class, None) or bare or next(by_text, None)  # type: ignore[return-value]


def is_printed_by(before: str) -> Remote | None:
    """Tell the same by what stands before a line of a log.

    Args:
        before: "(f pid=12) " or the like; "" where nothing does.
    """
    return next((told for begins, told in _PRINTED_BY if begins.match(before)), None)


def is_log_of(text: str) -> Remote | None:
    """Tell the same by the lines of a log around a message.

    Args:
        text: These lines.
    """
    return next((told for says, told in _LOGS if says.search(text)), None)
