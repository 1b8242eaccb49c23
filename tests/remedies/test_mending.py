"""Mistakes of notebooks that ran out of memory in a real shell: what is offered, and that it mends them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shells import in_shell

pytest.importorskip("torch")

HELPERS = '''
import torch
from dataclasses import replace
from nb_oomhelper.failure.detection import read_failure
from nb_oomhelper.holders.find import search
from nb_oomhelper.holders.scope import scope_of
from nb_oomhelper.remedies.cell_phase import tell_phase
from nb_oomhelper.remedies.emptying import find_emptiable
from nb_oomhelper.remedies.mending import find_mends
from nb_oomhelper.remedies.notebook import inspect_notebook
from nb_oomhelper.remedies.verdicts import Shortage


def look(source):
    """What is found once a cell has failed: the mends, and what can be emptied."""
    failure = read_failure(sys.last_value)
    where = scope_of(shell, failure)
    notebook = inspect_notebook(where.variables, source, where.inputs, where.frames)
    held = search(where, "host", None, 20.0, everywhere=True)
    event = replace(failure.event, phase=tell_phase(failure.event, held, notebook))
    found = find_mends(notebook.written, event, held, Shortage(needs=None, measured=False, room=None))
    return found, [path for path, _, _ in find_emptiable(notebook.written, held, "host")]


def told(mend):
    names = ("kind", "subject", "cell", "before", "after", "definition", "clear", "partly")
    return {name: getattr(mend, name) for name in names}


found = {}
for name, sources in cells.items():
    shell.reset(new_session=True)
    shell.user_ns["told"] = []
    *before, last, check = sources.split("\\n#---\\n")
    for source in before:
        cell(source)
    cell(last)
    mends, emptiable = look(last)
    after = None
    if check.strip():
        shell.run_cell("pass")
        for part in ("import nb_oomhelper", mends[0].clear, mends[0].definition):
            exec(part, shell.user_ns)
        after = eval(check, shell.user_ns)
    found[name] = [[told(one) for one in mends], emptiable, after]
    sys.last_value = None
tell(found)
'''

FULL = "torch.empty(1 << 46, dtype=torch.uint8)"
NOTEBOOKS = {
    "method": f"""
import torch
class Trainer:
    def __init__(self):
        self.outputs = []
    def fit(self, n):
        net = torch.nn.Linear(512, 512)
        for _ in range(n):
            out = net(torch.ones(2048, 512)).relu()
            self.outputs.append(out)
        {FULL}
class Other:
    def fit(self):
        self.outputs.append(out)
#---
trainer = Trainer()
kept = [trainer]
#---
trainer.fit(2)
#---
[type(kept[0]) is Trainer, isinstance(trainer, Trainer), len(trainer.outputs), 'fit' in globals(), Trainer.fit.__name__]
""",
    "closure": f"""
import torch
def make_step(net):
    history = {{"loss": [], "out": []}}
    def step():
        out = net(torch.ones(4096, 512)).relu()
        history["out"].append(out)
        history["loss"].append(out.mean())
        return history
    return step
step = make_step(torch.nn.Linear(512, 512))
#---
history = step(); history = step()
{FULL}
#---
[len(history["out"]), step()["out"][0].requires_grad]
""",
    "input": f"""
import torch
parts = [torch.ones(1 << 20) for _ in range(4)]
seen = []
seen.append(torch.ones(1 << 20))
def total():
    return sum(float(one.sum()) for one in parts) + {FULL}
#---
total()
#---
""",
    "super": f"""
import torch
class Base:
    def fit(self): pass
class Trainer(Base):
    def fit(self):
        super().fit()
        self.outputs = []
        self.outputs.append(torch.nn.Linear(512, 512)(torch.ones(4096, 512)).relu())
        {FULL}
#---
trainer = Trainer()
#---
trainer.fit()
#---
""",
    "function": f"""
import torch
net = torch.nn.Linear(512, 512)
def fit(n):
    history = {{"loss": [], "step": []}}
    for step in range(n):
        loss = net(torch.ones(2048, 512)).relu().mean()
        loss.backward(retain_graph=True)
        history["loss"].append(loss)
        history["step"].append(step)
    {FULL}
#---
fit(3)
#---
""",
    "no tensors": f"""
import torch
class Output:
    def __init__(self, logits): self.logits = logits
outs, steps = [], []
for step in range(3):
    out = Output(torch.nn.Linear(512, 512)(torch.ones(2048, 512)).relu())
    outs.append(out)
    steps.append((step, "x"))
{FULL}
#---
""",
    "predict": f"""
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(512, 512)
    def forward(self, x):
        h = self.layer(x).relu()
        {FULL}
        return h
    def predict(self, x):
        return self(x)
#---
net = Net()
x = torch.ones(2048, 512)
#---
y = net.predict(x)
#---
[Net.predict.__wrapped__ is not None, type(net) is Net]
""",
    "under no_grad": f"""
import torch
net = torch.nn.Linear(512, 512)
@torch.no_grad()
def predict(x):
    h = net(x).relu()
    {FULL}
#---
y = predict(torch.ones(2048, 512))
#---
""",
    "errors": f"""
import torch
def attempt(n):
    x = torch.ones(n, 1 << 20)
    {FULL}
def search():
    errors = []
    for n in (4, 2):
        try:
            attempt(n)
        except RuntimeError as e:
            errors.append((n, e))
    raise RuntimeError(f"nothing fits: {{errors[-1][1]}}")
#---
search()
#---
""",
    "old one": f"""
import torch
def make():
    x = torch.ones(4, 1 << 20)
    {FULL}
    return x
model = torch.ones(4, 1 << 20)
#---
model = make()
#---
""",
    "total": f"""
import torch
net = torch.nn.Linear(512, 512)
total = 0
for _ in range(3):
    total += net(torch.ones(2048, 512)).relu().mean() * 2
{FULL}
#---
""",
    "beside": f"""
import torch
net = torch.nn.Linear(512, 512)
class Meter: pass
meter = Meter()
meter.preds, meter.labels, meter.names, meter.inputs = [], [], [], [torch.ones(9)]
other = Meter()
other.labels = [torch.ones(9)]
#---
def step(n):
    x = torch.ones(2048, 512)
    meter.preds.append(net(x).relu())
    meter.labels.append(torch.zeros(2048))
    meter.names.append("x")
for n in range(3):
    step(n)
{FULL}
#---
[len(meter.preds), len(meter.labels), len(meter.names), len(meter.inputs), len(other.labels)]
""",
    "apart": f"""
import torch
net = torch.nn.Linear(512, 512)
stats = {{"loss": [], "feats": []}}
def step(x):
    loss = net(x).relu().mean()
    stats["loss"].append(loss)
#---
for n in range(2):
    x = torch.ones(4096, 512)
    stats["feats"].append(net(x).relu())
    step(x)
{FULL}
#---
""",
    "values": f"""
import torch
net = torch.nn.Linear(512, 2048)
preds = []
#---
for n in range(2):
    preds.append(net(torch.ones(4096, 512)))
{FULL}
#---
""",
    "hook": f"""
import torch
class Cam:
    calls = 0
    def __init__(self, layer):
        self.kept = []
        layer.register_forward_hook(self.keep)
    def keep(self, module, args, output):
        self.kept.append(output.detach())
    def __call__(self, x):
        layer(x)
        self.calls += 1
        if self.calls > 3:
            {FULL}
        return self.kept[-1].mean()
layer = torch.nn.Linear(512, 512)
cam = Cam(layer)
#---
for _ in range(8):
    cam(torch.ones(2048, 512))
#---
""",
    "windows": """
import numpy as np
def make(values, width, hop=1):
    X, y = [], []
    for start in range(0, len(values) - width, hop):
        X.append(values[start:start + width])
        y.append(values[start + width])
    return np.array(X), np.array(y)
series = np.zeros(1 << 24)
#---
X, y = make(series, 1 << 23, 64)
#---
[make(np.arange(6), 3)[0].tolist(), make(np.arange(6), 3)[0].flags.writeable, make(np.arange(2), 3)[0].shape]
""",
    "wide": """
import numpy as np
#---

def grid(n):
    return np.ones((n, 1 << 30))
grid(1 << 16)
#---
""",
}


@pytest.fixture(scope="module")
def found() -> Any:
    (told,) = in_shell(HELPERS, cells={name: text.strip("\n") + "\n" for name, text in NOTEBOOKS.items()})
    return told


def test_a_method_is_put_on_its_class(found: Any) -> None:
    (mend,), emptiable, after = found["method"]
    assert mend["kind"] == "append_detach"
    assert (mend["before"], mend["after"]) == ("self.outputs.append(out)", "self.outputs.append(out.detach())")
    assert mend["definition"].startswith("def fit(self, n):\n    net = ")
    assert mend["definition"].endswith("Trainer.fit = fit\ndel fit")
    assert mend["clear"] == "trainer.outputs.clear()"
    assert emptiable == ["trainer.outputs"]
    assert after == [True, True, 0, False, "fit"]


def test_a_function_made_by_another_gets_its_code_changed_and_keys_stay(found: Any) -> None:
    mend, after = found["closure"][0][0], found["closure"][2]
    assert mend["after"].splitlines() == [
        'history["out"].append(out.detach())',
        'history["loss"].append(out.mean().item())',
    ]
    assert set(mend["clear"].splitlines()) == {"history['loss'].clear()", "history['out'].clear()"}
    assert after == [0, False]


def test_what_the_cell_reads_through_a_function_is_its_input(found: Any) -> None:
    assert found["input"][1] == ["seen"]


def test_a_method_that_is_another_one_outside_of_its_class_stays(found: Any) -> None:
    assert found["super"][0] == []


def test_two_mistakes_of_a_function_are_mended_in_one_go(found: Any) -> None:
    (mend,), _, _ = found["function"]
    assert mend["cell"] == 1
    assert mend["before"].splitlines() == ["loss.backward(retain_graph=True)", 'history["loss"].append(loss)']
    assert mend["after"].splitlines() == ["loss.backward()", 'history["loss"].append(loss.item())']
    assert 'history["step"].append(step)\n' in mend["definition"]


def test_what_goes_on_growing_beside_it_is_said(found: Any) -> None:
    assert [mend["partly"] for mend in found["function"][0]] == [False]
    assert {mend["subject"]: mend["partly"] for mend in found["apart"][0]} == {
        "stats['loss']": True,
        "stats['feats']": True,
    }
    assert [mend["partly"] for mend in found["values"][0]] == [True]  # 32 MiB of results to 8 MiB of graph a step


def test_what_is_no_tensor_is_not_detached(found: Any) -> None:
    assert [one["kind"] for one in found["no tensors"][0] if one["kind"].startswith("append")] == []


def test_an_evaluation_in_a_method(found: Any) -> None:
    mends, _, after = found["predict"]
    (mend,) = (one for one in mends if one["kind"] == "no_grad")
    assert mend["definition"].startswith("@torch.no_grad()\ndef predict(self, x):")
    assert after == [True, True]


def test_no_graph_no_no_grad(found: Any) -> None:
    assert found["under no_grad"][0] == []


def test_errors_that_keep_frames(found: Any) -> None:
    (mend,), _, _ = found["errors"]
    assert (mend["kind"], mend["after"]) == ("errors", "errors.append((n, e.with_traceback(None)))")


def test_the_old_one_goes_first(found: Any) -> None:
    (mend,), _, _ = found["old one"]
    assert (mend["kind"], mend["after"]) == ("old_first", "model = None\nmodel = make()")


def test_what_is_found_in_a_function_and_in_its_cell_is_offered_once(found: Any) -> None:
    (mend,), _, _ = found["wide"]
    assert (mend["kind"], mend["after"]) == ("float32", "return np.ones((n, 1 << 30), dtype=np.float32)")


def test_windows_are_no_copies(found: Any) -> None:
    mends, _, after = found["windows"]
    assert (mends[0]["kind"], mends[0]["subject"], mends[0]["partly"]) == ("windows", "X", False)
    assert mends[0]["after"] == "return nb_oomhelper.windows(np.array, X), np.array(y)"
    assert not {"rows_apart", "less_data"} & {mend["kind"] for mend in mends}
    assert after == [[[0, 1, 2], [1, 2, 3], [2, 3, 4]], False, [0]]


def test_a_sum_at_the_top(found: Any) -> None:
    mend = found["total"][0][0]
    assert mend["after"] == "total += (net(torch.ones(2048, 512)).relu().mean() * 2).item()"


def test_tensors_that_are_collected_together_are_emptied_together_and_nothing_else(found: Any) -> None:
    (mend, *_), _, after = found["beside"]
    assert (mend["kind"], mend["clear"]) == ("append_detach", "meter.preds.clear()\nmeter.labels.clear()")
    assert after == [0, 0, 3, 1, 1]


def test_what_an_object_never_empties(found: Any) -> None:
    (mend,), emptiable, _ = found["hook"]
    assert (mend["kind"], mend["clear"], emptiable) == ("clear_each", "cam.kept.clear()", ["cam.kept"])
    assert mend["after"].endswith("cam.kept.clear()")
