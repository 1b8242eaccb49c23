"""The rows of loaders.toml: their examples, the libraries that they speak of, and what the reader refuses."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nb_oomhelper.errors import KnowledgeError, UsageError
from nb_oomhelper.loading.loaders import Loader, LoaderExample, load_rows, missing, read_rows
from nb_oomhelper.loading.rewrite import Changed, change
from nb_oomhelper.records.event import FailedCall
from tests.conftest import missing as library_missing
from tests.shells import in_shell

pytestmark = pytest.mark.plain

ROWS = load_rows().rows
EXAMPLES = [(row, example) for row in ROWS for example in row.examples]


def call_of(row: Loader, statement: str) -> FailedCall:
    """The call in a statement that is of a row, as `find_call` would give it."""
    calls = [node for node in ast.walk(ast.parse(statement)) if isinstance(node, ast.Call)]
    call = next(one for one in calls if ast.unparse(one.func).rpartition(".")[2] in row.calls)
    return FailedCall(
        loader=ast.unparse(call.func),
        module="",
        target="model",
        row=row.id,
        statement=statement,
        position=(call.lineno, call.col_offset),
    )


class TestTheRows:
    @pytest.mark.parametrize(
        ("row", "example"), EXAMPLES, ids=lambda one: getattr(one, "id", getattr(one, "option", ""))
    )
    def test_an_example(self, row: Loader, example: LoaderExample) -> None:
        option = row.option(example.option)
        assert option is not None
        changed = change(call_of(row, example.before), option, dict(example.fields), dict(example.versions).get)
        assert isinstance(changed, Changed), changed
        assert changed.statement == example.after
        assert changed.arguments
        assert changed.imports == option.imports
        again = change(call_of(row, example.after), option, dict(example.fields), dict(example.versions).get)
        if not option.before:  # what stands there already is left alone
            assert isinstance(again, Changed)
            assert (again.statement, again.arguments) == (example.after, ())

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
    def test_every_row_can_be_run_as_asked(self, row: Loader) -> None:
        option = row.option("as_asked")
        assert option is not None
        assert option.is_empty
        assert not option.fields

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
    def test_names_that_the_new_text_uses_are_imported(self, row: Loader) -> None:
        for option in row.options:
            text = " ".join(value for _, value in option.set) + option.before
            assert ("$half" in text.replace("$half_name", "")) == ("import torch" in option.imports)
            for module, _ in re.findall(r"([\w.]*?)\.?\b([A-Z]\w+)\(", text):
                assert f"import {module}" in option.imports
            for line in option.imports:  # a module under its own name: any other may be the user's
                assert re.fullmatch(r"import \w+", line)

    def test_what_is_missing(self) -> None:
        (row,) = (row for row in ROWS if row.id == "timm")
        option = row.option("half")
        assert option is not None
        assert missing(option, {"timm": "1.0.21"}.get) == ()
        assert missing(option, {"timm": "1.1"}.get) == ()
        assert missing(option, {"timm": "1.0.9"}.get) == missing(option, lambda _: None) == ("timm>=1.0.21",)

    @pytest.mark.parametrize("text", ["cuda:1; x", "'cuda'", "", "cuda:"])
    def test_a_device_is_a_device(self, text: str) -> None:
        row = load_rows().row("torch-to")
        assert row is not None
        option = row.option("device")
        assert option is not None
        with pytest.raises(UsageError):
            change(call_of(row, "model.to('cuda')"), option, {"device": text})

    @pytest.mark.parametrize("text", ["1, x=2", "1)", "1 # x", "", "x\ny", "*x"])
    def test_a_field_is_an_expression(self, text: str) -> None:
        row = load_rows().row("vllm")
        assert row is not None
        option = row.option("context")
        assert option is not None
        with pytest.raises(UsageError):
            change(call_of(row, "llm = LLM('x')"), option, {"context": text})
        with pytest.raises(UsageError, match="needs context"):
            change(call_of(row, "llm = LLM('x')"), option, {})


ROW = """
[[loader]]
id = "mine"
calls = ["load"]
functions = ["load"]
source = "here"
[[loader.option]]
id = "half"
set = { dtype = "$half" }
[[loader.example]]
option = "half"
before = "x = load()"
after = "x = load(dtype=torch.half)"
"""


class TestReading:
    def test_a_row(self) -> None:
        (row,) = read_rows(ROW).rows
        assert (row.id, row.keyword, row.position, row.in_place) == ("mine", None, None, False)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('source = "here"', 'source = "here"\ncolour = 1', r"mine: .*colour.*: is not a known key"),
            ('source = "here"', "", "mine: .*source: is missing"),
            ('functions = ["load"]', "", "mine: functions"),
            ('id = "half"', 'id = "third"', "mine: .*option.*id: must be one of as_asked, half"),
            ('"$half"', '"$half and $quarter"', r"mine: option half: there is no field \$quarter"),
            ('"$half"', '"$ 5"', "mine: option half: .* holds a"),
            ("{ dtype =", '{ "a.b.c" =', "mine: option half: 'a.b.c' is no name"),
            ('set = { dtype = "$half" }', 'set = { dtype = "$half" }\nneeds = ["a b"]', "mine: .*needs: must be like"),
            ('option = "half"', 'option = "4bit"', "mine: example: there is no option 4bit"),
            (
                "[[loader.option]]",
                "[[loader.option]]\nid = '4bit'\nset = {a = '1'}\n[[loader.option]]",
                "4bit: has no ex",
            ),
            (
                "[[loader.option]]",
                "[[loader.place]]\nname = 'a'\nat = 0\nlike = '('\n[[loader.option]]",
                "like: is no reg",
            ),
            ("[[loader]]", "[[loader]]\nposition = 1", "mine: position: needs a keyword"),
            ('calls = ["load"]', "calls = 1", "mine: .*calls: must be a list"),
            ("[[loader]]", "[[", "."),
        ],
    )
    def test_what_is_wrong_is_named(self, old: str, new: str, message: str) -> None:
        assert old in ROW
        with pytest.raises(KnowledgeError, match=message):
            read_rows(ROW.replace(old, new, 1))

    def test_one_id_one_row(self) -> None:
        with pytest.raises(KnowledgeError, match="same id"):
            read_rows(ROW + ROW)


# -- the libraries themselves ----------------------------------------------------------------------------------------

# Row, and the function whose arguments it speaks of; those that take anything (**kwargs) are run below.
SIGNATURES = {
    "transformers-pipeline": ("transformers", "pipeline"),
    "sentence-transformers": ("sentence_transformers", "SentenceTransformer"),
    "accelerate": ("accelerate", "load_checkpoint_and_dispatch"),
    "safetensors": ("safetensors.torch", "load_file"),
    "safetensors-model": ("safetensors.torch", "load_model"),
    "torch-load": ("torch", "load"),
    "torch-cuda": ("torch.nn", "Module.cuda"),
}


def installed(*names: str) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            library_missing(f"{name} is not installed")


SETUP = """
import os
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1")
import torch, transformers, accelerate, safetensors.torch
from pathlib import Path
from accelerate import load_checkpoint_and_dispatch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, pipeline
from transformers import PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers
folder = Path(os.environ["FOLDER"]); PATH = str(folder)
small = dict(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
LlamaForCausalLM(LlamaConfig(**small)).save_pretrained(folder)
words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, pad_token="?", unk_token="?").save_pretrained(folder)
class Net(nn.Module):
    def __init__(self, size, **options):
        super().__init__()
        self.layer = nn.Linear(size, size, **options)
net = nn.Linear(2, 2)
torch.save(net.state_dict(), folder / "net.pt"); save_file(net.state_dict(), folder / "net.safetensors")
NET = str(folder / "net.pt"); SAFE = str(folder / "net.safetensors")
"""
MORE = {
    "sentence_transformers": "from sentence_transformers import CrossEncoder, SentenceTransformer",
    "peft": "from peft import AutoPeftModelForCausalLM, PeftModel",
    "diffusers": """
import diffusers
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
blocks = dict(block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
pipe = DDPMPipeline(UNet2DModel(sample_size=8, layers_per_block=1, **blocks), DDPMScheduler())
pipe.save_pretrained(folder / "ddpm"); DDPM = str(folder / "ddpm")
""",
}
AUTO = "AutoModelForCausalLM.from_pretrained"
BAD = "dtype='nonsense'"
# Cells whose call fails inside the library, for whatever reason: row, target, obstacle.
FAILING: dict[str, tuple[str, str | None, str | None]] = {
    f"model = {AUTO}(PATH, {BAD})": ("transformers", "model", None),
    f"model = {AUTO}(folder, {BAD}).eval()": ("transformers", "model", None),
    f"model = LlamaForCausalLM.from_pretrained(PATH, {BAD})": ("transformers", "model", None),
    f"model = {AUTO}(PATH).to('cuda')": ("transformers", "model", None),  # the load is what can be made smaller
    f"model = transformers.{AUTO}(PATH).eval().cuda()": ("transformers", "model", None),
    f"model = {AUTO}(PATH, {BAD}).to('cuda')": ("transformers", "model", None),
    "names = transformers.AutoTokenizer.from_pretrained('/not/there')": ("from-pretrained", "names", None),
    "llm = pipeline('text-generation', '/not/there')": ("transformers-pipeline", "llm", None),
    "embedder = SentenceTransformer('/not/there')": ("sentence-transformers", "embedder", None),
    "embedder = CrossEncoder('/not/there')": ("sentence-transformers", "embedder", None),
    "state = load_file('/not/there')": ("safetensors", "state", None),
    "safetensors.torch.load_model(net, '/not/there')": ("safetensors-model", None, "no_target"),
    "state = torch.load('/not/there')": ("torch-load", "state", None),
    "net.load_state_dict(torch.load('/not/there'))": ("torch-load", "net", None),
    "net.load_state_dict({})": ("load-state-dict", "net", None),
    "net.to('cuda')": ("torch-to", "net", None),
    "net = Net(3).cuda().eval()": ("torch-cuda", "net", None),
    "net = load_checkpoint_and_dispatch(net, PATH, device_map='nonsense')": ("accelerate", "net", None),
    "adapter = PeftModel.from_pretrained(net, '/not/there')": ("peft-adapter", "adapter", None),
    "adapter = AutoPeftModelForCausalLM.from_pretrained('/not/there')": ("peft-auto", "adapter", None),
    "pipe = DiffusionPipeline.from_pretrained('/not/there')": ("diffusers-pipeline", "pipe", None),
    "unet = UNet2DModel.from_pretrained('/not/there')": ("diffusers-model", "unet", None),
    "vae = diffusers.AutoencoderKL.from_single_file('/not/there')": ("diffusers-single-file", "vae", None),
    "pipe.to('cuda')": ("diffusers-to", "pipe", None),
    f"%time model = {AUTO}(PATH, {BAD})": ("transformers", "model", None),
    f"%%time\nx = 1\nmodel = {AUTO}(\n    PATH,  # which\n    {BAD})": ("transformers", "model", None),
    f"%%capture\nmodel = {AUTO}(PATH, {BAD})": ("transformers", "model", None),
    f"%timeit -n1 -r1 model = {AUTO}(PATH, {BAD})": ("transformers", None, "no_source"),
    f"%prun -q model = {AUTO}(PATH, {BAD})": ("transformers", None, "no_source"),
}
# Modules that are built are not loaded: what their arguments mean is their own affair.
BUILT = ("big = nn.Linear(1 << 30, 1 << 22)", "big = Net(1 << 30, device='cpu').to('cuda')", "big = nn.Linear(1, 'x')")
NEEDS = {"sentence": "sentence_transformers", "peft": "peft", "diffusers": "diffusers"}
GIVEN = {"half": "torch.bfloat16", "max_memory": '{"cpu": "1GiB"}', "folder": "PATH", "device": "cpu", "context": "8"}
LITTLE = {**GIVEN, "max_memory": '{"cpu": "12KiB"}'}  # for what must go to the disk
ON_DISK = "'disk' in model.hf_device_map.values()"
# Statements that are written anew and run: row, option, statement, and what is true then.
RUN: dict[str, tuple[str, str, str, str]] = {
    "auto half": ("transformers", "half", f"model = {AUTO}(PATH)", "model.dtype == torch.bfloat16"),
    "auto device": ("transformers", "device", f"model = {AUTO}(PATH).to('cuda')", "model.device.type == 'cpu'"),
    "auto spread": ("transformers", "spread", f"model = {AUTO}(PATH).to('cuda')", "model.device.type == 'cpu'"),
    "auto offload": ("transformers", "offload", f"model = {AUTO}(PATH, device_map='cuda')", ON_DISK),
    "pipeline half": (
        "transformers-pipeline",
        "half",
        "llm = pipeline('text-generation', PATH, device='cpu')",
        "llm.model.dtype == torch.bfloat16",
    ),
    "pipeline device": (
        "transformers-pipeline",
        "device",
        "llm = pipeline('text-generation', PATH, device_map='auto')",
        "llm.device.type == 'cpu'",
    ),
    "pipeline spread": (
        "transformers-pipeline",
        "spread",
        "llm = pipeline('text-generation', model=PATH, device='cuda')",
        "llm.model.device.type == 'cpu'",
    ),
    "pipeline offload": (
        "transformers-pipeline",
        "offload",
        "llm = pipeline('text-generation', model=PATH, device='cuda')",
        "'disk' in llm.model.hf_device_map.values()",
    ),
    "embedder half": (
        "sentence-transformers",
        "half",
        "embedder = SentenceTransformer(PATH)",
        "next(embedder.parameters()).dtype == torch.bfloat16",
    ),
    "embedder device": (
        "sentence-transformers",
        "device",
        "embedder = SentenceTransformer(PATH, device='cuda')",
        "embedder.device.type == 'cpu'",
    ),
    "embedder spread": (
        "sentence-transformers",
        "spread",
        "embedder = SentenceTransformer(PATH, device='cuda').to('cuda')",
        "embedder.device.type == 'cpu'",
    ),
    "diffusers half": (
        "diffusers-pipeline",
        "half",
        "pipe = DiffusionPipeline.from_pretrained(DDPM)",
        "pipe.unet.dtype == torch.bfloat16",
    ),
    "unet half": (
        "diffusers-model",
        "half",
        "unet = UNet2DModel.from_pretrained(DDPM, subfolder='unet')",
        "unet.dtype == torch.bfloat16",
    ),
    "unet device": (
        "diffusers-model",
        "device",
        "unet = UNet2DModel.from_pretrained(DDPM, subfolder='unet').to('cuda')",
        "unet.device.type == 'cpu'",
    ),
    "diffusers to": ("diffusers-to", "half", "pipe.to('cpu')", "pipe.dtype == torch.bfloat16"),
    "accelerate half": (
        "accelerate",
        "half",
        "net2 = load_checkpoint_and_dispatch(Net(2).layer, SAFE, {'': 'cpu'})",
        "net2.weight.dtype == torch.bfloat16",
    ),
    "accelerate device": (
        "accelerate",
        "device",
        "net2 = load_checkpoint_and_dispatch(Net(2).layer, SAFE, device_map='auto', max_memory={})",
        "net2.weight.device.type == 'cpu'",
    ),
    "accelerate offload": (
        "accelerate",
        "offload",
        "net2 = load_checkpoint_and_dispatch(Net(2).layer, SAFE)",
        "net2.hf_device_map",
    ),
    "torch host": ("torch-load", "host", "state = torch.load(NET)", "state['weight'].device.type == 'cpu'"),
    "file host": ("safetensors", "host", "state = load_file(SAFE, 'cuda')", "len(state) == 2"),
    "to half": ("torch-to", "half", "net3 = Net(2).to('cpu')", "net3.layer.weight.dtype == torch.bfloat16"),
    "to dtype": ("torch-to", "half", "net3 = Net(2).to(torch.float32)", "net3.layer.weight.dtype == torch.bfloat16"),
}
PLAY = """
import dataclasses
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.loading.failed_call import find_call
cell(cells.pop("setup"))
shell.last_execution_result.raise_error()
def signature(path):
    import inspect, operator
    module, name = path
    cell(f"import {module}")
    found = inspect.signature(operator.attrgetter(name)(sys.modules[module])).parameters.values()
    return [[one.name, one.kind.name] for one in found]
def fail(source):
    seen = []
    shell.showtraceback = lambda *args, **options: seen.append(sys.exc_info()[1])
    cell(source)
    del shell.showtraceback
    calls = (find_call(one.__traceback__) for one, _ in reversed(raised_with(seen[0])))
    call = next((call for call in calls if call is not None), None)
    return call and dataclasses.asdict(call)
def run(source):
    cell(source)
    result = shell.last_execution_result
    error = result.error_in_exec or result.error_before_exec
    return f"{type(error).__name__}: {error}" if error else bool(shell.user_ns["fine"])
does = {"fail": fail, "run": run, "signature": lambda source: signature(json.loads(source))}
tell({name: does[name.partition(" ")[0]](source) for name, source in cells.items()})
"""


def written_anew(name: str) -> str:
    row_id, option_id, statement, truth = RUN[name]
    row = load_rows().row(row_id)
    assert row is not None
    option = row.option(option_id)
    assert option is not None
    changed = change(call_of(row, statement), option, LITTLE if option_id == "offload" else GIVEN)
    assert isinstance(changed, Changed), changed
    return "\n".join([*changed.imports, changed.statement, f"fine = bool({truth})"])


def library(row: str) -> str | None:
    return next((package for start, package in NEEDS.items() if row.startswith(start)), None)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Mapping[str, Any]]:
    """All cells in one shell, for the libraries take seconds to import."""
    installed("torch", "transformers", "accelerate", "safetensors")
    there = {name for name in MORE if importlib.util.find_spec(name) is not None}

    @cache
    def play() -> Mapping[str, Any]:
        cells = {"setup": SETUP + "\n".join(MORE[name] for name in sorted(there))}
        cells |= {f"fail {one}": one for one, (row, _, _) in FAILING.items() if library(row) in {None, *there}}
        cells |= {f"fail {one}": one for one in BUILT}
        cells |= {f"run {one}": written_anew(one) for one, (row, *_) in RUN.items() if library(row) in {None, *there}}
        for row, (module, name) in SIGNATURES.items():
            if library(row) in {None, *there}:
                cells[f"signature {row}"] = f'["{module}", "{name}"]'
        (found,) = in_shell(PLAY, cells=cells, env={"FOLDER": str(tmp_path_factory.mktemp("tiny"))})
        return dict(found)

    return play


@pytest.mark.parametrize("source", FAILING)
def test_a_real_failure(played: Callable[[], Mapping[str, Any]], source: str) -> None:
    row, target, obstacle = FAILING[source]
    installed(*filter(None, [library(row)]))
    call = played()[f"fail {source}"]
    assert (call["row"], call["target"], call["obstacle"]) == (row, target, obstacle)
    if obstacle != "no_source":
        statement = source.removeprefix("%time ").removeprefix("%%time\nx = 1\n").removeprefix("%%capture\n")
        assert call["statement"] == statement
        assert ast.parse(statement)
    if "/not/there" in source:
        assert call["value"] == "/not/there"


@pytest.mark.parametrize("source", BUILT)
def test_a_module_that_is_built_is_no_load(played: Callable[[], Mapping[str, Any]], source: str) -> None:
    assert played()[f"fail {source}"] is None


@pytest.mark.parametrize("name", RUN)
def test_the_new_statement_runs(played: Callable[[], Mapping[str, Any]], name: str) -> None:
    installed(*filter(None, [library(RUN[name][0])]))
    assert played()[f"run {name}"] is True, written_anew(name)


@pytest.mark.parametrize("row_id", SIGNATURES)
def test_the_arguments_are_the_librarys(played: Callable[[], Mapping[str, Any]], row_id: str) -> None:
    installed(*filter(None, [library(row_id)]))
    row = load_rows().row(row_id)
    assert row is not None
    parameters = [(name, kind) for name, kind in played()[f"signature {row_id}"] if name != "self"]
    names = [name for name, _ in parameters]
    placed = [name for name, kind in parameters if kind == inspect.Parameter.POSITIONAL_OR_KEYWORD.name]
    if row.keyword is not None:
        assert names.index(row.keyword) == row.position
    for option in row.options:
        for name, _ in option.set:
            assert name.partition(".")[0].replace("$dtype_argument", "dtype") in names
    for place in row.places:
        if place.name in placed:  # else it must be named now, and older versions took it there
            assert placed.index(place.name) == place.at


def test_the_file_is_read_when_it_is_asked_for() -> None:
    assert not [
        name
        for name, one in vars(importlib.import_module("nb_oomhelper.loading.loaders")).items()
        if type(one) is Loader
    ]
    assert load_rows() is load_rows()
    assert Path(importlib.import_module("nb_oomhelper.loading").__file__ or "").with_name("loaders.toml").is_file()
