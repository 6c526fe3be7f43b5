"""The bridge between asyncio and the synchronous runtime: one thread for each request in flight, bounded.

A flight starts a reply in a worker thread, hands its tokens to the event loop, and can be cancelled from there at any
moment, before the runtime has answered as well. Knows no HTTP; called by `chat.py`, `completions.py` and `sse.py`.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tenure.conversation import ChatResult, Reply
from tenure.errors import BusyError, IdempotencyClash
from tenure.model.requests import TokenEvent
from tenure.serve.refusals import Stopping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Landed:
    """A reply is finished and its turn is durable."""

    result: ChatResult
    events: tuple[TokenEvent, ...]
    first_token_seconds: float | None
    seconds: float


class Flights:
    """All requests in flight. `capacity` = rows of the running batch + places in the queue."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._pool = ThreadPoolExecutor(capacity, thread_name_prefix="flight")
        self._lock = threading.Lock()
        self._taken: set[Seat] = set()
        self._flying: weakref.WeakSet[Flight] = weakref.WeakSet()
        self.last_launch = time.monotonic()
        self.num_launched = 0
        self._closed = False

    @property
    def num_open(self) -> int:
        """Requests that are waiting or being answered."""
        return len(self._taken)

    def seat(self, once: str = "") -> Seat:
        """Take a place. `once` names what must not be under way twice (an idempotency key), "" nothing.

        Raises BusyError when every place is taken, IdempotencyClash when `once` is under way, Stopping after `close`.
        """
        with self._lock:
            if self._closed:
                raise Stopping("the server is stopping; ask again")
            if len(self._taken) >= self.capacity:
                raise BusyError(f"all {self.capacity} places in batch and queue are taken; try again in a second")
            if once and any(seat.once == once for seat in self._taken):
                raise IdempotencyClash("a request with this idempotency key is still being answered; wait for it")
            seat = Seat(self, once)
            self._taken.add(seat)
            self.last_launch = time.monotonic()
            self.num_launched += 1
        return seat

    def launch(self, start: Callable[[], Reply], *, streaming: bool, once: str = "") -> Flight:
        """Begin a request in a thread of its own. Raises BusyError and IdempotencyClash as `seat` does."""
        flight = Flight(self.seat(once), start, streaming=streaming)
        self._flying.add(flight)
        self._pool.submit(flight.fly)
        return flight

    def leave(self, seat: Seat) -> None:
        """Give a place back."""
        with self._lock:
            self._taken.discard(seat)

    def close(self) -> None:
        """Cancel what still flies and wait for its threads; further requests are turned away."""
        with self._lock:
            self._closed = True
        for flight in list(self._flying):
            flight.cancel()
        self._pool.shutdown(wait=True)


class Seat:
    """One request's place; give it back with `leave`, which may be called again."""

    def __init__(self, flights: Flights, once: str) -> None:
        self.once = once
        self._flights = flights

    def leave(self) -> None:
        """The request is over."""
        self._flights.leave(self)


class Flight:
    """One request's way through the runtime. Create and await it on one event loop; `fly` runs in a thread."""

    def __init__(self, seat: Seat, start: Callable[[], Reply], *, streaming: bool) -> None:
        self._seat = seat
        self._start = start
        self._streaming = streaming
        self._loop = asyncio.get_running_loop()
        self._began: asyncio.Future[Reply] = self._loop.create_future()
        self._ended: asyncio.Future[Landed] = self._loop.create_future()
        self._tokens: asyncio.Queue[TokenEvent | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._reply: Reply | None = None
        self._cancelled = False

    async def reply(self) -> Reply:
        """The reply that has begun: its id, version and session are known. Raises what the runtime refused it with."""
        return await asyncio.shield(self._began)

    async def landed(self) -> Landed:
        """The finished reply, durable in the ledger."""
        return await asyncio.shield(self._ended)

    async def tokens(self) -> AsyncIterator[TokenEvent]:
        """Tokens as they come (streaming flights only); ends also when the flight fails, which `landed` then tells."""
        while (event := await self._tokens.get()) is not None:
            yield event

    def cancel(self) -> None:
        """Free the request's place. Safe at any time, from any thread, more than once."""
        with self._lock:
            self._cancelled = True
            reply = self._reply
        if reply is not None:
            reply.cancel()

    def fly(self) -> None:
        """The thread's part: start, pass tokens on, wait until the turn is durable."""
        try:
            landed = self._journey()
        except BaseException as error:  # the thread's edge: the waiting request gets it
            self._seat.leave()
            self._tell(self._fail, error)
        else:
            self._seat.leave()
            self._tell(self._end, landed)

    def _journey(self) -> Landed:
        began = time.monotonic()
        first: float | None = None
        events: list[TokenEvent] = []
        reply = self._start()
        with self._lock:
            self._reply = reply
            cancelled = self._cancelled
        if cancelled:
            reply.cancel()
        self._tell(self._begin, reply)
        for event in reply:
            if first is None:
                first = time.monotonic() - began
            events.append(event)
            if self._streaming:
                self._tell(self._tokens.put_nowait, event)
        result = reply.result()
        return Landed(result, tuple(events), first, time.monotonic() - began)

    def _begin(self, reply: Reply) -> None:
        self._began.set_result(reply)

    def _end(self, landed: Landed) -> None:
        self._tokens.put_nowait(None)
        self._ended.set_result(landed)

    def _fail(self, error: BaseException) -> None:
        self._tokens.put_nowait(None)
        for future in (self._began, self._ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: nobody may be waiting any more

    def _tell(self, action: Callable[[T], None], value: T) -> None:
        try:
            self._loop.call_soon_threadsafe(action, value)
        except RuntimeError:
            self.cancel()  # the loop is closed: the server is gone, and nobody waits for this reply
