"""In the copy: loops of the user's end early, once their rounds are alike, as in a cell that trains for hours."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nb_oomhelper.forecasting.trace import Trace

_ROUNDS, _STEPS, _MOST = 3, 2, 64
_CHEAP = 0.3  # seconds that a loop may take in any case: one that freezes layers must come to its end
_ALIKE = 64 << 10  # bytes


class Loops:
    """Follows loops until nothing new is to be expected of them."""

    def __init__(self, torch: Any, trace: Trace, say: Callable[[str], None]) -> None:
        """Begin to count the steps of optimizers, and let data loaders end early.

        Args:
            torch: The module; it is changed, so this is the copy.
            trace: Knows what is there, and whether autograd goes backward.
            say: Notes that a loop was cut off.
        """
        self._trace, self._say, self._steps = trace, say, 0
        optimizers = sys.modules.get("torch.optim.optimizer")
        if optimizers is not None:
            optimizers.register_optimizer_step_post_hook(self._stepped)
        loader = torch.utils.data.DataLoader
        iterate = loader.__iter__

        def some(one: Any) -> Iterator[Any]:
            one.__dict__.update(num_workers=0, prefetch_factor=None, persistent_workers=False, timeout=0)
            return self.few(iterate(one))

        loader.__iter__ = some

    def _stepped(self, *_: Any) -> None:
        self._steps += 1

    def few(self, items: Iterable[Any]) -> Iterator[Any]:
        """Give items until the rounds are alike: at least three, and two steps of an optimizer where there is one.

        Args:
            items: What a loop goes over.
        """
        trace, begun, steps = self._trace, time.monotonic(), self._steps
        trained, trace.trains = trace.trains, False
        rounds, before = 0, -1
        try:
            for one in items:
                yield one
                rounds, grown, before = rounds + 1, trace.now - before, trace.now
                settled = self._steps - steps >= _STEPS or rounds >= _MOST if trace.trains else True
                if settled and rounds >= _ROUNDS and grown <= _ALIKE and time.monotonic() - begun > _CHEAP:
                    self._say("rounds")
                    break
        finally:
            trace.trains = trace.trains or trained
