"""Whether an autograd graph was being made, by the frames of a real error in a layer of a real model."""

from __future__ import annotations

from typing import Any

import pytest

from nb_oomhelper.remedies.graph_made import has_graph

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.plain

PARTS = {"x": torch.ones(4, 8), "narrow": torch.ones(4, 3), "torch": torch}


def net() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))


def graph_of(code: str, **names: object) -> bool | None:
    """What the frames of a cell tell that ends in an error."""
    try:
        exec(compile(code, "<ipython-input-1-0>", "exec"), {"__name__": "__main__", **PARTS, "net": net(), **names})
    except RuntimeError as error:
        frames, traceback = [], error.__traceback__ and error.__traceback__.tb_next
        while traceback is not None:
            frames.append((traceback.tb_frame, traceback.tb_lineno))
            traceback = traceback.tb_next
        return has_graph(frames)
    raise AssertionError("no error")


class TooLate(torch.nn.Module):  # type: ignore[name-defined]
    def forward(self, x: Any) -> Any:
        raise RuntimeError(f"no room beside {tuple(x.shape)}")


def test_it_is_there_after_the_first_layer() -> None:
    assert graph_of("net.append(late)\nnet(x)", late=TooLate())


def test_it_begins_where_the_first_layer_learns() -> None:
    assert graph_of("net(narrow)")
    assert graph_of("[net(one) for one in (narrow,)]")
    assert graph_of("def embed(net, x):\n    return net(x)\nembed(net, narrow)")


@pytest.mark.parametrize(
    "code",
    [
        "with torch.no_grad():\n    net(narrow)",
        "with torch.inference_mode():\n    net(narrow)",
        "@torch.no_grad()\ndef embed(net, x):\n    return net(x)\nembed(net, narrow)",
        "torch.set_grad_enabled(False)\ntry:\n    net(narrow)\nfinally:\n    torch.set_grad_enabled(True)",
        "net.requires_grad_(False)\nnet(narrow)",
        "def fail(x):\n    raise RuntimeError(x)\nfail(x)",
    ],
)
def test_there_is_none_where_gradients_are_off_or_nothing_learns(code: str) -> None:
    assert graph_of(code) is False


def test_code_of_a_library_may_see_to_it_in_its_own_way() -> None:
    names: dict[str, object] = {"__name__": "library"}
    exec(compile("def run(net, x):\n    return net(x)", "/usr/lib/python3/site-packages/library.py", "exec"), names)
    assert graph_of("run(net, narrow)", run=names["run"]) is False


def test_nothing_tells_at_the_top_of_a_cell() -> None:
    assert graph_of("raise RuntimeError") is None
