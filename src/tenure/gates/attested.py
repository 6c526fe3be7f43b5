"""Verdicts as signed attestations: kept beside a version, read back to promote it.

Called by the examiner (keep) and by the runtime (read). Knows the registry, no model.
"""

from __future__ import annotations

from tenure.errors import Refused
from tenure.gates.presentation import verdict_document, verdict_from_document
from tenure.store.registry import Registry
from tenure.types import Verdict

KIND = "verdict"


def attest_verdict(registry: Registry, verdict: Verdict) -> str:
    """Sign and keep a verdict about the version that it names; returns the attestation's id."""
    return registry.attest(verdict.version, KIND, verdict_document(verdict))


def attested_verdict(registry: Registry, digest: str) -> Verdict:
    """The newest verdict about a version, its signature checked. Raises Refused when it was never examined."""
    found = registry.attestations(digest, KIND)
    if not found:
        raise Refused(f"version {digest[:12]} was never examined; run `tenure gate {digest[:12]}` first")
    return verdict_from_document(found[-1].payload)
