-- Memories: what the context layer may put into a prompt, and the full-text index over it.
CREATE TABLE memories (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    member TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    num_words INTEGER NOT NULL,
    source_ids TEXT NOT NULL,
    recorded_at REAL NOT NULL,
    valid_from REAL NOT NULL,
    valid_to REAL,
    superseded_by TEXT
);

CREATE INDEX memories_scope ON memories (tenant, principal, member, number);

CREATE TABLE memory_sources (
    source_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (source_id, number)
);

CREATE INDEX memory_sources_number ON memory_sources (number);

CREATE TABLE scopes (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    member TEXT NOT NULL,
    num_memories INTEGER NOT NULL,
    num_words INTEGER NOT NULL,
    UNIQUE (tenant, principal, member)
);

-- One row a memory: its stems (porter over unicode61), each with its scope's number before it ("17q" + stem), so that
-- counts are of one scope alone.
CREATE VIRTUAL TABLE memory_words USING fts5 (body, tokenize = 'unicode61');

CREATE VIRTUAL TABLE memory_vocabulary USING fts5vocab (memory_words, 'instance');
