//! What the process took from the machine, and what its disk could do.

use std::path::Path;
use std::time::{Duration, Instant};

use coffer_embedded::store::Figures;
use rusqlite::{Connection, params};

/// The greatest memory that the process ever held, in MiB.
pub(crate) fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// CPU time of the threads whose name begins so.
pub(crate) fn cpu(name: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let path = task.ok()?.path();
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let ran = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let ran = ran.split_whitespace().next()?.parse().ok()?;
        comm.starts_with(name).then_some(Duration::from_nanos(ran))
    };
    tasks.filter_map(of_task).sum()
}

/// How many rows of the same size a bare SQLite of the same settings takes in a second, in groups of the same size.
pub(crate) fn rows_a_second(dir: &Path, figures: &Figures) -> f64 {
    let connection = Connection::open(dir.join("limit.sqlite")).unwrap();
    connection
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 4000;
             CREATE TABLE change (revision INTEGER PRIMARY KEY, object BLOB NOT NULL) STRICT;",
        )
        .unwrap();
    let size = usize::try_from(figures.bytes / figures.rows.max(1)).unwrap();
    let (row, group) = (vec![b'x'; size], (figures.rows / figures.groups.max(1)).max(1));
    let mut written = 0_u32;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 0..group {
            written += 1;
            let mut insert = connection.prepare_cached("INSERT INTO change VALUES (?1, ?2)").unwrap();
            insert.execute(params![written, row]).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }
    f64::from(written) / start.elapsed().as_secs_f64()
}
