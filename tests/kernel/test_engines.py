"""Errors that real engines bring into a notebook: one panel, which names the worker and shows nothing of this process.

The engines are asked for, not required: from an environment `.venv-engines` that has them (ipyparallel, distributed,
ray, ipykernel, ipywidgets, numpy and psutil), or from the tests' own. What is missing is skipped, also with CI=true:
not every Python has all of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cells import LOAD, Panel, shown
from tests.kernel.driver import Kernel, Reply

pytestmark = pytest.mark.kernel

OWN = Path(__file__).parents[2] / ".venv-engines" / "bin" / "python"
PYTHON = OWN if OWN.exists() else Path(sys.executable)
FULL = "def full(*_):\n    import numpy\n    return numpy.ones(1 << 50, numpy.uint8)"
KEEP = "def keep(*_):\n    import numpy\n    kept = numpy.ones(200 << 20, numpy.uint8)\n    numpy.ones(1 << 50)"
RELEASE, READ, AGAIN = "Release there", "Read its memory", "Run the cell again"
# Of 300 MiB one task can have 200, and not once more while a failed one keeps its own.
TASKS = """
def limit():
    import gc, resource, numpy, psutil, os
    gc.disable()  # a collection that comes by chance gives back what a Dask worker keeps
    size = psutil.Process().memory_info().vms + (300 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    return os.getpid()
def whole(*_):
    import numpy
    first = numpy.ones(200 << 20, numpy.uint8)
    return int((first + first)[0])
def half(*_):
    import numpy
    return int(numpy.ones(200 << 20, numpy.uint8)[0]) + 6
def resident(pid):
    return psutil.Process(pid).memory_info().rss
def asked(function, **worker):
    import dataclasses
    from nb_oomhelper import engines
    event = get_ipython()._nb_oomhelper.case.event
    event = dataclasses.replace(event, worker=dataclasses.replace(event.worker, **worker))
    return [reply.problem and reply.problem.key for reply in engines.ask_failed(function, event)]
"""
HIDE = """
def hide():
    import os, sys
    sys.kept = list(sys.path)
    sys.path[:] = [folder for folder in sys.path if not os.path.isdir(os.path.join(folder, "nb_oomhelper"))]
    for name in [name for name in sys.modules if name.startswith("nb_oomhelper")]:
        del sys.modules[name]
on(1, hide)
"""
# What a worker's nb_oomhelper may say instead of the truth.
LIES = """
def hostile():
    import socket
    socket.gethostname = lambda: "<img src=x onerror=alert(1)>"
def nonsense():
    import nb_oomhelper.there
    nb_oomhelper.there.read = lambda *of, **more: {"form": 1, "pid": "7", "rows": [{"device": "host", "rest": -1}]}
def unsendable():
    import nb_oomhelper.there
    class Unsendable:
        def __reduce__(self):
            raise ValueError("<b>no</b>")
    nb_oomhelper.there.read = lambda *of, **more: Unsendable()
def honest():
    import importlib, socket, _socket, nb_oomhelper.there
    socket.gethostname = _socket.gethostname
    importlib.reload(nb_oomhelper.there)
def unsendable_error():
    import threading, numpy
    try:
        numpy.ones(1 << 50)
    except MemoryError as error:
        error.lock = threading.Lock()
        raise
"""
SHOW = "def show():\n    import sys\n    sys.path[:] = sys.kept\non(1, show)"
ON = {
    "ipyparallel": """
def on(number, function):
    return client[number].apply_sync(function)
def count():
    return len(client.ids)
connect = cluster.connect_client_sync
""",
    "distributed": """
def on(number, function):
    return client.submit(function, pure=False, workers=[number], retries=0).result()
def count():
    return len(client.scheduler_info()["workers"])
connect = lambda: distributed.Client(cluster)
""",
}
SETUP = {
    "ipyparallel": """
import ipyparallel
cluster = ipyparallel.Cluster(n=2)
client = cluster.start_and_connect_sync()
client.wait_for_engines(2, timeout=60)
view = client[:]
view.block = True
view.activate()
""",
    "distributed": """
import distributed
cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
client = distributed.Client(cluster)
""",
    "ray": """
import os
os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
@ray.remote
class Actor:
    def full(self):
        import numpy
        self.kept = numpy.ones(200 << 20, numpy.uint8)
        full()
    def die(self):
        import os
        os.kill(os.getpid(), 9)
actor = Actor.remote()
""",
}
END = {
    "ipyparallel": "client.shutdown(hub=True)\ncluster.stop_cluster_sync()",
    "distributed": "client.close()\ncluster.close()",
    "ray": "ray.shutdown()",
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel(PYTHON, tmp_path_factory.mktemp("engines")) as kernel:
        for cell in (LOAD, "import numpy, psutil", FULL, KEEP, TASKS, LIES):
            assert kernel.execute(cell).status == "ok"
        yield kernel


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, engines: Kernel) -> Iterator[Kernel]:
    """The kernel with a cluster of that engine, which ends with the tests that ask for it."""
    name = request.param
    if not engines.can_import(name):
        pytest.skip(f"{name} is not installed: `make engines` asks for it, and says why it is not to be had")
    reply = engines.execute(SETUP[name] + ON.get(name, ""), timeout=120)
    assert reply.status == "ok", reply.traceback
    yield engines
    engines.execute(END[name], timeout=60)


def elsewhere(kernel: Kernel, reply: Reply) -> str:
    """The title of the one panel, which has no bar, no fix that releases here, and nothing that is live."""
    late = kernel.poll(0.5)
    assert len(shown(reply) + shown(late)) == 1
    panel = Panel(kernel, reply)
    assert "oomh-bar" not in panel.bundle["text/html"].partition("</style>")[2]
    assert "Only the fix" not in panel.buttons
    assert "not searched" in panel.text
    return str(panel.bundle["text/plain"]).splitlines()[0]


def test_without_a_client_there_is_nobody_to_ask(engines: Kernel) -> None:
    if engines.can_import("ipyparallel"):  # an error keeps a client that never found its cluster
        engines.execute("import ipyparallel\nipyparallel.Client(url_file='/nowhere', timeout=1)")
        assert engines.eval("__import__('nb_oomhelper.engines').engines._ipyparallel.clusters()") == 0
    for line in ("%gpumem --engines", "%oom release --engines"):
        assert engines.execute(line).stdout.startswith("There is no client of ipyparallel or Dask")


def using(engine: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", [engine], indirect=True, scope="module")


@using("ipyparallel")
@pytest.mark.parametrize(
    ("cell", "who"),
    [
        ("client[1].apply_sync(full)", "ipyparallel engine 1"),
        ("client[:].apply_sync(full)", "ipyparallel engine 0, 1"),
        ("client[0].execute('import numpy; numpy.ones(1 << 50, numpy.uint8)', block=True)", "ipyparallel engine 0"),
        ("%%px --targets 1\nimport numpy\nnumpy.ones(1 << 50, numpy.uint8)", "ipyparallel engine 1"),
        ("%px __import__('numpy').ones(1 << 50, 'u1')", "ipyparallel engine 0, 1"),
    ],
)
def test_ipyparallel(running: Kernel, cell: str, who: str) -> None:
    assert elsewhere(running, running.execute(cell, timeout=60)) == f"Out of memory in another process: {who}"


@using("ipyparallel")
def test_what_an_engine_has_not_begun_in_time_does_not_run_there_later(running: Kernel) -> None:
    asked = "[[r.id, r.problem and r.problem.key] for r in __import__('nb_oomhelper.engines').engines.ask_all('read')]"
    running.execute("import time\nsleeping = client[1].apply_async(time.sleep, 4)")
    assert running.eval(asked) == [["0", None], ["1", "engines.late"]]
    running.execute("sleeping.get()")
    loaded = "client[:].apply_sync(lambda: 'nb_oomhelper.there' in __import__('sys').modules)"
    assert running.eval(loaded) == [True, False]


@using("ipyparallel")
def test_what_the_panel_says_of_an_engine_gives_its_memory_back(running: Kernel) -> None:
    resident = "client[0].apply_sync(lambda: __import__('psutil').Process().memory_info().rss)"
    before = running.eval(resident)
    panel = Panel(running, running.execute("client[0].apply_sync(keep)", timeout=60))
    assert "%oom release --engines" in panel.text
    assert running.eval(resident) - before > 190 << 20
    said = running.execute("%oom release --engines", timeout=60).stdout.splitlines()
    assert [line.partition(" (")[0] for line in said] == ["ipyparallel engine 0", "ipyparallel engine 1"]
    assert running.eval(resident) - before < 20 << 20


@using("distributed")
@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ("client.submit(full).result()", 1),
        ("import dask\ndask.delayed(full)().compute()", 1),
        ("client.gather([client.submit(full, 1, workers=[0]), client.submit(full, 2, workers=[1])])", 2),
    ],
)
def test_dask(running: Kernel, cell: str, count: int) -> None:
    running.poll(1.2)  # what failed longer ago than a second is another call's
    reply = running.execute(cell, timeout=60)
    title = elsewhere(running, reply)
    assert title.startswith("Out of memory in another process: the Dask worker tcp://127.0.0.1:")
    assert title.count("tcp://") == count
    logs = re.search(r"client\.get_worker_logs\(workers=.+?\)", Panel(running, reply).text)
    assert logs is not None
    assert running.eval(f"sorted({logs[0]}) == sorted({re.findall(r'tcp://[^ ,]+', title)})")
    assert ("(PID " in title) == (count == 1)


def each(*engines: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", engines, indirect=True, scope="module")


@each("ipyparallel", "distributed")
def test_the_table_has_all_workers(running: Kernel) -> None:
    reply = running.execute("%gpumem --engines")
    lines = reply.mime("text/plain")[0].splitlines()
    pids = running.eval("[on(number, __import__('os').getpid) for number in (0, 1)]")
    assert len(lines) == 3
    assert all(any(f"(PID {pid} on " in line and " host " in line for line in lines) for pid in pids)
    threads = "[thread.name for thread in __import__('threading').enumerate()]"
    assert "nb_oomhelper" not in running.eval(f"on(0, lambda: {threads})")  # it has ended with the answer
    rows = json.loads(running.execute("%gpumem --engines --json").stdout)["workers"]
    assert {row["pid"]: row["problem"] for row in rows} == dict.fromkeys(pids)
    for row in rows:
        assert abs(row["usages"][-1]["rest"] - running.eval(f"resident({row['pid']})")) < 20 << 20


def give_back(running: Kernel, failed: Reply, pid: int, before: int) -> Panel:
    """Read the worker's memory from the panel of its error, then release it there."""
    elsewhere(running, failed)
    panel = Panel(running, failed)
    full = running.eval(f"resident({pid})")
    assert full - before > 190 << 20
    assert [label for label in panel.buttons if label in (RELEASE, READ)] == [RELEASE, READ]
    assert "import_module(\"nb_oomhelper.there\").release('host'" in panel.text
    panel.click(READ)
    assert re.search(rf"\(PID {pid} on [^)]+\): 2\d\d MiB resident;", panel.text)
    assert "oomh-bar" in "".join(state.get("value", "") for state in panel.visible())
    assert running.eval(f"resident({pid})") > full - (20 << 20)  # reading gives nothing back
    panel.click(RELEASE)
    assert abs(running.eval(f"resident({pid})") - before) < 0.05 * before
    assert re.search(r"Release on the worker: freed (199|2\d\d)(\.\d)? MiB", panel.text)
    return panel


@each("ipyparallel", "distributed")
def test_a_worker_that_ran_out_is_released_from_the_panel_and_the_cell_runs(running: Kernel) -> None:
    pid = running.eval("on(0, limit)")
    running.execute("step = half\nassert on(0, step) == 7\n%gpumem --engines")  # what is loaded once is loaded
    before = running.eval(f"resident({pid})")
    running.execute("step = whole")
    panel = give_back(running, running.execute("on(0, step)"), pid, before)
    running.execute("step = half")
    reply = panel.click(AGAIN)
    assert reply.errors == []
    assert "✓ Solved: Out of memory in another process: " in panel.text


@using("ipyparallel")
def test_an_engine_that_keeps_a_failed_task_has_no_room_for_the_next_until_it_is_released(running: Kernel) -> None:
    pid = running.eval("on(0, __import__('os').getpid)")  # the limit is set
    before = running.eval(f"resident({pid})")
    running.execute("on(0, whole)")
    panel = give_back(running, running.execute("on(0, half)"), pid, before)
    assert panel.click(AGAIN).errors == []


@using("ipyparallel")
def test_a_metered_px_tells_the_peak_of_each_engine(running: Kernel) -> None:
    running.execute("client[:].apply_sync(half)")  # it imports numpy
    cell = (
        "%%gpumem\n%%px --targets 1\nimport numpy, time\ntook = numpy.ones(300 << 20, 'u1'); time.sleep(0.3); del took"
    )
    found = re.findall(r"ipyparallel engine (\d) \(.*: host, .*: peak \S+ \w+ \((\S+)", running.execute(cell).stdout)
    assert [number for number, _ in found] == ["0", "1"]
    assert re.fullmatch(r"\+(29\d|30\d)(\.\d+)?", found[1][1]), found
    assert not re.fullmatch(r"\+\d{3}.*", found[0][1]), found
    reply = running.execute("%%gpumem\n%px __import__('numpy').ones(1 << 50)")
    assert reply.status == "error"
    assert reply.stdout.count("ipyparallel engine ") == 2
    threads = "[thread.name for thread in __import__('threading').enumerate()]"
    assert "nb_oomhelper" not in running.eval(f"on(0, lambda: {threads})")


@using("ipyparallel")
def test_each_engine_that_failed_has_its_row(running: Kernel) -> None:
    running.execute("view.push({'keep': keep})")
    panel = Panel(running, running.execute("%px keep()", timeout=60))
    panel.click(RELEASE)
    rows = re.findall(r"ipyparallel engine (\d) \(PID \d+ on [^)]+\): (\S+) MiB given back", panel.text)
    assert [number for number, _ in rows] == ["0", "1"]
    assert all(float(size) > 190 for _, size in rows)
    assert re.search(r"Release on the worker: freed (39\d|4\d\d) MiB", panel.text)


@each("ipyparallel", "distributed")
def test_where_a_model_would_fit(running: Kernel, tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (4 << 40))  # a hole
    lines = running.execute(f"%oom plan {tmp_path} --engines").mime("text/plain")[0].splitlines()
    rows = [line for line in lines if "(PID " in line and " host " in line]
    assert len(rows) == 2
    assert all("✗ too little (4.00 TiB)" in row for row in rows)
    assert any("share its memory" in line for line in lines)


@each("ipyparallel", "distributed")
def test_the_live_bars_follow_the_workers(running: Kernel) -> None:
    def bars() -> str:
        drawn = [str(state.get("value", "")) for key, state in running.widgets.items() if key not in before]
        return next((value for value in drawn if "oomh-bar" in value), "")

    before = set(running.widgets)
    running.execute("%config OOMHelper.refresh_seconds = 0.5\n%gpumem --engines --live")
    first = bars()
    assert first.count('class="oomh-bar') == 2
    pid = running.eval("on(0, __import__('os').getpid)")
    assert f"PID {pid} " in first
    for _ in range(40):
        if bars() != first:
            break
        running.poll(0.2)
    assert bars() != first
    assert bars().count('class="oomh-bar') == 2
    running.execute("on(1, full)")  # the panel of an error ends them
    assert "live, every" not in bars()


@each("ipyparallel", "distributed")
def test_a_worker_that_hangs_costs_no_more_than_the_deadline(running: Kernel) -> None:
    pid = running.eval("on(1, __import__('os').getpid)")
    running.execute(f"import os, signal, time\nos.kill({pid}, signal.SIGSTOP)")
    try:
        lines = running.execute("%gpumem --engines", timeout=30).mime("text/plain")[0].splitlines()
    finally:
        running.execute(f"os.kill({pid}, signal.SIGCONT)\nassert on(1, os.getpid) == {pid}")
    assert [" no answer " in line for line in lines[1:3]].count(True) == 1
    assert lines[-1].endswith(": no answer within 2 s: it is busy, or gone.")


@each("ipyparallel", "distributed")
def test_what_a_worker_says_is_text_and_what_makes_no_sense_is_told(running: Kernel) -> None:
    running.execute("%gpumem --engines\non(1, hostile)")
    panel = Panel(running, running.execute("on(1, full)"))
    panel.click(READ)
    drawn = "".join(str(state.get("value", "")) for state in panel.visible())
    assert "&lt;img src=x onerror" in drawn
    assert "<img" not in drawn
    running.execute("on(1, nonsense)")
    panel.click(READ)
    assert "unknown resident; unknown free there" in panel.text
    running.execute("on(1, unsendable)")
    panel.click(READ)
    assert "this failed there: " in panel.text
    assert "<b>no" not in "".join(str(state.get("value", "")) for state in panel.visible())
    running.execute("on(1, honest)")
    panel.click(READ)
    assert " MiB resident; " in panel.text


@each("ipyparallel", "distributed")
def test_an_error_that_cannot_be_sent_is_recognized_by_its_text(running: Kernel) -> None:
    panel = Panel(running, running.execute("on(1, unsendable_error)"))
    panel.click(RELEASE)
    assert "Release on the worker: " in panel.text


@each("ipyparallel", "distributed")
def test_another_process_in_its_place_is_left_alone(running: Kernel) -> None:
    running.execute("on(0, full)")
    key = "'0'" if running.eval("'ipyparallel' in str(type(client))") else "list(client.nthreads())[0]"
    told = running.eval(f"asked('release', each=(({key}, '1'),))")
    assert told in (["engines.gone"], ["engines.other"])
    assert running.eval("asked('release', each=(('7', ''),))") == ["engines.gone"]


@using("distributed")
def test_where_the_error_does_not_tell_which_worker_it_was_all_of_the_one_cluster_are_asked(running: Kernel) -> None:
    running.execute("on(0, full)")
    assert running.eval("asked('read', each=())") == [None, None]
    assert running.execute("second = distributed.Client(cluster)").status == "ok"  # of the same cluster
    assert running.eval("asked('read', each=())") == [None, None]
    more = "from distributed.deploy.subprocess import SubprocessCluster\nmore = SubprocessCluster(n_workers=1)"
    assert running.execute(f"{more}\nother = distributed.Client(more)").status == "ok"  # its scheduler is elsewhere
    assert running.eval("asked('release', each=())") == ["engines.several"]
    running.execute("kept = client.submit(full, pure=False, workers=[0])\ndistributed.wait(kept)")
    panel = Panel(running, running.execute("other.submit(full).result()"))
    panel.click(RELEASE)
    assert "there are clients of several clusters" in panel.text
    panel = Panel(running, running.execute("kept.result()"))  # the error itself is the future's
    panel.click(RELEASE)
    assert "Release on the worker: " in panel.text
    assert len(json.loads(running.execute("%gpumem --engines --json").stdout)["workers"]) == 3
    running.execute("other.close()\nmore.close()\nsecond.close()")


@using("distributed")
def test_a_client_on_the_kernels_own_loop_is_not_waited_for(running: Kernel) -> None:
    running.execute("client.close()\nclient = await distributed.Client(cluster.scheduler_address, asynchronous=True)")
    assert "Dask: the client is asynchronous" in running.execute("%oom release --engines").stdout
    running.execute("await client.close()\nimport asyncio, threading")
    kept = "async def connected():\n    return await distributed.Client(cluster.scheduler_address, asynchronous=True)\n"
    ended = "thread = threading.Thread(target=lambda: run.append(asyncio.run(connected())))"
    running.execute(f"run = []\n{kept}{ended}\nthread.start()\nthread.join()")
    assert "Dask: the client is closed" in running.execute("%oom release --engines").stdout
    assert running.execute("run.clear()\nclient = connect()").status == "ok"
    assert running.eval("asked('read', each=())") == [None, None]


@each("ipyparallel", "distributed")
def test_a_worker_without_us_is_told(running: Kernel) -> None:
    assert running.execute(HIDE).status == "ok"
    running.poll(1.2)  # as in `test_dask`
    panel = Panel(running, running.execute("on(1, full)"))
    panel.click(RELEASE)
    assert "nb_oomhelper is not installed there" in panel.text
    running.execute(SHOW)
    panel.click(RELEASE)
    assert "Release on the worker: " in panel.text, panel.text


@each("ipyparallel", "distributed")
def test_a_closed_client_is_told(running: Kernel) -> None:
    panel = Panel(running, running.execute("on(1, full)"))
    running.execute("client.close()")
    panel.click(RELEASE)
    assert "the client is closed" in panel.text
    assert "client is closed" in running.execute("%oom release --engines").stdout
    assert running.execute("client = connect()").status == "ok"
    running.execute("while count() < 2: __import__('time').sleep(0.1)")
    panel.click(RELEASE)
    assert "Release on the worker: " in panel.text, panel.text


@each("ipyparallel", "distributed")
def test_a_dead_worker_is_told(running: Kernel) -> None:
    panel = Panel(running, running.execute("on(1, full)"))
    killed = "import os, signal, time\nfailed = get_ipython()._nb_oomhelper.case.event.worker.each[0][0]\n"
    gone = "while str(failed) in map(str, getattr(client, 'ids', None) or client.nthreads()): time.sleep(0.2)"
    pid = running.eval("on(1, __import__('os').getpid)")
    assert running.execute(f"{killed}os.kill({pid}, signal.SIGKILL)\n{gone}", timeout=120).status == "ok"
    panel.click(RELEASE)
    assert "it is no longer in the cluster" in panel.text


@using("ray")
def test_ray(running: Kernel) -> None:
    reply = running.execute("ray.get(ray.remote(full).remote())", timeout=60)
    title = elsewhere(running, reply)
    worker = re.fullmatch(r"Out of memory in another process: a Ray worker \(PID (\d+) on ([\d.]+)\)", title)
    assert worker is not None
    panel = Panel(running, reply)
    assert f"ray logs worker --pid {worker[1]} --node-ip {worker[2]}." in panel.text
    assert RELEASE not in panel.buttons
    panel.click(READ)
    assert re.search(r"PID \d+ on Ray's machine [\d.]+: [\d.]+ MiB resident; ", panel.text), panel.text
    lines = running.execute("%gpumem --engines").mime("text/plain")[0].splitlines()
    assert [re.match(r"(Ray's machine [\d.]+) +host ", line) is not None for line in lines] == [False, True]
    assert "Ray" not in running.execute("%oom release --engines").stdout.partition("A failed task of Ray's")[0]


@using("ray")
def test_rays_actor(running: Kernel) -> None:
    reply = running.execute("ray.get(actor.full.remote())", timeout=60)
    title = elsewhere(running, reply)
    assert re.fullmatch(r"Out of memory in another process: a Ray actor \(PID \d+ on [\d.]+\)", title)
    panel = Panel(running, reply)
    assert "what an actor keeps stays until" in panel.text
    panel.click(READ)
    kept = re.search(r"\(PID (\d+) on ", title)
    assert kept is not None
    assert re.search(rf"PID {kept[1]} on Ray's machine [\d.]+: (2\d\d|3\d\d) MiB resident; ", panel.text), panel.text
    reply = running.execute("ray.get(actor.die.remote())", timeout=60)
    title = elsewhere(running, reply)
    assert re.fullmatch(r"Probably out of memory in another process: a Ray actor \(PID \d+ on [\d.]+\)", title)
    panel = Panel(running, reply)
    panel.click(READ)
    assert re.search(r"Ray's machine [\d.]+: the process has ended, its memory is back; .* free there", panel.text)
