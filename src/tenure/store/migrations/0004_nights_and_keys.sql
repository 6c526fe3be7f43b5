-- Nights (jobs) with their events and checkpoints, and API keys (hashed).
CREATE TABLE nights (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    settings TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    pid INTEGER,
    process TEXT,
    result TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL
);

CREATE TABLE night_events (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    night_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT NOT NULL
);

CREATE INDEX night_events_night ON night_events (night_id, number);

CREATE TABLE night_checkpoints (
    night_id TEXT NOT NULL,
    stage TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (night_id, stage)
);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    roles TEXT NOT NULL,
    secret_digest BLOB NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL
);
