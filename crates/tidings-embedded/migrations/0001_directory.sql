-- Ids are 16-byte UUIDs, hashes are SHA-256, times are milliseconds since 1970 UTC, and an unsigned 64-bit number is
-- stored as the signed one with the same bits.

CREATE TABLE accounts (
    user BLOB NOT NULL PRIMARY KEY CHECK (length(user) = 16),
    space BLOB NOT NULL CHECK (length(space) = 16),
    username TEXT NOT NULL,
    display_name TEXT NOT NULL,
    -- Lower case, for the search by prefix.
    display_name_folded TEXT NOT NULL,
    admin INTEGER NOT NULL,
    password_hash TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (space, username)
) STRICT, WITHOUT ROWID;

CREATE INDEX accounts_by_display_name ON accounts (space, display_name_folded);

CREATE TABLE devices (
    device BLOB NOT NULL PRIMARY KEY CHECK (length(device) = 16),
    user BLOB NOT NULL REFERENCES accounts (user),
    name TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    last_seen_at_ms INTEGER NOT NULL,
    removed_at_ms INTEGER,
    -- The number of the removal. A removed device keeps its row, so that its id never comes back and the numbers
    -- only grow.
    removal INTEGER UNIQUE
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_by_user ON devices (user, created_at_ms);

-- A session is live as long as its row is here.
CREATE TABLE sessions (
    session BLOB NOT NULL PRIMARY KEY CHECK (length(session) = 16),
    device BLOB NOT NULL UNIQUE REFERENCES devices (device),
    refresh_hash BLOB NOT NULL UNIQUE CHECK (length(refresh_hash) = 32),
    previous_hash BLOB UNIQUE CHECK (length(previous_hash) = 32),
    rotated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE followers (
    follower TEXT NOT NULL PRIMARY KEY,
    place INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
