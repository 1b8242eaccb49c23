"""Where each way of loading would put a model: against accelerate's own answer, and at the edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nb_oomhelper.loading.checkpoint import Checkpoint, Config, TensorSize
from nb_oomhelper.loading.checkpoint._cache import CacheLayers
from nb_oomhelper.loading.generation import Generation, beside
from nb_oomhelper.loading.placement import MemoryBudget, estimate_placement, half_of
from nb_oomhelper.records.remedy import LoadOption, Placement
from nb_oomhelper.showing.notes import say_note

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30
LAYERS = 8
HUGE = 1 << 60
CONFIG = Config(
    model_type="llama",
    hidden_size=1024,
    intermediate=4096,
    vocabulary=8000,
    cache=(CacheLayers(count=LAYERS, width=2 * 8 * 128),),
)


def tensor(name: str, size: int, dtype: str = "float32") -> TensorSize:
    width = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}[dtype]
    return TensorSize(name=name, dtype=dtype, shape=(size // width // 1024, 1024), size=size)


def checkpoint(dtype: str = "float32", **changes: Any) -> Checkpoint:
    """A model of 1 GiB: eight layers of 112 MiB, and 64 MiB at either end."""
    tensors = (
        tensor("lm_head.weight", 64 * MIB, dtype),
        *(tensor(f"model.layers.{number}.mlp.weight", 112 * MIB, dtype) for number in (10, *range(1, LAYERS))),
        tensor("model.embed_tokens.weight", 64 * MIB, dtype),
    )
    size = sum(one.size for one in tensors)
    made = Checkpoint(source="x", how="safetensors", tensors=tensors, size=size, dtypes=((dtype, size),), config=CONFIG)
    return replace(made, **changes)


GPU = MemoryBudget(backend="cuda", device=0, free=8 * GIB, host=32 * GIB, disk=100 * GIB, folder="/x")
HOST = MemoryBudget(backend="host", free=8 * GIB, host=8 * GIB, disk=100 * GIB, folder="/x")


def places(
    *options: LoadOption, room: MemoryBudget = GPU, dtype: str | None = "auto", of: Checkpoint | None = None
) -> Any:
    found = estimate_placement(options, of or checkpoint(), dtype, room)
    return None if found is None else (found.gpu, found.host, found.disk, found.fits)


@pytest.mark.parametrize(
    ("options", "free", "expected"),
    [
        (("as_asked",), 8 * GIB, (GIB, 0, 0, True)),
        (("as_asked",), GIB, (GIB, 0, 0, None)),  # the weights fit, and nothing beside them
        (("as_asked",), GIB - 1, (GIB, 0, 0, False)),
        (("as_asked",), None, (GIB, 0, 0, None)),
        (("half",), GIB, (GIB // 2, 0, 0, True)),
        (("half",), GIB // 2 - 1, (GIB // 2, 0, 0, False)),
        (("8bit",), GIB, None),
        (("4bit",), GIB, None),
    ],
)
def test_all_on_the_gpu(options: tuple[LoadOption, ...], free: int | None, expected: Any) -> None:
    found = places(*options, room=replace(GPU, free=free))
    if expected is None:  # an estimate: between a quarter and a half, and never more than in 16 bits
        assert GIB // 8 < found[0] <= GIB // 2
        assert found[3] is True
    else:
        assert found == expected


def test_sixteen_bits_cannot_be_halved() -> None:
    assert places("half", of=checkpoint("bfloat16")) is None
    assert places("half", dtype="float16") is None
    assert places("half", dtype="float64") == (GIB // 2, 0, 0, True)
    assert places("half", of=checkpoint("int64")) is not None  # nothing to halve, and nothing that says so


def test_what_the_call_asks_for_counts() -> None:
    assert places("as_asked", dtype="float64") == (2 * GIB, 0, 0, True)
    assert places("as_asked", dtype=None) == (None, None, None, None)
    assert places("as_asked", dtype="float8_strange") == (None, None, None, None)


def test_another_gpu() -> None:
    assert places("device") is None
    room = replace(GPU, others=((2, 4 * GIB), (1, GIB)))
    assert places("device", room=room) == (GIB, 0, 0, True)
    found = estimate_placement(("device",), checkpoint(), "auto", room)
    assert found is not None
    assert found.device == 2
    assert places("device", room=replace(GPU, others=((1, GIB // 2),))) == (GIB, 0, 0, False)


def test_on_the_host() -> None:
    assert places("as_asked", room=HOST) == (0, GIB, 0, True)
    assert places("as_asked", room=replace(HOST, host=GIB - 1)) == (0, GIB, 0, False)
    # files that are mapped while the weights are converted take address space as well
    tight = replace(HOST, host=GIB + GIB // 2 - 1)
    assert places("half", room=tight) == (0, GIB // 2, 0, True)
    assert places("half", room=replace(tight, maps=True)) == (0, GIB // 2, 0, False)
    assert places("as_asked", room=replace(tight, maps=True))[3] is None  # mapped as it is, once
    assert places("spread", room=HOST) is None
    assert places("8bit", room=HOST) is None
    assert places("host", room=HOST) is None
    assert places("host") == (0, GIB, 0, True)
    assert places("host", room=replace(GPU, host=GIB - 1)) == (0, GIB, 0, False)


def test_spread_fills_the_gpu_first_and_says_what_the_rest_takes() -> None:
    room = replace(GPU, free=900 * MIB)
    found = estimate_placement(("spread",), checkpoint(), "auto", room)
    assert found is not None
    assert found.gpu is not None
    assert found.host is not None
    assert found.gpu + found.host == GIB
    assert found.gpu <= 900 * MIB - beside(CONFIG).margin - 112 * MIB
    assert (found.disk, found.fits) == (0, True)
    assert found.budget.startswith('{0: "')
    assert '"cpu": "' in found.budget


def test_what_no_memory_has_room_for_goes_to_disk_if_it_may() -> None:
    room = replace(GPU, free=700 * MIB, host=1300 * MIB)
    spread, offload = (estimate_placement((option,), checkpoint(), "auto", room) for option in ("spread", "offload"))
    assert spread is not None
    assert offload is not None
    assert spread.disk == offload.disk
    assert spread.disk is not None
    assert spread.disk > 0
    assert (spread.fits, offload.fits) == (False, True)


def test_the_budget_that_the_call_names_is_the_one_that_was_reckoned_with() -> None:
    sizes = (113 * MIB - MIB // 2, *[100 * MIB] * 7)
    tensors = tuple(tensor(f"model.layers.{number}.mlp.weight", size) for number, size in enumerate(sizes))
    model = checkpoint(tensors=tensors, size=sum(sizes))
    found: dict[str, set[tuple[int | None, int | None]]] = {}
    for room in range(1000 * MIB, 1200 * MIB, MIB // 4):
        one = estimate_placement(("offload",), model, "auto", replace(HOST, host=room))
        assert one is not None
        found.setdefault(one.budget, set()).add((one.host, one.disk))
    assert {len(places) for places in found.values()} == {1}
    assert len(set().union(*found.values())) > 1


def test_room_on_disk_counts_only_where_something_is_written() -> None:
    room = replace(GPU, free=700 * MIB, host=1300 * MIB, disk=MIB)
    as_stored, converted = (
        estimate_placement(("offload",), checkpoint(), dtype, room) for dtype in ("auto", "float64")
    )
    assert as_stored is not None
    assert as_stored.fits is True  # the files themselves serve
    assert converted is not None
    assert converted.fits is False


def test_a_text_to_write_wants_room_wherever_the_weights_are() -> None:
    model = checkpoint(config=replace(CONFIG, reading=1 << 14))
    short = replace(GPU, others=((1, 4 * GIB),), wanted=Generation(tokens=16))
    long = replace(short, wanted=Generation(tokens=1 << 20))  # its keys and values take 32 GiB
    for way in ("as_asked", "spread", "host", "device"):
        assert places(way, room=short, of=model)[3] is True, way
        assert places(way, room=long, of=model)[3] is False, way
        assert places(way, room=short)[3] is None, way  # nobody knows what reading its prompt takes
    full = replace(HOST, host=GIB + 2 * GIB, wanted=Generation(tokens=1 << 16))
    found = estimate_placement(("offload",), model, "auto", full)
    assert found is not None
    assert found.disk  # what the text wants is left free of weights


def test_nothing_is_known_of_an_unknown_checkpoint() -> None:
    unknown = Checkpoint(source="x", how="unknown")
    for option in ("as_asked", "half", "spread", "offload", "8bit"):
        assert places(option, of=unknown) == (None, None, None, None), option
    assert places("as_asked", of=Checkpoint(source="x", how="index", size=GIB)) == (GIB, 0, 0, True)


def test_half_of() -> None:
    assert half_of(checkpoint(config=replace(CONFIG, dtype="bfloat16")), "cuda") == "bfloat16"
    assert half_of(checkpoint("float16"), "host") == "float16"
    assert half_of(checkpoint(), "cuda") == "float16"
    assert half_of(checkpoint(), "host") == "bfloat16"


def test_beside_the_weights() -> None:
    found = beside(CONFIG, tokens=1000)
    assert found.cache == 2 * LAYERS * 8 * 128 * 1000 * 2
    assert found.activations == 1000 * (8 * 1024 * 2 + 8000 * 4)
    assert "8 layers × 2048 values × 1000 tokens × 2 bytes" in say_note(found.formula, "en")
    unknown = beside(None)
    assert (unknown.cache, unknown.activations, unknown.margin) == (None, None, 256 * MIB)
    assert "unknown" in say_note(unknown.formula, "en")


def accelerates_answer(torch: Any, sizes: list[int], ends: int, rooms: dict[Any, int]) -> dict[Any, int]:
    """Bytes by place as accelerate's own function gives them, for a model on the meta device."""
    accelerate = pytest.importorskip("accelerate")

    class Layer(torch.nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(size, dtype=torch.int8), requires_grad=False)

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = Layer(ends)
            self.layers = torch.nn.ModuleList([Layer(size) for size in sizes])

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Inner()
            self.lm_head = Layer(ends)

    with torch.device("meta"):
        model = Whole()
    places = accelerate.infer_auto_device_map(model, max_memory=rooms, no_split_module_classes=["Layer"])
    found = dict.fromkeys((0, "cpu", "disk"), 0)
    for name, weight in model.named_parameters():
        place = next(place for prefix, place in places.items() if prefix == "" or name.startswith(f"{prefix}."))
        found[place] += weight.numel()
    return found


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    ends=st.integers(1, 40),
    gpu=st.integers(0, 300),
    cpu=st.integers(0, 300),
)
@settings(deadline=None, max_examples=300)
def test_it_fills_as_accelerate_does(sizes: list[int], ends: int, gpu: int, cpu: int) -> None:
    from nb_oomhelper.loading.placement import _fill

    torch = pytest.importorskip("torch")
    expected = accelerates_answer(torch, sizes, ends, {0: gpu, "cpu": cpu})
    assert dict(zip((0, "cpu", "disk"), _fill([ends, *sizes, ends], [gpu, cpu]), strict=True)) == expected


def test_layers_stand_in_the_order_of_the_model() -> None:
    from nb_oomhelper.loading.placement import _layers

    assert _layers(checkpoint(), "auto") == [64 * MIB, *[112 * MIB] * LAYERS, 64 * MIB]
    assert sum(_layers(checkpoint(), "float16")) == GIB // 2


@given(free=st.integers(0, HUGE), host=st.integers(0, HUGE), maps=st.booleans(), disk=st.integers(0, HUGE))
def test_bytes_always_add_up(free: int, host: int, maps: bool, disk: int) -> None:
    for room in (
        MemoryBudget(backend="cuda", device=0, free=free, host=host, maps=maps, disk=disk),
        MemoryBudget(backend="host", free=host, host=host, maps=maps, disk=disk),
    ):
        for option in ("spread", "offload", "as_asked"):
            found = estimate_placement((option,), checkpoint(), "auto", room)
            assert found is None or (found.gpu or 0) + (found.host or 0) + (found.disk or 0) == GIB
            assert isinstance(found, Placement | None)
