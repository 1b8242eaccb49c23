"""What of the user's notebook the fixes change where no load failed, and that the changed code really does it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.knowledge.catalog import load_catalog
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import OomEvent, Phase
from nb_oomhelper.records.holdings import Holding
from nb_oomhelper.records.memory import AllocatorMemory, Measure
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies.allocator_settings import merge_setting
from nb_oomhelper.remedies.cell_phase import tell_phase
from nb_oomhelper.remedies.emptying import find_emptiable
from nb_oomhelper.remedies.fix_targets import SUBJECTS
from nb_oomhelper.remedies.notebook import Notebook, inspect_notebook, replaced_by
from nb_oomhelper.remedies.planning import plan
from nb_oomhelper.remedies.running import run
from nb_oomhelper.source.repeats import Repeat
from tests.makers import EVENT, JAX, MIB, SNAPSHOT, held, holding
from tests.shells import in_shell

pytestmark = pytest.mark.plain

GIB = 1 << 30
CATALOG = load_catalog()
TRAIN, INFER = replace(EVENT, phase="train"), replace(EVENT, phase="infer")
RELEASE = "import nb_oomhelper\nnb_oomhelper.release()\n"
ADAM = holding("variable", "opt", GIB, role="optimizer", type_name="AdamW")


def plans(
    source: str,
    variables: Mapping[str, object] | None = None,
    *rows: Holding,
    event: OomEvent = EVENT,
    allocator: AllocatorMemory | None = None,
    others: tuple[AllocatorMemory, ...] = (),
) -> dict[str, FixPlan]:
    """The fixes that change the notebook, by id; a fix that comes twice has the name after it."""
    snapshot = replace(SNAPSHOT, holdings=held(*rows), allocator=allocator, others=others)
    notebook = inspect_notebook(variables or {}, source)
    event = replace(event, phase=tell_phase(event, snapshot.holdings, notebook))
    found = plan(CATALOG, event, snapshot, diagnose(event, snapshot), notebook=notebook)
    work = [one for one in found if CATALOG.fix(one.fix).subject in SUBJECTS]
    named = {
        one.fix if sum(one.fix == other.fix for other in work) == 1 else f"{one.fix} {one.subject}": one for one in work
    }
    assert len(named) == len(work)
    return named


def namespace(code: str, **names: object) -> dict[str, Any]:
    """Run a fix's code as the shell would, but without giving memory back."""
    found: dict[str, Any] = dict(names)
    exec(code.replace(RELEASE, ""), found)
    return found


class Hostile:
    """Whoever asks it for anything is told off."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__" and not sys._getframe(1).f_globals["__name__"].startswith("nb_oomhelper"):
            return Hostile  # other tests look at all living objects
        raise AssertionError(name)

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


class TestNumbers:
    def test_a_batch_size_that_the_cell_uses(self) -> None:
        found = plans("train(model, BATCH_SIZE)", {"BATCH_SIZE": 64}, event=TRAIN)["smaller-batch-number"]
        assert found.code == f"{RELEASE}BATCH_SIZE = 32  # was 64\ntrain(model, BATCH_SIZE)"
        assert (found.applicability, found.subject, found.reruns) == ("unsafe", "BATCH_SIZE 64 → 32", True)
        assert (found.predicted, found.fits, found.steps) == (None, None, 2)

    @pytest.mark.parametrize(
        ("source", "variables"),
        [
            ("train(model)", {"batch_size": 64}),  # the cell does not use it
            ("train(batch_size)", {"batch_size": 1}),
            ("train(batch_size)", {"batch_size": True}),
            ("train(batch_size)", {"batch_size": Hostile()}),
            ("train(batch_size)", {"batch_size": type("Int", (int,), {})(64)}),
            ("train(epochs)", {"epochs": 64}),
            ("batch_size = n\ntrain(batch_size)", {"batch_size": 64}),  # it sets it again
            ("train(batch_size", {"batch_size": 64}),
        ],
    )
    def test_others_stay(self, source: str, variables: dict[str, object]) -> None:
        assert plans(source, variables, event=TRAIN) == {} or "smaller-batch-number" not in plans(
            source, variables, event=TRAIN
        )

    def test_not_while_a_model_is_loading(self) -> None:
        found = plans("load(batch_size)", {"batch_size": 64}, event=replace(EVENT, phase="load"))
        assert found == {}


class TestCell:
    def test_a_number_that_stands_in_it(self) -> None:
        source = "for x in DataLoader(data, batch_size=64):\n    model(x).sum().backward()"
        found = plans(source, event=TRAIN)["smaller-batch-cell"]
        assert found.code == RELEASE + source.replace("64", "32")
        assert (found.subject, found.applicability, found.reruns) == ("batch_size 64 → 32", "unsafe", True)

    def test_arguments_of_a_training(self) -> None:
        source = "args = TrainingArguments('o', per_device_train_batch_size=16)\nTrainer(model, args).train()"
        found = plans(source, event=TRAIN)
        assert found["smaller-batch-arguments"].code == RELEASE + source.replace(
            "=16", "=8, gradient_accumulation_steps=2"
        )
        assert "smaller-batch-cell" not in found

    @pytest.mark.parametrize(("backend", "device"), [("cuda", "cuda"), ("host", "cpu")])
    def test_mixed_precision(self, backend: str, device: str) -> None:
        found = plans("step(model, x)", event=replace(TRAIN, backend=backend))["autocast"]
        assert found.code == (
            f"import torch\n{RELEASE}with torch.autocast('{device}', dtype=torch.bfloat16):\n    step(model, x)"
        )
        assert "autocast" not in plans("with autocast('cuda'): step(model, x)", event=TRAIN)
        assert "autocast" not in plans("model.half()\nstep(model, x)", event=TRAIN)
        assert "autocast" not in plans(
            "y = zeros.index_add(0, at, x)", event=TRAIN
        )  # which refuses two kinds of numbers

    def test_generating(self) -> None:
        source = "out = model.generate(ids, max_new_tokens=512)"
        found = plans(source, event=INFER)
        assert set(found) == {"fewer-new-tokens", "offloaded-cache", "quantized-cache"}
        assert found["fewer-new-tokens"].code == RELEASE + source.replace("512", "256")
        assert found["offloaded-cache"].code == RELEASE + source.replace("512", '512, cache_implementation="offloaded"')
        quantized = found["quantized-cache"]
        assert (quantized.applicability, quantized.obstacle) == ("display_only", "not_installed")
        assert quantized.code.startswith("# pip install optimum-quanto\n")
        assert set(plans(source, event=replace(INFER, backend="host"))) == {"fewer-new-tokens"}
        assert set(plans("model.generate(ids, past_key_values=kept, max_new_tokens=1)", event=INFER)) == set()

    @pytest.mark.parametrize(
        ("source", "function", "offered"),
        [
            ("out = model(x)", None, True),
            ("evaluate(model, loader)", "evaluate", True),
            ("run(model)", "evaluate", False),  # what is between may train
            ("trainer.evaluate()", None, False),  # a library does it by itself
            ("with torch.no_grad():\n    f(model)", "f", False),
            ("for x in y:\n    model(x).backward()\nevaluate(model)", "evaluate", False),
        ],
    )
    def test_without_autograd(self, source: str, function: str | None, offered: bool) -> None:
        found = plans(source, event=replace(INFER, function=function))
        assert ("no-grad" in found) == offered
        if offered:
            assert found["no-grad"].code == f"import torch\n{RELEASE}with torch.no_grad():\n    {source}"

    @pytest.mark.parametrize(
        ("source", "obstacle"),
        [("%%time\nout = model(x)", "magics"), ("out = await ask(model)", "awaits")],
    )
    def test_what_cannot_run_in_another_form_is_shown(self, source: str, obstacle: str) -> None:
        found = plans(source, event=INFER)["no-grad"]
        assert (found.applicability, found.obstacle) == ("display_only", obstacle)
        assert ast.parse(found.code)

    def test_what_is_pasted_is_not_filled_in(self) -> None:
        source = "f('$name ${half} $$', batch_size=8)"
        assert plans(source, event=TRAIN)["smaller-batch-cell"].code == RELEASE + source.replace("8", "4")


class TestPhase:
    """Where the traceback tells no phase, the cell may."""

    KEPT = holding("failed_cell", "h", GIB, parts=(("graph", GIB),))

    def phase(self, source: str, *rows: Holding, **variables: object) -> Phase:
        return tell_phase(EVENT, held(*rows), inspect_notebook(variables, source))

    def test_table(self) -> None:
        assert self.phase("out = model(x)") == "unknown"
        assert self.phase("out = model(x)", self.KEPT) == "infer"
        assert self.phase("out = model(x)", self.KEPT, ADAM) == "unknown"  # its backward() may stand in another cell
        assert self.phase("loss.backward()", self.KEPT) == "train"
        assert self.phase("no python", self.KEPT) == "unknown"
        assert tell_phase(INFER, held(), Notebook()) == "infer"

    def test_a_graph_that_nobody_needs(self) -> None:
        assert set(plans("out = model(x)", None, self.KEPT)) == {"no-grad"}

    def test_where_nobody_knows_only_what_helps_in_both_is_offered(self) -> None:
        assert set(plans("f(model, x, batch_size=4)", None, ADAM)) == {"smaller-batch-cell"}


class TestOptimizers:
    def test_adam(self) -> None:
        rows = (ADAM, replace(ADAM, name="other", type_name="Adam"), replace(ADAM, name="sgd", type_name="SGD"))
        found = plans("f()", None, *rows, event=TRAIN)
        assert {one for one in found if one.startswith("optimizer")} == {"optimizer-8bit opt", "optimizer-8bit other"}
        assert found["optimizer-8bit opt"].code == (
            "# pip install bitsandbytes\nimport bitsandbytes\nopt = bitsandbytes.optim.PagedAdamW8bit(opt.param_groups)"
        )
        assert "PagedAdam8bit" in found["optimizer-8bit other"].code
        assert found["optimizer-8bit opt"].applicability == "display_only"

    def test_not_elsewhere(self) -> None:
        assert plans("f()", None, ADAM, event=INFER).keys() == {"no-grad"}
        assert plans("f()", None, replace(ADAM, name="x; y"), event=TRAIN).keys() == {"autocast"}


class TestAllocator:
    @pytest.mark.parametrize(
        ("environment", "renamed", "expected"),
        [
            ({}, False, ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")),
            ({}, True, ("PYTORCH_ALLOC_CONF", "expandable_segments:True")),
            (
                {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"},
                True,  # the older name still counts first
                ("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128,expandable_segments:True"),
            ),
            (
                {"PYTORCH_ALLOC_CONF": "roundup_power2_divisions:[256:1,512:2],"},
                True,
                ("PYTORCH_ALLOC_CONF", "roundup_power2_divisions:[256:1,512:2],expandable_segments:True"),
            ),
            (
                {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments: False,max_split_size_mb:1"},
                False,
                ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:1"),
            ),
            ({"PYTORCH_ALLOC_CONF": "x:1"}, False, ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")),
            ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, True, None),
            ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, True, None),
        ],
    )
    def test_merging(self, environment: dict[str, str], renamed: bool, expected: tuple[str, str] | None) -> None:
        assert merge_setting(environment, renamed) == expected

    def test_against_fragmentation_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:'")
        for phase in ("load", "train", "unknown"):
            event = replace(EVENT, phase=phase, cached=3 * GIB)
            found = plans("", event=event)["expandable-segments"]
            assert found.applicability == "display_only"
            assert '"max_split_size_mb:\',expandable_segments:True"' in found.code
        assert plans("", event=replace(EVENT, cached=GIB)) == {}


def test_jax_beside_the_framework_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR"):
        monkeypatch.delenv(name, raising=False)
    (found,) = plans("", others=(JAX,)).values()
    assert (found.fix, found.applicability, found.fits) == ("jax-no-preallocation", "display_only", None)
    assert plans("") == {}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert plans("", others=(JAX,)) == {}
    for told in ("true", "FALSE"):  # JAX does not know the second word
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", told)
        assert len(plans("", others=(JAX,))) == 1
    monkeypatch.setenv("XLA_PYTHON_CLIENT_ALLOCATOR", "Platform")
    assert plans("", others=(JAX,)) == {}


def test_hostile_objects_are_left_alone() -> None:
    names = {name: Hostile() for name in ("trainer", "loader", "batch_size", "model")}
    assert inspect_notebook(names, "trainer.train(loader, batch_size, model)").trainers == {}
    kind = type("Trainer", (), {"__module__": Hostile()})
    assert inspect_notebook({"t": kind()}, "t.train()").trainers == {}
    assert inspect_notebook(names | {"f": lambda: Hostile}, "f()").needed == {"f"}
    named = type("Own", (), {"__module__": "__main__", "method": Hostile()})
    assert inspect_notebook({"own": named, "it": named()}, "own(), it()").needed == {"own", "it"}


def test_modules_under_their_own_names_are_no_variables() -> None:
    own = type("DataLoader", (), {})
    names = inspect_notebook({"ast": ast, "sys": ast, "DataLoader": own, "x": 1}, "").names
    assert names == {"sys", "DataLoader", "x"}


def test_without_a_cell_nothing_is_offered() -> None:
    found = inspect_notebook({"batch_size": 4}, "")
    assert found == Notebook(names=frozenset({"batch_size"}), marks=found.marks)


# -- the code at work ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


class TestRerun:
    """A fix that runs the cell is judged by whether that ran."""

    FACTS = Diagnosis(requested=GIB, free=0, capacity=8 * GIB, short=GIB, rerun=2 * GIB)
    FULL = Measure(backend="cuda", allocated=8 * GIB, free=0)

    @pytest.mark.parametrize(("error", "ran"), [(None, True), ("OutOfMemoryError: again", False)])
    def test_outcome(self, error: str | None, ran: bool) -> None:
        found = plans("f(batch_size=4)", event=TRAIN)["smaller-batch-cell"]
        done = run(found, lambda _: error, lambda: self.FULL, self.FACTS)
        assert (done.ran, done.fits, done.whole_cell_fits, done.loaded) == (ran, ran, None, False)

    def test_where_the_cell_cannot_run_in_another_form_the_number_is_set_alone(self) -> None:
        found = plans("%time f(bs)\ng(bs)", {"bs": 4}, event=TRAIN)["smaller-batch-number"]
        assert found.code == f"{RELEASE}bs = 2  # was 4"
        assert run(found, lambda _: None, lambda: self.FULL, self.FACTS).ran is None


def test_a_loader_is_made_anew_with_the_same_samples(torch: Any) -> None:
    loader = torch.utils.data.DataLoader(torch.arange(12), batch_size=6, drop_last=True, collate_fn=torch.stack)
    found = plans("for x in loader: f(x)", {"loader": loader}, event=TRAIN)["smaller-batch-loader"]
    made = namespace(found.code, loader=loader, f=len)["loader"]
    assert [one.tolist() for one in made] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert made.collate_fn is torch.stack
    shown = plans("loader = f()\nfor x in loader: g(x)", {"loader": loader}, event=TRAIN)["smaller-batch-loader"]
    assert (shown.applicability, shown.obstacle) == ("display_only", "cell_sets")


def test_loaders_that_make_their_batches_in_another_way(torch: Any) -> None:
    data = torch.utils.data
    batches = data.BatchSampler(data.SequentialSampler(range(4)), 2, False)
    own = type("Own", (data.DataLoader,), {})(range(4), batch_size=4)  # what it would lose, nobody knows
    for loader in (data.DataLoader(range(4), batch_sampler=batches), data.DataLoader(range(4)), own):
        assert "smaller-batch-loader" not in plans("f(loader)", {"loader": loader}, event=TRAIN)


def test_the_cell_under_no_grad_keeps_no_graph(torch: Any) -> None:
    source = 'text = """a\n  b"""\nout = model(x)'
    found = plans(source, event=INFER)["no-grad"]
    names = namespace(found.code, model=torch.nn.Linear(2, 2), x=torch.ones(2))
    assert names["out"].grad_fn is None
    assert names["text"] == "a\n  b"


def test_the_cell_under_autocast_computes_in_16_bits(torch: Any) -> None:
    source = "out = model(x)\nout.sum().backward()"
    found = plans(source, event=replace(TRAIN, backend="host"))["autocast"]
    names = namespace(found.code, model=torch.nn.Linear(2, 2), x=torch.ones(1, 2))
    assert names["out"].dtype == torch.bfloat16
    assert names["model"].weight.grad.dtype == torch.float32


@pytest.fixture
def trained(torch: Any, transformers: Any, tmp_path: Path) -> Callable[[Callable[[Any], str]], tuple[list[int], Any]]:
    """Trains one step of eight samples, after running some code on the trainer: the batches' sizes, and the weights."""
    pytest.importorskip("accelerate")

    def train(code_of: Callable[[Any], str]) -> tuple[list[int], Any]:
        sizes: list[int] = []

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)
                torch.nn.init.ones_(self.layer.weight)
                torch.nn.init.zeros_(self.layer.bias)

            def forward(self, x: Any, labels: Any) -> dict[str, Any]:
                sizes.append(len(x))
                return {"loss": ((self.layer(x)[:, 0] - labels) ** 2).mean()}

        rows = [{"x": [float(n)], "labels": float(n % 3)} for n in range(8)]
        args = transformers.TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=8,
            max_steps=1,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=0.0,
        )
        trainer = transformers.Trainer(Model(), args, train_dataset=rows)
        exec(code_of(trainer), {"trainer": trainer})
        trainer.train()
        return sizes, trainer.model.layer.weight.detach().clone()

    return train


def test_a_trainer_takes_half_the_batch_and_makes_the_same_step(torch: Any, trained: Any) -> None:
    def halve(trainer: Any) -> str:
        found = plans("trainer.train()", {"trainer": trainer}, event=TRAIN)
        assert found["smaller-batch-trainer"].applicability == "unsafe"
        assert found["optimizer-8bit-trainer"].code.startswith("# pip install bitsandbytes\ntrainer.args.optim")
        assert inspect_notebook({"trainer": trainer}, "trainer.train()").trainers == {"trainer": (8, 1)}
        code = found["smaller-batch-trainer"].code
        assert code.endswith("\ntrainer.train()")
        setting = code.removeprefix(RELEASE).removesuffix("\ntrainer.train()")
        return f"{setting}\n{setting}"  # twice is once

    whole, weights = trained(lambda _: "pass")
    halves, same = trained(halve)
    assert (whole, halves) == ([8], [4, 4])
    assert torch.allclose(weights, same)


def test_trainers_by_their_class(transformers: Any) -> None:
    kind = type("Mine", (transformers.Trainer,), {"__init__": lambda self: None})
    assert inspect_notebook({"t": kind()}, "t.train()").trainers == {"t": (0, 0)}  # its settings cannot be read
    assert set(plans("t.train()", {"t": kind()}, event=TRAIN)) == {"autocast", "optimizer-8bit-trainer"}
    shown = plans("t = f()\nt.train()", {"t": kind()}, event=TRAIN)["optimizer-8bit-trainer"]
    assert shown.obstacle == "cell_sets"
    assert inspect_notebook({"t": transformers.Trainer}, "t(model)").trainers == {}


def test_a_failed_cell_runs_with_the_batch_that_fits(torch: Any) -> None:
    """In a shell that really runs out of memory; nothing of the eight or four GiB is ever touched."""
    code = """
        import resource
        cell("%load_ext nb_oomhelper")
        cell("import torch\\ndef make(batch_size): return torch.empty(batch_size, 1 << 28)")
        mapped = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (6 << 30), resource.RLIM_INFINITY))
        source = "out = make(batch_size=8)"
        cell(source)
        case = shell.extension_manager.shell.magics_manager.registry["OomMagics"]._core.case
        number = next(one.number for one in case.plans if one.fix == "smaller-batch-cell")
        told = cell(f"%oom fix {number} --yes")
        done = case.outcomes[-1]
        tell(case.plans[number - 1].code, done.ran, done.fits, shell.user_ns["out"].shape[0], told)
    """
    written, ran, fits, rows, told = in_shell(code)
    assert written == f"{RELEASE}out = make(batch_size={rows})"
    assert (ran, fits) == (True, True), told
    assert 1 <= rows < 6  # GiB: so many there were
    assert "The cell finished without an error" in told


def test_generating_fewer_tokens(torch: Any, transformers: Any) -> None:
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, bos_token_id=0, eos_token_id=None)
    model = transformers.GPT2LMHeadModel(config).eval()
    source = "out = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)"
    found = plans(source, event=INFER)
    ids = torch.ones(1, 2, dtype=torch.long)
    whole = namespace(source, model=model, ids=ids)["out"]
    assert whole.shape == (1, 8)
    assert namespace(found["fewer-new-tokens"].code, model=model, ids=ids)["out"].tolist() == whole[:, :5].tolist()
    kept = transformers.GenerationConfig(cache_implementation="offloaded")
    kept.validate()
    assert kept.cache_implementation in transformers.generation.configuration_utils.ALL_CACHE_IMPLEMENTATIONS


def test_variables_that_the_cell_makes_anew() -> None:
    notebook = inspect_notebook({"cov": 1, "raw": 2, "x": 3}, "cov = raw @ raw\nx = x + 1\ny = cov")
    rows = held(*(holding("variable", name, size * MIB) for name, size in (("cov", 7), ("raw", 20), ("x", 300))))
    assert replaced_by(notebook, rows) == 7 * MIB
    assert replaced_by(Notebook(), rows) == 0


def test_of_a_dict_and_what_is_in_it_the_larger_is_emptied() -> None:
    numpy = pytest.importorskip("numpy")
    history = {"loss": [], "recon": [numpy.ones(4 << 20, numpy.uint8) for _ in range(3)]}
    source = 'for batch in batches:\n    history["recon"].append(step(batch))'
    written = inspect_notebook({"history": history}, source).written
    assert written is not None
    row = replace(holding("variable", "history", 12 * MIB), path="history['recon']")
    assert list(find_emptiable(written, held(row), "host")) == [
        ("history['recon']", "history['recon'].clear()", 12 * MIB)
    ]


def test_what_a_cell_does_twice() -> None:
    names = {"rows": iter([1]), "seen": [], "sys": sys, "kept": Hostile()}
    source = "for row in rows:\n    seen.append(row)\nkept\nsys.append(1)\n"
    assert inspect_notebook(names, source).repeats == (Repeat("consumed", "rows"), Repeat("added", "seen"))
