"""Data that is moved to a device whole: moved where it is used, or once it is computed."""

from __future__ import annotations

import pytest

from nb_oomhelper.source.growing import join_on_host
from nb_oomhelper.source.moving import where_used
from nb_oomhelper.source.moving_last import host_first
from nb_oomhelper.source.text_edits import read_text, write_edits

LOADED = (
    "ds = [(x.to(dev), y.to(dev)) for x, y in loader]\nfor e in range(2):\n    for a, b in ds:\n        net(a, b)\n"
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            LOADED,
            "ds = [(x, y) for x, y in loader]\nfor e in range(2):\n    for a, b in ds:\n"
            "        a, b = a.to(dev), b.to(dev)\n        net(a, b)\n",
        ),
        (
            "ds = [x.cuda() for x in parts]\nfor i, x in enumerate(ds):\n    net(x)\nprint(len(ds))\n",
            "ds = [x for x in parts]\nfor i, x in enumerate(ds):\n    x = x.cuda()\n    net(x)\nprint(len(ds))\n",
        ),
        (
            "ds = [(x.cuda(), n) for x, n in parts]\nfor x, n in ds:\n    net(x, n)\n",
            "ds = [(x, n) for x, n in parts]\nfor x, n in ds:\n    x = x.cuda()\n    net(x, n)\n",
        ),
        (
            "on = {k: v.to(dev) for k, v in data.items()}\nfor i in range(len(on['x'])):\n    net(on['x'][i:i + 8])\n",
            "on = {k: v for k, v in data.items()}\nfor i in range(len(on['x'])):\n    net(on['x'][i:i + 8].to(dev))\n",
        ),
        (
            "X, y = X.to(dev), y.to(dev)\nfor i in range(0, X.shape[0], 8):\n    f(net(X[i:i + 8]), y[i:i + 8])\n",
            "X, y = X, y\nfor i in range(0, X.shape[0], 8):\n    f(net(X[i:i + 8].to(dev)), y[i:i + 8].to(dev))\n",
        ),
        (
            "X = A.cuda()\nperm = torch.randperm(len(X))\nfor i in r:\n    idx = perm[i:i + 8]\n    net(X[idx])\n",
            "X = A\nperm = torch.randperm(len(X))\nfor i in r:\n    idx = perm[i:i + 8]\n    net(X[idx].cuda())\n",
        ),
        (
            "ds = TensorDataset(X.cuda(), y.cuda())\ndl = DataLoader(ds, 8)\nfor a, b in dl:\n    net(a, b)\n",
            "ds = TensorDataset(X, y)\ndl = DataLoader(ds, 8)\nfor a, b in dl:\n"
            "    a, b = a.cuda(), b.cuda()\n    net(a, b)\n",
        ),
        ("ds = TensorDataset(X.cuda(), y)\nfit(net, DataLoader(ds, 8))\n", None),
        ("ds = TensorDataset(X.cuda(), y)\n", None),
        ("X = A.cuda()\nperm = torch.randperm(9, device='cuda')\nnet(X[perm])\n", None),
        ("X = A.cuda()\nnet(X[mask])\n", None),  # wherever that lies
        ("X = A.cuda()\nnet(X)\n", None),
        ("X = A.cuda()\n", None),  # another cell has it
        ("X = A.cuda()\nnet(X[:8])\ndef f():\n    return X.mean()\n", None),
        ("X = A.to(torch.float32)\nnet(X[:8])\n", None),
        (LOADED.replace("net(a, b)", "net(a, b)\nprint(ds[0][0].device)"), None),
        (LOADED.replace("for a, b in ds", "for pair in ds"), None),
        ("X = A.cuda()\nX /= 255\nnet(X[:8])\n", None),  # `A` would change
        ("X = A.cuda()\nb = X[:8]\nb -= 1\nnet(b)\n", None),  # and `X` would not
        ("X = A.cuda()\nb = X[:8]\nb.mul_(2)\nnet(b)\n", None),
        ("X = A.cuda()\nX[:8].mul_(2)\n", None),
        ("X = A.to(dev, torch.half)\nnet(X[:8])\nprint(X.dtype)\n", None),
        ("ds = [net(x.cuda()) for x in parts]\nfor x in ds:\n    f(x)\n", None),  # `net` needs it there
        ("ds = [x.cuda() for x in parts if x.cuda().sum() > 0]\nfor x in ds:\n    f(x)\n", None),
        ("on = {k: net(v.cuda()) for k, v in d.items()}\nf(on['x'][:8])\n", None),
    ],
)
def test_batches_are_moved_where_they_are_used(before: str, after: str | None) -> None:
    text = read_text(before)
    assert text is not None
    found = where_used(text, text.tree.body, 1)
    changed = None if found is None else write_edits(text, found[1])
    assert (changed and changed.source) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("X = A.to(dev).float() / 255.0", "X = (A.float() / 255.0).to(dev)"),
        ("X = (A.cuda() - 127.5) / 127.5", "X = ((A - 127.5) / 127.5).cuda()"),
        ("X = A.to(dev).permute(0, 3, 1, 2).float()", "X = A.permute(0, 3, 1, 2).float().to(dev)"),
        ("self.X = A.to(dev, non_blocking=True).float()", "self.X = A.float().to(dev, non_blocking=True)"),
        ("X = (A.to(dev) - mean) / std", None),  # these may lie on the device
        ("X = A.float().to(dev)", None),
        ("X = A.to(dev).float().div_(255)", "X = A.float().div(255).to(dev)"),  # `A` stays as it is
        ("X = A.to(dev, torch.float32) * 2", None),  # whole numbers of 8 bits would overflow
        ("X = A.to(dev, dtype=torch.float32) * 2", None),
        ("X = A.to('cpu').float()", None),
        ("X = net(A.to(dev)).float()", None),
    ],
)
def test_what_is_computed_is_moved_last(before: str, after: str | None) -> None:
    text = read_text(before)
    assert text is not None
    found = host_first(text, text.tree.body, 1)
    changed = None if found is None else write_edits(text, found[1])
    assert (changed and changed.source) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "all_x = x[None]\nfor i in r:\n    all_x = torch.cat([all_x, x[None]], dim=0)\n",
            "all_x = x[None].cpu()\nfor i in r:\n    all_x = torch.cat([all_x, x[None].cpu()], dim=0)\n",
        ),
        (
            "z = None\nfor x in r:\n    z = net(x) if z is None else torch.cat((z, net(x)))\n",
            "z = None\nfor x in r:\n    z = net(x).cpu() if z is None else torch.cat((z, net(x).cpu()))\n",
        ),
        ("for x in r:\n    z = torch.cat([z, net(x)])\n", None),  # it begins elsewhere
        ("z = a\nfor x in r:\n    y = torch.cat([x, net(x)])\n", None),
        ("z = a\nz = torch.cat([z, b])\n", None),
    ],
)
def test_what_grows_by_joining_grows_in_host_memory(before: str, after: str | None) -> None:
    text = read_text(before)
    assert text is not None
    found = join_on_host(text, text.tree.body, len(before.splitlines()))
    changed = None if found is None else write_edits(text, found[1])
    assert (changed and changed.source) == after
