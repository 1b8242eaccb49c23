"""Models that are kept with their optimizers: both go into host memory, and training could go on there."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.element import Element
from nb_oomhelper.source.kept_models import optimizers_to_host
from nb_oomhelper.source.text_edits import read_text, write_edits

MODEL, OPTIMIZER = Element("model", on_device=True), Element("optimizer", on_device=True)
RUN = Element("parts", {"net": MODEL, "opt": OPTIMIZER, "loss": Element("other")})


def changed(code: str, keepers: dict[str, Element]) -> str:
    text = read_text(code)
    assert text is not None
    made = write_edits(text, optimizers_to_host(text, text.tree.body, keepers))
    return code if made is None else made.source


def test_two_lists() -> None:
    code = "for s in seeds:\n    net = Net()\n    opt = Adam(net.parameters())\n    {0}\n    {1}\n    print(s)"
    moved = "\n    opt.load_state_dict(opt.state_dict())"
    for puts in (("nets.append(net)", "opts.append(opt)"), ("opts.append(opt)", "nets.append(net)")):
        written = code.format(*puts)
        assert changed(written, {"nets": MODEL, "opts": OPTIMIZER}) == written.replace(puts[1], puts[1] + moved)


@pytest.mark.parametrize(
    "code",
    [
        "for s in seeds:\n    net, opt = train(s)\n    runs.append({'net': net, 'opt': opt, 'loss': 1})\n    opt.go()",
        "for s in seeds:\n    net, opt = train(s)\n    runs.append({'net': net, 'opt': opt, 'loss': 1})\n    net(x)",
        "net, opt = train(0)\nfor s in seeds:\n    runs.append({'net': net, 'opt': opt, 'loss': 1})",
        "for s in seeds:\n    runs[s] = train(s)\n    plot(runs[s]['net'])",
        "runs[0] = train(0)",
    ],
)
def test_what_is_still_in_use_stays(code: str) -> None:
    assert changed(code, {"runs": RUN}) == code


@pytest.mark.parametrize(
    ("put", "path"), [("runs[s] = train(s)  # long", "runs[s]"), ("runs.append(train(s))", "runs[-1]")]
)
def test_what_a_function_gives_back(put: str, path: str) -> None:
    code = f"for s in seeds:\n    {put}\n    print(runs)"
    lines = [f"{path}['net'].cpu()", f"{path}['opt'].load_state_dict({path}['opt'].state_dict())"]
    assert changed(code, {"runs": RUN}) == code.replace(put, "\n    ".join([put, *lines]))


def test_the_numbers_of_an_optimizer_go_where_its_weights_are() -> None:
    """What the lines count on: PyTorch casts a state that is loaded to the device of each weight."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 2).double()
    opt = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2).double()).sum().backward()
    opt.step()
    net.float()  # as `cpu()` does: the same weights, elsewhere
    opt.load_state_dict(opt.state_dict())
    assert {one["exp_avg"].dtype for one in opt.state.values()} == {torch.float32}
