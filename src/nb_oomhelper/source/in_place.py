"""Names of what changes an array that is there, and makes no other."""

from __future__ import annotations

METHODS = frozenset({"sort", "partition", "fill", "put", "resize", "itemset", "setflags", "setfield", "byteswap"})
"""Methods of NumPy's arrays."""

FUNCTIONS = frozenset(
    {"shuffle", "copyto", "put", "place", "putmask", "fill_diagonal", "put_along_axis"}
    | {"readinto", "readinto1", "read_direct", "recv_into"}
)
"""Functions, and methods of others, that write into what they are given first."""


def is_in_place(name: str) -> bool:
    """Tell whether a function or a method is PyTorch's for the same in place: `mul_`.

    Args:
        name: Its name.
    """
    return name.endswith("_") and not name.endswith("__")
