"""The one coordinator: chat, feedback, sleep, promote, rollback, revoke, why.

A request goes one way through `Runtime.chat`: which version -> what to add from memory -> which attachments -> the
engine -> the ledger. Doors (`serve/`, `cli.py`) call this and nothing below it; nothing below knows that it exists.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenure.config import Config
from tenure.context.recall import Context, Noticed, Recall
from tenure.conversation import ChatCall, ChatResult, Replayed, Reply, asked_digest, new_turn_id
from tenure.errors import ConfigError, IdempotencyClash, NotFound
from tenure.gates.attested import attested_verdict
from tenure.model.catalog import resolve
from tenure.model.engine import Engine
from tenure.model.generation import Generation
from tenure.model.language_model import AUTO, LanguageModel, load_language_model
from tenure.model.progress import Progress
from tenure.model.requests import GenerationRequest
from tenure.model.worker import EngineWorker
from tenure.modules.served import Plan, ServedVersion, ServedVersions
from tenure.store.explanation import Explanation, explanation_of
from tenure.store.library import Store
from tenure.types import Alias, Feedback, Message, Principal, Role, Scope, Turn, Verdict

if TYPE_CHECKING:
    from tenure.sleep.answering import House
    from tenure.sleep.cycle import NightResult, NightSettings

__all__ = ["ChatCall", "ChatResult", "Explanation", "ModelCard", "Reply", "Runtime", "Status"]

POLL_SECONDS = 0.1
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A version as `/v1/models` shows it. `names` are the aliases that point at it."""

    id: str
    names: tuple[str, ...]
    digest: str
    created_at: float
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The installation at a glance."""

    model: str
    precision: str
    aliases: Mapping[str, str]
    num_entries: int
    num_versions: int
    night: str
    home: str


class Runtime:
    """One store, one base model with its engine, and what is served on it."""

    def __init__(self, config: Config, store: Store, model: LanguageModel | None, engine: Engine | None) -> None:
        self.config = config
        self.store = store
        self.context = Context(store.memories, config.context)
        self._model = model
        self._engine = engine
        reading = config.context.reading
        self._served = ServedVersions(engine, model, store.objects, reading=reading) if engine and model else None
        self._worker: EngineWorker | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()
        self._refresh_lock = threading.Lock()
        self._generation = -1
        self._aliases: dict[Alias, str] = {}
        if model is not None:
            store.registry.found(model.version())
            self.refresh()

    @classmethod
    def open(
        cls, config: Config, *, worker: bool = False, model: bool = True, progress: Progress | None = None
    ) -> Runtime:
        """Open the store and load the model; in proxy mode (`server.upstream` set) no model is loaded.

        `worker` starts the engine's thread and the watcher of aliases: the server's way. Without it, whoever asks for a
        reply steps the engine. `model=False` is for verbs that only read or move what is stored. Raises ConfigError,
        DownloadError, BrokenModel or StoreError.
        """
        store = Store.open(config.home, group_commit_milliseconds=config.store.group_commit_milliseconds)
        if config.server.upstream or not model:
            return cls(config, store, None, None)
        directory = resolve(config.model.name, config.cache, progress=progress)
        loaded = load_language_model(
            directory, precision=_precision(config, store), threads=config.model.threads, cache=config.cache
        )
        runtime = cls(config, store, loaded, Engine(loaded, config.engine))
        if worker:
            runtime._start()
        return runtime

    def _start(self) -> None:
        self._worker = EngineWorker(self.engine)
        self._worker.start()
        self._watcher = threading.Thread(target=self._watch, name="alias-watcher", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop the threads and close the store."""
        self._closing.set()
        if self._watcher:
            self._watcher.join()
        if self._worker:
            self._worker.stop()
        self.store.close()

    # ------------------------------------------------------------ a request

    def chat(self, call: ChatCall) -> Reply:
        """Start a reply. Raises NotFound (unknown model), ContextTooLong, InputError, BusyError.

        A repeated idempotency key gets the reply that it got before, without another run.
        """
        if call.idempotency_key:
            principal = Principal(call.scope.tenant, call.scope.principal)
            first = self.store.ledger.repeated(principal.id, call.idempotency_key)
            if first is not None:
                return self._repeated(first, call)
        with self.served.held(self.store.registry.version(self._digest_of(call))) as served:
            return self._begin(call, served)

    def _begin(self, call: ChatCall, served: ServedVersion) -> Reply:
        """Recall, plan and submit; the version stays loaded meanwhile, and what is submitted ends on it."""
        recall = self.recall(call)
        plan = self.served.plan(served, call.messages, call.scope)
        if recall.memories:
            plan = self.served.with_notes(served, plan)
        now = time.time()
        turn = Turn(
            id=new_turn_id(),
            scope=call.scope,
            session=call.session or self.session_of(call.scope, call.messages, now),
            created_at=now,
            messages=call.messages,
            reply=Message("assistant"),
            version=served.digest,
            effective=plan.effective,
            memory_ids=tuple(memory.id for memory in recall.memories),
            module_ids=tuple(use.digest for use in plan.uses),
            learnable=call.learnable,
            metadata=dict(call.metadata),
            asked=asked_digest(call) if call.idempotency_key else "",
        )
        return Reply(
            turn,
            call.model,
            self._submit(call, plan, recall),
            lambda text: self.model.chat.parse_tool_calls(text, call.tools) if call.tools else (text, ()),
            lambda kept: self.keep(kept, idempotency_key=call.idempotency_key),
        )

    def _repeated(self, turn_id: str, call: ChatCall) -> Reply:
        turn = self.store.ledger.turn(turn_id)
        same = turn.asked == asked_digest(call) if turn.asked else turn.messages == call.messages
        if not same:
            raise IdempotencyClash(
                f"idempotency key {call.idempotency_key!r} was used for another request; send a fresh key"
            )
        return Replayed(turn, call.model)

    def recall(self, call: ChatCall) -> Recall:
        """The request's messages with what is remembered written in, unless the asker switched memory off."""
        if not call.memory or call.raw_prompt is not None:
            return Recall((), call.messages)
        room_tokens = self._window_tokens() - call.sampling.max_tokens
        return self.context.recall(
            call.scope,
            call.messages,
            count_tokens=lambda messages: self._count_tokens(messages, call.tools),
            room_tokens=room_tokens,
            examples=self._served is None or not self._served.can_read,
        )

    def _submit(self, call: ChatCall, plan: Plan, recall: Recall) -> Generation:
        chat = self.model.chat
        if call.raw_prompt is not None:
            tokens, sampling = chat.encode_text(call.raw_prompt, begin=True), call.sampling
        else:
            tokens = chat.encode(recall.messages, tools=call.tools)
            sampling = replace(call.sampling, stop=(*call.sampling.stop, *chat.stop_texts))
        return self.engine.submit(
            GenerationRequest(tuple(tokens), sampling, plan.weights, plan.uses, call.scope.tenant)
        )

    def keep(self, turn: Turn, *, idempotency_key: str = "") -> str:
        """Write a turn, and what it tells, in one durable step; usable by the very next request."""
        noticed = self.context.notice(turn)
        return self.store.record(turn, noticed.memories, superseded=noticed.superseded, idempotency_key=idempotency_key)

    def feedback(self, feedback: Feedback, *, idempotency_key: str = "") -> str:
        """Attach feedback to a turn of the same scope; a worded correction is remembered at once.

        Raises NotFound when the turn is unknown or belongs to somebody else.
        """
        if feedback.turn_id:
            turn = self.store.ledger.turn(feedback.turn_id)
            if (turn.scope.tenant, turn.scope.principal) != (feedback.scope.tenant, feedback.scope.principal):
                raise NotFound(f"no response {feedback.turn_id!r} of yours; feedback names the id of a reply you got")
        noticed = self.context.notice_feedback(feedback) if feedback.text else Noticed((), ())
        return self.store.record(
            feedback, noticed.memories, superseded=noticed.superseded, idempotency_key=idempotency_key
        )

    def session_of(self, scope: Scope, messages: Sequence[Message], now: float) -> str:
        """The session of a request that names none: the last one whose history it continues, else a new one."""
        last = self.store.ledger.recent_session(scope, now - self.config.server.session_idle_seconds)
        if (
            last is not None
            and tuple(messages[: len(last.messages)]) == last.messages
            and len(messages) > len(last.messages)
        ):
            return last.session
        return f"session_{uuid.uuid4().hex}"

    # ------------------------------------------------------------ which version

    def refresh(self) -> None:
        """Take the aliases as they are now; the champion is loaded before it is switched to."""
        if self._served is None:
            return
        with self._refresh_lock:
            generation = self.store.registry.generation()
            if generation == self._generation:
                return
            aliases = self.store.registry.aliases()
            for digest in set(aliases.values()):
                self.served.load(self.store.registry.version(digest))
            self._aliases, self._generation = aliases, generation
            self.served.keep_only(list(aliases.values()))

    def _watch(self) -> None:
        """Follow the aliases until closing. While a version can't be loaded the last one is served."""
        said = ""
        while not self._closing.wait(POLL_SECONDS):
            try:
                self.refresh()
                said = ""
            except Exception as error:  # the thread's edge: without it no promotion and no rollback would arrive
                if str(error) != said:
                    logger.error("the aliases moved and can't be followed yet (%s): %s", type(error).__name__, error)
                said = str(error)

    def _digest_of(self, call: ChatCall) -> str:
        """The version that a model name means. Failed and unjudged versions answer to admins only; no fallbacks."""
        if self._worker is None:
            self.refresh()
        name = call.model
        if name in ("champion", "tenure"):
            return self._aliases[Alias.CHAMPION]
        if name in ("base", self.config.model.name):
            return self.store.registry.put(self.model.version())
        if name == "anchor":
            return self._aliases[Alias.ANCHOR]
        if name == "challenger" and Alias.CHALLENGER not in self._aliases:
            raise NotFound("there is no challenger now; `tenure versions` lists what there is")
        digest = self._aliases[Alias.CHALLENGER] if name == "challenger" else self._known(name)
        if Role.ADMIN not in call.roles and digest not in self._open_digests():
            raise NotFound(f"no model {name!r}; GET /v1/models lists the ones you may use")
        return digest

    def _known(self, name: str) -> str:
        try:
            return self.store.registry.resolve(name)
        except NotFound:
            raise NotFound(f"no model {name!r}; GET /v1/models lists the ones you may use") from None

    def _open_digests(self) -> set[str]:
        """Versions that anybody may ask: those that were champion once and aren't revoked."""
        revoked = {record.digest for record in self.store.registry.versions() if record.revoked}
        served = {m.digest for m in self.store.registry.history() if m.digest and m.alias is not Alias.CHALLENGER}
        return served - revoked

    def models(self, scope: Scope, roles: frozenset[Role]) -> tuple[ModelCard, ...]:
        """The versions that this asker may use, newest first."""
        names: dict[str, list[str]] = {}
        for alias, digest in self.store.registry.aliases().items():
            names.setdefault(digest, []).append(alias.value)
        if self._model is not None:
            names.setdefault(self.store.registry.put(self._model.version()), []).append("base")
        usable = self._open_digests()
        return tuple(
            ModelCard(
                record.digest, tuple(names.get(record.digest, ())), record.digest, record.created_at, record.parent
            )
            for record in reversed(self.store.registry.versions())
            if record.digest in usable or (Role.ADMIN in roles and not record.revoked)
        )

    # ------------------------------------------------------------ the night and what follows

    def sleep(
        self, settings: NightSettings | None = None, *, night_id: str | None = None, progress: Progress | None = None
    ) -> NightResult:
        """Run a night in this process: the champion is touched only by a passed verdict."""
        from tenure.sleep.cycle import NightSettings, night  # a server that never sleeps never loads the night

        settings = settings or NightSettings.of(self.config)
        return night(self.house(), settings, night_id=night_id, progress=progress)

    def house(self) -> House:
        """The parts that a night or an exam works with."""
        from tenure.sleep.answering import House

        return House(self.config, self.store, self.model, self.engine, self.served)

    def gate(self, digest: str, *, progress: Progress | None = None) -> Verdict:
        """Examine a version against champion and anchor, attest the verdict and return it."""
        from tenure.sleep.examiner import examine_version

        return examine_version(self.house(), self.store.registry.resolve(digest), progress=progress)

    def promote(self, digest: str) -> str:
        """Make a version champion by its stored verdict. Raises Refused when there is no passed one for it."""
        digest = self.store.registry.resolve(digest)
        self.store.registry.promote(digest, attested_verdict(self.store.registry, digest))
        self.refresh()
        return digest

    def rollback(self) -> str:
        """Back to the champion before this one; returns its digest."""
        digest = self.store.registry.rollback()
        self.refresh()
        return digest

    def revoke(self, digest: str, *, reason: str) -> str:
        """Take a version out of service for good, at once; returns the champion after it."""
        champion = self.store.registry.revoke(self.store.registry.resolve(digest), reason=reason)
        self.refresh()
        return champion

    def why(self, turn_id: str, scope: Scope, roles: frozenset[Role]) -> Explanation:
        """Version, memories, modules and the turns behind a reply; NotFound for somebody else's reply."""
        turn = self.store.ledger.turn(turn_id)
        if Role.ADMIN not in roles and (turn.scope.tenant, turn.scope.principal) != (scope.tenant, scope.principal):
            raise NotFound(f"no response {turn_id!r} of yours")
        return explanation_of(self.store, turn)

    def status(self) -> Status:
        """What is served, how much is kept, and whether a night is running."""
        registry = self.store.registry
        running = self.store.nights.running()
        aliases = {alias.value: digest for alias, digest in registry.aliases().items()}
        return Status(
            model=self.config.server.upstream or self.config.model.name,
            precision=_precision(self.config, self.store),
            aliases=aliases,
            num_entries=self.store.ledger.head(),
            num_versions=len(registry.versions()),
            night=running.id if running else "",
            home=str(self.config.home),
        )

    # ------------------------------------------------------------ parts

    @property
    def engine(self) -> Engine:
        """The engine. Raises ConfigError in proxy mode."""
        if self._engine is None:
            raise ConfigError("proxy mode has no model of its own; unset server.upstream to serve and train one")
        return self._engine

    @property
    def model(self) -> LanguageModel:
        """The base model. Raises ConfigError in proxy mode."""
        if self._model is None:
            raise ConfigError("proxy mode has no model of its own; unset server.upstream to serve and train one")
        return self._model

    @property
    def served(self) -> ServedVersions:
        """Versions made ready. Raises ConfigError in proxy mode."""
        if self._served is None:
            raise ConfigError("proxy mode has no model of its own; unset server.upstream to serve and train one")
        return self._served

    def _count_tokens(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> int:
        if self._model is None:  # an upstream's tokenizer is unknown: four characters a token, as a rule of thumb
            return sum(len(message.content) // 4 + 4 for message in messages)
        return len(self._model.chat.encode(messages, tools=tools))

    def _window_tokens(self) -> int:
        return self._engine.max_context_tokens if self._engine else self.config.engine.max_context_tokens


def _precision(config: Config, store: Store) -> str:
    """What to load the base at: as configured, and for "auto" as the home was founded ("auto" for a new home)."""
    anchor = store.registry.aliases().get(Alias.ANCHOR)
    if config.model.precision != AUTO or anchor is None:
        return config.model.precision
    return store.registry.version(anchor).precision
