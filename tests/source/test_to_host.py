"""What is collected on a GPU and only joined, kept in host memory instead."""

from __future__ import annotations

import ast

import pytest

from nb_oomhelper.source.element import Element
from nb_oomhelper.source.given_on import is_given_on
from nb_oomhelper.source.text_edits import read_text, write_edits
from nb_oomhelper.source.to_host import find_gathered, find_to_host, gathers_on_device, is_only_collected

TENSOR = Element("other", on_device=True)
GRAPH, NUMBER = Element("graph", on_device=True), Element("number", on_device=True)
MODEL = Element("model", on_device=True)
STATE = Element("parts", {"0.weight": TENSOR, "0.bias": TENSOR})
LISTED = Element("other", on_device=True, listed=True)
PAIR = Element("parts", {0: Element("other"), 1: TENSOR})
LOG = Element("parts", {"step": Element("other"), "loss": NUMBER, "out": GRAPH})


@pytest.mark.parametrize(
    ("element", "before", "after"),
    [
        (TENSOR, "kept.append(net(x))", "kept.append(net(x).cpu())"),
        (TENSOR, "kept.append(x + 1)", "kept.append((x + 1).cpu())"),
        (TENSOR, "kept[i] = net(x)", "kept[i] = net(x).cpu()"),
        (TENSOR, "kept.append(net(x).numpy())", None),
        (GRAPH, "kept.append(out)", "kept.append(out.detach().cpu())"),
        (GRAPH, "kept.append(out.detach())", "kept.append(out.detach().cpu())"),
        (NUMBER, "kept.append(loss)", "kept.append(loss.item())"),
        (PAIR, "kept.append((name, out))", "kept.append((name, out.cpu()))"),
        (PAIR, "kept.append(pair)", None),
        (
            LOG,
            'kept.append({"step": i, "loss": loss, "out": out})',
            'kept.append({"step": i, "loss": loss.item(), "out": out.detach().cpu()})',
        ),
        (
            STATE,
            "kept.append(copy.deepcopy(net.state_dict()))",
            "kept.append({key: value.cpu() for key, value in copy.deepcopy(net.state_dict()).items()})",
        ),
        (
            STATE,
            "kept[i] = {k: v.clone() for k, v in net.state_dict().items()}",
            "kept[i] = {k: v.clone().cpu() for k, v in net.state_dict().items()}",
        ),
        (LISTED, "kept[c].append(net(x))", "kept[c].append(net(x).cpu())"),
        (LISTED, "kept.setdefault(c, []).append(net(x))", "kept.setdefault(c, []).append(net(x).cpu())"),
        (LISTED, "kept[c] += [net(x)]", "kept[c] += [net(x).cpu()]"),
        (LISTED, "kept[c] = net(x)", None),  # a list, of whatever is in it
        (LISTED, 'kept["out"].append(net(x))', None),  # it has a path of its own
        (MODEL, "kept.append(copy.deepcopy(net))", "kept.append(copy.deepcopy(net).cpu())"),
        (MODEL, "kept.append(net)", None),  # it may still be in use
        (Element("other"), "kept.append(out)", None),
    ],
)
def test_what_is_collected_in_a_loop(element: Element, before: str, after: str | None) -> None:
    text = read_text(f"for x in xs:\n    {before}\n")
    assert text is not None
    changed = write_edits(text, find_to_host(text, text.tree.body, {"kept": element}))
    assert (changed and changed.source) == (f"for x in xs:\n    {after}\n" if after else None)


def test_outside_of_a_loop_only_where_the_code_is_called_by_one() -> None:
    text = read_text("self.kept.append(out)")
    assert text is not None
    assert not find_to_host(text, text.tree.body, {"a.kept": TENSOR})
    assert find_to_host(text, text.tree.body, {"a.kept": TENSOR}, in_loop=False)


@pytest.mark.parametrize(
    ("use", "harmless"),
    [
        ("all_of_it = torch.cat(kept)", True),
        ("return torch.cat(kept), torch.cat(other)", True),
        ("print(len(kept))", True),
        ("mean = torch.stack([one['loss'] for one in kept]).mean()", True),
        ("same = torch.cat(kept).argmax(1)\nright = (same == torch.cat(other)).sum()", True),
        ("kept = {c: torch.cat(v) for c, v in kept.items()}\nprint(v.shape)", True),
        ("for part in kept.values():\n    print(len(part))", True),
        ("for c, v in kept.items():\n    scores[c] = query @ torch.cat(v)", False),
        ("for c, v in kept.items():\n    net(v[-1])", False),
        ("mse = sum(one['loss'].item() for one in kept) / len(kept)\nr = torch.cat(kept) / (mse + 1)", True),
        ("k = torch.cat([kept[i][0], k])", False),  # a cache that is computed with
        ("x = net(kept[-1])", False),
        ("score = torch.cat(kept)\nright = score == labels", False),
        ("loss = criterion(torch.cat(kept), labels)", False),
        ("for p in kept:\n    out.append(p.cpu().numpy())", True),
        ("for p in kept:\n    q = p * w", False),
        ("q = [criterion(p, w) for p in kept]", False),
        ("p = torch.cat(kept)\np.sub_(mean)", False),
        ("p = torch.cat(kept)\nq = p[mask]", False),
        ("p = torch.cat(kept)\nfor i in range(9):\n    print(p[i], p[:8])", True),
    ],
)
def test_what_else_is_done_with_it(use: str, harmless: bool) -> None:
    body = "    ".join(
        f"def f():\nkept, other = [], []\nfor x in xs:\n    kept.append(net(x))\n{use}\n".splitlines(True)
    )
    text = read_text(body)
    assert text is not None
    assert is_only_collected(text.tree.body, {"kept": TENSOR, "other": TENSOR}) is harmless


@pytest.mark.parametrize(
    ("use", "given_on"),
    [
        ("return torch.stack(kept)", True),
        ("return kept", True),
        ("loss = sum(kept)", True),
        (
            "sums = []\n    for r in reversed(kept):\n        sums.append(r + 1)\n    return -torch.stack(sums).mean()",
            True,
        ),
        ("print(len(kept))", False),
    ],
)
def test_what_may_go_backward(use: str, given_on: bool) -> None:
    text = read_text(f"def f():\n    kept = []\n    for x in xs:\n        kept.append(net(x))\n    {use}\n")
    assert text is not None
    assert is_given_on(text.tree.body, "kept") is given_on


@pytest.mark.parametrize(
    ("use", "given_on"),
    [
        ("results[eps] = {'out': torch.cat(kept), 'n': len(kept)}", False),
        ("out = torch.cat(kept)\nprint(out.shape)", False),
        ("out = torch.cat(kept)\nfit(out)", True),
        ("fit(torch.cat(kept))", True),
        ("out = torch.cat(kept)\nout.mean().backward()", True),
    ],
)
def test_what_a_cell_joins_and_puts_by(use: str, given_on: bool) -> None:
    text = read_text(f"kept = []\nfor x in xs:\n    kept.append(net(attack(x)))\n{use}\n")
    assert text is not None
    assert is_given_on(text.tree.body, "kept", at_top=True) is given_on
    assert is_given_on(text.tree.body, "kept")


@pytest.mark.parametrize(
    ("code", "moved"),
    [
        ("for x in xs:\n    out = net(x)\n    out /= 2\n    kept.append(out)", True),
        ("for x in xs:\n    out = net(x)\n    kept.append(out)\n    out /= 2", False),  # what is kept changes, too
        ("for x in xs:\n    out = net(x)\n    kept.append(out)\n    out.mul_(2)", False),
        ("for x in xs:\n    buffer[0] = net(x)\n    kept.append(buffer)", False),
    ],
)
def test_what_is_changed_where_it_is_stays(code: str, moved: bool) -> None:
    text = read_text(code)
    assert text is not None
    assert bool(find_to_host(text, text.tree.body, {"kept": TENSOR})) is moved


def test_what_a_collection_begins_with_is_moved_with_the_rest() -> None:
    text = read_text("kept = [x]\nfor i in y:\n    kept.append(net(x))")
    assert text is not None
    changed = write_edits(text, find_to_host(text, text.tree.body, {"kept": TENSOR}))
    assert changed is not None
    assert changed.source == "kept = [x.cpu()]\nfor i in y:\n    kept.append(net(x).cpu())"


@pytest.mark.parametrize(
    ("code", "moved"),
    [
        ("for i in y:\n    net = Net()\n    fit(net)\n    kept[i] = net", True),
        ("for i in y:\n    net = Net()\n    kept[i] = net\n    fit(net)", False),
        ("net = Net()\nfor i in y:\n    fit(net)\n    kept[i] = net", False),
        ("for i in y:\n    net = Net()\n    kept[i] = net\nprint(net(x))", False),
    ],
)
def test_a_model_that_a_loop_is_done_with_is_moved(code: str, moved: bool) -> None:
    text = read_text(code)
    assert text is not None
    edits = find_to_host(text, text.tree.body, {"kept": MODEL})
    assert [what for _, _, what in edits] == ([".cpu()"] if moved else [])


@pytest.mark.parametrize(
    ("code", "gathers"),
    [
        ("torch.cat([net(b) for b in parts])", True),
        ("torch.cat([net(b).cpu() for b in parts])", False),
        ("torch.cat([head(x) for head in heads])", False),
        ("torch.cat([a, b])", False),
    ],
)
def test_a_comprehension_that_gathers_on_a_device(code: str, gathers: bool) -> None:
    assert gathers_on_device(ast.parse(code)) is gathers


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("out = torch.cat([net(b) for b in parts])", ["out"]),
        ("out = torch.cat([net(b) for b in parts])\nprint(out @ weight)", []),
    ],
)
def test_what_a_comprehension_joins_is_moved_where_nothing_else_meets_it(code: str, names: list[str]) -> None:
    text = read_text(code)
    assert text is not None
    found = list(find_gathered(text, text.tree.body, 1))
    assert [name for name, _ in found] == names
    assert all([what for _, _, what in edits] == [".cpu()"] for _, edits in found)


@pytest.mark.parametrize(
    ("element", "keep", "after"),
    [
        (Element("parts", {0: Element("other"), 1: MODEL}), "kept.append((s, net))", "kept.append((s, net.cpu()))"),
        (Element("parts", {"m": MODEL}), 'kept[k] = {"m": net}', 'kept[k] = {"m": net.cpu()}'),
    ],
)
def test_a_model_that_a_loop_is_done_with(element: Element, keep: str, after: str) -> None:
    source = f"for k in ks:\n    net = Net()\n    s = fit(net)\n    {keep}\n"
    text = read_text(source)
    assert text is not None
    changed = write_edits(text, find_to_host(text, text.tree.body, {"kept": element}))
    assert changed is not None
    assert changed.source == source.replace(keep, after)
    used = read_text(f"{source}    print(net)\n")
    assert used is not None
    assert find_to_host(used, used.tree.body, {"kept": element}) == []


@pytest.mark.parametrize(
    ("rest", "found"), [("x = torch.stack(outs)", True), ("x = outs[-1] + y", False), ("net(outs)", False)]
)
def test_a_list_that_is_made_in_one_go_and_joined_later(rest: str, found: bool) -> None:
    text = read_text(f"outs = [net(x) for _ in range(9)]\n{rest}")
    assert text is not None
    edits = [write_edits(text, edits) for _, edits in find_gathered(text, text.tree.body, 1)]
    assert [one.source.splitlines()[0] for one in edits if one] == (
        ["outs = [net(x).cpu() for _ in range(9)]"] if found else []
    )


@pytest.mark.parametrize(
    ("use", "harmless"),
    [
        ("for s, run in kept.items():\n    print(run['loss'][-1])", True),
        ("print(kept[s]['loss'][-1])", True),
        ("kept.sort(key=lambda run: run['loss'])", True),
        ("print(kept[s]['out'] - y)", False),
    ],
)
def test_a_part_of_what_is_kept_that_lies_in_host_memory_anyway(use: str, harmless: bool) -> None:
    text = read_text(f"kept = {{}}\nfor s in xs:\n    kept[s] = {{'out': net(x), 'loss': 1}}\n{use}")
    assert text is not None
    element = Element("parts", {"out": TENSOR, "loss": Element("other")})
    assert is_only_collected(text.tree.body, {"kept": element}) is harmless
