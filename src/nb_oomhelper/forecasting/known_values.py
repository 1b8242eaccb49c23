"""Small values that can be told without the device: what comes from the host, what is made of constants, and so on.

A tensor without bytes has none. Where a small one is made of nothing but known values, the same is done with real
tensors on the host beside it. So a loop that ends after a number of steps ends, and `.item()` has an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_MOST = 1 << 16  # elements
_NAME = "_nb_oomhelper_known"
_EITHER = {"aten::logical_or", "aten::bitwise_or", "aten::__or__"}  # true with one that is true
_BOTH = {"aten::logical_and", "aten::bitwise_and", "aten::__and__"}  # not true with one that is not


class KnownValues:
    """What is known of the values of tensors without bytes."""

    def __init__(self, torch: Any, fake: type, tensors: Callable[[Any], Iterable[Any]], *, host: bool) -> None:
        """Begin.

        Args:
            torch: The module.
            fake: The class of tensors without bytes.
            tensors: Gives the tensors in what an operation takes or gives.
            host: It is the host that is followed, whose random whole numbers say which rows a loader takes.
        """
        self._host = host
        self._torch, self._fake, self._tensors = torch, fake, tensors

    def of(self, tensor: Any) -> Any:
        """The same tensor on the host, or None."""
        if not isinstance(tensor, self._fake):
            return tensor if tensor.device.type == "cpu" and tensor.numel() <= _MOST else None
        known, valid = getattr(tensor, _NAME, (None, None))
        return known if valid else None

    def work_out(self, func: Any, args: Any, kwargs: Any, given_back: Any) -> None:
        """Note what is known of what an operation gives.

        Args:
            func, args, kwargs: The operation, and what it is given.
            given_back: What it gives, without bytes.
        """
        results = [one for one in self._tensors(given_back) if isinstance(one, self._fake)]
        given = list(self._tensors((args, kwargs)))
        found = self._found(func, args, kwargs, given, results)
        if found is None:
            if func._schema.is_mutable:
                self._forget(func, args, kwargs)
            return
        shared = {self.of(one).untyped_storage()._cdata: getattr(one, _NAME)[1] for one in given if self._fakes(one)}
        for one, known in zip(results, self._tensors(found), strict=False):
            setattr(one, _NAME, (known, shared.get(known.untyped_storage()._cdata, [True])))

    def _fakes(self, tensor: Any) -> bool:
        return isinstance(tensor, self._fake) and self.of(tensor) is not None

    def _found(self, func: Any, args: Any, kwargs: Any, given: list[Any], results: list[Any]) -> Any:
        if not results or any(one.numel() > _MOST for one in results):
            return None
        if self._torch.Tag.nondeterministic_seeded in func.tags and not (self._host and _whole(results)):
            return None
        if any(self.of(one) is None for one in given):
            return self._by_one(func.name().partition(".")[0], given, results)
        try:
            return func(*self._on_host(args), **self._on_host(kwargs))
        except Exception:  # the host need not have all that a device has
            return None

    def _by_one(self, name: str, given: list[Any], results: list[Any]) -> Any:
        """An operation of two of which one is enough."""
        for one in given:
            known = self.of(one)
            if known is None or known.dtype is not self._torch.bool:
                continue
            if (name in _EITHER and bool(known.all())) or (name in _BOTH and not bool(known.any())):
                return self._torch.full(results[0].shape, name in _EITHER, dtype=results[0].dtype, device="cpu")
        return None

    def _on_host(self, found: Any) -> Any:
        if isinstance(found, self._torch.Tensor):
            return self.of(found)
        if isinstance(found, self._torch.device):
            return self._torch.device("cpu")
        if isinstance(found, list | tuple):
            return type(found)(self._on_host(one) for one in found)
        return {key: self._on_host(one) for key, one in found.items()} if isinstance(found, dict) else found

    def _forget(self, func: Any, args: Any, kwargs: Any) -> None:
        """What is written over is not known any more, nor what shares its memory."""
        named = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | kwargs
        for one in func._schema.arguments:
            if one.alias_info is not None and one.alias_info.is_write:
                for tensor in self._tensors([named.get(one.name)]):
                    getattr(tensor, _NAME, (None, []))[1].clear()


def _whole(results: list[Any]) -> bool:
    return not any(one.is_floating_point() or one.is_complex() for one in results)
