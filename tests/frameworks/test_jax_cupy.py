"""JAX's and CuPy's arrays: the real libraries on the CPU, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nb_oomhelper.frameworks import _cupy, _jax
from nb_oomhelper.records.memory import AllocatorMemory, CachedBlocks
from nb_oomhelper.remedies.releasing import give_back
from tests.played_jax import PlayedGpu

pytestmark = pytest.mark.plain

MIB = 1 << 20
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
JAX = """
import gc, json, sys
import jax, jax.numpy as jnp, numpy
from nb_oomhelper.frameworks import _jax, _numpy
def rows(*things):
    return list(_jax.storages(things))
def sizes(*things):
    return {key: size for _, key, _, _, size in rows(*things)}
"""
# Memory of NumPy's stands for a GPU's: CuPy's own arrays, descriptors and classes are real.
CUPY = """
import gc, json, sys
import cupy, numpy
from cupy.cuda import memory
from nb_oomhelper.frameworks import _cupy
def rows(*things):
    return list(_cupy.storages(things))
def array(shape, device=0, kind=cupy.ndarray, pointer=memory.MemoryPointer):
    owner = numpy.zeros(shape, "f4")
    block = memory.UnownedMemory(owner.ctypes.data, owner.nbytes, owner, device)
    return cupy.ndarray.__new__(kind, shape, "f4", pointer(block, 0))
"""


def tell(setup: str, code: str, **env: str) -> Any:
    """What a script prints with `tell(…)`, read back."""
    library = "jax" if setup is JAX else "cupy"
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    script = f"{setup}\ndef tell(*things):\n    print(json.dumps(things))\n{textwrap.dedent(code)}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **env},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- JAX -----------------------------------------------------------------------------------------------------------


def test_looking_starts_nothing() -> None:
    code = """
        from jax._src import xla_bridge
        from nb_oomhelper.remedies.releasing import give_back
        loaded = _jax.loaded()
        asked = [_jax.allocator("cuda", None), _jax.device_uuids(), _jax.caches(deep=True), rows(1)]
        give_back(None, deep=True)
        tell(loaded, asked, xla_bridge.backends_are_initialized())
    """
    assert tell(JAX, code) == [True, [None, {}, [], []], False]


def test_an_array_counts_once_with_its_views_in_numpy() -> None:
    code = """
        x = jnp.ones((512, 512))
        view = numpy.asarray(x)
        (first,), (same,) = rows(x, "text"), list(_numpy.storages([view]))
        tell(first[0], first[1] == same[1], first[2:], same[4], _jax.label(x), _jax.role(x), _jax.role(view),
             _jax.label(1))
    """
    assert tell(JAX, code) == [0, True, ["host", None, MIB], MIB, "float32 (512, 512)", "array", None, None]


def test_each_shard_counts() -> None:
    code = """
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        mesh = Mesh(jax.devices(), ("x",))
        x = jnp.ones((512, 512))
        split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("x")))
        copied = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
        tell([row[4] for row in rows(split)], [row[4] for row in rows(copied)])
    """
    assert tell(JAX, code, **TWO_DEVICES) == [[MIB // 2, MIB // 2], [MIB, MIB]]


def test_deleted_donated_empty_and_traced_arrays_keep_nothing() -> None:
    code = """
        x, y = jnp.ones((512, 512)), jnp.ones((512, 512))
        x.delete()
        jax.jit(lambda y: y + 1, donate_argnums=0)(y)
        seen = []
        jax.jit(lambda z: seen.append(len(rows(z))) or z)(jnp.ones(3))
        tell(len(rows(x, y, jnp.ones((0, 3)))), y.is_deleted(), seen)
    """
    found, donated, seen = tell(JAX, code)
    assert found == (0 if donated else 1)
    assert seen == [0]


def test_what_is_still_being_computed_is_not_waited_for() -> None:
    code = """
        import os
        x = jnp.ones((2000, 2000))
        slow = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, y: y @ x / 2000, x))
        slow(x, 1).block_until_ready()
        y = slow(x, 10_000)
        ((_, key, *_, size),) = rows(y)
        tell(key[2], y.is_ready(), size)
        sys.stdout.flush()
        os._exit(0)  # its end is minutes away
    """
    (word, _, shard), ready, size = tell(JAX, code)
    assert (word, shard, ready, size) == ("pending", 0, False, 16_000_000)


def test_the_copy_of_an_arrays_values_is_found() -> None:
    code = """
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        x = jax.device_put(jnp.ones((512, 512)), NamedSharding(Mesh(jax.devices(), ("x",)), PartitionSpec("x")))
        before = len(list(_jax.beyond([x], {})))
        values = numpy.asarray(x)
        tell(before, [(copy.nbytes, part) for copy, part in _jax.beyond([x, 1], {})])
    """
    assert tell(JAX, code, **TWO_DEVICES) == [0, [[MIB, "tensors"]]]


def test_holdings_name_arrays_however_they_are_kept() -> None:
    code = """
        from nb_oomhelper.frameworks import FRAMEWORKS
        from nb_oomhelper.holders.search import find_holdings
        from nb_oomhelper.holders.scope import Scope
        params = jax.block_until_ready({"w": jnp.ones((512, 512)), "b": [jnp.ones((256, 512))]})
        scope = Scope(variables={"params": params, "again": params["w"], "step": jax.jit(lambda x: x)})
        loaded = [one for one in FRAMEWORKS if one.loaded()]
        held = find_holdings(scope, loaded, backend="host", device=None, seconds=10)
        tell([(row.name, row.own, row.shared) for row in held.rows])
    """
    assert tell(JAX, code) == [[["params", MIB // 2, MIB], ["again", 0, MIB]]]


def test_deep_drops_what_was_compiled_with_its_constants() -> None:
    code = """
        from nb_oomhelper.remedies.releasing import give_back
        def make():
            big = jnp.ones((512, 512))
            return jax.jit(lambda x: x + big)
        step = make()
        step(1.0)
        compiled = step._cache_size()
        def dropped(**asked):
            return [one.done for one in give_back(None, **asked) if one.done.startswith("jax")]
        kinds = [dropped(), dropped(deep=True)]
        tell(compiled, kinds, step._cache_size(), float(step(1.0)[0, 0]))
    """
    assert tell(JAX, code) == [1, [[], ["jax_compiled"]], 0, 2.0]


def start(monkeypatch: pytest.MonkeyPatch, *devices: PlayedGpu) -> None:
    bridge = SimpleNamespace(_backends={str(at): one.client for at, one in enumerate(devices)})
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)


def test_the_pool_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, PlayedGpu(0), PlayedGpu(1), PlayedGpu(0, "cpu", "cpu"))
    found = _jax.allocator("cuda", 1)
    assert found == AllocatorMemory(
        framework="jax",
        backend="cuda",
        device=1,
        allocated=3 * MIB,
        reserved=60 * MIB,
        peak_allocated=9 * MIB,
        limit=60 * MIB,
        largest_free_block=50 * MIB,
        never_releases=True,
    )
    assert (found.cached, found.releasable, found.reusable) == (57 * MIB, 0, 57 * MIB)
    assert _jax.allocator("cuda", None) == _jax.allocator("cuda", 0)
    assert _jax.allocator("cuda", 2) is _jax.allocator("hip", 0) is _jax.allocator("host", None) is None
    assert _jax.cached_blocks("cuda", 0) == CachedBlocks(largest=50 * MIB)
    assert _jax.device_uuids() == {0: None, 1: None}


def test_a_gpu_of_amds(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, PlayedGpu(0, "gpu", "PJRT C API rocm 60300"))
    assert _jax.allocator("cuda", 0) is None
    assert _jax.allocator("hip", 0) is not None


def test_a_lost_gpu_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> Any:
        raise RuntimeError("INTERNAL: device is lost")

    one, other = PlayedGpu(0), PlayedGpu(0)
    one.client.local_devices = lost
    start(monkeypatch, one)
    assert _jax.allocator("cuda", 0) is None
    assert _jax.device_uuids() == {}
    monkeypatch.setattr(PlayedGpu, "memory_stats", lost)
    start(monkeypatch, other)
    assert _jax.allocator("cuda", 0) is None
    assert _jax.cached_blocks("cuda", 0) is None


def test_an_array_that_was_not_made_in_full_tells_nothing() -> None:
    code = """
        kind = type(jnp.ones(1))
        half = kind.__new__(kind)
        tell(rows(half), list(_jax.beyond([half], {})), _jax.label(half))
    """
    assert tell(JAX, code) == [[], [], None]


# -- CuPy ----------------------------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_is_asked() -> None:
    code = """
        tell(_cupy.loaded(), _cupy.allocator("cuda", None), _cupy.allocator("cuda", 0), _cupy.device_uuids(),
             len(_cupy.caches(deep=True)))
    """
    assert tell(CUPY, code) == [True, None, None, {}, 0]


def test_a_view_keeps_the_whole_block() -> None:
    code = """
        x, other = array((512, 512)), array((256, 512), device=3)
        found = rows(x, "text", x[3:5], x.T, other)
        tell([(at, *rest) for at, _, *rest in found], len({key for _, key, *_ in found}), _cupy.label(x[3:5]),
             _cupy.role(x), _cupy.role(x.data), _cupy.label(1))
    """
    whole = [["cuda", 0, MIB]] * 3
    assert tell(CUPY, code) == [
        [[at, *row] for at, row in zip((0, 2, 3, 4), [*whole, ["cuda", 3, MIB // 2]], strict=True)],
        2,
        "float32 (2, 512)",
        "array",
        None,
        None,
    ]


def test_no_code_of_a_subclass_runs() -> None:
    code = """
        calls = []
        class Mine(cupy.ndarray):
            pass
        def refuse(self, name="mem"):
            calls.append(name)
            raise RuntimeError(name)
        class Pointer(memory.MemoryPointer):
            mem = property(refuse)
        x = array((512, 512), kind=Mine, pointer=Pointer)
        Mine.__getattribute__ = Pointer.__getattribute__ = refuse
        tell([row[4] for row in rows(x)], _cupy.role(x), _cupy.label(x), calls)
    """
    assert tell(CUPY, code) == [[MIB], "array", "float32 (512, 512)", []]


def test_pinned_memory_and_the_pool_are_emptied_where_there_is_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[Any] = []
    current = [2]

    class Device:
        def __init__(self, ordinal: int) -> None:
            self.ordinal = ordinal

        def __enter__(self) -> None:
            emptied.append(self.ordinal)

        def __exit__(self, *_: object) -> None: ...

    pool = SimpleNamespace(
        free_all_blocks=lambda: emptied.append("pool"),
        used_bytes=lambda: 3 * MIB,
        total_bytes=lambda: 8 * MIB,
        get_limit=lambda: 0,
    )
    runtime = SimpleNamespace(
        getDevice=lambda: current[0],
        getDeviceCount=lambda: 4,
        getDeviceProperties=lambda _: {"uuid": bytes(range(16)) + b"more"},
    )
    cupy = SimpleNamespace(
        ndarray=type("ndarray", (), {}),
        cuda=SimpleNamespace(memory=None, runtime=runtime, Device=Device),
        get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: emptied.append("pinned")),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(_cupy, "_contexts", lambda: [0, 2])
    steps = [step.done for step in give_back(None) if step.done.startswith("cupy")]
    assert (steps, emptied) == (["cupy_pool", "cupy_pinned"], [0, "pool", 2, "pool", "pinned"])
    uuid = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert _cupy.allocator("cuda", None) == _cupy.allocator("cuda", 2)
    assert _cupy.allocator("cuda", 2) == AllocatorMemory(
        framework="cupy", backend="cuda", device=2, allocated=3 * MIB, reserved=8 * MIB, uuid=uuid
    )
    assert _cupy.allocator("cuda", 1) is None  # no context there: asking would make one
    assert _cupy.device_uuids() == dict.fromkeys(range(4), uuid)
    current[0] = 1  # a thread that stands on a device without a context would make one there on its way back
    assert _cupy.allocator("cuda", 2) is _cupy.allocator("cuda", None) is None
    assert _cupy.caches(deep=True) == []


DRIVER = """
static int started = 0;
int start(void) { started = 1; return 0; }
int cuDeviceGetCount(int *count) { *count = 3; return started ? 0 : 3; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *active = device == 1; return device == 2; }
"""


def test_contexts_are_asked_of_the_driver_that_somebody_has_loaded(tmp_path: Path) -> None:
    """A library of the driver's name, whose contexts are known: only device 1 has one, and device 2 is broken."""
    source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so.1"
    source.write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    code = f"""
        import ctypes
        before = _cupy._contexts()
        driver = ctypes.CDLL({str(library)!r})
        loaded = _cupy._contexts()
        driver.start()
        tell(before, loaded, _cupy._contexts())
    """
    assert tell(CUPY, code) == [[], [], [1]]
