"""transformers and accelerate: refusals for lack of room, before anything was allocated, and a search for a size."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="pytorch",  # whose memory it is about
    module="accelerate",
    rules=(
        # the errors of each size were caught
        Rule("hf.no_batch", "cuda", r"No executable batch size found", probable=True),
        # a device_map that somebody wrote himself brings the same
        Rule(
            "hf.dispatch", "cuda", r"(?:[Ss]ome modules|modules) are dispatched on the CPU or the disk", probable=True
        ),
        Rule("hf.offload_folder", "cuda", r"pass along an `?offload_folder", probable=True),
        Rule("hf.offload_folder", "cuda", r"device_map`? had weights offloaded to the disk", probable=True),
        Rule("hf.offload_folder", "cuda", r"need an `?offload_dir`? to dispatch this model", probable=True),
        Rule("hf.offload_folder", "cuda", r"trying to offload the whole model to the disk", probable=True),
    ),
)
