"""Errors that real engines bring into a notebook: one panel, which names the worker and shows nothing of this process.

The engines are asked for, not required: from an environment `.venv-engines` that has them (ipyparallel, distributed,
ray, ipykernel, ipywidgets, numpy and psutil), or from the tests' own. What is missing is skipped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cells import LOAD, Panel, shown
from tests.kernel.driver import Kernel, Reply

pytestmark = pytest.mark.kernel

OWN = Path(__file__).parents[2] / ".venv-engines" / "bin" / "python"
FULL = "def full(*_):\n    import numpy\n    return numpy.ones(1 << 50, numpy.uint8)"
KEEP = "def keep(*_):\n    import numpy\n    kept = numpy.ones(200 << 20, numpy.uint8)\n    numpy.ones(1 << 50)"
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
    python = OWN if OWN.exists() else Path(sys.executable)
    with Kernel(python, tmp_path_factory.mktemp("engines")) as kernel:
        for cell in (LOAD, "import numpy, psutil", FULL, KEEP):
            assert kernel.execute(cell).status == "ok"
        yield kernel


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, engines: Kernel) -> Iterator[Kernel]:
    """The kernel with a cluster of that engine, which ends with the tests that ask for it."""
    name = request.param
    if not engines.can_import(name):
        pytest.skip(f"{name} is not installed")
    reply = engines.execute(SETUP[name], timeout=120)
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
def test_what_the_panel_says_of_an_engine_gives_its_memory_back(running: Kernel) -> None:
    resident = "client[0].apply_sync(lambda: __import__('psutil').Process().memory_info().rss)"
    before = running.eval(resident)
    panel = Panel(running, running.execute("client[0].apply_sync(keep)", timeout=60))
    (line,) = re.findall(r'%px __import__\("nb_oomhelper"\)\.release\(\)', panel.text)
    assert running.eval(resident) - before > 190 << 20
    assert running.execute(line, timeout=60).status == "ok"
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
    title = elsewhere(running, running.execute(cell, timeout=60))
    assert title.startswith("Out of memory in another process: the Dask worker tcp://127.0.0.1:")
    assert title.count("tcp://") == count
    assert ("(PID " in title) == (count == 1)


@using("ray")
def test_ray(running: Kernel) -> None:
    title = elsewhere(running, running.execute("ray.get(ray.remote(full).remote())", timeout=60))
    assert re.fullmatch(r"Out of memory in another process: a Ray worker \(PID \d+ on [\d.]+\)", title)


@using("ray")
def test_rays_actor(running: Kernel) -> None:
    title = elsewhere(running, running.execute("ray.get(actor.full.remote())", timeout=60))
    assert re.fullmatch(r"Out of memory in another process: a Ray actor \(PID \d+ on [\d.]+\)", title)
    title = elsewhere(running, running.execute("ray.get(actor.die.remote())", timeout=60))
    assert re.fullmatch(r"Probably out of memory in another process: a Ray actor \(PID \d+ on [\d.]+\)", title)
