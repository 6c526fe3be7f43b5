"""A lock that is handed on in the order of asking.

The engine's worker takes the network again right after each step; with an ordinary lock a router that wants hidden
states in between could wait for many steps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turnstile:
    """First come, first served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()
        self._taken = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn, and pass it on when leaving. Not reentrant."""
        ticket = None
        with self._lock:
            if self._taken:
                ticket = threading.Event()
                self._queue.append(ticket)
            self._taken = True
        if ticket is not None:
            ticket.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._queue:
                    self._queue.popleft().set()
                else:
                    self._taken = False
