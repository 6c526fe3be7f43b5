"""The server: routes, layers and lifetime put together, and run under uvicorn.

`build_app` makes the ASGI application over an open runtime; `run_server` opens the runtime, listens and serves until a
signal comes. Called by `tenure serve`, by benchmarks and tests.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import tenure
from tenure.config import Config, ServerConfig
from tenure.errors import ConfigError
from tenure.model.catalog import Progress
from tenure.runtime import Runtime
from tenure.serve import admin, chat, completions, feedback, health, models, nights
from tenure.serve.access import check_access, is_loopback
from tenure.serve.door import Door
from tenure.serve.flights import Flights
from tenure.serve.limits import BodyLimit
from tenure.serve.metrics import Metering, Meters
from tenure.serve.nightwatch import NightWatch
from tenure.serve.refusals import install_refusals
from tenure.serve.upstream import Upstream

log = logging.getLogger("tenure.serve")

ROUTES = (chat, completions, models, feedback, nights, admin, health)
BACKLOG = 2048
SHUTDOWN_SECONDS = 30


def build_app(runtime: Runtime) -> FastAPI:
    """The application over an open runtime, which stays the caller's to close.

    Raises ConfigError when keys are off where others can reach the server, or `night.at` is no time of day.
    """
    config = runtime.config
    check_access(config.server)
    flights = Flights(config.engine.max_batch + config.server.max_queue)
    meters = Meters(runtime, flights)
    upstream = Upstream(runtime, flights, meters, config.server) if config.server.upstream else None
    watch = NightWatch(config, runtime.store, flights)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if upstream is None:
            watch.start()
        yield
        watch.stop()
        flights.close()
        if upstream is not None:
            await upstream.close()

    app = FastAPI(
        title="Tenure",
        version=tenure.__version__,
        summary="A language model that learns on the job, behind OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,  # the documentation pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.door = Door(config, runtime, flights, meters, watch, upstream)
    for module in ROUTES:
        app.include_router(module.router)
    install_refusals(app)
    app.add_middleware(BodyLimit, max_bytes=config.server.max_body_bytes)
    app.add_middleware(Metering, meters=meters)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema as it is true here: no 422 (a request that can't be used is a 400), and no keys where they are off."""
    if app.openapi_schema is None:
        keys = app.state.door.config.server.keys
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                if not keys:
                    operation.pop("security", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        if not keys:
            schema["components"].pop("securitySchemes", None)
        app.openapi_schema = schema
    return app.openapi_schema


def listen(server: ServerConfig) -> socket.socket:
    """A listening socket. Raises ConfigError when the address can't be had."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    # asyncio sends small packets at once (no Nagle delay) only on sockets that say they are TCP
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((server.host, server.port))
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConfigError(
            f"can't listen on {server.host}:{server.port}: {error}; free the port or set server.port (0: any free one)"
        ) from error
    return sock


def run_server(
    config: Config, *, progress: Progress | None = None, announce: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. `announce` is told the base URL once requests are answered.

    Logs go to stderr unless logging is set up already.

    Raises ConfigError (keys, port, upstream), DownloadError, BrokenModel or StoreError before it listens in earnest.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request to the upstream
    check_access(config.server)
    sock = listen(config.server)
    try:
        runtime = Runtime.open(config, worker=True, progress=progress)
        try:
            _serve(build_app(runtime), runtime, sock, announce)
        finally:
            runtime.close()
    finally:
        sock.close()


def _serve(app: FastAPI, runtime: Runtime, sock: socket.socket, announce: Callable[[str], None] | None) -> None:
    host, port = sock.getsockname()[:2]
    url = f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
    server = Server(server_settings(app), on_started=lambda: _announce(runtime, url, announce))
    server.run(sockets=[sock])


def _announce(runtime: Runtime, url: str, announce: Callable[[str], None] | None) -> None:
    server = runtime.config.server
    if server.keys and not runtime.store.keys.list():
        log.warning("keys are on and there is none yet: make one with `tenure keys create`")
    if not is_loopback(server.host):
        log.warning("listening on %s without TLS; put a proxy that has it in front", server.host)
    log.info("serving on %s", url)
    if announce is not None:
        announce(url)


def server_settings(app: FastAPI) -> uvicorn.Config:
    """How uvicorn runs the application; logging is left to whoever calls."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=75,
        lifespan="on",
        server_header=False,
    )


class Server(uvicorn.Server):
    """uvicorn's server, which says when it has started and returns from `run` after a signal.

    uvicorn itself would raise the signal again on its way out, and the runtime would never be closed.
    """

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets=sockets)
        if self.started and self._on_started is not None:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM while serving, and consider them done with."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()
