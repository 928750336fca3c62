//! A service that moves while it is used: real processes, on ports that change,
//! and another deployment's service in the place of the first one.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes files and talks to ports")]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

#[path = "support/calls.rs"]
mod calls;
#[path = "support/port.rs"]
mod port;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use calls::coffer;
use port::free_port;
use program::command;
use running::{Running, SERVE, code, good};

/// Files of a megabyte.
const FILES: u32 = 96;

fn serve(dir: &Path, port: u16) -> Running {
    let listen = format!("127.0.0.1:{port}");
    let service = Running::start(dir, &SERVE.map(|word| if word == "127.0.0.1:0" { &listen } else { word }));
    assert_eq!(service.said("endpoint"), format!("https://{listen}"));
    service
}

/// Bytes that no other file has.
fn bytes(seed: u32, size: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).flatten().take(size).collect()
}

/// How many packs of a backup are stored.
fn packs(dir: &Path) -> usize {
    let listed = coffer(dir, &["object", "ls", "documents/packs/"]);
    String::from_utf8_lossy(&listed.stdout).lines().count()
}

/// Puts one object after the other until it is told to stop; those that were acknowledged.
fn keep_putting(dir: &Path, over: &AtomicBool) -> Vec<u32> {
    let mut stand = Vec::new();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        fs::write(dir.join("loose"), bytes(1000 + n, 20_000)).unwrap();
        if code(dir, &["object", "put", "loose", &format!("loose/{n}")]) == Some(0) {
            stand.push(n);
        }
    }
    stand
}

/// A tenant, its buckets and its tree.
fn furnish(dir: &Path) {
    for arguments in [
        &["tenant", "create", "demo"][..],
        &["bucket", "create", "documents"],
        &["bucket", "create", "loose"],
    ] {
        good(dir, arguments);
    }
    fs::create_dir(dir.join("tree")).unwrap();
    for n in 0..FILES {
        fs::write(dir.join(format!("tree/{n}")), bytes(n, 1 << 20)).unwrap();
    }
}

/// Whoever has the old address is another deployment's: named, and asked nothing.
fn the_stranger_is_named(dir: &Path, old: u16, new: u16) {
    let named = format!("https://127.0.0.1:{old}: who answers there has no certificate of this deployment");
    let listed = command(dir, &["bucket", "ls"]).output().unwrap();
    let errors = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success() && errors.contains(&named), "{errors}");
    let only = format!("https://127.0.0.1:{old}");
    let refused = coffer(dir, &["--server", &only, "bucket", "ls"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors.contains("another service, and was asked nothing"), "{errors}");
    let both = format!("{only},https://127.0.0.1:{new}");
    good(dir, &["--server", &both, "bucket", "ls"]);
    assert_eq!(code(dir, &["--server", "127.0.0.1:1", "bucket", "ls"]), Some(2));
}

#[test]
fn a_service_that_moves_during_a_backup_is_followed_and_who_took_its_place_is_refused_by_name() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let (old, new) = (free_port(), free_port());
    // It is founded before anybody waits for a service, and only moves later.
    drop(serve(elsewhere.path(), new));
    let first = serve(dir, old);
    furnish(dir);
    // Written once, before anything moves.
    let profile = dir.join(".config/coffer/endpoint");
    let ways = format!("https://127.0.0.1:{old}\nhttps://127.0.0.1:{new}\n");
    fs::write(&profile, &ways).unwrap();
    let over = AtomicBool::new(false);
    let (stand, _second, _stranger) = std::thread::scope(|scope| {
        let putting = scope.spawn(|| keep_putting(dir, &over));
        let mut backup = command(dir, &["--json", "-q", "backup", "tree", "--bucket", "documents"]);
        let mut backup = backup.stdout(Stdio::null()).spawn().unwrap();
        // It has stored something, and is not done.
        while packs(dir) == 0 {
            assert!(backup.try_wait().unwrap().is_none(), "the backup ended before the service moved");
        }
        drop(first);
        let stranger = serve(elsewhere.path(), old);
        let second = serve(dir, new);
        assert_eq!(backup.wait().unwrap().code(), Some(0));
        over.store(true, Ordering::Relaxed);
        (putting.join().unwrap(), second, stranger)
    });
    assert_eq!(fs::read_to_string(&profile).unwrap(), ways, "nothing was configured anew");
    good(dir, &["restore", "latest", "restored", "--bucket", "documents"]);
    for n in 0..FILES {
        assert!(fs::read(dir.join(format!("restored/{n}"))).unwrap() == bytes(n, 1 << 20), "{n}");
    }
    assert!(!stand.is_empty());
    for n in stand {
        good(dir, &["object", "get", &format!("loose/{n}"), "-o", "out"]);
        assert!(fs::read(dir.join("out")).unwrap() == bytes(1000 + n, 20_000), "{n}");
        fs::remove_file(dir.join("out")).unwrap();
    }
    the_stranger_is_named(dir, old, new);
}
