-- Experience: append-only entries, one hash chain per tenant. Erasing empties content, salt and everything that tells
-- about the person; seq, kind, id, tenant, commitment and hash stay, so that the chain still verifies.
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    principal TEXT,
    member TEXT,
    session TEXT,
    turn_id TEXT,
    created_at REAL,
    content BLOB,
    salt BLOB,
    content_digest BLOB,
    commitment BLOB NOT NULL,
    hash BLOB NOT NULL
);

CREATE INDEX entries_scope ON entries (tenant, principal, member, seq);

CREATE INDEX entries_turn ON entries (turn_id) WHERE turn_id IS NOT NULL;

CREATE TABLE heads (
    tenant TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    num_entries INTEGER NOT NULL,
    hash BLOB NOT NULL
);

CREATE TABLE idempotency (
    principal TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB,
    PRIMARY KEY (principal, key)
);

CREATE INDEX idempotency_id ON idempotency (id);

CREATE TABLE erasures (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    erased_at REAL NOT NULL
);

CREATE TABLE imports (
    digest TEXT NOT NULL,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    member TEXT NOT NULL,
    next_record INTEGER NOT NULL,
    num_turns INTEGER NOT NULL,
    num_rejected INTEGER NOT NULL,
    finished INTEGER NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (digest, tenant, principal, member)
);
