"""What people do to get the memory back, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.recovery.scenario import Scenario

Write = Callable[[Scenario], str]

_COLLECT = "import gc, torch\ngc.collect()\ntorch.cuda.empty_cache()"

# Re-created from its description: what fastai's course does between two attempts.
_FASTAI = """
import gc, sys, traceback, torch
if hasattr(sys, "last_traceback"):
    traceback.clear_frames(sys.last_traceback)
    del sys.last_traceback
for name in ("last_type", "last_value"):
    if hasattr(sys, name):
        delattr(sys, name)
get_ipython().displayhook.flush()
gc.collect()
torch.cuda.empty_cache()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to free memory.

    Attributes:
        name: On the command line and in the JSON.
        title: In the table and the picture.
        code: Writes its cell for a scenario. A variable that is to go is deleted by every method but the first.
        first: Writes a cell that runs before the failure; "" is none.
        extension: Whether nb_oomhelper is loaded.
        needs: A package that must be installed, or "".
    """

    name: str
    title: str
    code: Write
    first: Write = lambda _: ""
    extension: bool = False
    needs: str = ""


def _delete(scenario: Scenario) -> str:
    return "".join(f"del {name}\n" for name in scenario.deletes)


def _accelerate(scenario: Scenario) -> str:
    names = ", ".join(scenario.deletes)
    call = f"{names}, = release_memory({names})" if names else "release_memory();"
    return f"from accelerate.utils import release_memory\n{call}"


def _start_experiment(scenario: Scenario) -> str:
    kept = ", ".join(repr(name) for name in scenario.survives)
    return (
        "import ipyexperiments\nfrom benchmarks.recovery.inside import DEVICE as _device\n"
        "_kind = ipyexperiments.IPyExperimentsCPU if _device == 'cpu' else ipyexperiments.IPyExperimentsPytorch\n"
        f"experiment = _kind(cl_enable=False)\nexperiment.keep_var_names({kept})"
    )


def _release(scenario: Scenario, deep: bool) -> str:
    arguments = ", ".join(filter(None, ["deep=True" if deep else "", scenario.ours]))
    return f"import nb_oomhelper\nnb_oomhelper.release({arguments});"


# What the scenarios say is needed; for tests.
ENOUGH = Method(name="enough", title="nb_oomhelper", code=lambda one: _release(one, deep=one.deep), extension=True)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(name="nothing", title="nothing", code=lambda _: "pass"),
        Method(name="collect", title="gc.collect(); empty_cache()", code=lambda one: _delete(one) + _COLLECT),
        Method(name="accelerate", title="accelerate release_memory()", code=_accelerate, needs="accelerate"),
        Method(
            name="ipyexperiments",
            title="ipyexperiments",
            code=lambda scenario: _delete(scenario) + "experiment.finish();",
            first=_start_experiment,
            needs="ipyexperiments",
        ),
        Method(name="fastai", title="fastai's way", code=lambda scenario: _delete(scenario) + _FASTAI),
        Method(name="ours", title="nb_oomhelper release()", code=lambda one: _release(one, deep=False), extension=True),
        Method(
            name="deep",
            title="nb_oomhelper release(deep=True)",
            code=lambda one: _release(one, deep=True),
            extension=True,
        ),
    )
}
