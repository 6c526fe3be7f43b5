-- Versions, what is attested about them, where they come from, and the aliases: the only things that move.
CREATE TABLE versions (
    digest TEXT PRIMARY KEY,
    manifest BLOB NOT NULL,
    created_at REAL NOT NULL,
    parent TEXT NOT NULL,
    candidates BLOB NOT NULL,
    revoked_at REAL,
    revoke_reason TEXT
);

CREATE TABLE lineage (
    source_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (digest, position)
);

CREATE INDEX lineage_source ON lineage (source_id);

CREATE TABLE attestations (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_at REAL NOT NULL,
    statement BLOB NOT NULL,
    signature BLOB NOT NULL
);

CREATE INDEX attestations_digest ON attestations (digest, number);

CREATE TABLE aliases (
    alias TEXT PRIMARY KEY,
    digest TEXT NOT NULL
);

CREATE TABLE alias_moves (
    number INTEGER PRIMARY KEY,
    alias TEXT NOT NULL,
    digest TEXT,
    previous TEXT,
    action TEXT NOT NULL,
    reason TEXT NOT NULL,
    moved_at REAL NOT NULL
);
