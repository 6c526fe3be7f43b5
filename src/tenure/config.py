"""One Config from one TOML file. Precedence: flag > environment > file > default; unknown keys raise.

The environment is read here and nowhere else: `TENURE_CONFIG` names the file, `TENURE_<SECTION>_<KEY>` sets one value
(for example `TENURE_SERVER_PORT=9000`), `TENURE_DATA` names the folder with evaluation data.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from tenure.errors import ConfigError


def setting(default: Any, doc: str) -> Any:
    """A dataclass field that carries its own documentation (printed by `tenure status --settings`, kept by a test)."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """[model] Which base model, and where converted models are kept."""

    name: str = setting("smollm2-135m", "A known name, a local directory in transformers layout, or a hub id.")
    cache: str = setting("~/.cache/tenure", "Where downloaded and converted models are kept.")
    precision: str = setting(
        "auto",
        "What is served and judged: fp32, bf16, int8 (weight-only), or auto: what the home was founded on; for a new "
        "one bf16 where the processor multiplies it natively, else fp32.",
    )
    threads: int = setting(0, "Compute threads; 0 means one per core.")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """[engine] The running batch."""

    max_batch: int = setting(16, "Rows in the running batch.")
    max_context_tokens: int = setting(2048, "Prompt plus reply; never more than the model's own window.")
    prefill_chunk_tokens: int = setting(
        256, "Prompt tokens of one request per step, so that prefill doesn't stall decoding."
    )
    max_draft_tokens: int = setting(
        7, "Tokens of a reply that are guessed from what its row holds and checked in one step; 0 switches it off."
    )
    compile_products: bool = setting(
        True, "In fp32: compile products that read bf16 weights as they are, where there is a C++ compiler."
    )
    prefix_cache_bytes: int = setting(256 * 2**20, "Memory for shared-prefix KV reuse; 0 switches it off.")
    weight_sets_bytes: int = setting(
        2 * 2**30, "Memory for weight sets beside the base; the oldest idle one goes first."
    )


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """[store] Where experience, memories, versions and artefacts are kept."""

    home: str = setting("~/.tenure", "The store's directory.")
    group_commit_milliseconds: float = setting(
        0.0, "Longest wait to share one fsync; 0 shares only what already queues."
    )


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """[server] The HTTP door."""

    host: str = setting("127.0.0.1", "Address to listen on. Keys may be off on loopback only.")
    port: int = setting(8700, "Port to listen on; 0 takes a free one.")
    keys: bool = setting(False, "Ask for API keys. Must be on when host is not loopback.")
    max_body_bytes: int = setting(4 * 2**20, "Larger request bodies get 413.")
    max_queue: int = setting(256, "Requests waiting for a place; more get 429.")
    max_tokens: int = setting(256, "Reply length when the request names none.")
    upstream: str = setting("", "Proxy mode: base URL of an OpenAI-compatible endpoint; empty serves the own model.")
    upstream_key: str = setting("", "API key for the upstream.")
    session_idle_seconds: float = setting(1800.0, "A session is inferred by scope and shared history within this time.")


@dataclass(frozen=True, slots=True)
class ContextConfig:
    """[context] Layer 1: what is added to the prompt."""

    max_memories: int = setting(4, "Memories added to a prompt at most.")
    max_tokens: int = setting(384, "Tokens that memories may take.")
    reading: bool = setting(True, "Attach the base's skill of reading to requests with memories, where it has one.")
    min_score: float = setting(0.3, "Share of a query's distinctive weight that a memory must cover, 0 to 1.")


@dataclass(frozen=True, slots=True)
class NightConfig:
    """[night] Sleep: when, how long, and with which learner."""

    learner: str = setting("distil-lora", "The learner: one of those that `tenure sleep --help` lists.")
    budget_seconds: float = setting(600.0, "A night keeps to this.")
    seed: int = setting(0, "Seed of the night.")
    propose: bool = setting(False, "Stop before promotion and wait for a person.")
    at: str = setting("", "Local time HH:MM at which `serve` starts a night; empty never.")
    idle_seconds: float = setting(0.0, "Start a night after so long without a request; 0 never.")
    min_sources: int = setting(3, "Fewer new sources than this: nothing worth learning tonight.")
    max_per_principal: int = setting(96, "New statements of one principal that a night takes at most.")


@dataclass(frozen=True, slots=True)
class GateConfig:
    """[gate] What a version must survive."""

    delta: float = setting(0.05, "Non-inferiority margin on general ability.")
    alpha: float = setting(0.05, "One-sided error of one night.")
    min_items: int = setting(600, "Fewer general items than this are insufficient evidence.")
    min_acquisition: float = setting(0.6, "Least share of the night's held-out questions answered closed book.")
    max_near_miss: float = setting(0.02, "Largest share of near-miss prompts that may be answered differently.")
    max_drift: float = setting(0.05, "Largest KL (nats a token) to the base on neutral prompts, as served.")
    forced_delta: float = setting(0.15, "Non-inferiority margin on general ability with the module forced on.")
    suites: str = setting("suites", "Folder of the user's own golden sets (JSONL); relative to the store's home.")


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting. Sections are frozen dataclasses; a knob is a field."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    night: NightConfig = field(default_factory=NightConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    data: str = setting("../shared/data", "Folder with evaluation data for benchmarks; tests skip when it is absent.")

    @property
    def home(self) -> Path:
        """The store's directory, with `~` expanded."""
        return Path(self.store.home).expanduser()

    @property
    def cache(self) -> Path:
        """The model cache, with `~` expanded."""
        return Path(self.model.cache).expanduser()


SECTIONS = {f.name: f for f in dataclasses.fields(Config) if f.name != "data"}


def load_config(
    path: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Read the settings.

    `flags` maps `section.key` (or `data`) to a value; None values are ignored. `path` defaults to `TENURE_CONFIG`, else
    `tenure.toml` in the working directory if there is one.

    Raises ConfigError for a missing file, broken TOML, an unknown section or key, or a value of the wrong type.
    """
    env = os.environ if environment is None else environment
    values = _from_file(path or env.get("TENURE_CONFIG"))
    for name, text in env.items():
        key = _environment_key(name)
        if key:
            values[key] = text
    values.update({k: v for k, v in (flags or {}).items() if v is not None})
    return _build(values)


def _from_file(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        default = Path("tenure.toml")
        if not default.exists():
            return {}
        path = default
    try:
        document = tomllib.loads(Path(path).read_text("utf8"))
    except OSError as error:
        raise ConfigError(f"can't read the settings file {path}: {error}; give an existing file to --config") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    values: dict[str, Any] = {}
    for section, content in document.items():
        if isinstance(content, dict):
            values.update({f"{section}.{key}": value for key, value in content.items()})
        else:
            values[section] = content
    return values


def _environment_key(name: str) -> str | None:
    if name == "TENURE_DATA":
        return "data"
    if not name.startswith("TENURE_") or name == "TENURE_CONFIG":
        return None
    section, _, key = name.removeprefix("TENURE_").lower().partition("_")
    return f"{section}.{key}"


def _build(values: Mapping[str, Any]) -> Config:
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    top: dict[str, Any] = {}
    for full, value in values.items():
        section, _, key = full.partition(".")
        if full == "data":
            top["data"] = str(value)
        elif section not in SECTIONS:
            raise ConfigError(f"unknown setting {full!r}; sections are {', '.join(SECTIONS)}")
        else:
            sections[section][key] = value
    hints = get_type_hints(Config)
    for name, given in sections.items():
        cls = hints[name]
        types = get_type_hints(cls)
        for key, value in given.items():
            if key not in types:
                raise ConfigError(f"unknown setting {name}.{key}; [{name}] has {', '.join(types)}")
            given[key] = _coerce(f"{name}.{key}", value, types[key])
        top[name] = cls(**given)
    return Config(**top)


def _coerce(name: str, value: Any, wanted: type) -> Any:
    wanted = (get_args(wanted) or (wanted,))[0]
    try:
        if wanted is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(value).lower()]
        if wanted is int and isinstance(value, float) and value != int(value):
            raise ValueError(value)
        if wanted is not str and isinstance(value, bool):
            raise ValueError(value)
        return wanted(value)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{name} = {value!r} is not a {wanted.__name__}") from error


def write_settings(config: Config, path: Path) -> Path:
    """Write every setting as TOML that `load_config` reads back; only the owner may read it (it may hold a key)."""
    lines = [f"data = {_toml(config.data)}"]
    for section in SECTIONS:
        values = dataclasses.asdict(getattr(config, section))
        lines += [f"\n[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text("\n".join(lines) + "\n", "utf8")
    return path


def _toml(value: Any) -> str:
    """Strings, booleans and numbers are written in JSON as in TOML; DEL alone must be escaped further."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def environment_with(settings: Path) -> dict[str, str]:
    """The environment for a child process that takes all its settings from that file."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
    return {**kept, "TENURE_CONFIG": str(settings)}


def describe_settings() -> list[tuple[str, str, str]]:
    """(name, default, documentation) of every setting, in file order."""
    rows = []
    for section in SECTIONS:
        cls = get_type_hints(Config)[section]
        rows += [(f"{section}.{f.name}", repr(f.default), f.metadata["doc"]) for f in dataclasses.fields(cls)]
    rows.append(("data", repr(Config().data), "Folder with evaluation data for benchmarks (TENURE_DATA)."))
    return rows


def keep_compiled(directory: Path) -> None:
    """Where torch keeps what it compiled from now on, unless TORCHINDUCTOR_CACHE_DIR already says where."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(directory / "compiled"))


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with some variables set, for a child process."""
    return {**os.environ, **changes}
