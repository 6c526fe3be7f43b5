"""Versions made ready to answer: weights and attachments in the engine, the router in memory, a plan per request.

Knows no HTTP, no ledger and no gate. The runtime plans a request with it by day; the night's answerers do so by night.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.modules.skills import READING, skill
from tenure.store.digests import digest_directory, effective_digest, version_digest, weight_set_digest
from tenure.store.objects import Objects
from tenure.types import AttachmentUse, Audience, Message, ModuleRef, Scope, Version

if TYPE_CHECKING:
    from tenure.modules.router import Choice, Router

# Versions that stay loaded though no alias points at them: those of an exam, and some that people ask by digest.
NUM_ASIDE = 8


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version whose parts are loaded. `weights` is the engine's name of its weight set ("" for the bare base)."""

    digest: str
    version: Version
    weights: str
    router: Router | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request will run on, decided before prefill."""

    weights: str
    uses: tuple[AttachmentUse, ...]
    effective: str


def may_use(module: ModuleRef, scope: Scope) -> bool:
    """Whether a module's audience lets this asker in."""
    if module.audience is Audience.PUBLIC:
        return True
    if module.audience is Audience.TENANT:
        return module.owner == scope.tenant
    return module.owner in (f"{scope.tenant}/{scope.principal}", scope.id)


class ServedVersions:
    """Loads versions into one engine, plans requests on them, and lets go of what no version needs any more.

    `reading`: whether the base's skill of reading is used, where it has one. Safe to call from several threads. Loading
    happens in the caller's thread, outside the engine's step.
    """

    def __init__(self, engine: Engine, model: LanguageModel, objects: Objects, *, reading: bool = True) -> None:
        self._engine = engine
        self._model = model
        self._objects = objects
        self._lock = threading.RLock()
        self._ready: dict[str, ServedVersion] = {}
        self._wanted: frozenset[str] = frozenset()
        self._holders: Counter[str] = Counter()
        self._reading = self._kept_reading() if reading else ""

    def _kept_reading(self) -> str:
        """The digest of the base's skill of reading, kept among the objects and loaded; "" for a base without it."""
        directory = skill(READING, self._model)
        if directory is None:
            return ""
        with tempfile.TemporaryDirectory(prefix="tenure-skill-") as folder:
            copy = Path(shutil.copytree(directory, Path(folder) / READING))  # a hub's files are links, objects never
            digest = digest_directory(copy)
            if digest not in self._objects:
                self._objects.put_directory(copy)
        self._engine.add_attachment(digest, self._objects.path(digest))
        return digest

    @property
    def can_read(self) -> bool:
        """Whether the base was taught to answer from notes: then the prompt needs no worked examples of it."""
        return bool(self._reading)

    def load(self, version: Version) -> ServedVersion:
        """Make a version ready; a second call returns the same. Raises TamperedObject or BrokenModel."""
        digest = version_digest(version)
        with self._lock:
            if digest in self._ready:
                self._ready[digest] = self._ready.pop(digest)  # the latest used stands last
                return self._ready[digest]
            self._unload(self._aside()[: -NUM_ASIDE + 1])
            weights = ""
            if version.deltas:
                weights = weight_set_digest(version)
                self._engine.add_weights(weights, [(self._objects.path(d.digest), d.scale) for d in version.deltas])
            for module in version.modules:
                self._engine.add_attachment(module.digest, self._objects.path(module.digest))
            router = self._router(version)
            served = ServedVersion(digest, version, weights, router)
            self._ready[digest] = served
            return served

    def _router(self, version: Version) -> Router | None:
        if not version.router:
            return None
        from tenure.modules.router import Router  # a base without modules starts without it

        router = Router.load(self._objects.path(version.router))
        for name, directory in router.attachments.items():  # stay: a few megabytes, and a request may be on its way
            self._engine.add_attachment(name, directory)
        return router

    @contextmanager
    def held(self, version: Version) -> Iterator[ServedVersion]:
        """A version that is loaded, and stays so within: from routing to the engine nobody takes it away."""
        with self._lock:
            served = self.load(version)
            self._holders[served.digest] += 1
        try:
            yield served
        finally:
            with self._lock:
                self._holders[served.digest] -= 1

    def keep_only(self, digests: Sequence[str]) -> None:
        """Unload every other version that nobody holds. Requests in flight keep what they use until they end."""
        with self._lock:
            self._wanted = frozenset(digests)
            self._unload([digest for digest in self._ready if digest not in digests and not self._holders[digest]])

    def is_loaded(self, digest: str) -> bool:
        """Whether a version's parts are in the engine."""
        return digest in self._ready

    def _aside(self) -> list[str]:
        """The loaded versions that no alias wants and nobody holds, the least lately used first."""
        return [digest for digest in self._ready if digest not in self._wanted and not self._holders[digest]]

    def _unload(self, digests: Sequence[str]) -> None:
        if digests:
            gone = [self._ready[digest] for digest in digests]
            for served in gone:
                del self._ready[served.digest]
            modules = {m.digest for served in self._ready.values() for m in served.version.modules} | {self._reading}
            weights = {served.weights for served in self._ready.values()}
            for served in gone:
                for module in served.version.modules:
                    if module.digest not in modules:
                        self._engine.drop_attachment(module.digest)
                if served.weights and served.weights not in weights:
                    self._engine.drop_weights(served.weights)

    def plan(self, served: ServedVersion, messages: Sequence[Message], scope: Scope | None) -> Plan:
        """The router's choice among the modules that this asker may use (None: all); abstaining is the default."""
        return self.plan_many(served, [messages], scope)[0]

    def plan_many(self, served: ServedVersion, prompts: Sequence[Sequence[Message]], scope: Scope | None) -> list[Plan]:
        """A plan for each prompt, with the router's features computed in one batch."""
        choices = self.choices(served, prompts, scope)
        return [self.planned(served, choice, scope) for choice in choices]

    def choices(
        self, served: ServedVersion, prompts: Sequence[Sequence[Message]], scope: Scope | None
    ) -> list[Choice | None]:
        """The nearest module of each prompt among those that this asker may use, whether it is near enough or not."""
        routed = {m.digest for m in served.version.modules if _lets_in(m, scope) and not m.always_on}
        if served.router is None or not routed:
            return [None] * len(prompts)
        return served.router.choose_many(self._engine, self._model.chat, prompts, allowed=routed)

    def planned(self, served: ServedVersion, choice: Choice | None, scope: Scope | None) -> Plan:
        """What a request with this choice runs on."""
        chosen = {choice.module} if choice is not None and choice.fires else set[str]()
        return self._plan(served, [m for m in served.version.modules if _used(m, chosen) and _lets_in(m, scope)])

    def forced(self, served: ServedVersion, choice: Choice | None) -> Plan:
        """The nearest module on, however far (the first, if none shares a word): how bad side effects can be.

        A version whose modules nothing routes has them all on.
        """
        routed = [m for m in served.version.modules if not m.always_on]
        if served.router is None or not routed:
            return self._plan(served, served.version.modules)
        nearest = {choice.module if choice is not None else routed[0].digest}
        return self._plan(served, [m for m in served.version.modules if _used(m, nearest)])

    def with_notes(self, served: ServedVersion, plan: Plan) -> Plan:
        """The plan of a request whose prompt has notes: the skill of reading is on besides what it runs on."""
        if not self._reading or self._reading in {use.digest for use in plan.uses}:
            return plan
        uses = (*plan.uses, AttachmentUse(self._reading))
        return replace(plan, uses=uses, effective=effective_digest(served.version, uses))

    def bare(self, served: ServedVersion) -> Plan:
        """What a request runs on when the router abstains."""
        return self.planned(served, None, None)

    def _plan(self, served: ServedVersion, modules: Sequence[ModuleRef]) -> Plan:
        uses = tuple(AttachmentUse(m.digest, m.scale) for m in modules)
        return Plan(served.weights, uses, effective_digest(served.version, uses))


def _used(module: ModuleRef, chosen: Collection[str]) -> bool:
    return module.always_on or module.digest in chosen


def _lets_in(module: ModuleRef, scope: Scope | None) -> bool:
    return scope is None or may_use(module, scope)
