"""The nouns of the house: frozen dataclasses that travel between packages.

Nothing here computes, loads or stores. Every package may import this file; it imports only the standard library.
Times are seconds since the epoch (UTC, float); digests are lower-case hex sha256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# ---------------------------------------------------------------- who is speaking


class Role(StrEnum):
    """What an API key may do. Roles don't imply each other, except that admin may do everything."""

    CHAT = "chat"
    FEEDBACK = "feedback"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is speaking, as told by the API key (never by the client's `user` field)."""

    tenant: str
    name: str
    roles: frozenset[Role] = frozenset({Role.CHAT, Role.FEEDBACK})

    @property
    def id(self) -> str:
        """`tenant/name`: unique over the installation."""
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose experience this is: a principal, divided further by the client's `user` field (empty: undivided)."""

    tenant: str
    principal: str
    user: str = ""

    @property
    def id(self) -> str:
        """`tenant/principal` or `tenant/principal/user`."""
        return f"{self.tenant}/{self.principal}" + (f"/{self.user}" if self.user else "")


class Audience(StrEnum):
    """For whom a module may be used."""

    PRINCIPAL = "principal"
    TENANT = "tenant"
    PUBLIC = "public"


# ---------------------------------------------------------------- experience


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message in OpenAI's shape. `tool_calls` holds the wire objects as they came."""

    role: str
    content: str = ""
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange, as the ledger keeps it. `messages` is the client's whole prompt, without injected memory.

    `asked` is the digest of the whole request ("" without an idempotency key), `num_prompt_tokens` and
    `num_reply_tokens` what was charged for it: a repeat under its idempotency key must agree with the one, and is told
    the others.
    """

    id: str
    scope: Scope
    session: str
    created_at: float
    messages: tuple[Message, ...]
    reply: Message
    version: str = ""
    effective: str = ""
    memory_ids: tuple[str, ...] = ()
    module_ids: tuple[str, ...] = ()
    learnable: bool = True
    source: str = "chat"
    metadata: Mapping[str, str] = field(default_factory=dict)
    asked: str = ""
    finish_reason: str = "stop"
    num_prompt_tokens: int = 0
    num_reply_tokens: int = 0


class FeedbackKind(StrEnum):
    """What somebody said about a turn."""

    SCORE = "score"
    CORRECTION = "correction"
    COMMENT = "comment"
    DEMONSTRATION = "demonstration"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class Feedback:
    """Attached to a turn or a session, possibly days later. `score` in [-1, 1]; `text` for the worded kinds."""

    id: str
    scope: Scope
    kind: FeedbackKind
    created_at: float
    turn_id: str = ""
    session: str = ""
    score: float | None = None
    text: str = ""
    source: str = "user"


class MemoryKind(StrEnum):
    """What a memory says."""

    FACT = "fact"
    PREFERENCE = "preference"
    INSTRUCTION = "instruction"
    EVENT = "event"
    TURN = "turn"


@dataclass(frozen=True, slots=True)
class Memory:
    """A piece of text that may be put into a prompt, with where it comes from and when it held (bi-temporal)."""

    id: str
    scope: Scope
    kind: MemoryKind
    text: str
    source_ids: tuple[str, ...]
    recorded_at: float
    valid_from: float
    valid_to: float | None = None
    superseded_by: str | None = None
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Episode:
    """What a learner eats.

    `messages` is the student's prompt; `context` is privileged text that only the teacher sees; `target` is the reply
    to learn (empty: the teacher writes it); `answer` is the words of the source that a right reply must hold (empty:
    not checkable). `trust` in [0, 1] weights the loss. `kind` names how it was made.
    """

    id: str
    messages: tuple[Message, ...]
    context: str
    target: str
    source_ids: tuple[str, ...]
    scope: Scope
    audience: Audience = Audience.PRINCIPAL
    trust: float = 1.0
    reward: float | None = None
    kind: str = "question"
    held_out: bool = False
    answer: str = ""


# ---------------------------------------------------------------- artefacts and versions


class ModuleKind(StrEnum):
    """Which kind of attachment a module's directory holds."""

    LORA = "lora"


@dataclass(frozen=True, slots=True)
class ModuleRef:
    """A module as a version lists it. `digest` is the content hash of its directory in the object store."""

    digest: str
    kind: ModuleKind
    audience: Audience
    owner: str
    scale: float = 1.0
    always_on: bool = False

    @property
    def id(self) -> str:
        """A short name for people: the first twelve digits of the digest."""
        return self.digest[:12]


@dataclass(frozen=True, slots=True)
class DeltaRef:
    """A weight delta as a version lists it: low-rank factors (PEFT layout) that are merged into the base in order."""

    digest: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable manifest of content only; its digest (see `store.registry.version_digest`) is its name."""

    base: str
    tokenizer: str
    chat_template: str
    precision: str
    deltas: tuple[DeltaRef, ...] = ()
    modules: tuple[ModuleRef, ...] = ()
    router: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a learner returns: where the artefact lies and how it came about.

    `directory` is a finished directory that `Objects.put_directory` can take; `batch_order` holds the episode ids of
    each realised step, so that a replay repeats them; `losses` is one number a step.
    """

    directory: str
    learner: str
    settings: Mapping[str, Any]
    seed: int
    num_steps: int
    batch_order: tuple[tuple[str, ...], ...]
    episode_ids: tuple[str, ...]
    losses: tuple[float, ...]
    seconds: float
    place: str  # "module" or "delta"


@dataclass(frozen=True, slots=True)
class AttachmentUse:
    """One attachment applied to one request's rows."""

    digest: str
    scale: float = 1.0


# ---------------------------------------------------------------- exams


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A multiple-choice item, scored by the likelihood of each choice after `prompt`. `answer` indexes `choices`."""

    id: str
    family: str
    prompt: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class QuestionItem:
    """A question in chat form, scored by greedy answer: right when any of `accepted` occurs in it as whole words.

    `rejected` strings make an answer wrong whatever else it says. `kind`: paraphrase, reversed ..
    """

    id: str
    family: str
    messages: tuple[Message, ...]
    accepted: tuple[str, ...]
    rejected: tuple[str, ...] = ()
    kind: str = "paraphrase"


@dataclass(frozen=True, slots=True)
class SilenceItem:
    """A prompt on which the answer must stay the anchor's. `kind` is same_entity, neighbour, unrelated ..."""

    id: str
    family: str
    messages: tuple[Message, ...]
    kind: str = "unrelated"


Item = ChoiceItem | QuestionItem | SilenceItem


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One item under one version. `margin`: log-likelihood of the right choice minus the best wrong one."""

    item_id: str
    family: str
    correct: bool
    answer: str
    margin: float = 0.0
    effective: str = ""
    kl: float = 0.0


class SuiteKind(StrEnum):
    """What a suite is for; decides what it is compared with and what it must show."""

    ACQUISITION = "acquisition"
    RETENTION = "retention"
    GENERAL = "general"
    NEAR_MISS = "near-miss"
    DRIFT = "drift"
    GOLDEN = "golden"


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """Paired per-item results of one suite: the same items in the same order for each side.

    A side that the suite's kind isn't compared with is empty (see `gates.examination.SIDES`). `forced` is the version
    with its modules on for every request. `required`, `delta` and `max_broken` are a golden suite's own terms.
    `seconds` and `forced_seconds` are what asking took; no verdict looks at them.
    """

    suite: str
    version: tuple[ItemResult, ...]
    champion: tuple[ItemResult, ...]
    anchor: tuple[ItemResult, ...]
    forced: tuple[ItemResult, ...] = ()
    kind: SuiteKind = SuiteKind.GOLDEN
    required: bool = False
    delta: float | None = None
    max_broken: int | None = None
    seconds: float = field(default=0.0, compare=False)
    forced_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a verdict is computed from."""

    version: str
    champion: str
    anchor: str
    suites: tuple[SuiteReport, ...]
    precision: str
    seconds: float


class Outcome(StrEnum):
    """What a gate says. Only PASSED may be promoted."""

    PASSED = "passed"
    FAILED = "failed"
    INSUFFICIENT = "insufficient evidence"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a verdict. `lower`/`upper` bound `value` one-sidedly at 1 - alpha; `threshold` must be cleared.

    `required`: insufficient evidence here keeps the verdict from passing; else it is reported only. A failed check
    fails the verdict either way.
    """

    suite: str
    name: str
    outcome: Outcome
    value: float
    threshold: float
    num_items: int
    lower: float | None = None
    upper: float | None = None
    delta: float | None = None
    power: float | None = None
    num_fixed: int = 0
    num_broken: int = 0
    reason: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement about exactly one digest."""

    version: str
    champion: str
    anchor: str
    outcome: Outcome
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    alpha: float


class Alias(StrEnum):
    """The only things that move."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    ANCHOR = "anchor"
