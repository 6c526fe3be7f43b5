"""A reply under way, as its asker holds it: stream it, wait for it, or cancel it.

The engine's step writes into it from one thread; the asker reads from another, or steps the engine itself.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

from tenure.model.requests import Completion, TokenEvent


class Generation:
    """One submitted request. Iterating and `result` block; without a worker thread they step the engine meanwhile."""

    def __init__(self, advance: Callable[[], bool]) -> None:
        """`advance` does a step if nobody else does, and says whether it did."""
        self.cancelled = False
        self._advance = advance
        self._events: queue.SimpleQueue[TokenEvent | Completion] = queue.SimpleQueue()
        self._completion: Completion | None = None

    def put(self, event: TokenEvent) -> None:
        """A new token (called by the engine)."""
        self._events.put(event)

    def finish(self, completion: Completion) -> None:
        """The end (called by the engine once)."""
        self._completion = completion
        self._events.put(completion)

    def cancel(self) -> None:
        """Give up: the row is freed at the next step, and the completion so far says "cancelled"."""
        self.cancelled = True

    @property
    def done(self) -> bool:
        """Whether `result` returns at once."""
        return self._completion is not None

    def __iter__(self) -> Iterator[TokenEvent]:
        """Events as they come, up to the end. One reader only."""
        while True:
            event = self._next()
            if isinstance(event, Completion):
                self._events.put(event)
                return
            yield event

    def result(self) -> Completion:
        """The finished reply; waits for it."""
        while True:
            event = self._next()
            if isinstance(event, Completion):
                self._events.put(event)
                return event

    def _next(self) -> TokenEvent | Completion:
        while True:
            try:
                return self._events.get_nowait()
            except queue.Empty:
                if not self._advance():
                    break
        return self._events.get()
