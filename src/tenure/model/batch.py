"""The running batch: rows join and leave between steps; a step is one forward call for each weight set among them.

Decoding rows give one token each, or more where their drafts were right; rows that still read their prompt read a
chunk. All are packed into the same call. Knows no threads and no HTTP; called by the engine, which sees to it that one
step runs at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenure.config import EngineConfig
from tenure.model.attachments import Shelf, Used
from tenure.model.cache import BLOCK_TOKENS, PrefixCache, Slots
from tenure.model.chat import TextStream
from tenure.model.drafting import Drafter
from tenure.model.generation import Generation
from tenure.model.network import ServedNetwork
from tenure.model.nn.plan import Plan
from tenure.model.nn.row_attention import Chunk, SlotAttention
from tenure.model.requests import Completion, FinishReason, GenerationRequest, TokenEvent
from tenure.model.sampling import Choice, Sampler, StopText
from tenure.model.weight_sets import WeightSet, WeightSets

# When nobody decodes, nobody is kept waiting: prompts are read in larger steps.
PREFILL_TOKENS_UNDISTURBED = 1024
# With few rows a product waits for its weight and drafted rows cost little; with eight they cost what they give.
DRAFTING_ROWS = 2


@dataclass(slots=True, eq=False)
class Row:
    """One request on its way. `tokens` is prompt and reply; the first `num_kept` have keys and values in `slot`.

    `names` are those of the prompt's blocks that a prefix cache may hold; `root` is what they are hashed from. `draft`
    are tokens of this step that may come next.
    """

    request: GenerationRequest
    generation: Generation
    weight_set: WeightSet
    used: Used
    sampler: Sampler
    stream: TextStream
    stops: StopText
    prefixes: PrefixCache
    root: bytes
    names: tuple[bytes, ...]
    drafter: Drafter
    draft: tuple[int, ...] = ()
    slot: int = -1
    num_kept: int = 0
    num_cached: int = 0
    tokens: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(self.request.tokens)

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.tokens)

    @property
    def num_pending(self) -> int:
        """Tokens whose keys and values are still to be computed; one when decoding."""
        return len(self.tokens) - self.num_kept

    @property
    def replying(self) -> bool:
        """Whether what is pending continues the reply; the last token of a prompt doesn't."""
        return self.num_kept >= self.num_prompt

    @property
    def num_left(self) -> int:
        """Tokens that the reply may still have."""
        return self.num_prompt + self.request.sampling.max_tokens - len(self.tokens)


@dataclass(slots=True)
class Counters:
    """What the engine has done so far."""

    num_steps: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    num_finished: int = 0
    num_failed: int = 0


class RunningBatch:
    """The rows, their slots, and the step."""

    def __init__(
        self,
        network: ServedNetwork,
        shelf: Shelf,
        weight_sets: WeightSets,
        settings: EngineConfig,
        stop_tokens: frozenset[int],
        context_tokens: int,
    ) -> None:
        self.rows: list[Row] = []
        self.counters = Counters()
        self._network = network
        self._shelf = shelf
        self._weight_sets = weight_sets
        # Whole blocks, so that every block of a prompt is attended alike (see nn/row_attention.py).
        self._chunk_tokens = max(1, settings.prefill_chunk_tokens // BLOCK_TOKENS) * BLOCK_TOKENS
        self._parts = network.compiles  # prompts and replies are different products
        self._stop_tokens = stop_tokens
        self._slots = Slots(
            num_layers=network.num_layers,
            num_slots=settings.max_batch,
            length=context_tokens,
            num_heads=network.num_kv_heads,
            head_dim=network.head_dim,
            dtype=network.dtype,
        )

    def step(self, waiting: deque[Row]) -> bool:
        """Let rows leave and join, then run one token or chunk of each. False when there was nothing to do."""
        cancelled = [row for row in self.rows if row.generation.cancelled]
        for row in cancelled:
            self._finish(row, "cancelled")
        joined = self._admit(waiting)
        if not self.rows:
            return bool(cancelled) or joined
        self.counters.num_steps += 1
        for weight_set in dict.fromkeys(row.weight_set for row in self.rows):
            self._run([row for row in self.rows if row.weight_set is weight_set])
        return True

    def _admit(self, waiting: deque[Row]) -> bool:
        moved, held = False, list[Row]()
        for _ in range(len(waiting)):  # others may append meanwhile; they are for the next step
            row = waiting.popleft()
            if row.generation.cancelled:
                self._finish(row, "cancelled")
            elif self._slots.num_free and not self._follows(row):
                row.slot = self._slots.take()
                self._reuse(row)
                self.rows.append(row)
            else:
                held.append(row)
                continue
            moved = True
        waiting.extendleft(reversed(held))
        return moved

    def _follows(self, row: Row) -> bool:
        """Whether a prompt being read now begins like this one: then its blocks are worth waiting for."""
        num_found = -1
        for leader in self.rows:
            if leader.num_kept < leader.num_prompt and leader.prefixes is row.prefixes and row.prefixes.max_bytes > 0:
                if num_found < 0:
                    num_found = len(row.prefixes.find(row.names))
                if leader.names[: num_found + 1] == row.names[: num_found + 1] and len(row.names) > num_found:
                    return True
        return False

    def _reuse(self, row: Row) -> None:
        blocks = row.prefixes.find(row.names)
        if blocks:
            prefix = torch.cat(blocks, dim=2)
            self._slots.copy_in(row.slot, 0, prefix)
            row.num_kept = row.num_cached = prefix.shape[2]
        self.counters.num_cached_tokens += row.num_cached

    def _run(self, rows: Sequence[Row]) -> None:
        """Rows of the same weight set, in one forward call, or in two where prompts and replies are different products.

        An error costs only the rows that it belongs to.
        """
        chosen = self._choose(rows)
        apart = [[c for c in chosen if c[0].replying is kind] for kind in (True, False)] if self._parts else [chosen]
        for call in apart:
            try:
                if call:
                    self._advance(call)
            except Exception as error:  # the worker's edge: whatever a row provokes, the others go on
                if len(call) == 1:
                    self._finish(call[0][0], "error", error=f"{type(error).__name__}: {error}")
                else:
                    for row, _ in call:
                        self._run([row])

    def _choose(self, rows: Sequence[Row]) -> list[tuple[Row, int]]:
        """(row, tokens) of this step: replies in the order of their slots, then prompts as they came.

        A prompt gets its whole chunk or nothing, so that where its chunks end doesn't depend on its neighbours.
        """
        single = (row for row in rows if row.num_pending == 1)
        decoding = sorted(single, key=lambda row: (not row.replying, row.slot))
        room = self._chunk_tokens
        room = room if decoding else max(room, PREFILL_TOKENS_UNDISTURBED)
        for row in decoding if len(decoding) <= DRAFTING_ROWS else ():
            row.draft = row.drafter.draft(row.num_left - 1) if row.replying else ()
        chosen = [(row, 1 + len(row.draft)) for row in decoding]
        num_prefill = 0
        for row in rows:
            if row.num_pending > 1:
                count = min(row.num_pending, self._chunk_tokens)
                if num_prefill and num_prefill + count > room:
                    break
                chosen.append((row, count))
                num_prefill += count
        return chosen

    def _advance(self, chosen: Sequence[tuple[Row, int]]) -> None:
        tokens: list[int] = []
        positions: list[int] = []
        decoding: list[Chunk] = []
        chunks: list[Chunk] = []
        ready: list[int] = []  # where a next token is to be chosen
        for row, count in chosen:
            start, offset = row.num_kept, len(tokens)
            if row.num_pending == 1:  # its token and its draft's are attended one by one, as they would be in turn
                decoding += [Chunk(row.slot, start + i, 1, offset + i) for i in range(count)]
                ready += range(offset, offset + count)
                tokens += (row.tokens[-1], *row.draft)
            else:
                chunks.append(Chunk(row.slot, start, count, offset))
                tokens += row.tokens[start : start + count]
                if row.num_pending == count:
                    ready.append(offset + count - 1)
            positions += range(start, start + count)
        plan = Plan(
            SlotAttention(self._slots, decoding, chunks),
            chosen[0][0].weight_set.weights,
            self._shelf.terms([(row.used, count) for row, count in chosen]),
            replying=all(row.replying for row, _ in chosen),
        )
        hidden_NC = self._network.hidden(torch.tensor(tokens), torch.tensor(positions), plan)
        logits_nV = self._network.logits(hidden_NC, torch.tensor(ready, dtype=torch.long), plan) if ready else None
        speaking = [row for row, count in chosen if row.num_pending in (1, count)]
        for row, count in chosen:
            if row.num_pending > 1:
                self._count(row, count)
        if logits_nV is not None:
            self._speak(speaking, logits_nV)

    def _count(self, row: Row, count: int) -> None:
        before, row.num_kept = row.num_kept, row.num_kept + count
        self.counters.num_prompt_tokens += max(0, min(row.num_kept, row.num_prompt) - before)
        if before < row.num_prompt <= row.num_kept:
            row.prefixes.keep(row.root, row.tokens[: row.num_prompt], self._slots, row.slot)

    def _speak(self, rows: Sequence[Row], logits_nV: Tensor) -> None:
        """Every row that has read all it holds says what comes next; its logits stand together, one for each draft."""
        largest_n = logits_nV.argmax(dim=-1).tolist()
        place = 0
        for row in rows:
            draft, row.draft = row.draft, ()
            after = place + 1 + len(draft)
            num_right = self._say(row, draft, logits_nV[place:after], largest_n[place:after])
            place = after
            row.drafter.fared(len(draft), num_right)
            self.counters.num_drafted_tokens += len(draft)
            self.counters.num_accepted_tokens += num_right

    def _say(self, row: Row, draft: Sequence[int], logits_nV: Tensor, largest_n: Sequence[int]) -> int:
        """Choose a row's next token, and further ones as long as they are what it drafted; returns how many were."""
        for i in range(1 + len(draft)):
            if row.num_pending == 1:
                self._count(row, 1)  # the token that was read at this place is the row's own
            try:
                choice = self._chosen(row, logits_nV[i], largest_n[i])
            except Exception as error:  # a grammar that gave up or logits that are no numbers: this row's trouble
                self._finish(row, "error", error=f"{type(error).__name__}: {error}")
                return i
            self._take(row, choice)
            if row.slot < 0 or i == len(draft) or choice.token != draft[i]:
                return i
        return len(draft)

    def _chosen(self, row: Row, logits_V: Tensor, largest: int) -> Choice:
        return Choice(largest) if row.sampler.plain else row.sampler.choose(logits_V)

    def _take(self, row: Row, choice: Choice) -> None:
        """Add a token to its row, show it, and end the reply where it ends."""
        if choice.token in self._stop_tokens:
            self._finish(row, "stop", last=choice)
            return
        self.counters.num_generated_tokens += 1
        row.tokens.append(choice.token)
        row.drafter.push(choice.token)
        if choice.logprob is not None:
            row.logprobs.append(choice.logprob)
            row.top.append(choice.top)
        text = row.stops.push(row.stream.push(choice.token))
        if row.stops.found:
            self._show(row, choice, text)
            self._finish(row, "stop")
        elif row.sampler.complete or len(row.tokens) - row.num_prompt >= row.request.sampling.max_tokens:
            text += self._held_back(row)
            self._show(row, choice, text)
            self._finish(row, "stop" if row.sampler.complete or row.stops.found else "length")
        else:
            self._show(row, choice, text)

    def _held_back(self, row: Row) -> str:
        text = row.stops.push(row.stream.flush())
        return text if row.stops.found else text + row.stops.flush()

    def _show(self, row: Row, choice: Choice, text: str) -> None:
        row.text.append(text)
        row.generation.put(TokenEvent(choice.token, text, choice.logprob, choice.top))

    def _finish(self, row: Row, reason: FinishReason, *, last: Choice | None = None, error: str = "") -> None:
        if last is not None:
            held = self._held_back(row)
            if held:
                self._show(row, Choice(last.token), held)
        if row.slot >= 0:
            if reason != "error":
                row.prefixes.keep(row.root, row.tokens[: row.num_kept], self._slots, row.slot)
            self._slots.give_back(row.slot)
            row.slot = -1
            self.rows.remove(row)
        self._weight_sets.give_back(row.weight_set)
        self.counters.num_finished += 1
        self.counters.num_failed += reason == "error"
        row.generation.finish(
            Completion(
                tokens=tuple(row.tokens[row.num_prompt :]),
                text="".join(row.text),
                finish_reason=reason,
                num_prompt_tokens=row.num_prompt,
                num_cached_tokens=row.num_cached,
                logprobs=tuple(row.logprobs),
                top=tuple(row.top),
                error=error,
            )
        )

    def cancel_all(self, waiting: deque[Row]) -> None:
        """End every row and every waiting request as cancelled."""
        for row in [*self.rows, *waiting]:
            self._finish(row, "cancelled")
        waiting.clear()
