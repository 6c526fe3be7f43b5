"""API keys: shown once, hashed at rest, ended at once; and the signing key of a home."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.errors import AccessError, InputError, NotFound, StoreError
from tenure.store.library import Store
from tenure.store.signatures import Signer
from tenure.types import Principal, Role


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home") as opened:
        yield opened


def test_a_key_says_who_is_speaking(store: Store) -> None:
    token = store.keys.create("acme", "ann", [Role.CHAT, Role.ADMIN])
    assert store.keys.authenticate(token) == Principal("acme", "ann", frozenset({Role.CHAT, Role.ADMIN}))
    secret = token.rpartition("_")[2].encode()
    assert all(secret not in path.read_bytes() for path in store.home.glob("tenure.db*"))


@pytest.mark.parametrize(
    "change", [lambda t: "", lambda t: t[:-1], lambda t: t + "0", lambda t: t.upper(), lambda t: "é_ü_ß"]
)
def test_other_tokens_are_refused(store: Store, change) -> None:  # type: ignore[no-untyped-def]
    token = store.keys.create("acme", "ann", [Role.CHAT])
    with pytest.raises(AccessError) as refused:
        store.keys.authenticate(change(token))
    assert refused.value.status == 401 and token not in str(refused.value)


def test_revoked_keys_are_refused(store: Store) -> None:
    token = store.keys.create("acme", "ann", [Role.CHAT])
    other = store.keys.create("acme", "bob", [Role.CHAT])
    record = store.keys.list()[0]
    assert record.principal.name == "ann" and record.revoked_at is None
    store.keys.revoke(record.id)
    with pytest.raises(AccessError):
        store.keys.authenticate(token)
    assert store.keys.authenticate(other).name == "bob"
    assert store.keys.list()[0].revoked_at is not None
    with pytest.raises(NotFound):
        store.keys.revoke("nobody")


def test_unusable_names_and_roles_are_refused(store: Store) -> None:
    for tenant, principal, roles in (("", "a", [Role.CHAT]), ("a/b", "c", [Role.CHAT]), ("a", "b", [])):
        with pytest.raises(InputError):
            store.keys.create(tenant, principal, roles)


def test_signatures_are_this_keys_alone(tmp_path: Path) -> None:
    one, two = Signer(tmp_path / "one"), Signer(tmp_path / "two")
    signature = one.sign(b"data")
    assert one.accepts(b"data", signature) and Signer(tmp_path / "one").accepts(b"data", signature)
    assert not one.accepts(b"date", signature) and not two.accepts(b"data", signature)
    assert (tmp_path / "one" / "signing.pub").read_bytes() == one.public_pem()
    (tmp_path / "one" / "signing.pem").write_text("rubbish")
    with pytest.raises(StoreError, match="signing"):
        Signer(tmp_path / "one")


SIGNING = """
    import sys
    from pathlib import Path
    from tenure.store.signatures import Signer
    sys.stdout.buffer.write(Signer(Path(sys.argv[1])).public_pem())
"""


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SIGNING), str(tmp_path / "keys")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    public = {process.communicate()[0] for process in started}
    assert len(public) == 1 and b"PUBLIC KEY" in public.pop()
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["signing.pem", "signing.pub"]
