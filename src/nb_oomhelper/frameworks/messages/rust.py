"""Rust, which Polars, tokenizers and safetensors are written in: an allocation that fails ends the process."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="rust",
    module="polars",
    rules=(
        Rule("rust.alloc", "host", rf"memory allocation of {SIZE} failed"),
        Rule("rust.alloc", "host", r"handle_alloc_error|rust_oom \("),  # in a backtrace
        Rule("rust.enomem", "host", r"\(os error 12\)"),
    ),
    fields={"requested": rf"memory allocation of ({SIZE})"},
)
