"""Versions, attestations and the aliases: what may move, what may not, and where it falls back to."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenure.errors import NotFound, Refused, StoreError, TamperedObject
from tenure.store.digests import version_digest
from tenure.store.library import Store
from tenure.store.manifests import verdict_of, verdict_payload
from tenure.types import Alias, Audience, Check, DeltaRef, ModuleKind, ModuleRef, Outcome, Verdict, Version

BASE = Version("b" * 64, "t" * 64, "c" * 64, "bf16")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home") as opened:
        opened.registry.found(BASE)
        yield opened


def made(store: Store, name: str) -> str:
    """A version with a module, a delta and a router that lie in the object store."""
    module, delta, router = (store.objects.put_bytes(f"{name} {part}".encode()) for part in "mdr")
    ref = ModuleRef(module, ModuleKind.LORA, Audience.PRINCIPAL, "acme/ann", 0.5)
    return store.registry.put(replace(BASE, modules=(ref,), deltas=(DeltaRef(delta),), router=router))


def verdict(store: Store, digest: str, outcome: Outcome = Outcome.PASSED) -> Verdict:
    aliases = store.registry.aliases()
    check = Check("general", "non-inferiority", outcome, -0.01, -0.05, 600, lower=-0.03)
    return Verdict(digest, aliases[Alias.CHAMPION], aliases[Alias.ANCHOR], outcome, (check,), ("because",), 0.05)


def judged(store: Store, name: str) -> str:
    """A version that passed, with its attestation."""
    digest = made(store, name)
    store.registry.attest(digest, "verdict", verdict_payload(verdict(store, digest)))
    return digest


def promoted(store: Store, name: str) -> str:
    digest = judged(store, name)
    store.registry.promote(digest, verdict(store, digest))
    return digest


def tamper(store: Store, sql: str) -> None:
    connection = sqlite3.connect(store.home / "tenure.db")
    with connection:
        connection.execute(sql)
    connection.close()


def test_versions_are_named_by_their_content(store: Store) -> None:
    digest = made(store, "one")
    assert made(store, "one") == digest == version_digest(store.registry.version(digest))
    assert store.registry.version(digest[:8]) == store.registry.version(digest)
    for bad in (digest[:7], "0" * 64, "%" * 9):
        with pytest.raises(NotFound):
            store.registry.version(bad)
    store.registry.set_lineage(digest, parent="p", source_ids=["t2", "t1", "t2"], candidates={"x": {"seed": 1}})
    found = store.registry.lineage(digest)
    assert (found.parent, found.source_ids, found.candidates) == ("p", ("t2", "t1"), {"x": {"seed": 1}})
    records = {record.digest: record for record in store.registry.versions()}
    assert records[digest].lineage == ("t2", "t1") and not records[digest].revoked
    assert store.registry.descendants("t1") == (digest,) and store.registry.descendants("t3") == ()


def test_a_tampered_manifest_is_refused(store: Store) -> None:
    digest = made(store, "one")
    tamper(store, "UPDATE versions SET manifest = cast(replace(manifest, '0.5', '0.9') AS BLOB)")
    with pytest.raises(TamperedObject, match=digest):
        store.registry.version(digest)


def test_founding_is_idempotent_and_refuses_another_base(store: Store) -> None:
    base = version_digest(BASE)
    assert store.registry.found(BASE) == base
    assert store.registry.aliases() == {Alias.CHAMPION: base, Alias.ANCHOR: base}
    assert len(store.registry.history()) == 2
    with pytest.raises(StoreError, match="another home"):
        store.registry.found(replace(BASE, precision="int8"))


def test_attestations_are_signed_and_checked(store: Store) -> None:
    digest = made(store, "one")
    store.registry.attest(digest, "note", {"n": 1})
    store.registry.attest(digest, "verdict", {"n": 2})
    assert [item.payload["n"] for item in store.registry.attestations(digest)] == [1, 2]
    assert [item.payload["n"] for item in store.registry.attestations(digest, "verdict")] == [2]
    with pytest.raises(NotFound):
        store.registry.attest("0" * 64, "note", {})
    assert (store.home / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        """statement = cast(replace(statement, '"n":1', '"n":2') AS BLOB)""",
        "signature = zeroblob(64)",
        "signature = x'00'",
        "kind = 'verdict'",
        "id = 'attestation_other'",
    ],
)
def test_a_tampered_attestation_is_refused(store: Store, change: str) -> None:
    digest = made(store, "one")
    store.registry.attest(digest, "note", {"n": 1})
    tamper(store, f"UPDATE attestations SET {change}")
    with pytest.raises(TamperedObject):
        store.registry.attestations(digest)


def test_verdicts_survive_their_payload(store: Store) -> None:
    said = verdict(store, made(store, "one"))
    assert verdict_of(verdict_payload(said)) == said


def test_promotion_moves_the_champion_and_counts(store: Store) -> None:
    digest = judged(store, "one")
    store.registry.challenge(digest)
    before = store.registry.generation()
    store.registry.promote(digest, verdict(store, digest))
    assert store.registry.aliases() == {Alias.CHAMPION: digest, Alias.ANCHOR: version_digest(BASE)}
    assert store.registry.generation() > before
    move = next(move for move in store.registry.history() if move.action == "promote")
    assert (move.alias, move.digest, move.previous) == (Alias.CHAMPION, digest, version_digest(BASE))


def test_promotion_needs_this_very_verdict(store: Store) -> None:
    one, two = judged(store, "one"), made(store, "two")
    passed = verdict(store, one)
    for digest, said in (
        (one, verdict(store, one, Outcome.FAILED)),
        (one, verdict(store, one, Outcome.INSUFFICIENT)),
        (two, passed),
        (two, verdict(store, two)),
        (one, replace(passed, alpha=0.1)),
        (one, replace(passed, reasons=())),
    ):
        with pytest.raises(Refused):
            store.registry.promote(digest, said)
    store.registry.attest(one, "verdict", verdict_payload(verdict(store, one, Outcome.FAILED)))
    with pytest.raises(Refused, match="last"):
        store.registry.promote(one, passed)
    with pytest.raises(Refused):
        store.registry.promote("0" * 64, replace(passed, version="0" * 64))
    assert store.registry.alias(Alias.CHAMPION) == version_digest(BASE)


def test_promotion_refuses_a_stale_comparison(store: Store) -> None:
    one, two = judged(store, "one"), judged(store, "two")
    old = verdict(store, two)
    store.registry.promote(one, verdict(store, one))
    with pytest.raises(Refused, match="champion"):
        store.registry.promote(two, old)


def test_promotion_checks_the_artefacts(store: Store) -> None:
    one, two = judged(store, "one"), judged(store, "two")
    (store.objects.path(store.registry.version(one).router)).write_bytes(b"changed")
    with pytest.raises(TamperedObject):
        store.registry.promote(one, verdict(store, one))
    store.objects.remove(store.registry.version(two).modules[0].digest)
    with pytest.raises(NotFound):
        store.registry.promote(two, verdict(store, two))


def test_rollback_steps_back_one_champion_at_a_time(store: Store) -> None:
    base, one = version_digest(BASE), promoted(store, "one")
    two = promoted(store, "two")
    assert store.registry.rollback() == one == store.registry.alias(Alias.CHAMPION)
    three = promoted(store, "three")
    assert store.registry.rollback() == one
    assert store.registry.rollback() == base
    with pytest.raises(StoreError, match="earlier"):
        store.registry.rollback()
    assert {two, three}.isdisjoint(store.registry.aliases().values())


def test_rollback_passes_over_revoked_and_broken_champions(store: Store) -> None:
    base, one, two = version_digest(BASE), promoted(store, "one"), promoted(store, "two")
    three = promoted(store, "three")
    store.objects.remove(store.registry.version(two).router)
    assert store.registry.revoke(one, reason="forgotten data") == three
    assert store.registry.rollback() == base


def test_revoking_the_champion_falls_back_at_once(store: Store) -> None:
    base, one, two = version_digest(BASE), promoted(store, "one"), promoted(store, "two")
    generation = store.registry.generation()
    assert store.registry.revoke(two[:10], reason="poison") == one
    assert store.registry.generation() > generation
    assert store.registry.is_revoked(two)
    assert store.registry.revoke(one, reason="poison") == base
    with pytest.raises(StoreError, match="anchor"):
        store.registry.revoke(base, reason="no")
    for digest in (one, two):
        with pytest.raises(Refused, match="poison"):
            store.registry.challenge(digest)
        store.registry.attest(digest, "verdict", verdict_payload(verdict(store, digest)))
        with pytest.raises(Refused, match="revoked"):
            store.registry.promote(digest, verdict(store, digest))


def test_revoking_a_challenger_clears_it_and_is_seen_by_pollers(store: Store) -> None:
    one, two = judged(store, "one"), made(store, "two")
    store.registry.challenge(one)
    store.registry.revoke(one, reason="poison")
    assert store.registry.alias(Alias.CHALLENGER) is None
    generation = store.registry.generation()
    store.registry.revoke(two, reason="poison")
    assert store.registry.generation() > generation


MOVER = """
    import sys
    from pathlib import Path
    from tenure.store.library import Store
    from tenure.store.manifests import verdict_of
    from tenure.types import Alias

    with Store.open(Path(sys.argv[1])) as store:
        registry = store.registry
        verdicts = [verdict_of(registry.attestations(digest, "verdict")[-1].payload) for digest in sys.argv[2:]]
        print("ready", flush=True)
        while True:
            for verdict in verdicts:
                registry.promote(verdict.version, verdict)
                registry.rollback()
"""


def test_a_kill_during_moves_leaves_a_judged_champion(store: Store) -> None:
    digests = [judged(store, "one"), judged(store, "two")]
    allowed = {version_digest(BASE), *digests}
    for number in range(3):
        command = [sys.executable, "-c", textwrap.dedent(MOVER), str(store.home), *digests]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as mover:
            assert mover.stdout is not None and mover.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.037 * number)
            os.kill(mover.pid, signal.SIGKILL)
        with Store.open(store.home) as after:
            champion = after.registry.alias(Alias.CHAMPION)
            moves = [move for move in after.registry.history() if move.alias is Alias.CHAMPION]
            assert champion in allowed and moves[-1].digest == champion
            assert all(late.previous == early.digest for early, late in itertools.pairwise(moves))
            if champion != version_digest(BASE):
                after.registry.rollback()
    assert len(store.registry.history()) > 6
