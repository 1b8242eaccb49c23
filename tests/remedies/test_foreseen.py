"""Mistakes that a cell's code shows before it is run; and cells of good code, of which nothing may be said."""

from __future__ import annotations

from typing import Any

import pytest

from nb_oomhelper.remedies.foreseen import foresee
from nb_oomhelper.showing.foreseen_text import tell
from tests.shells import in_shell

pytestmark = pytest.mark.plain

TRAIN = """\
import torch
import torch.nn.functional as F
for x, y in loader:
    optimizer.zero_grad()
    out = model(x)
    loss = F.cross_entropy(out, y)
    loss.backward()
    optimizer.step()
"""
# A cell, and for each mistake: its line, and what is to be written.
WRONG: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "a list of losses": (f"losses = []\n{TRAIN}    losses.append(loss)", [(10, "losses.append(loss.item())")]),
    "before backward": (
        "for x, y in loader:\n    loss = criterion(model(x), y)\n    history.append(loss)\n    loss.backward()",
        [(3, "history.append(loss.item())")],
    ),
    "a dict of lists": (f"{TRAIN}    history['loss'].append(loss)", [(9, "history['loss'].append(loss.item())")]),
    "by key": (f"{TRAIN}    kept[step] = loss", [(9, "kept[step] = loss.item()")]),
    "a row": (
        f"{TRAIN}    rows.append({{'loss': loss, 'step': step}})",
        [(9, "rows.append({'loss': loss.item(), 'step': step})")],
    ),
    "a list added to a list": (f"{TRAIN}    losses += [loss]", [(9, "losses += [loss.item()]")]),
    "outputs beside": (f"{TRAIN}    outputs.append(out)", [(9, "outputs.append(out.detach())")]),
    "stacked later": (
        f"{TRAIN}    losses.append(loss)\nprint(torch.stack(losses).mean())",
        [(9, "losses.append(loss.detach())")],
    ),
    "a sum": (f"total = 0\n{TRAIN}    total += loss", [(10, "total += loss.item()")]),
    "a sum, written out": (f"total = 0\n{TRAIN}    total = total + loss", [(10, "total = total + loss.item()")]),
    "a sum by size": (
        f"total = 0\n{TRAIN}    total += loss * x.size(0)",
        [(10, "total += (loss * x.size(0)).item()")],
    ),
    "scaled": (
        "total = 0\nfor x, y in loader:\n    loss = criterion(model(x), y)\n    scaler.scale(loss).backward()\n"
        "    total += loss",
        [(5, "total += loss.item()")],
    ),
    "accelerate": (
        "total = 0\nfor b in loader:\n    loss = model(**b).loss\n    accelerator.backward(loss)\n    total += loss",
        [(5, "total += loss.item()")],
    ),
    "in a function": (
        "def train(model, loader):\n    total = 0.0\n    for x, y in loader:\n        loss = criterion(model(x), y)\n"
        "        loss.backward()\n        total += loss\n    return total / len(loader)",
        [(6, "total += loss.detach()")],  # it is given back
    ),
    "in a method": (
        "class Trainer:\n    def step(self, x, y):\n        loss = self.loss(self.model(x), y)\n"
        "        loss.backward()\n        self.losses.append(loss)",
        [(5, "self.losses.append(loss.item())")],
    ),
    "given back by a function": (
        "def step(x, y):\n    loss = criterion(model(x), y)\n    loss.backward()\n    return loss\n"
        "losses = []\nfor x, y in loader:\n    losses.append(step(x, y))",
        [(7, "losses.append(step(x, y).item())")],
    ),
    "the graph retained": (
        TRAIN.replace("backward()", "backward(retain_graph=True)"),
        [(7, "loss.backward()")],
    ),
    "evaluation in a function": (
        "def evaluate(model, loader):\n    model.eval()\n    right = 0\n    for x, y in loader:\n"
        "        right += (model(x).argmax(1) == y).sum().item()\n    return right / len(loader)",
        [(1, "@torch.no_grad()")],
    ),
    "evaluation in a cell": (
        "model.eval()\npreds = []\nfor x, y in loader:\n    preds.append(model(x).argmax(1).cpu())",
        [(4, "with torch.no_grad():")],
    ),
    "evaluation after each epoch": (
        "for epoch in range(3):\n    model.train()\n    for x, y in loader:\n        loss = criterion(model(x), y)\n"
        "        loss.backward()\n    model.eval()\n    for x, y in loader:\n        vloss = criterion(model(x), y)\n"
        "        print(vloss.item())",
        [(8, "with torch.no_grad():")],
    ),
    "a smaller attempt": (
        "try:\n    out = model(x)\nexcept torch.cuda.OutOfMemoryError:\n    out = model(x[:8])",
        [(4, "out_of_memory = False")],
    ),
    "errors": (
        "for x, y in loader:\n    try:\n        criterion(model(x), y).backward()\n    except RuntimeError as e:\n"
        "        failed.append(e)",
        [(5, "failed.append(e.with_traceback(None))")],
    ),
    "frames": (
        "df = pd.DataFrame()\nfor f in files:\n    df = pd.concat([df, pd.read_csv(f)])",
        [(3, "df_parts.append(pd.read_csv(f))")],
    ),
}
RIGHT = {
    "item": f"losses = []\n{TRAIN}    losses.append(loss.item())",
    "detach": f"{TRAIN}    losses.append(loss.detach())",
    "detach and cpu": f"{TRAIN}    outs.append(out.detach().cpu().numpy())",
    "float": f"{TRAIN}    losses.append(float(loss))",
    "a number by a name": f"{TRAIN}    value = loss.item()\n    losses.append(value)\n    total += value",
    "rebound": f"{TRAIN}    loss = loss.item()\n    losses.append(loss)",
    "either": f"{TRAIN}    losses.append(loss.item() if torch.is_tensor(loss) else loss)",
    "times the size": f"total = 0.0\n{TRAIN}    total += loss.item() * x.size(0)",
    "right ones": f"{TRAIN}    right += (out.argmax(1) == y).sum().item()",
    "right ones as tensors": f"{TRAIN}    right += torch.sum(out.argmax(1) == y)",
    "predicted": f"{TRAIN}    preds.append(out.argmax(dim=1))",
    "an accuracy of one's own": f"{TRAIN}    accs.append(accuracy(out, y))",
    "no loop": "loss = criterion(model(x), y)\nloss.backward()\nlosses.append(loss.item())",
    "sums of NumPy": "means = []\nfor a in arrays:\n    m = a.mean()\n    means.append(m)\n    t += np.sum(a)",
    "sums of pandas": "for name, df in frames.items():\n    totals[name] = df['x'].sum()\n    means.append(df.mean())",
    "sums of tensors": "total = 0\nfor x, _ in loader:\n    total += x.sum()\n    sizes.append(x.shape[0])",
    "plain Python": "total = 0\nfor i in range(9):\n    total += i\n    seen.append(i)\n    d[i] = total",
    "losses joined, then backward": (
        "losses = []\nfor x, y in loader:\n    losses.append(criterion(model(x), y))\n"
        "loss = torch.stack(losses).mean()\nloss.backward()"
    ),
    "losses summed, then backward": (
        "total = 0\nfor x, y in parts:\n    total = total + criterion(model(x), y)\ntotal.backward()"
    ),
    "a mean of a sum": (
        "for batch in loader:\n    total = 0\n    for x, y in batch:\n        loss = criterion(model(x), y)\n"
        "        total += loss\n    (total / len(batch)).backward()\n    optimizer.step()"
    ),
    "sent back every few steps": (
        "losses = []\nfor x, y in loader:\n    losses.append(criterion(model(x), y))\n    if len(losses) == 8:\n"
        "        sum(losses).backward()\n        losses.clear()"
    ),
    "summed, sent back every few steps": (
        "total = 0\nfor i, (x, y) in enumerate(loader):\n    total = total + criterion(model(x), y)\n"
        "    if i % 4 == 3:\n        total.backward()\n        total = 0"
    ),
    "through time": (
        "for seq, y in loader:\n    outs = []\n    for t in range(9):\n        outs.append(model(seq[t]))\n"
        "    loss = criterion(torch.stack(outs), y)\n    loss.backward()"
    ),
    "policy gradients": (
        "log_probs, values = [], []\nfor t in range(99):\n    values.append(model(state))\n    log_probs.append(lp)\n"
        "loss = 0\nfor lp, v in zip(log_probs, values):\n    loss = loss - lp * v\nloss.backward()"
    ),
    "several losses": (
        "for x, y in loader:\n    out = model(x)\n    losses = {'a': F.mse_loss(out, y), 'b': F.l1_loss(out, y)}\n"
        "    loss = sum(losses.values())\n    loss.backward()\n    for k, v in losses.items():\n"
        "        logs[k].append(v.item())"
    ),
    "a penalty": (
        "for x, y in loader:\n    loss = criterion(model(x), y)\n    reg = 0\n    for p in model.parameters():\n"
        "        reg = reg + p.norm()\n    loss = loss + 1e-4 * reg\n    loss.backward()\n    log.append(loss.item())"
    ),
    "parts of a loss": (
        "for x, y in loader:\n    loss = 0\n    for head in heads:\n        loss = loss + F.cross_entropy(head(x), y)\n"
        "    loss.backward()"
    ),
    "a loss made by hand": (
        "for x, y in loader:\n    parts = []\n    out = model(x)\n    parts.append(F.mse_loss(out, y))\n"
        "    parts.append(F.l1_loss(out, y))\n    loss = torch.stack(parts).sum()\n    loss.backward()"
    ),
    "in no_grad": "model.eval()\nwith torch.no_grad():\n    for x, y in loader:\n        outs.append(model(x))",
    "in inference_mode": (
        "model.eval()\ntotal = 0\nwith torch.inference_mode():\n    for x, y in loader:\n"
        "        total += criterion(model(x), y)"
    ),
    "decorated": (
        "@torch.no_grad()\ndef evaluate(model, loader):\n    model.eval()\n    total = 0\n    for x, y in loader:\n"
        "        total += criterion(model(x), y)\n    return total"
    ),
    "called in no_grad": (
        "def evaluate(model, loader):\n    model.eval()\n    return [model(x).argmax(1) for x, _ in loader]\n"
        "with torch.no_grad():\n    evaluate(model, loader)"
    ),
    "switched off": "torch.set_grad_enabled(False)\nmodel.eval()\nfor x, y in loader:\n    outs.append(model(x))",
    "as the phase is": "net.eval()\nfor x in xs:\n    with torch.set_grad_enabled(train):\n        outs.append(net(x))",
    "generate": "model.eval()\nout = model.generate(ids, max_new_tokens=9)\ntexts.append(tokenizer.decode(out[0]))",
    "eval, then train": "model.eval()\nmodel.train()\nfor x, y in loader:\n    model(x).sum().backward()",
    "batch norm frozen": f"model.eval()\n{TRAIN}",
    "where a model looks": (
        "model.eval()\nx.requires_grad_()\nout = model(x)\nout[0, 3].backward()\nsaliency = x.grad.abs()"
    ),
    "gradients asked for": "model.eval()\nout = model(x)\ng = torch.autograd.grad(out.sum(), x)",
    "features to train on": "def features(x):\n    backbone.eval()\n    return backbone(x)",
    "frozen": "frozen.eval()\nfor x, y in loader:\n    outs.append(frozen(x))",
    "retained for parts of losses": (
        "losses = criterion(model(x), y)\nfor i in range(4):\n    loss = losses[i * 8 : i * 8 + 8].mean()\n"
        "    loss.backward(retain_graph=True)"
    ),
    "retained for the next cell": "loss = criterion(model(x), y)\nloss.backward(retain_graph=True)",
    "kept for another method": (
        "class Agent:\n    def step(self, s):\n        loss = F.mse_loss(self.net(s), s)\n        loss.backward()\n"
        "        self.seen.append(loss)\n    def end(self):\n        total = sum(self.seen)\n        total.backward()"
    ),
    "an eval of pandas": "df.eval('a + b')\nfor x in df:\n    rows.append(df(x))",
    "retained for two losses": (
        "for x, y in loader:\n    h = model(x)\n    a, b = F.mse_loss(h, y), F.l1_loss(h, y)\n"
        "    a.backward(retain_graph=True)\n    b.backward()"
    ),
    "retained for a penalty": (
        "for x, y in loader:\n    loss = F.mse_loss(model(x), y)\n    loss.backward(retain_graph=True)\n"
        "    g = grad(loss, x)"
    ),
    "retained across steps": (
        "h = None\nfor x, y in loader:\n    out, h = rnn(x, h)\n    loss = F.mse_loss(out, y)\n"
        "    loss.backward(retain_graph=True)"
    ),
    "retained for others": "def back(loss):\n    loss.backward(retain_graph=True)",
    "a GAN": (
        "for real in loader:\n    fake = G(z)\n    d = F.mse_loss(D(real), one) + F.mse_loss(D(fake.detach()), zero)\n"
        "    d.backward()\n    g = F.mse_loss(D(fake), one)\n    g.backward()\n    logs.append((d.item(), g.item()))"
    ),
    "L-BFGS": (
        "def closure():\n    optimizer.zero_grad()\n    loss = F.mse_loss(model(x), y)\n    loss.backward()\n"
        "    return loss\nfor i in range(9):\n    optimizer.step(closure)"
    ),
    "an optimizer by hand": (
        "for i in range(9):\n    loss = F.mse_loss(model(x), y)\n    loss.backward()\n    with torch.no_grad():\n"
        "        for p in model.parameters():\n            p -= 0.1 * p.grad\n    losses.append(loss.item())"
    ),
    "a moving mean": (
        "for x, y in loader:\n    loss = F.mse_loss(model(x), y)\n    loss.backward()\n"
        "    mean = 0.9 * mean + 0.1 * loss.item()"
    ),
    "the best": f"{TRAIN}    if loss.item() < best:\n        best = loss.item()",
    "errors of the web": (
        "import torch\nfor url in urls:\n    try:\n        get(url)\n    except OSError as e:\n        errors.append(e)"
    ),
    "errors as texts": (
        "for x, y in loader:\n    try:\n        model(x)\n    except RuntimeError as e:\n        failed.append(str(e))"
    ),
    "a retry behind the except": "try:\n    out = f(x)\nexcept torch.OutOfMemoryError:\n    n = 8\nif n:\n    f(x[:n])",
    "another error": "try:\n    out = model(x)\nexcept ValueError:\n    out = model(x[None])",
    "parts joined once": "parts = []\nfor f in files:\n    parts.append(pd.read_csv(f))\ndf = pd.concat(parts)",
    "two frames": "df = pd.concat([a, b])",
    "words added": "ids = x\nfor _ in range(9):\n    ids = torch.cat([ids, model(ids).argmax(-1)], dim=1)",
    "loaders": "for x in data:\n    batches.append(tokenizer(x, return_tensors='pt').to('cuda'))",
    "logged": f"{TRAIN}    wandb.log({{'loss': loss.item()}})\n    writer.add_scalar('loss', loss, step)",
    "magics": "%time model.eval()\n!ls",
    "no Python": "this is no python(",
    "a tqdm": f"bar = tqdm(loader)\n{TRAIN.replace('loader', 'bar')}    bar.set_postfix(loss=loss.item())",
    "JAX": (
        "losses = []\nfor x, y in loader:\n    loss, g = jax.value_and_grad(f)(w, x, y)\n    losses.append(loss)\n"
        "    total += loss"
    ),
    "Keras": "history = model.fit(x, y)\nlosses.append(history.history['loss'])",
}


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    model, frozen = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4).requires_grad_(requires_grad=False)
    criterion = torch.nn.CrossEntropyLoss()
    return {"model": model, "frozen": frozen, "criterion": criterion, "losses": [], "torch": torch}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_with_its_line_and_what_to_write(name: str, variables: dict[str, Any]) -> None:
    source, expected = WRONG[name]
    found = foresee(variables, source)
    assert [(one.line, one.after) for one in found] == expected
    for one in found:
        assert one.before in source


@pytest.mark.parametrize("name", RIGHT)
def test_of_good_code_nothing_is_said(name: str, variables: dict[str, Any]) -> None:
    assert foresee(variables, RIGHT[name]) == []


CODE = """
cell("%load_ext nb_oomhelper")
cell("import torch\\nfrom torch import nn\\nmodel = nn.Linear(2, 1)\\nloader = [(torch.ones(4, 2), torch.ones(4, 1))]")
cell('''def train(steps):
    total = 0
    for x, y in loader * steps:
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        total += loss
    print(total > 0)''')
LOOP = '''losses = []
for x, y in loader:
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    losses.append(loss)
train(2)
1 / 0'''
plain = cell(LOOP)
told = cell("%%gpumem\\n" + LOOP)
good = cell("%%gpumem\\n" + LOOP.replace("(loss)", "(loss.item())").replace("train(2)", ""))
cell("%config OOMHelper.language = 'zh'")
chinese = cell("%%gpumem\\n" + LOOP)
off = cell("%%gpumem\\nwith torch.no_grad():\\n    pass")
magic = cell("%%gpumem\\n!true\\n" + LOOP.replace("1 / 0", ""))
tell(plain, told, good, chinese, off, magic, cell("%oom status"))
"""


def test_a_note_comes_with_gpumem_and_never_by_itself() -> None:
    pytest.importorskip("torch")
    plain, told, good, chinese, off, magic, status = in_shell(CODE)
    own = "line 5: `losses.append(loss)` keeps each step's graph; write `losses.append(loss.item())`"
    other = "cell [3], line 6: `total += loss` keeps each step's graph; write `total += loss.item()`"
    assert "graph" not in plain
    assert told.splitlines()[:2] == [own, other]
    assert "ZeroDivisionError" in told  # it ran all the same
    assert "graph" not in good
    assert "第 5 行：`losses.append(loss)` 会保留每一步的计算图，应写成 `losses.append(loss.item())`" in chinese
    assert "计算图" not in off
    assert "第 6 行" in magic
    assert "Error" not in status


def test_what_is_computed_from_itself_again_and_again_is_followed_once() -> None:
    pytest.importorskip("torch")
    chain = "".join(f"    x{n + 1} = torch.cat([x{n}, x{n}]) + x{n} * torch.relu(x{n})\n" for n in range(11))
    source = f"for x0 in loader:\n    x0 = model(x0)\n{chain}    x11.sum().backward()\n    kept.append(x11 + later)\n"
    found = foresee({}, f"model = torch.nn.Linear(1, 1)\n{source}    later = later + x11\n")
    assert [one.after for one in found] == ["kept.append((x11 + later).detach())"]


def test_many_are_counted() -> None:
    pytest.importorskip("torch")
    lines = "".join(f"    kept{n}.append(loss)\n" for n in range(9))
    found = foresee({}, f"{TRAIN}{lines}")
    assert len(found) == 9
    assert tell(found, "en")[-1] == "and 4 more of this kind"
