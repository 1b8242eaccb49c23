"""SciPy's libraries in C and Fortran, NumPy's LAPACK, and OpenBLAS: what they print before Python's MemoryError."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="scipy",
    module="scipy",
    rules=(
        Rule("scipy.superlu", "host", r"Can't expand MemType \d|Not enough memory to perform factorization"),
        Rule("scipy.qhull", "host", r"qhull error \(\w{1,30}\): insufficient memory"),
        Rule("numpy.lapack", "host", r"\binit_\w{4,8} failed init\b"),  # no room for LAPACK's workspace
        Rule("mkl.scalapack", "host", r"MKL_SCALAPACK_ALLOCATE in \S{1,40} is unsucc"),
        Rule("openblas.memory", "host", r"OpenBLAS .{0,20}Memory allocation still failed"),
    ),
)
