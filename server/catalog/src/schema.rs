//! The schema and how older files become the newest: forward only, one step
//! for each format, all steps of an opening in one transaction.

use rusqlite::{Connection, TransactionBehavior};

/// "Coff" in ASCII: tells a catalogue from another database with our key.
pub(crate) const APPLICATION_ID: i64 = 0x436f_6666;

/// Step i makes format i + 1 from format i. A step that was released is never
/// edited; `fixtures/` holds a file of every released format.
const STEPS: [&str; 3] = [FORMAT_1, FORMAT_2, FORMAT_3];

/// The newest format, which is also `PRAGMA user_version`.
pub(crate) const NEWEST: i64 = 3;
const _: () = assert!(STEPS.len() == 3 && NEWEST == 3, "one step for each format");

const FORMAT_1: &str = "
CREATE TABLE catalogue (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    tenant      BLOB NOT NULL CHECK (length(tenant) = 16),
    next_order  INTEGER NOT NULL CHECK (next_order > 0),
    replicated  INTEGER NOT NULL CHECK (replicated >= 0)
) STRICT;

CREATE TABLE bucket (
    id      BLOB PRIMARY KEY CHECK (length(id) = 16),
    name    TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    record  BLOB NOT NULL CHECK (length(record) = 16),
    policy  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE name (
    id      INTEGER PRIMARY KEY,
    bucket  BLOB NOT NULL CHECK (length(bucket) = 16),
    key     BLOB NOT NULL CHECK (length(key) BETWEEN 1 AND 1024),
    object  BLOB NOT NULL CHECK (length(object) = 16),
    latest  BLOB,
    UNIQUE (bucket, key)
) STRICT;
CREATE INDEX name_live ON name (bucket, key) WHERE latest IS NOT NULL;

CREATE TABLE version (
    id       BLOB PRIMARY KEY CHECK (length(id) = 16),
    name     INTEGER NOT NULL REFERENCES name (id),
    object   BLOB NOT NULL CHECK (length(object) = 16),
    ord      INTEGER NOT NULL CHECK (ord > 0),
    record   BLOB NOT NULL CHECK (length(record) = 16),
    created  INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    content  BLOB NOT NULL CHECK (length(content) = 32),
    reduced  INTEGER NOT NULL,
    inline   INTEGER NOT NULL CHECK (inline IN (0, 1)),
    wrap     BLOB NOT NULL,
    manifest BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX version_name ON version (name, ord);
CREATE INDEX version_object ON version (object);

CREATE TABLE tombstone (
    record  BLOB PRIMARY KEY CHECK (length(record) = 16),
    bucket  BLOB NOT NULL CHECK (length(bucket) = 16),
    object  BLOB NOT NULL CHECK (length(object) = 16),
    version BLOB NOT NULL CHECK (length(version) = 16),
    ord     INTEGER NOT NULL CHECK (ord > 0),
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_object ON tombstone (object, ord);

CREATE TABLE reservation (
    version BLOB PRIMARY KEY CHECK (length(version) = 16),
    bucket  BLOB NOT NULL CHECK (length(bucket) = 16),
    ord     INTEGER NOT NULL UNIQUE CHECK (ord > 0),
    body    BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reservation_bucket ON reservation (bucket);

CREATE TABLE leaf (
    seq  INTEGER PRIMARY KEY CHECK (seq >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    body BLOB NOT NULL
) STRICT;

CREATE TABLE fact (
    kind TEXT NOT NULL,
    id   BLOB NOT NULL CHECK (length(id) = 16),
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
";

/// Challenges. Their rows grow at the end of the table and of a few places of
/// one index, so that a put touches few pages; `asked` counts how often.
const FORMAT_2: &str = "
ALTER TABLE version ADD COLUMN challenged INTEGER NOT NULL DEFAULT 0 CHECK (challenged IN (0, 1));
CREATE INDEX version_unchallenged ON version (id) WHERE challenged = 0 AND inline = 0;

CREATE TABLE challenge (
    id      INTEGER PRIMARY KEY,
    version BLOB NOT NULL CHECK (length(version) = 16),
    site    BLOB NOT NULL CHECK (length(site) = 16),
    record  BLOB NOT NULL CHECK (length(record) = 16),
    nonce   BLOB NOT NULL CHECK (length(nonce) = 8),
    answer  BLOB NOT NULL CHECK (length(answer) = 32),
    asked   INTEGER NOT NULL DEFAULT 0 CHECK (asked >= 0)
) STRICT;
CREATE INDEX challenge_version ON challenge (version, site);
CREATE INDEX challenge_next ON challenge (site, asked, id);
";

/// Versions in the order in which they came. Rows of some hundred bytes in the
/// order of random ids touch a page each, wherever they go; at the end of the
/// table they share one, and what is in random order is small enough to be kept.
const FORMAT_3: &str = "
CREATE TABLE version_3 (
    number     INTEGER PRIMARY KEY,
    id         BLOB NOT NULL CHECK (length(id) = 16),
    name       INTEGER NOT NULL REFERENCES name (id),
    object     BLOB NOT NULL CHECK (length(object) = 16),
    ord        INTEGER NOT NULL CHECK (ord > 0),
    record     BLOB NOT NULL CHECK (length(record) = 16),
    created    INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    content    BLOB NOT NULL CHECK (length(content) = 32),
    reduced    INTEGER NOT NULL,
    inline     INTEGER NOT NULL CHECK (inline IN (0, 1)),
    challenged INTEGER NOT NULL DEFAULT 0 CHECK (challenged IN (0, 1)),
    wrap       BLOB NOT NULL,
    manifest   BLOB NOT NULL
) STRICT;
INSERT INTO version_3 (id, name, object, ord, record, created, size, content, reduced, inline, challenged, wrap, manifest)
    SELECT id, name, object, ord, record, created, size, content, reduced, inline, challenged, wrap, manifest
    FROM version ORDER BY name, ord;
DROP TABLE version;
ALTER TABLE version_3 RENAME TO version;
CREATE UNIQUE INDEX version_id ON version (id);
CREATE INDEX version_name ON version (name, ord);
CREATE INDEX version_object ON version (object);
CREATE INDEX version_unchallenged ON version (id) WHERE challenged = 0 AND inline = 0;
";

/// An index that a load of many rows does without.
pub(crate) struct Late {
    pub(crate) name: &'static str,
    /// Its table, columns and condition.
    pub(crate) on: &'static str,
}

/// As they stand in the newest format.
pub(crate) const LATE_INDICES: [Late; 2] = [
    Late { name: "name_live", on: "name (bucket, key) WHERE latest IS NOT NULL" },
    Late { name: "version_object", on: "version (object)" },
];

/// Brings a file from its format to the newest one.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    let steps = STEPS.get(done..).unwrap_or(&[]);
    if steps.is_empty() {
        return Ok(());
    }
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", NEWEST)?;
    transaction.commit()
}
