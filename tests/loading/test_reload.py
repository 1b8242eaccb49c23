"""A failed load written anew, with real checkpoints on disk: the user's own statement, and where its bytes would go."""

from __future__ import annotations

import ast
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.holders.find import loaded
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.loading import reload
from nb_oomhelper.loading.reload import after_load, estimate_whole, plan_reload, study
from nb_oomhelper.records.event import FailedCall, OomEvent
from nb_oomhelper.records.memory import AllocatorMemory, DriverReading, HostMemory, MemorySnapshot
from nb_oomhelper.records.note import note
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies import planning
from tests.makers import DEVICE, EVENT, JAX, SNAPSHOT, held, holding

pytestmark = pytest.mark.plain

MIB, GIB = 1 << 20, 1 << 30
CATALOG = load_catalog()
FIXES = {fix.id: fix for fix in CATALOG.fixes if fix.subject == "call"}
CELL = """model = AutoModel.from_pretrained(
    PATH,  # where ours lies
    revision="main",
)"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of 4 GiB in float32, whose file has a hole where the weights would be."""
    header: dict[str, Any] = {}
    place = 0
    for number in range(8):
        header[f"model.layers.{number}.weight"] = {
            "dtype": "F32",
            "shape": [(GIB // 2) // 4096, 1024],
            "data_offsets": [place, place + GIB // 2],
        }
        place += GIB // 2
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 1024}', "utf-8")
    return tmp_path


def call(folder: Path, statement: str = CELL, **changes: Any) -> FailedCall:
    node = next(one for one in ast.walk(ast.parse(statement)) if isinstance(one, ast.Call))
    at = (node.lineno, node.col_offset)
    made = FailedCall(
        loader="AutoModel.from_pretrained",
        module="transformers",
        model="PATH",
        target="model",
        row="transformers",
        statement=statement,
        position=at,
        value=str(folder),
    )
    return replace(made, **changes)


def plans(
    found: FailedCall | None,
    snapshot: MemorySnapshot = SNAPSHOT,
    names: tuple[str, ...] = (),
    event: OomEvent = EVENT,
    free: int = 6 * GIB,
) -> dict[str, FixPlan]:
    """Every reload by fix; the GPU has this much free once the failed cell is released."""
    device = replace(DEVICE, free=free) if snapshot.device else None
    given = replace(snapshot, device=device, allocator=None)
    load = study(replace(event, phase="load", call=found), given, frozenset(names))
    if load is None:
        return {}
    return {name: plan for name, fix in FIXES.items() if (plan := plan_reload(fix, load)) is not None}


def test_the_users_own_statement(folder: Path) -> None:
    found = plans(call(folder))["reload-half"]
    assert found.code.splitlines() == [
        "import torch",
        "import nb_oomhelper",
        "nb_oomhelper.release()",
        *found.after.splitlines(),
    ]
    assert "# where ours lies" in found.after
    assert found.after.startswith("model = AutoModel.from_pretrained(\n    PATH,  # where ours lies")
    assert "dtype=torch.float16" in found.after
    assert (found.before, found.applicability, found.obstacle, found.subject) == (CELL, "safe", "", "model")
    assert found.placement is not None
    assert (found.placement.gpu, found.fits, found.loads) == (2 * GIB, True, True)


def test_what_does_not_fit_is_not_offered(folder: Path) -> None:
    assert set(plans(call(folder), free=6 * GIB)) >= {"clear-then-reload", "reload-half", "reload-spread"}
    assert "clear-then-reload" not in plans(call(folder), free=3 * GIB)
    tiny = plans(call(folder), free=GIB)
    assert "reload-half" not in tiny
    assert tiny["reload-spread"].placement is not None
    assert tiny["reload-spread"].placement.host


def test_the_whole_load_counts_and_not_its_last_request(folder: Path) -> None:
    """With the failed cell's 2 GiB back, 3 are free: the request of 1 GiB fits, and 4 GiB of model do not."""
    event = replace(EVENT, phase="load", call=call(folder), requested=GIB)
    failed = holding("failed_cell", "weights", 2 * GIB, function="load", line=3)
    snapshot = replace(SNAPSHOT, holdings=held(failed), allocator=None)
    load = study(event, snapshot, frozenset())
    assert load is not None
    before = diagnose(event, snapshot)
    found = estimate_whole(before, load)
    assert (before.rerun, found.rerun, found.load, found.room) == (3 * GIB, 4 * GIB, 4 * GIB, 3 * GIB)
    ranked = [(one.fix, one.fits, one.whole_cell_fits) for one in planning.plan(CATALOG, event, snapshot, found, load)]
    assert ranked[0] == ("reload-half", True, None)
    assert ranked.index(("release-failed-cell", True, False)) > ranked.index(("reload-spread", True, None))
    roomy = replace(snapshot, device=replace(DEVICE, free=3 * GIB))
    load = study(event, roomy, frozenset())
    assert load is not None
    fitting = estimate_whole(diagnose(event, roomy), load)
    assert (fitting.rerun, fitting.load, fitting.room) == (4 * GIB, 4 * GIB, 5 * GIB)
    ranked = [(one.fix, one.fits, one.whole_cell_fits) for one in planning.plan(CATALOG, event, roomy, fitting, load)]
    assert ranked[:2] == [
        ("clear-then-reload", True, None),
        ("reload-half", True, None),
    ]  # they do what the cell was for


def test_a_release_does_not_give_an_old_model_back(folder: Path) -> None:
    """Of 5 GiB that a load may have, 2 come only when its name lets the old model go."""
    event = replace(EVENT, phase="load", call=call(folder), requested=GIB)
    rows = (
        holding("failed_cell", "weights", 2 * GIB, function="load", line=3),
        holding("variable", "model", 2 * GIB, role="model"),
    )
    snapshot = replace(SNAPSHOT, holdings=held(*rows), allocator=None)
    load = study(event, snapshot, frozenset({"model"}))
    assert load is not None
    found = estimate_whole(diagnose(event, snapshot), load)
    assert (load.room.free, found.room, found.load, found.rerun) == (5 * GIB, 3 * GIB, 4 * GIB, 4 * GIB)
    ranked = [(one.fix, one.fits, one.whole_cell_fits) for one in planning.plan(CATALOG, event, snapshot, found, load)]
    assert ranked[0] == ("clear-then-reload", True, None)
    assert ("release-failed-cell", True, False) in ranked


def test_a_call_that_spreads_its_model_itself_is_not_weighed(folder: Path) -> None:
    written = {'"auto"': None, "PLACES": None, "None": 4 * GIB, '"cuda"': 4 * GIB, "0": 4 * GIB, '"balanced"': None}
    for places, expected in written.items():
        statement = f"model = AutoModel.from_pretrained(PATH, device_map={places})"
        event = replace(EVENT, phase="load", call=call(folder, statement), requested=GIB)
        load = study(event, SNAPSHOT, frozenset())
        assert load is not None
        assert estimate_whole(diagnose(event, SNAPSHOT), load).load == expected, places


def test_beside_another_framework_only_what_is_sure_counts_as_room(folder: Path) -> None:
    event = replace(EVENT, phase="load", call=call(folder), requested=GIB)
    failed = holding("failed_cell", "weights", 2 * GIB, function="load", line=3)
    snapshot = replace(SNAPSHOT, holdings=held(failed), allocator=None, others=(JAX,))
    load = study(event, snapshot, frozenset())
    assert load is not None
    assert (load.room.free, load.room.whole) == (GIB, False)  # the driver's; of the 2 GiB nobody knows
    found = estimate_whole(diagnose(event, snapshot), load)
    assert (found.load, found.room, found.rerun) == (4 * GIB, None, 4 * GIB)
    spread = plan_reload(FIXES["reload-spread"], load)
    assert spread is not None
    assert "{0: " in spread.code  # not all of it to the host


def test_what_is_unknown_of_a_load_changes_nothing(folder: Path) -> None:
    event = replace(EVENT, phase="load", call=call(folder, value="no/such"), requested=GIB)
    load = study(event, SNAPSHOT, frozenset())
    assert load is not None
    assert estimate_whole(diagnose(event, SNAPSHOT), load) == diagnose(event, SNAPSHOT)


def test_what_the_failed_cell_keeps_is_room(folder: Path) -> None:
    rows = (holding("failed_cell", "x", 3 * GIB, function="f"), holding("variable", "model", GIB))
    snapshot = replace(SNAPSHOT, holdings=held(*rows))
    assert "clear-then-reload" not in plans(call(folder), free=GIB // 4)
    found = plans(call(folder), snapshot, names=("model",), free=GIB // 8)["clear-then-reload"]
    assert found.placement is not None
    assert found.placement.gpu == 4 * GIB  # 3 GiB of the failed cell, 1 GiB of the old model, and 0.125 GiB
    assert found.fits is None  # nothing is left beside the weights


def test_the_set_limit_is_the_room(folder: Path) -> None:
    allocator = AllocatorMemory(framework="pytorch", backend="cuda", allocated=GIB, reserved=GIB, limit=4 * GIB)
    snapshot = replace(SNAPSHOT, device=replace(DEVICE, free=70 * GIB), allocator=allocator)
    load = study(replace(EVENT, phase="load", call=call(folder)), snapshot, frozenset())
    assert load is not None
    assert load.room.free == 3 * GIB
    assert plan_reload(FIXES["clear-then-reload"], load) is None


def test_an_old_model_goes_first_and_that_is_said(folder: Path) -> None:
    found = plans(call(folder), names=("model",))["reload-half"]
    assert found.applicability == "unsafe"
    lines = found.code.splitlines()
    assert lines.index("model = None") < lines.index("nb_oomhelper.release()")
    assert "model = None" not in plans(call(folder))["reload-half"].code


def test_a_statement_that_reads_the_name_it_binds_keeps_it(folder: Path) -> None:
    statement = "model = AutoModel.from_pretrained(model)"
    found = plans(call(folder, statement, model="model"), names=("model",))["reload-half"]
    assert "model = None" not in found.code


@pytest.mark.parametrize(
    "obstacle", ["no_source", "unreadable", "loop", "comprehension", "function", "block", "await", "no_target"]
)
def test_what_cannot_be_changed_is_shown_in_its_plain_form(folder: Path, obstacle: str) -> None:
    found_by = call(folder, obstacle=obstacle)
    if obstacle == "no_source":
        found_by = replace(found_by, statement=None, position=None)
    found = plans(found_by)
    assert {plan.applicability for plan in found.values()} == {"display_only"}
    half = found["reload-half"]
    assert (half.obstacle, half.before) == (obstacle, "")
    if obstacle in ("no_source", "unreadable"):
        assert half.after == "model = AutoModel.from_pretrained(PATH, dtype=torch.float16)"
    else:  # the call was read, and what is around it is in the way
        assert half.after == CELL.replace('revision="main",', 'revision="main",\n    dtype=torch.float16,')
    assert half.placement is not None
    assert half.placement.gpu == 2 * GIB


def test_arguments_in_stars_can_be_run_again_but_not_changed(folder: Path) -> None:
    found = plans(call(folder, "model = AutoModel.from_pretrained(PATH, **more)", obstacle="starred"))
    assert found["clear-then-reload"].applicability == "safe"
    assert found["clear-then-reload"].after == "model = AutoModel.from_pretrained(PATH, **more)"
    assert found["reload-half"].obstacle == "starred"


def test_a_load_whose_call_could_not_be_read() -> None:
    found = plans(None)
    assert {plan.applicability for plan in found.values()} == {"display_only"}
    assert found["reload-half"].after.startswith("model = AutoModelForCausalLM.from_pretrained('your-model'")
    assert study(replace(EVENT, phase="train", call=None), SNAPSHOT, frozenset()) is None


def test_what_is_not_installed_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "installed_version", {"transformers": "5.23.0", "accelerate": "1.15.0"}.get)
    found = plans(call(folder))["reload-8bit"]
    assert found.code.startswith("# pip install bitsandbytes\nimport transformers\n")
    assert (found.applicability, found.obstacle) == ("display_only", "not_installed")


def test_nothing_is_trusted_that_was_not(folder: Path) -> None:
    for plan in plans(call(folder)).values():
        assert "trust_remote_code" not in plan.code
        ast.parse(plan.code)


def test_the_dtype_that_the_call_asks_for_counts(folder: Path) -> None:
    for text, gpu in (("torch.float64", 8 * GIB), ('"bfloat16"', 2 * GIB), ("torch.half", 2 * GIB), ("kind", None)):
        found = plans(call(folder, f"model = AutoModel.from_pretrained(PATH, dtype={text})"), free=20 * GIB)
        placement = found["clear-then-reload"].placement
        assert placement is not None
        assert placement.gpu == gpu, text
        assert ("reload-half" in found) == (gpu != 2 * GIB)
    both = plans(call(folder, "model = AutoModel.from_pretrained(PATH, dtype=torch.half, torch_dtype=None)"))
    assert both["clear-then-reload"].placement is not None
    assert both["clear-then-reload"].placement.gpu is None
    assert "dtype=torch.float16" in found["reload-half"].after  # an argument that is there is changed in place


def test_the_files_that_the_call_means_are_measured(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub" / "model.safetensors")
    unknown = plans(call(folder))["reload-half"].placement
    assert unknown is not None
    assert unknown.gpu is None
    statement = 'model = AutoModel.from_pretrained(PATH, subfolder="sub")'
    found = plans(call(folder, statement))["reload-half"].placement
    assert found is not None
    assert found.gpu == 2 * GIB


def test_unknown_size_says_why(folder: Path) -> None:
    found = plans(call(folder, value=None))["reload-half"]
    assert found.placement is not None
    assert found.placement.why == note("checkpoint.not_literal")
    assert found.fits is None


def test_on_the_host_what_was_mapped_comes_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostMemory(address_space_limit=8 * GIB, virtual=8 * GIB - MIB)
    snapshot = MemorySnapshot(taken_at=0.0, driver=DriverReading(), host=host)
    event = replace(EVENT, backend="host", device=None)
    assert plans(call(folder), snapshot, event=event) == {}
    monkeypatch.setattr(reload, "mapped_files", lambda where: 7 * GIB if where == str(folder) else 0)
    found = plans(call(folder), snapshot, event=event)
    assert {"clear-then-reload", "reload-half"} <= set(found)
    assert found["reload-half"].placement is not None
    assert (found["reload-half"].placement.host, found["reload-half"].placement.gpu) == (2 * GIB, 0)


def test_the_folder_is_a_new_one_on_a_real_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plans(call(folder), free=GIB)["reload-offload"]
    assert 'offload_folder=tempfile.mkdtemp(prefix="oom-offload-")' in found.code
    assert "import tempfile" in found.code.splitlines()
    monkeypatch.setattr(reload, "scratch", lambda: ("/scratch/of mine", 100 * GIB))
    found = plans(call(folder), free=GIB)["reload-offload"]
    assert "tempfile.mkdtemp(prefix=\"oom-offload-\", dir='/scratch/of mine')" in found.code


def moving(statement: str, sizes: tuple[tuple[str, int], ...] = (("float32", 4 * GIB), ("int64", MIB))) -> Any:
    """Plans of a model that is there already and does not fit where it is moved to."""
    name = statement.partition(".")[0].rpartition(" ")[2]
    found = FailedCall(
        loader=f"{name}.to",
        module="torch",
        target="model",
        row="torch-to",
        statement=statement,
        position=(1, statement.index(f"{name}.to")),
    )
    snapshot = replace(SNAPSHOT, device=replace(DEVICE, free=3 * GIB), allocator=None)
    event = replace(EVENT, phase="load", call=found)
    load = study(event, snapshot, frozenset({"model"}), {name: sizes}.get)  # type: ignore[arg-type]
    assert load is not None
    return {name: plan for name, fix in FIXES.items() if (plan := plan_reload(fix, load)) is not None}


def test_what_is_moved_must_not_go_after_a_move() -> None:
    found = moving('model.to("cuda")', (("float32", GIB),))
    later = after_load(replace(found["clear-then-reload"], number=2), replace(found["reload-half"], number=1))
    assert (later.code, later.applicability) == (found["clear-then-reload"].code, "unsafe")


def test_a_model_that_is_moved_is_measured_where_it_is() -> None:
    found = moving('model.to("cuda")')
    assert set(found) == {"reload-half"}  # as it is it does not fit, and there is no other GPU
    placement = found["reload-half"].placement
    assert (placement.gpu, placement.host) == (2 * GIB + MIB, 0)
    assert found["reload-half"].after == 'model.to("cuda", dtype=torch.float16)'
    assert "model = None" not in found["reload-half"].code


@pytest.mark.parametrize("given", ["kind", "'cuda', kind", "*where"])
def test_a_move_that_may_convert_has_no_known_size(given: str) -> None:
    assert moving(f"model.to({given})")["clear-then-reload"].fits is None


def test_a_move_that_cannot_be_changed_names_no_model() -> None:
    call = FailedCall(loader="net.to", module="torch", row="torch-to", obstacle="loop")
    load = study(replace(EVENT, phase="load", call=call), SNAPSHOT, frozenset())
    assert load is not None
    half = plan_reload(FIXES["reload-half"], load)
    assert half is not None
    assert (half.after, half.applicability) == ("net.to(dtype=torch.float16)", "display_only")


def test_what_is_moved_may_be_unknown() -> None:
    found = moving('model = net.to("cuda")', ())
    assert found["clear-then-reload"].placement.why == note("checkpoint.not_measured")
    assert found["clear-then-reload"].fits is None


def test_what_a_variable_keeps_by_dtype() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Linear(1024, 512).half())
    found = dict(loaded(Scope(variables={"net": net}), "net", 60))
    assert found == {"float32": 4 * MIB, "float16": MIB}  # small tensors are left out
    assert loaded(Scope(variables={"net": net}), "other", 60) == ()


# -- what must not be run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obstacle", ["several", "starred"])
def test_what_binds_no_plain_name_is_never_run(folder: Path, obstacle: str) -> None:
    statement = 'model, names = AutoModel.from_pretrained(PATH, **more), AutoTokenizer.from_pretrained("x")'
    found = plans(call(folder, statement, obstacle=obstacle, target=None), names=("model", "names"))
    assert {plan.applicability for plan in found.values()} == {"display_only"}


def test_what_a_statement_needs_is_no_room(folder: Path) -> None:
    """`model` stays, because the statement reads it: its bytes do not come back."""
    snapshot = replace(SNAPSHOT, holdings=held(holding("variable", "model", 3 * GIB)))
    statement = "model = AutoModel.from_pretrained(PATH, config=model.config)"
    assert "clear-then-reload" not in plans(call(folder, statement), snapshot, ("model",), free=2 * GIB)
    assert "clear-then-reload" in plans(call(folder), snapshot, ("model",), free=2 * GIB)


def test_an_import_takes_no_variable_of_the_users(folder: Path) -> None:
    pytest.importorskip("accelerate")
    found = plans(call(folder), names=("torch", "tempfile"), free=GIB)
    assert found["reload-spread"].obstacle in ("", "not_installed")
    assert found["reload-offload"].obstacle == "shadowed" if "reload-offload" in found else True
    half = plans(call(folder), names=("torch",))["reload-half"]
    assert (half.obstacle, half.applicability) == ("shadowed", "display_only")
    assert plans(call(folder), names=("tempfile",))["clear-then-reload"].code.count("import") == 1


@pytest.mark.parametrize(
    "after",
    [
        ".float()",
        ".to('cuda', torch.float32)",
        ".to(dtype=torch.double)",
        ".to(kind)",
        ".to(dtype=KIND)",
        ".type(kind)",
    ],
)
def test_sixteen_bits_that_are_undone_are_not_offered(folder: Path, after: str) -> None:
    found = plans(call(folder, f"model = AutoModel.from_pretrained(PATH){after}"))
    assert found["reload-half"].obstacle == "chained"
    placement = found["clear-then-reload"].placement
    assert placement is not None
    assert placement.gpu is None  # what it will take in the end was not read


@pytest.mark.parametrize("argument", ["quantization_config=bnb", "load_in_4bit=True", "model_kwargs=more"])
def test_a_size_that_was_not_read_is_unknown(folder: Path, argument: str) -> None:
    found = plans(call(folder, f"model = AutoModel.from_pretrained(PATH, {argument})"), free=GIB)
    assert found["clear-then-reload"].fits is None


def test_nothing_goes_to_a_disk_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "scratch", lambda: (None, None))
    assert not {"reload-disk", "reload-offload"} & set(plans(call(folder), free=GIB))


def test_where_the_search_had_no_time_nothing_is_said_not_to_fit(folder: Path) -> None:
    late = replace(SNAPSHOT, holdings=replace(held(), searched=1, total=3, complete=False))
    found = plans(call(folder), late, free=GIB // 8)
    assert found["clear-then-reload"].fits is None
    assert "clear-then-reload" not in plans(call(folder), free=GIB // 8)


def test_a_plain_call_keeps_the_users_arguments(folder: Path) -> None:
    statement = "for PATH in all_of_them:\n    model = AutoModel.from_pretrained(PATH, dtype=torch.float64)"
    found = plans(call(folder, statement, obstacle="loop", target="model"), free=20 * GIB)
    assert found["clear-then-reload"].after == "model = AutoModel.from_pretrained(PATH, dtype=torch.float64)"
    unread = FailedCall(loader="from_pretrained", module="transformers", row="transformers", obstacle="no_source")
    assert plans(unread)["clear-then-reload"].after == ("model = AutoModelForCausalLM.from_pretrained('your-model')")
    piped = FailedCall(
        loader="pipeline", module="transformers", row="transformers-pipeline", model="'gpt2'", obstacle="no_source"
    )
    assert plans(piped)["clear-then-reload"].after == "model = pipeline(model='gpt2')"


def test_after_one_load_the_others_would_lose_it(folder: Path) -> None:
    pytest.importorskip("accelerate")
    found = plans(call(folder))
    chosen = replace(found["reload-half"], number=1)
    later = after_load(replace(found["clear-then-reload"], number=2), chosen)
    assert later.applicability == "unsafe"
    lines = later.code.splitlines()
    assert lines.index("model = None") < lines.index("nb_oomhelper.release()")
    found = plans(call(folder, "model = AutoModel.from_pretrained(PATH, assistant_model = None)"))
    later = after_load(replace(found["clear-then-reload"], number=2), replace(found["reload-half"], number=1))
    assert later.code.splitlines().index("model = None") < later.code.splitlines().index("nb_oomhelper.release()")
    deletion = FixPlan(number=3, fix="delete-variable", code="", applicability="unsafe", subject="model", predicted=GIB)
    assert after_load(deletion, chosen).predicted is None
    other = replace(deletion, subject="x")
    assert after_load(other, chosen) == other
