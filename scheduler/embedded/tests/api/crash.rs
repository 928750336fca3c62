//! A process that writes is killed; what it said was written is there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use coffer_embedded::store::{Expect, Key, Limits, Operation, Store};
use serde_json::json;

const FILE: &str = "COFFER_TEST_STORE";
const WRITERS: u64 = 8;
const ROUNDS: u64 = 3;
const ACKNOWLEDGED: usize = 300;

fn key(name: &str) -> Key {
    Key::new(&"configmaps".into(), "default", name)
}

/// The writer, when this test is run by the other one; alone it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_says_what_it_has_written() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let store = Store::open(Path::new(&file), Limits::default()).unwrap();
    let round = store.revision();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for turn in 0_u64.. {
                    let name = format!("r{round}-w{writer}-t{turn}");
                    let object = json!({"metadata": {"name": name}, "data": {"filling": "x".repeat(500)}});
                    let operation = Operation::Put { key: key(&name), object, expect: Expect::Absent };
                    let stored = store.commit(vec![operation]).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "\nwrote {name} {}", stored[0].revision).unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fleet.sqlite");
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::a_writer_says_what_it_has_written", "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            let mut words = line.split(' ');
            if let (Some("wrote"), Some(name), Some(Ok(revision))) =
                (words.next(), words.next(), words.next().map(str::parse))
            {
                acknowledged.push((name.to_owned(), revision));
                seen += 1;
                if seen == ACKNOWLEDGED {
                    child.kill().unwrap();
                }
            }
        }
        assert!(seen >= ACKNOWLEDGED, "the writer ended by itself");
        child.wait().unwrap();
        let store = Store::open(&file, Limits::default()).unwrap();
        for (name, revision) in &acknowledged {
            let stored = store.get(&key(name)).unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!(stored.revision, *revision);
        }
    }
    assert!(acknowledged.len() >= ACKNOWLEDGED * usize::try_from(ROUNDS).unwrap());
}

#[tokio::test]
async fn a_file_that_another_has_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fleet.sqlite");
    let first = Store::open(&file, Limits::default()).unwrap();
    let second = Store::open(&file, Limits::default());
    assert!(matches!(second, Err(coffer_embedded::store::OpenError::InUse { .. })));
    drop(first);
    let _third: Arc<Store> = Arc::new(Store::open(&file, Limits::default()).unwrap());
}

#[test]
fn a_file_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other");
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    let opened = Store::open(&file, Limits::default());
    assert!(matches!(opened, Err(coffer_embedded::store::OpenError::Foreign { .. })));
    let newer = directory.path().join("newer");
    drop(Store::open(&newer, Limits::default()).unwrap());
    let connection = rusqlite::Connection::open(&newer).unwrap();
    connection.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(connection);
    let opened = Store::open(&newer, Limits::default());
    assert!(matches!(opened, Err(coffer_embedded::store::OpenError::Newer { found: 2, known: 1, .. })));
}
