"""The home's Ed25519 key: signs attestations, and knows its own signatures again.

The private key lies in `keys/signing.pem` (0600), made at first use; `keys/signing.pub` is there to hand out. Knows
nothing of what is signed. Called by the registry.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenure.errors import StoreError
from tenure.store.tombstones import sync_directory


class Signer:
    """Signs and checks with one home's key."""

    def __init__(self, directory: Path) -> None:
        """Load the key of `directory`, making it if it isn't there (safe between processes, and in a crash)."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / "signing.pem"
        if not path.exists():
            _create(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"can't use the signing key {path}: {error}; restore it from a backup") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StoreError(f"{path} holds a {type(key).__name__}, not an Ed25519 key; restore it from a backup")
        self._key = key
        public = directory / "signing.pub"
        if not public.exists():
            aside = directory / f".{secrets.token_hex(8)}"
            aside.write_bytes(self.public_pem())
            aside.rename(public)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature (RFC 8032) of `data`."""
        return self._key.sign(data)

    def accepts(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over exactly `data`."""
        try:
            self._key.public_key().verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def public_pem(self) -> bytes:
        """The public half in PEM."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    aside = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, pem)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        # A link, unlike a rename, fails when another process was first: then that one's key is everybody's.
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    sync_directory(path.parent)
