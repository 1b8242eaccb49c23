"""MXNet: its pool of GPU memory, and what its kernels ask CUDA for."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="mxnet",
    module="mxnet",
    rules=(
        Rule("mxnet.pool", "cuda", r"pooled_storage_manager\.h:\d{1,6}: cudaMalloc", "out of memory"),
        Rule("mxnet.check", "cuda", r"mshadow/.{0,80}Check failed: \w{1,8} == cudaSuccess", "CUDA: out of memory"),
    ),
)
