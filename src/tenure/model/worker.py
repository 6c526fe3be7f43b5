"""The thread that steps an engine while there is work. Started by the server's runtime; knows only the engine."""

from __future__ import annotations

import logging
import threading

from tenure.model.engine import Engine

IDLE_SECONDS = 0.5

logger = logging.getLogger(__name__)


class EngineWorker:
    """One daemon thread. Requests under way when it stops end as cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenure-engine", daemon=True)

    def start(self) -> None:
        """Begin to step; returns when the thread has taken over."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Finish the current step, then end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._engine.worked():
            self._started.set()
            while not self._stopping.is_set():
                try:
                    busy = self._engine.step()
                except Exception:  # the worker's edge: a broken step must not end serving
                    logger.exception("a step of the engine failed")
                    busy = False
                if not busy:
                    self._engine.wait_for_work(IDLE_SECONDS)
