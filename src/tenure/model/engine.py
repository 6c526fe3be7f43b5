"""The engine: one base model that answers many requests at once, in process.

Requests join and leave a running batch between steps; rows with different adapters share each step; versions that
differ in weights live side by side. Knows nothing of chat, memory or versions; called by the runtime, gates and the
night. Thread-safe: submit, score and every add or drop may come from any thread while a worker steps.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tenure.config import EngineConfig
from tenure.errors import ContextTooLong, InputError, ModelError
from tenure.model.attachments import Shelf
from tenure.model.batch import Counters, Row, RunningBatch
from tenure.model.cache import PrefixCache, block_names, prefix_root
from tenure.model.chat import TextStream
from tenure.model.constraint import Grammars
from tenure.model.drafting import Drafter
from tenure.model.generation import Generation
from tenure.model.language_model import LanguageModel
from tenure.model.network import ServedNetwork
from tenure.model.progress import Progress, silent
from tenure.model.requests import Completion, GenerationRequest, ScoreRequest, ScoreResult
from tenure.model.sampling import Sampler, StopText, check_sampling
from tenure.model.scoring import Item, Scorer, item_of
from tenure.model.turnstile import Turnstile
from tenure.model.weight_sets import WeightSet, WeightSets
from tenure.types import AttachmentUse

__all__ = ["Engine", "Generation"]

BATCH_TOKENS = 1024


class Engine:
    """See the module. `settings` is [engine] of the configuration; precision is the loaded model's."""

    def __init__(self, model: LanguageModel, settings: EngineConfig) -> None:
        self.settings = settings
        self.max_context_tokens = min(settings.max_context_tokens, model.max_context_tokens)
        self._model = model
        self._network = ServedNetwork(model, compiled=settings.compile_products)
        self._shelf = Shelf(self._network.layers, self._network.dtype)
        self._weight_sets = WeightSets(self._network.layers, self._network.packing, settings.weight_sets_bytes)
        self._batch = RunningBatch(
            self._network, self._shelf, self._weight_sets, settings, model.chat.stop_tokens, self.max_context_tokens
        )
        self._turnstile = Turnstile()
        self._scorer = Scorer(self._network, self._shelf, self._turnstile)
        self._grammars = Grammars(model.chat, self._network.vocab_size)
        self._prefixes = PrefixCache(settings.prefix_cache_bytes)
        self._waiting: deque[Row] = deque()
        self._work = threading.Condition()
        self._worker_runs = False

    # ------------------------------------------------------------ versions

    def add_weights(self, weight_set: str, deltas: Sequence[tuple[Path, float]]) -> None:
        """Merge weight deltas (PEFT LoRA directory, scale) in order into a copy of the layers that they touch.

        Raises BrokenModel for a delta that doesn't fit, ModelError when the memory limit can't be kept.
        """
        self._weight_sets.add(weight_set, deltas)

    def drop_weights(self, weight_set: str) -> None:
        """New requests can't name the set any more; those under way finish on it."""
        self._weight_sets.drop(weight_set)

    def add_attachment(self, digest: str, directory: Path) -> None:
        """Load a PEFT LoRA directory under its digest. Raises BrokenModel when it doesn't fit the base."""
        self._shelf.add(digest, directory)

    def drop_attachment(self, digest: str) -> None:
        """New requests can't use the adapter any more; those under way finish with it."""
        self._shelf.drop(digest)

    @property
    def attachments(self) -> frozenset[str]:
        """Digests of the loaded adapters."""
        return self._shelf.digests

    @property
    def weight_sets(self) -> frozenset[str]:
        """Names of the loaded weight sets; the base is the empty name."""
        return self._weight_sets.names

    # ------------------------------------------------------------ generating

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request; it joins the batch at a coming step.

        Raises InputError for settings or a schema that can't be used, ContextTooLong when prompt and max_tokens don't
        fit, NotFound for a weight set or attachment that isn't loaded.
        """
        return self._submit(request, self._prefixes)

    def _submit(self, request: GenerationRequest, prefixes: PrefixCache) -> Generation:
        self._check(request)
        sampling = request.sampling
        constraint = self._grammars.constraint(sampling.schema) if sampling.schema is not None else None
        used = self._shelf.take(request.attachments)
        root = prefix_root(request.weights, request.attachments, request.tenant)
        generation = Generation(self._advance)
        row = Row(
            request=request,
            generation=generation,
            weight_set=self._weight_sets.take(request.weights),
            used=used,
            sampler=Sampler(sampling, constraint),
            stream=TextStream(self._model.chat),
            stops=StopText(sampling.stop),
            prefixes=prefixes,
            root=root,
            names=tuple(block_names(root, request.tokens[:-1])),  # a last token is always left to compute
            drafter=Drafter(request.tokens, self.settings.max_draft_tokens),
        )
        self._waiting.append(row)
        with self._work:
            self._work.notify_all()
        return generation

    def _check(self, request: GenerationRequest) -> None:
        check_sampling(request.sampling, self._network.vocab_size)
        self._check_tokens(request.tokens)
        total = len(request.tokens) + request.sampling.max_tokens
        if total > self.max_context_tokens:
            raise ContextTooLong(
                f"the prompt's {len(request.tokens)} tokens and max_tokens {request.sampling.max_tokens} are together "
                f"{total}, more than the window of {self.max_context_tokens}; shorten the conversation or ask for less"
            )

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if not tokens:
            raise InputError("the prompt has no tokens; send at least one")
        if len(tokens) > self.max_context_tokens:
            raise ContextTooLong(
                f"the text has {len(tokens)} tokens, more than the window of {self.max_context_tokens}; shorten it"
            )
        if not 0 <= min(tokens) <= max(tokens) < self._network.vocab_size:
            raise InputError(f"a token is outside the vocabulary of {self._network.vocab_size}; encode with this model")

    def _check_item(self, item: Item) -> None:
        self._check_tokens(item.prompt)
        for continuation in item.continuations:
            self._check_tokens((*item.prompt, *continuation))

    def step(self) -> bool:
        """One step of the running batch: at most one token for each row. False when there was nothing to do."""
        with self._turnstile.turn(), torch.inference_mode():
            return self._batch.step(self._waiting)

    def _advance(self) -> bool:
        return not self._worker_runs and self.step()

    def generate(self, requests: Sequence[GenerationRequest], *, progress: Progress = silent) -> list[Completion]:
        """Answer all requests.

        Prefixes are shared within the list but not with earlier requests, so that the same list gets the same answers
        whatever was served before. Without a worker thread the caller steps. Raises ModelError when a request fails.
        """
        prefixes = PrefixCache(self.settings.prefix_cache_bytes)
        generations: list[Generation] = []
        completions: list[Completion] = []
        try:
            generations.extend(self._submit(request, prefixes) for request in requests)
            for generation in generations:
                completion = generation.result()
                if completion.finish_reason == "error":
                    raise ModelError(f"request {len(completions)} of {len(requests)} failed: {completion.error}")
                completions.append(completion)
                progress("answering", len(completions), len(requests))
        finally:
            for generation in generations:  # after an error or Ctrl-C nobody waits for the others
                generation.cancel()
        return completions

    # ------------------------------------------------------------ scoring

    def score(self, requests: Sequence[ScoreRequest], *, batch_tokens: int = BATCH_TOKENS) -> list[ScoreResult]:
        """Log-likelihood (nats, summed over tokens) of each continuation after its prompt, in the requests' order.

        A prompt is computed once for all its continuations. Raises InputError, ContextTooLong or NotFound.
        """
        results: dict[int, ScoreResult] = {}
        for name in dict.fromkeys(request.weights for request in requests):
            chosen = [i for i, request in enumerate(requests) if request.weights == name]
            items = [item_of(requests[i], self._shelf.take(requests[i].attachments)) for i in chosen]
            for item in items:
                self._check_item(item)
            with self._using(name) as weight_set:
                results.update(
                    zip(chosen, self._scorer.score(items, weight_set, batch_tokens=batch_tokens), strict=True)
                )
        return [results[i] for i in range(len(requests))]

    def distributions(
        self,
        request_tokens: Sequence[int],
        continuation_tokens: Sequence[int],
        *,
        weights: str = "",
        attachments: Sequence[AttachmentUse] = (),
    ) -> Tensor:
        """[T, V] float32 log-probabilities of the next token at each of the continuation's T positions."""
        request = ScoreRequest(tuple(request_tokens), (tuple(continuation_tokens),))
        item = item_of(request, self._shelf.take(attachments))
        self._check_item(item)
        with self._using(weights) as weight_set:
            return self._scorer.distributions(item, weight_set)

    def hidden_states(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        layer: int,
        attachments: Sequence[AttachmentUse] = (),
        heads: Sequence[int] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[Tensor]:
        """[T, C] float32 states of the base after its first `layer` layers (0: embeddings).

        `heads`: with how many of its first tokens each prompt begins as others do; what they share is computed once.
        """
        for prompt in prompts:
            self._check_tokens(prompt)
        used = self._shelf.take(attachments)
        heads = heads or [0] * len(prompts)
        return self._scorer.hidden_states(prompts, used, layer=layer, heads=heads, batch_tokens=batch_tokens)

    @contextlib.contextmanager
    def _using(self, name: str) -> Iterator[WeightSet]:
        weight_set = self._weight_sets.take(name)
        try:
            yield weight_set
        finally:
            self._weight_sets.give_back(weight_set)

    # ------------------------------------------------------------ worker and numbers

    @contextlib.contextmanager
    def worked(self) -> Iterator[None]:
        """While a worker thread is inside, only it steps; requests left when it goes end as cancelled."""
        self._worker_runs = True
        try:
            yield
        finally:
            self._worker_runs = False
            with self._turnstile.turn():
                self._batch.cancel_all(self._waiting)

    def wait_for_work(self, timeout_seconds: float) -> None:
        """Sleep until a request is queued, or for that long."""
        with self._work:
            if not self._waiting:
                self._work.wait(timeout_seconds)

    @property
    def num_weight_bytes(self) -> int:
        """What a step in which one reply goes on reads of the base's linear layers."""
        return sum(layer.num_bytes_read for layer in self._network.layers.values())

    @property
    def compiles(self) -> bool:
        """Whether replies are computed with compiled products, whose last bits are other ones than packed weights'."""
        return self._network.compiles

    @property
    def num_layers(self) -> int:
        """Layers of the base."""
        return self._network.num_layers

    @property
    def num_running(self) -> int:
        """Rows in the batch."""
        return len(self._batch.rows)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @property
    def counters(self) -> Counters:
        """Steps, tokens and prefix hits since the start."""
        return self._batch.counters
