//! The file: this module is the disk adapter of the store. One table of
//! changes; the present is what replaying it gives. See `STORE.md`.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, params};
use serde_json::Value;

use super::index::Selected;
use super::state::{Event, EventKind, State};
use super::{Key, Limits, OpenError, Stored};

/// "CofF" as SQLite's application id.
const APPLICATION: i64 = 0x436f_6646;
/// The format that this program writes.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE change (
        revision  INTEGER PRIMARY KEY,
        kind      INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
        previous  INTEGER NOT NULL,
        resource  TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name      TEXT NOT NULL,
        object    BLOB NOT NULL
    ) STRICT;
    CREATE TABLE horizon (
        one       INTEGER PRIMARY KEY CHECK (one = 1),
        compacted INTEGER NOT NULL
    ) STRICT;
    INSERT INTO horizon VALUES (1, 0);
";

pub(super) struct File {
    connection: Connection,
}

impl File {
    /// Opens or makes the file, alone, and replays it.
    pub(super) fn open(path: &Path, limits: Limits) -> Result<(Self, State), OpenError> {
        let disk = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                OpenError::InUse { path: path.to_owned() }
            }
            Some(ErrorCode::NotADatabase) => OpenError::Foreign { path: path.to_owned() },
            _ => OpenError::Disk { path: path.to_owned(), source },
        };
        make(path)?;
        let connection = Connection::open(path).map_err(disk)?;
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = 4000; BEGIN EXCLUSIVE;",
            )
            .map_err(disk)?;
        let number =
            |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(disk);
        let (application, format) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        if tables == 0 && application == 0 && format == 0 {
            let marks = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};");
            connection.execute_batch(SCHEMA).and_then(|()| connection.execute_batch(&marks)).map_err(disk)?;
        } else if application != APPLICATION {
            return Err(OpenError::Foreign { path: path.to_owned() });
        } else if format > FORMAT {
            return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FORMAT });
        }
        connection.execute_batch("COMMIT").map_err(disk)?;
        let state = replay(&connection, path, limits, disk)?;
        Ok((Self { connection }, state))
    }

    pub(super) fn begin(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    pub(super) fn commit(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    pub(super) fn insert(&self, event: &Event) -> rusqlite::Result<()> {
        let previous = event.previous.as_ref().map_or(0, |previous| previous.revision);
        let key = &event.object.key;
        self.connection
            .prepare_cached("INSERT INTO change VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                integer(event.object.revision),
                number_of(event.kind),
                integer(previous),
                key.resource,
                key.namespace,
                key.name,
                &event.object.json[..],
            ])
            .map(drop)
    }

    /// Removes what was replaced or deleted at or before `to`, given that the same was done up to `from`.
    pub(super) fn compact(&self, from: u64, to: u64) -> rusqlite::Result<()> {
        self.begin()?;
        self.connection.execute(
            "DELETE FROM change WHERE revision IN
                 (SELECT previous FROM change WHERE revision > ?1 AND revision <= ?2 AND previous > 0)",
            params![integer(from), integer(to)],
        )?;
        self.connection.execute(
            "DELETE FROM change WHERE revision > ?1 AND revision <= ?2 AND kind = 3",
            params![integer(from), integer(to)],
        )?;
        self.connection.execute("UPDATE horizon SET compacted = ?1", params![integer(to)])?;
        self.commit()
    }
}

/// Makes the file, if it is missing, so that only its owner may read it. SQLite gives its WAL the same mode.
fn make(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(OpenError::Make { path: path.to_owned(), source }),
    }
}

fn replay(
    connection: &Connection,
    path: &Path,
    limits: Limits,
    disk: impl Fn(rusqlite::Error) -> OpenError + Copy,
) -> Result<State, OpenError> {
    let compacted: i64 =
        connection.query_row("SELECT compacted FROM horizon", [], |row| row.get(0)).map_err(disk)?;
    let compacted = u64::try_from(compacted).unwrap_or_default();
    let mut state = State::new(limits.ring, compacted, compacted);
    let mut changes = connection
        .prepare("SELECT revision, kind, resource, namespace, name, object FROM change ORDER BY revision")
        .map_err(disk)?;
    let mut rows = changes.query([]).map_err(disk)?;
    let mut resources: HashMap<String, Arc<str>> = HashMap::new();
    while let Some(row) = rows.next().map_err(disk)? {
        let revision: i64 = row.get(0).map_err(disk)?;
        let revision = u64::try_from(revision).unwrap_or_default();
        let damaged = || OpenError::Damaged { path: PathBuf::from(path), revision };
        let resource: String = row.get(2).map_err(disk)?;
        let resource = resources.entry(resource.clone()).or_insert_with(|| resource.into());
        let (namespace, name): (String, String) = (row.get(3).map_err(disk)?, row.get(4).map_err(disk)?);
        let key = Key::new(resource, &namespace, &name);
        let json: Vec<u8> = row.get(5).map_err(disk)?;
        let object: Value = serde_json::from_slice(&json).map_err(|_| damaged())?;
        let kind = kind_of(row.get(1).map_err(disk)?).ok_or_else(damaged)?;
        let previous = state.get(&key).cloned();
        let object = Arc::new(Stored::new(key, revision, Bytes::from(json), Selected::of(&object)));
        state.apply(Event { kind, object, previous });
    }
    state.forget(compacted);
    Ok(state)
}

/// Revisions count writes from 1: none ever reaches the bound.
fn integer(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn number_of(kind: EventKind) -> i64 {
    match kind {
        EventKind::Added => 1,
        EventKind::Modified => 2,
        EventKind::Deleted => 3,
    }
}

fn kind_of(number: i64) -> Option<EventKind> {
    match number {
        1 => Some(EventKind::Added),
        2 => Some(EventKind::Modified),
        3 => Some(EventKind::Deleted),
        _ => None,
    }
}
