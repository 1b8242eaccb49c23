"""Frameworks of which only the messages are known: one file each, its rules as data.

To add one: write `name.py` with its `MESSAGES`, and put that into `ALL`; put real texts of it, and texts that only look
like it, into `tests/frameworks/messages/name.toml`.
"""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages
from nb_oomhelper.frameworks.messages import (
    arrow,
    bitsandbytes,
    catboost,
    ctranslate2,
    cuda,
    datafusion,
    duckdb,
    faiss,
    gdal,
    huggingface,
    java,
    julia,
    killed,
    lightgbm,
    llamacpp,
    mlx,
    mxnet,
    native,
    numba,
    onnxruntime,
    opencv,
    paddle,
    pandas,
    pycuda,
    pyopencl,
    r,
    rmm,
    rust,
    solvers,
    tensorflow,
    tensorrt,
    vllm,
    vtk,
    warp,
    windows,
    xgboost,
)

ALL: tuple[Messages, ...] = tuple(
    one.MESSAGES
    for one in (
        tensorflow,
        numba,
        pycuda,
        pyopencl,
        xgboost,  # it quotes Thrust
        rmm,
        lightgbm,
        catboost,
        onnxruntime,
        tensorrt,
        vllm,
        mxnet,  # its cudaMalloc is ggml's, too
        llamacpp,
        ctranslate2,
        faiss,
        mlx,
        opencv,
        paddle,
        warp,
        bitsandbytes,
        huggingface,
        duckdb,
        datafusion,
        gdal,
        vtk,
        r,
        julia,
        java,
        solvers,
        arrow,
        pandas,
        windows,
        killed,
    )
)
"""Those with words of their own."""
GENERAL: tuple[Messages, ...] = (cuda.MESSAGES, rust.MESSAGES, native.MESSAGES)
"""Words of CUDA, Rust and C++, which programs without rules here pass on: after all others."""
