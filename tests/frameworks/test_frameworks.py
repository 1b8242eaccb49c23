"""Whose memory is whose: allocators, storages, roles and caches of the frameworks."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import warnings
from collections.abc import Hashable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nb_oomhelper import frameworks
from nb_oomhelper.frameworks import FRAMEWORKS, Framework, _jax, _numpy, _python, _pytorch
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.snapshot import take_snapshot
from nb_oomhelper.records.memory import AllocatorMemory
from nb_oomhelper.remedies.releasing import give_back

pytestmark = pytest.mark.plain

MIB = 1 << 20
NOT_FRAMEWORKS = (
    "__init__",
    "_messages",
    "_nothing",
    "_pytorch_allocator",
    "_pytorch_graph",
    "_pytorch_messages",
    "_talk",
    "_xla_messages",
)


def rows(framework: Framework, *objects: object) -> list[tuple[int, Hashable, str, int | None, int]]:
    return list(framework.storages(objects))


def sizes(framework: Framework, *objects: object) -> dict[Hashable, int]:
    """Bytes by key, as a caller adds them up."""
    found: dict[Hashable, int] = {}
    for _, key, _, _, size in framework.storages(objects):
        found[key] = max(size, found.get(key, 0))
    return found


# -- the tuple -----------------------------------------------------------------------------------------------------


def test_every_file_is_in_the_tuple() -> None:
    folder = Path(frameworks.__file__).parent
    files = {file.stem for file in folder.glob("*.py")} - set(NOT_FRAMEWORKS)
    listed: list[Any] = list(FRAMEWORKS)
    assert files == {module.__name__.rpartition(".")[2] for module in listed}
    assert len({framework.name for framework in FRAMEWORKS}) == len(FRAMEWORKS)


def test_nothing_is_imported_and_nothing_is_found_without_the_frameworks() -> None:
    code = """
import sys
from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.frameworks import FRAMEWORKS
assert detect_text("CUDA out of memory. Tried to allocate 2.00 GiB.").requested == 2 << 30
for framework in FRAMEWORKS:
    assert framework.loaded() == (framework.name == "python")
    assert framework.allocator("cuda", 0) is None and framework.allocator("host", None) is None
    assert framework.device_uuids() == {} and framework.caches(deep=False) == []
    assert list(framework.storages([object()])) == [] and framework.role(object()) is None
print(sorted({"torch", "numpy"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
def test_a_module_that_only_has_the_name_is_not_the_framework(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    if framework is not _python:
        if framework is _jax and framework.loaded():  # its classes stand in jaxlib
            pytest.skip("another test has imported the real one")
        monkeypatch.setitem(sys.modules, framework.module, SimpleNamespace())
        assert not framework.loaded()
    assert framework.allocator("cuda", None) is None
    assert framework.device_uuids() == {}
    assert framework.caches(deep=False) == []
    assert rows(framework, 1, "a") == []
    assert framework.role(1) is None


# -- PyTorch's tensors ---------------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def numpy() -> Any:
    return pytest.importorskip("numpy")


def test_a_view_keeps_the_whole_storage_once(torch: Any) -> None:
    tensor = torch.zeros(MIB)
    found = rows(_pytorch, tensor, "text", tensor[5:7], tensor.view(4, -1), tensor.detach(), None)
    assert [(index, backend, device, size) for index, _, backend, device, size in found] == [
        (index, "host", None, 4 * MIB) for index in (0, 2, 3, 4)
    ]
    assert len({key for _, key, *_ in found}) == 1
    assert len(sizes(_pytorch, tensor, torch.zeros(MIB))) == 2


def test_a_parameter_keeps_its_gradient(torch: Any) -> None:
    layer = torch.nn.Linear(1000, 1000, bias=False)
    layer(torch.ones(1, 1000)).sum().backward()
    assert [size for *_, size in rows(_pytorch, layer.weight)] == [4_000_000, 4_000_000]


def test_a_gradient_is_not_asked_for_where_that_would_warn(torch: Any) -> None:
    inner = torch.ones(1000, requires_grad=True) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(sizes(_pytorch, inner).values()) == 4000
        inner.retain_grad()
        inner.sum().backward()
        assert sum(sizes(_pytorch, inner).values()) == 8000


def test_sparse_tensors_keep_indices_and_values(torch: Any) -> None:
    rows_of, columns, values = torch.arange(4), torch.arange(3), torch.ones(3)
    blocks = torch.ones(3, 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "beta state"
        for sparse, expected in (
            (torch.sparse_coo_tensor(torch.ones(2, 3, dtype=torch.int64), values, (9, 9)), 2 * 3 * 8 + 3 * 4),
            (torch.sparse_csr_tensor(rows_of, columns, values, (3, 3)), 4 * 8 + 3 * 8 + 3 * 4),
            (torch.sparse_csc_tensor(rows_of, columns, values, (3, 3)), 4 * 8 + 3 * 8 + 3 * 4),
            (torch.sparse_bsr_tensor(rows_of, columns, blocks, (6, 6)), 4 * 8 + 3 * 8 + 12 * 4),
            (torch.sparse_bsc_tensor(rows_of, columns, blocks, (6, 6)), 4 * 8 + 3 * 8 + 12 * 4),
        ):
            assert sum(sizes(_pytorch, sparse).values()) == expected


def test_tensors_without_memory_give_nothing(torch: Any) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.empty(1000)
    wrapper = torch.Tensor._make_wrapper_subclass(
        type("Wrapper", (torch.Tensor,), {"__torch_dispatch__": print}), (1000,)
    )
    things = [torch.empty(1000, device="meta"), torch.empty(0), fake, wrapper, torch.ones(3, 3).to_mkldnn()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _pytorch.storages(things)
    # what stands on the device "meta" takes no memory, and says how many bytes it stands for: weights on disk
    assert [(index, backend, size) for index, _, backend, _, size in found] == [(0, "meta", 4000), (2, "meta", 4000)]


def test_tensors_inside_a_transform_give_nothing(torch: Any) -> None:
    def look(tensor: Any) -> Any:
        seen.extend(rows(_pytorch, tensor))
        return tensor.sum()

    seen: list[object] = []
    torch.vmap(look)(torch.ones(3, 4))
    torch.func.grad(look)(torch.ones(3))
    torch.func.functionalize(look)(torch.ones(3))
    assert seen == []


def test_looking_does_not_copy(torch: Any) -> None:
    if not hasattr(torch, "_lazy_clone"):
        pytest.skip("no copy-on-write in this PyTorch")
    tensor = torch.ones(1000)
    lazy = torch._lazy_clone(tensor)
    assert len(sizes(_pytorch, tensor, lazy)) == 1
    assert torch._C._is_cow_tensor(lazy)


def hostile_class(base: type) -> type:
    """A subclass whose every hook raises, and whose `__class__` lies."""

    def refuse(*_: object, **__: object) -> Any:
        calls.append(1)
        raise ZeroDivisionError

    calls: list[int] = []
    names = ("__getattribute__", "__getattr__", "__repr__", "__len__", "__bool__", "__eq__", "__hash__", "__iter__")
    torch_names = ("untyped_storage", "data_ptr", "nbytes", "grad", "device", "layout", "base", "__array_interface__")
    members: dict[str, Any] = dict.fromkeys(names, refuse) | dict.fromkeys(torch_names, property(refuse))
    members |= dict.fromkeys(("__torch_function__", "__torch_dispatch__"), classmethod(refuse))
    members |= {"__class__": property(refuse), "calls": calls}
    meta = type("Meta", (type(base),), dict.fromkeys(("__instancecheck__", "__subclasscheck__", "__hash__"), refuse))
    hostile: type = meta("Hostile", (base,), members)
    return hostile


def test_no_code_of_a_tensor_subclass_runs(torch: Any) -> None:
    kind: Any = hostile_class(torch.Tensor)
    tensor = torch.Tensor._make_subclass(kind, torch.ones(1000), True)
    type.__getattribute__(kind, "calls").clear()  # making it looks at it
    assert [row[2:] for row in rows(_pytorch, tensor)] == [("host", None, 4000)]
    assert _pytorch.role(tensor) == "tensor"
    assert _numpy.role(tensor) is None
    assert rows(_numpy, tensor) == []
    assert not type.__getattribute__(kind, "calls")


def test_no_mode_of_the_users_sees_the_search(torch: Any) -> None:
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Function(TorchFunctionMode):
        def __torch_function__(self, *_: object, **__: object) -> Any:
            raise ZeroDivisionError

    class Dispatch(TorchDispatchMode):
        def __torch_dispatch__(self, *_: object, **__: object) -> Any:
            raise ZeroDivisionError

    things = [torch.ones(10), torch.eye(10).to_sparse()]
    plain = sizes(_pytorch, *things)
    with Function():
        assert sizes(_pytorch, *things) == plain
    with Dispatch():
        assert sizes(_pytorch, *things) == plain


def test_the_guards_are_off_while_the_caller_works(torch: Any) -> None:
    class Counted(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *_: object, **__: object) -> Any:
            return "overridden"

    counted = torch.ones(3).as_subclass(Counted)
    results = [counted + 1 for _ in _pytorch.storages([torch.ones(3, requires_grad=True)])]
    assert results == ["overridden"]
    assert torch.is_grad_enabled()


def test_nothing_is_kept_alive(torch: Any) -> None:
    import weakref

    class Local(torch.Tensor):
        pass

    tensor = torch.ones(3).as_subclass(Local)
    watched = [weakref.ref(tensor), weakref.ref(Local)]
    assert len(rows(_pytorch, tensor)) == 1
    assert _pytorch.role(tensor) == "tensor"
    del tensor, Local
    gc.collect()
    assert [one() for one in watched] == [None, None]


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
def test_a_million_other_objects_take_no_time(framework: Framework, torch: Any, numpy: Any) -> None:
    objects: Iterable[object] = [{} for _ in range(1_000_000)]
    ratios = []
    for _ in range(5):  # the machine may be busy with something else just now
        started = time.process_time()
        assert [type(thing) for thing in objects]
        looked = time.process_time()
        assert list(framework.storages(objects)) == []
        ratios.append((time.process_time() - looked) / (looked - started))
    assert min(ratios) < 20  # 2 where this was written: no more than a look at each object's class


def test_roles_go_by_class(torch: Any, numpy: Any) -> None:
    class Pretrained(torch.nn.Linear):
        def gradient_checkpointing_enable(self) -> None: ...

    layer = torch.nn.Linear(2, 2)
    for thing, expected in (
        (layer, "model"),
        (Pretrained(2, 2), "pretrained model"),
        (torch.optim.SGD(layer.parameters(), lr=1.0), "optimizer"),
        (layer.weight, "tensor"),
        (numpy.ones(3), "array"),
        (numpy.ma.ones(3), "array"),
        (numpy.float64(3), None),
        ([layer], None),
        (torch.nn.Linear, None),
    ):
        found = [framework.role(thing) for framework in FRAMEWORKS]
        assert [role for role in found if role] == ([expected] if expected else [])


# -- NumPy's arrays ------------------------------------------------------------------------------------------------


def test_a_view_keeps_the_whole_array(numpy: Any) -> None:
    array = numpy.zeros((1000, 1000))
    views = [array, array[3:5], array.T[::-1], array.view(numpy.uint8)[::7], numpy.broadcast_to(array, (9, 1000, 1000))]
    found = rows(_numpy, *views, numpy.float64(1), [1])
    assert [(index, backend, device, size) for index, _, backend, device, size in found] == [
        (index, "host", None, 8_000_000) for index in range(5)
    ]
    assert len({key for _, key, *_ in found}) == 1


def test_windows_over_an_array_do_not_count_more_than_it_has(numpy: Any) -> None:
    array = numpy.zeros(10_000)
    windows = numpy.lib.stride_tricks.sliding_window_view(array, 5000)
    assert windows.nbytes > 100_000_000
    assert sizes(_numpy, windows, array) == sizes(_numpy, array)


def test_files_mapped_into_memory_do_not_count(numpy: Any, tmp_path: Path) -> None:
    mapped = numpy.memmap(tmp_path / "data.bin", dtype=numpy.uint8, mode="w+", shape=(MIB,))
    assert rows(_numpy, mapped, mapped[5:], numpy.asarray(mapped), numpy.frombuffer(mapped, numpy.uint8)) == []


def test_memory_that_is_not_numpys_counts_as_far_as_the_array_reaches(numpy: Any) -> None:
    array = numpy.frombuffer(bytes(1000), numpy.uint8)
    assert sizes(_numpy, array, array[::-1][:10]) == sizes(_numpy, array)
    assert list(sizes(_numpy, array).values()) == [1000]
    assert list(sizes(_numpy, numpy.frombuffer(b"", numpy.uint8)).values()) in ([], [0])


def test_one_memory_of_both_has_one_key(torch: Any, numpy: Any) -> None:
    array, tensor = numpy.ones(1000), torch.ones(1000)
    assert sizes(_numpy, array) == sizes(_pytorch, torch.from_numpy(array))
    assert sizes(_pytorch, tensor) == sizes(_numpy, tensor.numpy())


def test_no_code_of_an_array_subclass_runs(numpy: Any) -> None:
    kind: Any = hostile_class(numpy.ndarray)
    array, view = numpy.ndarray.__new__(kind, (1000,)), numpy.ndarray.view(numpy.ones(3), kind)
    type.__getattribute__(kind, "calls").clear()
    assert [row[2:] for row in rows(_numpy, array, view)] == [
        ("host", None, 8000),
        ("host", None, 24),
    ]
    assert _numpy.role(array) == "array"
    assert _pytorch.role(array) is None
    assert not type.__getattribute__(kind, "calls")


# -- PyTorch's allocator -------------------------------------------------------------------------------------------


def test_without_cuda_started_nothing_is_read_and_nothing_starts(torch: Any) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("CUDA was started by another test")
    assert _pytorch.allocator("cuda", 0) is None
    assert _pytorch.allocator("host", None) is None
    assert _pytorch.device_uuids() == {}
    assert _pytorch.caches(deep=False) == []
    assert not torch.cuda.is_initialized()


class PlayedCuda:
    """The functions of `torch.cuda` that are asked, on a device with half of it allowed."""

    def __init__(self) -> None:
        self.broken = False
        self.emptied: list[str] = []
        self.total = 80 << 30

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        return 1

    def memory_stats(self, ordinal: int) -> dict[str, int]:
        self.check()
        return {
            "allocated_bytes.all.current": 3 * MIB,
            "reserved_bytes.all.current": 8 * MIB,
            "inactive_split_bytes.all.current": 1 * MIB,
            "allocated_bytes.all.peak": 7 * MIB,
        }

    def get_per_process_memory_fraction(self, ordinal: int) -> float:
        return 0.5 if ordinal else 1.0

    def get_device_properties(self, ordinal: int) -> SimpleNamespace:
        self.check()
        return SimpleNamespace(total_memory=self.total, uuid=f"aaaa-{ordinal}")

    def empty_cache(self) -> None:
        self.check()
        self.emptied.append("cuda")

    def ipc_collect(self) -> None:
        self.emptied.append("ipc")

    def check(self) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A PyTorch with CUDA started and a context on device 1 alone."""
    cuda = PlayedCuda()
    private = SimpleNamespace(_cuda_hasPrimaryContext=lambda ordinal: ordinal == 1)
    private._host_emptyCache = lambda: cuda.emptied.append("host")
    torch = SimpleNamespace(Tensor=type("Tensor", (), {}), _C=private, cuda=cuda, version=SimpleNamespace(hip=None))
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def test_the_allocators_figures(played: SimpleNamespace) -> None:
    expected = AllocatorMemory(
        framework="pytorch",
        backend="cuda",
        device=1,
        allocated=3 * MIB,
        reserved=8 * MIB,
        inactive_split=1 * MIB,
        peak_allocated=7 * MIB,
        limit=40 << 30,
        uuid="GPU-aaaa-1",
    )
    assert _pytorch.allocator("cuda", 1) == expected
    assert _pytorch.allocator("cuda", None) == expected
    assert expected.releasable == 4 * MIB
    assert _pytorch.allocator("cuda", 0) is None  # no context there: asking might make one
    assert _pytorch.allocator("hip", 1) is None
    assert _pytorch.device_uuids() == {0: "GPU-aaaa-0", 1: "GPU-aaaa-1"}


@pytest.mark.parametrize("blocks", [False, True])
def test_a_framework_is_counted_once(played: SimpleNamespace, blocks: bool) -> None:
    """Also where its record was completed by the largest free block, which only a panel reads."""
    played.nn, played.optim = SimpleNamespace(Module=PlayedCuda), SimpleNamespace(Optimizer=PlayedCuda)
    found = take_snapshot(Driver(), backend="cuda", device=1, framework="pytorch", blocks=blocks)
    assert found.allocator is not None
    assert found.allocator.framework == "pytorch"
    assert (found.others, found.allocated, found.reserved) == ((), 3 * MIB, 8 * MIB)


def test_on_rocm_the_backend_is_hip(played: SimpleNamespace) -> None:
    played.version.hip = "6.4"
    assert _pytorch.allocator("cuda", 1) is None
    found = _pytorch.allocator("hip", 1)
    assert found is not None
    assert found.backend == "hip"


def test_an_old_pytorch_tells_less(played: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(PlayedCuda, "get_per_process_memory_fraction")
    monkeypatch.setattr(played.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1))
    del played._C._cuda_hasPrimaryContext, played._C._host_emptyCache
    found = _pytorch.allocator("cuda", 0)
    assert found is not None
    assert (found.limit, found.uuid, found.allocated) == (None, None, 3 * MIB)
    assert _pytorch.device_uuids() == {}
    assert len(_pytorch.caches(deep=False)) == 2


def test_private_pools_and_pinned_memory(played: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _pytorch.pinned() is None  # a PyTorch before 2.7
    pools = [((0, 0), 1, 8), ((0, 3), 1, 4), ((0, 4), 0, 2)]
    segments = [{"device": device, "segment_pool_id": pool, "allocated_size": size} for pool, device, size in pools]
    monkeypatch.setattr(PlayedCuda, "memory_snapshot", lambda self: segments, raising=False)
    monkeypatch.setattr(
        PlayedCuda, "host_memory_stats", lambda self: {"allocated_bytes.current": 5 * MIB}, raising=False
    )
    assert _pytorch.private_pools("cuda", 1) == _pytorch.private_pools("cuda", None) == 4
    assert _pytorch.private_pools("host", None) == 0
    assert _pytorch.pinned() == 5 * MIB


def test_each_cache_comes_with_what_empties_it(played: SimpleNamespace) -> None:
    names = []
    for name, empty in _pytorch.caches(deep=False):
        names.append(name)
        empty()
    assert names == ["cuda_cache", "cuda_shared", "pinned_cache"]
    assert played.cuda.emptied == ["cuda", "ipc", "host"]


def test_after_a_sticky_error_nothing_raises(played: SimpleNamespace) -> None:
    played.cuda.broken = True
    assert _pytorch.allocator("cuda", 1) is None
    assert _pytorch.device_uuids() == {}
    steps = give_back(None)
    assert [(step.done, step.error) for step in steps if step.done != "frames"] == [
        ("collect", None),
        ("cuda_cache", "RuntimeError"),
        ("cuda_shared", None),
        ("pinned_cache", None),
    ]
    assert played.cuda.emptied == ["ipc", "host"]
