"""Forecasts of functions that `jax.jit` gave: the real compiler on the CPU, and a GPU that is played."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from nb_oomhelper.forecasting import compiled
from nb_oomhelper.forecasting.fusions import largest_inside
from tests.played_jax import MIB, PlayedGpu
from tests.shells import in_shell

pytestmark = pytest.mark.plain

CODE = """
import json
cell("%load_ext nb_oomhelper")
cell('''import jax, jax.numpy as jnp, numpy as np, functools, types, time
ran = []
@jax.jit
def step(w, x):
    ran.append(type(x).__name__)
    return jnp.tanh(x @ w) @ w.T
plain = lambda w, x: x @ w
w, x = jnp.ones((1024, 2048)), jnp.ones((512, 1024))
lib = types.SimpleNamespace(step=step)
scaled = jax.jit(lambda x, by: x * by, static_argnames="by")
given = jax.jit(lambda x: x * 2, donate_argnums=0)
bad = jax.jit(lambda x: x + undefined)
class Counting:
    @property
    def step(self):
        ran.append("property")
        return step''')
asked = cell("%oom forecast step(w, x)")
told = cell("%oom forecast --yes step(w, x)")
cell("counting = Counting()")
unread = cell("%oom forecast counting.step(w, x)")
ran = cell("ran")
def figures(call):
    text = cell("%oom forecast --yes --json " + call)
    assert text.startswith("{"), call + text
    found = json.loads(text)
    return [found["allocated"]["likely"], dict(found["kinds"]), found["verdict"], found["device"], found["held"]]
same = figures("lib.step(w=w, x=x)")
numpy = figures("step(np.ones((1024, 2048), 'float32'), x)")
larger = figures("step(jnp.zeros((1024, 1 << 24)), jnp.zeros((512, 1024)))")
static = figures("scaled(x, by=3)")
cell("scores = jax.jit(lambda q, k: jax.nn.softmax(q @ k.T) @ k)")
inside = figures("scores(x, x)")
donated = figures("given(x)")
alive = cell("int(x.sum()), x.is_deleted()")
python = cell('''import nb_oomhelper
found = nb_oomhelper.forecast(step, w, jax.ShapeDtypeStruct((512, 1024), "float32"))
print(found.call, found.allocated.likely)''')
wrong = [cell("%oom forecast --yes " + call) for call in ("plain(w, x)", "bad(x)", "step(w, w)", "step(nothing)")]
wrong.append(cell("nb_oomhelper.forecast(plain, w, x)"))
wrong.append(cell("%oom forecast plain(2, 3)"))
chinese = cell("%config OOMHelper.language = 'zh'\\n%oom forecast step(w, x)"), cell("%oom forecast --yes step(w, x)")
tell(asked, unread, told, ran, same, numpy, larger, static, inside, donated, alive, python, wrong, chinese)
"""


def test_the_compilers_plan_is_told() -> None:
    pytest.importorskip("jax")
    asked, unread, told, ran, same, numpy, larger, static, inside, donated, alive, python, wrong, chinese = in_shell(
        CODE
    )
    assert "JAX traces and compiles `step(w, x)` in this process" in asked
    assert "%oom forecast --yes step(w, x)" in asked
    assert told.startswith("✓ `step(w, x)` should fit on host")
    assert "the sizes are the compiler's own plan" in told
    assert "JAX traces and compiles" in unread
    assert ran.count("Tracer") == 1  # traced once, never run
    assert "property" not in ran
    result, inner = 4 * 512 * 1024, 4 * 512 * 2048
    assert same[1]["outputs"] == result
    assert same[1]["temporaries"] >= inner  # tanh(x @ w), and what is beside it
    assert same[0] == sum(same[1].values())
    assert same[2:] == ["fits", "host", 0]
    assert numpy[1]["arguments"] == 4 * 1024 * 2048  # it is copied to the device
    assert numpy[0] == same[0] + 4 * 1024 * 2048
    assert larger[0] > 4 * 1024 * (1 << 24)
    assert larger[2] == "does_not"
    assert "arguments" not in same[1]
    assert static[1] == {"outputs": result}
    assert inside[1]["temporaries"] >= 4 * 512 * 512  # q @ k.T, whoever computes it
    assert donated[0] == 0  # the result lies where the argument was
    assert "(524288, False)" in alive
    assert "step(…) " in python
    assert int(python.split()[-1]) == same[0] + result  # x is not there yet
    assert "plain is not what jax.jit gives" in wrong[0]
    assert "tracing bad(x) raised NameError: name 'undefined' is not defined" in wrong[1]
    assert "tracing step(w, w) raised TypeError" in wrong[2]
    assert "NameError" in wrong[3]
    assert "<lambda> is not what jax.jit gives" in wrong[4]
    assert "plain is not what jax.jit gives" in wrong[5]  # it need not be asked
    assert "JAX 会在本进程中跟踪并编译" in chinese[0]
    assert "临时张量" in chinese[1]


def test_a_compiler_that_takes_too_long_is_not_waited_for() -> None:
    pytest.importorskip("jax")
    code = """
import threading
from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.forecasting.compiled import _within
gate = threading.Event()
try:
    _within(gate.wait, 0.05)
except OomHelperError as error:
    print(error)
gate.set()
try:
    _within(lambda: 1 / 0, 60)
except OomHelperError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    late, failed = done.stdout.splitlines()
    assert late == "no forecast: XLA has not compiled it within 0.05 s, and goes on in the background"
    assert failed == "no forecast: compiling it raised ZeroDivisionError: division by zero"


def test_on_a_gpu_the_pool_is_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PlayedGpu(1)
    monkeypatch.setitem(
        sys.modules,
        "jax._src.xla_bridge",
        SimpleNamespace(_backends={"gpu": SimpleNamespace(local_devices=lambda: [gpu])}),
    )
    planned = compiled._Planned(
        arguments=2 * MIB,
        outputs=8 * MIB,
        temporaries=40 * MIB,
        code=MIB,
        alias=2 * MIB,
        inside=0,
        devices=2,
        device=gpu,
    )
    found = compiled._on_device(planned, 2 * MIB)
    assert (found["device"], found["held"], found["room"]) == ("cuda:1", 3 * MIB, 60 * MIB)
    assert found["allocated"].likely == (3 + 6 + 40 + 1) * MIB
    assert dict(found["kinds"]) == {
        "temporaries": 40 * MIB,
        "outputs": 6 * MIB,
        "arguments": 2 * MIB,
        "code": MIB,
        "held": MIB,
    }
    assert found["verdict"] == "fits"
    assert "forecast.sharded" in [one.key for one in found["notes"]]


HLO = """\
HloModule jit_f, is_scheduled=true

%region_1.2 (a: f32[], b: f32[]) -> f32[] {
  %huge = f32[9999,9999]{1,0} add(%a, %b)
}

%fused_computation (p: f32[8,4], q: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %dot.1 = bf16[8,8]{1,0} dot(%p, %q), lhs_contracting_dims={1}
  %wide = f32[64,64]{1,0} broadcast(%m), dimensions={0}
  %exp.0 = f32[8,8]{1,0} exponential(%dot.1)
  ROOT %dot.0 = f32[100,100]{1,0} dot(%exp.0, %p)
}

ENTRY %main.3 (q.1: f32[8,4]) -> f32[8,4] {
  ROOT %ynn = f32[8,4]{1,0} fusion(%q.1), kind=kCustom, calls=%fused_computation, metadata={}
}
"""


def test_results_inside_of_what_libraries_compute() -> None:
    assert largest_inside(HLO) == 8 * 8 * 4
    assert largest_inside(HLO.replace("kCustom", "kLoop")) == 0
    assert largest_inside("") == 0
