//! The file: made whole or not at all, opened with its key or left as it is.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use coffer_model::{CatalogKey, Execution, TenantId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};
use zeroize::Zeroizing;

use crate::{CatalogError, OpenCatalogError, schema};

/// SQLCipher's page, in bytes; every file is a whole number of them.
const PAGE_BYTES: u64 = 4096;
/// How a file begins that nobody encrypted.
const PLAIN_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Readers beside the writer: enough that one long listing blocks nobody.
const READERS: usize = 3;
/// Pages in the wal before they are copied into the file: a page that many
/// commits change is copied once. 16 MiB of wal.
pub(crate) const WAL_PAGES: i64 = 4096;
/// The same while much is loaded: 128 MiB of wal.
pub(crate) const WAL_PAGES_OF_LOADS: i64 = 32_768;
/// Pages that the writer keeps decrypted at most, 16 MiB: ids are random, so
/// that each put changes pages all over the tables.
pub(crate) const WRITER_CACHE_PAGES: i64 = 4096;
/// How long to wait for another process that holds the file, a backup for example.
const BUSY: Duration = Duration::from_secs(10);

/// The connections of an open catalogue.
pub(crate) struct Opened {
    pub(crate) writer: Connection,
    pub(crate) readers: Vec<Connection>,
}

/// Makes a new catalogue beside `path` and gives it that name only when it is
/// complete and fsynced, so that a crash leaves no half of one.
pub(crate) fn create(path: &Path, key: &CatalogKey, tenant: TenantId) -> Result<(), OpenCatalogError> {
    if path.try_exists().map_err(|source| disk(path, source))? {
        return Err(OpenCatalogError::Exists(path.to_owned()));
    }
    let draft = suffixed(path, ".new");
    // What a crash left under the draft's name was never a catalogue.
    for stale in [draft.clone(), suffixed(&draft, "-journal")] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(&stale, error)),
            _ => {}
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(|source| disk(&draft, source))?;
    fill(&draft, key, tenant)?;
    // A link, not a rename: it refuses a file that appeared meanwhile.
    fs::hard_link(&draft, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => OpenCatalogError::Exists(path.to_owned()),
        _ => disk(path, source),
    })?;
    fs::remove_file(&draft).map_err(|source| disk(&draft, source))?;
    let folder =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let synced = OpenOptions::new().read(true).open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| disk(folder, source))
}

/// Writes the empty catalogue of `tenant` into an empty file.
fn fill(draft: &Path, key: &CatalogKey, tenant: TenantId) -> Result<(), OpenCatalogError> {
    let mut connection = connect(draft, key, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    schema::migrate(&mut connection)?;
    connection.execute(
        "INSERT INTO catalogue (one, tenant, next_order, replicated) VALUES (1, ?1, 1, 0)",
        params![tenant.as_bytes()],
    )?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Opens the catalogue of `tenant`, brings it to the newest format, and
/// returns its connections. A file that is refused is not changed.
pub(crate) fn open(
    path: &Path,
    key: &CatalogKey,
    tenant: TenantId,
    execution: Execution,
) -> Result<Opened, OpenCatalogError> {
    check_outside(path)?;
    let mut writer = connect(path, key, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Until the file is known to be ours, closing must not move pages into it.
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    check_inside(&writer, path, tenant)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    writer.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    writer.pragma_update(None, "cache_size", WRITER_CACHE_PAGES)?;
    schema::migrate(&mut writer)?;
    let reader = || {
        let reader = connect(path, key, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok::<_, OpenCatalogError>(reader)
    };
    let readers = match execution {
        Execution::Threads => READERS,
        // Only one of them ever has its turn.
        Execution::Inline => 1,
    };
    let readers = (0..readers).map(|_| reader()).collect::<Result<_, _>>()?;
    Ok(Opened { writer, readers })
}

/// What can be told without the key.
fn check_outside(path: &Path) -> Result<(), OpenCatalogError> {
    let mut file = OpenOptions::new().read(true).open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OpenCatalogError::NoFile(path.to_owned()),
        _ => disk(path, source),
    })?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(|source| disk(path, source))?;
    let mut magic = [0; 16];
    let whole = bytes > 0 && bytes.is_multiple_of(PAGE_BYTES);
    let read = file.rewind().and_then(|()| if whole { file.read_exact(&mut magic) } else { Ok(()) });
    read.map_err(|source| disk(path, source))?;
    if !whole || magic == *PLAIN_MAGIC {
        return Err(OpenCatalogError::NotACatalogue(path.to_owned()));
    }
    Ok(())
}

/// What the key shows: that it fits, what the file is, and whose.
fn check_inside(connection: &Connection, path: &Path, tenant: TenantId) -> Result<(), OpenCatalogError> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let application = match number("PRAGMA application_id") {
        Ok(application) => application,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(OpenCatalogError::WrongKey(path.to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    if application != schema::APPLICATION_ID {
        return Err(OpenCatalogError::NotACatalogue(path.to_owned()));
    }
    let found = number("PRAGMA user_version")?;
    if found > schema::NEWEST {
        return Err(OpenCatalogError::NewerFormat { path: path.to_owned(), found, known: schema::NEWEST });
    }
    if found < 1 {
        return Err(OpenCatalogError::NotACatalogue(path.to_owned()));
    }
    let owner: [u8; 16] = connection.query_row("SELECT tenant FROM catalogue", [], |row| row.get(0))?;
    let found = TenantId::from_bytes(owner);
    if found != tenant {
        return Err(OpenCatalogError::OtherTenant { path: path.to_owned(), found });
    }
    Ok(())
}

/// The library sets its ciphers up when the first key of the process is given,
/// and not safely so when two threads give one at that moment: the loser's key
/// is refused. Whoever comes first gives a key to a database in memory, alone.
static CIPHERS: Once = Once::new();

fn set_ciphers_up() {
    CIPHERS.call_once(|| {
        // What fails here fails again, with its reason, at the file itself.
        let nobody = CatalogKey::new(Zeroizing::new([0; 32]));
        let _ = Connection::open_in_memory().and_then(|memory| memory.execute_batch(&key_statement(&nobody)));
    });
}

/// Opens a connection and hands it the key. A wrong key shows at the first read.
fn connect(path: &Path, key: &CatalogKey, mode: OpenFlags) -> Result<Connection, OpenCatalogError> {
    set_ciphers_up();
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // The library writes its errors to standard error; ours are returned.
    connection.execute_batch("PRAGMA cipher_log_level = NONE")?;
    // An error here would carry the statement, and with it the key: it stays here.
    connection.execute_batch(&key_statement(key)).map_err(|_| CatalogError::Damaged("key setting"))?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Sorting must not spill pages in clear into a temporary file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Its bound values would make the library plan a statement anew for each use,
    // wherever an index has a condition that they might fulfil.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// `PRAGMA key = "x'<64 hexadecimal digits>'"`: a raw key, no derivation.
/// Made in a buffer of its final size, so that no copy is left behind.
fn key_statement(key: &CatalogKey) -> Zeroizing<String> {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut statement = Zeroizing::new(String::with_capacity(96));
    statement.push_str("PRAGMA key = \"x'");
    for byte in key.danger_expose() {
        for half in [byte >> 4, byte & 15] {
            statement.push(DIGITS[usize::from(half)]);
        }
    }
    statement.push_str("'\"");
    statement
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn disk(path: &Path, source: io::Error) -> OpenCatalogError {
    OpenCatalogError::Disk { path: path.to_owned(), source }
}
