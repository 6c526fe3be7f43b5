"""Snapshots of hub repositories through the hub's own client: safetensors only, never pickles or code.

Knows no architecture; called by `catalog.py`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library that this version of the client uses
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.std import tqdm

from tenure.errors import BrokenModel, DownloadError
from tenure.model.download import disk_full_named
from tenure.model.layout import check_layout
from tenure.model.progress import Progress

TAKEN = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
LEFT = ["*/*", "consolidated*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.py"]
ETAG_TIMEOUT_SECONDS = 10


def fetch_from_hub(name: str, cache: Path, *, progress: Progress, endpoint: str | None = None) -> Path:
    """The snapshot of `org/name` or `org/name@revision`; what the cache holds whole is taken without asking the hub.

    `endpoint` is another hub than the client's configured one. Raises DownloadError: no network, no such repository or
    revision, no permission, disk full; BrokenModel when the snapshot can't be used.
    """
    repository, _, revision = name.partition("@")
    wanted: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision or None,
        "cache_dir": cache / "hub",
        "allow_patterns": TAKEN,
        "ignore_patterns": LEFT,
        "endpoint": endpoint,
    }
    kept = _whole_in_cache(wanted)
    if kept is not None:
        return kept
    try:
        with disk_full_named(cache):
            bars = _told_bars(progress, f"downloading {name}")
            directory = Path(snapshot_download(**wanted, etag_timeout=ETAG_TIMEOUT_SECONDS, tqdm_class=bars))
    except GatedRepoError as error:
        raise DownloadError(f"{name} needs its terms accepted and a token; run `hf auth login` ({error})") from error
    except RepositoryNotFoundError as error:
        raise DownloadError(f"the hub has no {repository}, or it is private; check the name") from error
    except RevisionNotFoundError as error:
        raise DownloadError(f"{repository} has no revision {revision!r}; check the part after @") from error
    except HFValidationError as error:
        raise DownloadError(f"{name!r} is no hub id: {error}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):
            reason = f"the hub refused {name}: {error}"
        else:
            reason = f"no network: the hub can't be reached for {name} ({type(error).__name__}: {str(error)[:200]})"
        raise DownloadError(f"{reason}; connect, or give model.name a local directory") from error
    check_layout(directory)  # without network the client hands out what it has, be it incomplete
    return directory


def _whole_in_cache(wanted: dict[str, Any]) -> Path | None:
    try:
        directory = Path(snapshot_download(**wanted, local_files_only=True))
        check_layout(directory)
    except (LocalEntryNotFoundError, HFValidationError, BrokenModel):
        return None
    return directory


def _told_bars(progress: Progress, description: str) -> type[Any]:
    """A tqdm class for the hub's client that tells `progress` instead of drawing."""

    class ToldBar(tqdm):  # type: ignore[misc]
        """Counts like tqdm, into the void."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            told = super().update(n)
            if self.unit == "B":
                progress(description, int(self.n), int(self.total) if self.total else None)
            return told  # type: ignore[no-any-return]

    return ToldBar
