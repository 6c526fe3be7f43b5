"""What Prometheus reads: requests, tokens, latencies, places taken, and what the store knows of versions and nights.

Counters are told by the routes; what lives in the store is read at scrape time. Knows no route.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenure.runtime import Runtime
from tenure.serve.flights import Flights, Landed
from tenure.types import Alias

LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
MAX_NIGHTS = 1000


class Meters:
    """One server's meters, in a registry of their own."""

    def __init__(self, runtime: Runtime, flights: Flights) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        labels = ["method", "route", "status"]
        self.requests = Counter("tenure_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "tenure_request_seconds",
            "From the request to the last byte of its answer.",
            ["route"],
            buckets=LATENCY_SECONDS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "tenure_first_token_seconds",
            "From the request to the first token of its reply.",
            buckets=LATENCY_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "tenure_tokens",
            "Tokens: of prompts, of those from the cache, of replies.",
            ["kind"],
            registry=self.registry,
        )
        self.registry.register(StoreCollector(runtime, flights))

    def replied(self, landed: Landed) -> None:
        """A reply was finished."""
        if landed.first_token_seconds is not None:
            self.first_token.observe(landed.first_token_seconds)
        done = landed.result.completion
        self.counted(num_prompt=done.num_prompt_tokens, num_cached=done.num_cached_tokens, num_reply=len(done.tokens))

    def counted(self, *, num_prompt: int, num_cached: int, num_reply: int) -> None:
        """Count a reply's tokens."""
        self.tokens.labels("prompt").inc(num_prompt)
        self.tokens.labels("cached").inc(num_cached)
        self.tokens.labels("reply").inc(num_reply)

    def exposition(self) -> bytes:
        """All meters in Prometheus' text format."""
        return generate_latest(self.registry)


class StoreCollector(Collector):
    """Reads at scrape time what store and flights know at that moment."""

    def __init__(self, runtime: Runtime, flights: Flights) -> None:
        self._runtime = runtime
        self._flights = flights
        self._own_model = not runtime.config.server.upstream

    def describe(self) -> list[Metric]:
        """Nothing: names are known at scrape time only, and registering must not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        yield from self._load()
        yield from self._versions()
        nights = GaugeMetricFamily("tenure_nights", "Nights by how they ended.", labels=["status"])
        for status, num in sorted(Tally(n.status for n in self._runtime.store.nights.list(limit=MAX_NIGHTS)).items()):
            nights.add_metric([status], num)
        yield nights

    def _load(self) -> Iterator[Metric]:
        yield _gauge(
            "tenure_open", "Requests that have a place: running, waiting or being written down.", self._flights.num_open
        )
        if self._own_model:
            yield _gauge("tenure_running", "Rows of the running batch.", self._runtime.engine.num_running)
            yield _gauge("tenure_queue", "Requests waiting for a place in the batch.", self._runtime.engine.num_waiting)
            yield self._drafts()
        yield _gauge("tenure_ledger_entries", "Entries in the ledger.", self._runtime.store.ledger.head())

    def _drafts(self) -> Metric:
        counters = self._runtime.engine.counters
        drafts = CounterMetricFamily("tenure_drafts", "Drafted tokens, and those that were right.", labels=["kind"])
        drafts.add_metric(["drafted"], counters.num_drafted_tokens)
        drafts.add_metric(["accepted"], counters.num_accepted_tokens)
        return drafts

    def _versions(self) -> Iterator[Metric]:
        registry = self._runtime.store.registry
        info = GaugeMetricFamily("tenure_version_info", "Which version an alias names.", labels=["alias", "digest"])
        for alias, digest in sorted(registry.aliases().items()):
            info.add_metric([alias.value, digest], 1)
        yield info
        moves = sum(move.alias is Alias.CHAMPION for move in registry.history())
        swaps = CounterMetricFamily("tenure_swaps", "Times that the champion changed.")
        swaps.add_metric([], max(0, moves - 1))
        yield swaps


def _gauge(name: str, doc: str, value: float) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, doc)
    gauge.add_metric([], value)
    return gauge


class Metering:
    """An ASGI layer that counts every request by route and status, and times it to its last byte."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app = app
        self.meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            # the template of the path, never the path itself: labels must stay few
            route = getattr(scope.get("route"), "path", "unmatched")
            self.meters.requests.labels(scope["method"], route, str(status)).inc()
            self.meters.seconds.labels(route).observe(time.monotonic() - began)
