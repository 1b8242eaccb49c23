"""AWS Neuron: the runtime below torch-neuronx, in its log."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="neuron",
    module="torch_neuronx",
    rules=(
        Rule("neuron.device", "other", r"TDRV:\w{1,40}", r"^TDRV:\w{1,40} .{0,20}?Failed to alloc(?:ate)?\b"),
        Rule("neuron.device", "other", r'nrt_\w{1,40} status=4 message="Allocation Failure"'),
    ),
    fields={"requested": rf"Failed to allocate ({SIZE})|Failed to alloc \w{{1,10}} memory: (\d{{1,20}})"},
)
