//! A witness: it remembers the newest state of each log that it was shown, and
//! cosigns a further one only if that extends it (C2SP tlog-witness v1). Here
//! is the book that it keeps; whoever serves it brings the network.

mod disk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_keys::{
    Checkpoint, Refusal, SigningKey, Submission, VerifierName, WitnessName, cosign, open_checkpoint,
};
use coffer_model::Entropy;
use zeroize::Zeroizing;

/// Logs that a witness remembers. A deployment has one for each tenant.
pub const LOGS_MAX: usize = 100_000;

/// Why a witness cannot work.
#[derive(Debug, thiserror::Error)]
pub enum WitnessBookError {
    /// The disk.
    #[error("{path}: {source}", path = path.display())]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a witness already.
    #[error("{} holds a witness already; its key is never written over", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("{} holds no witness; `coffer witness init` makes one", .0.display())]
    None(PathBuf),
    /// Another process has it.
    #[error("{} is used by another process", .0.display())]
    Busy(PathBuf),
    /// A name that no note can carry.
    #[error("\"{0}\" is no name of a witness: it has white space, control characters or a +, or is empty")]
    Name(String),
    /// A file that is not what was written.
    #[error("{} is damaged; without it the witness cannot know what it cosigned", .0.display())]
    Damaged(PathBuf),
}

/// An answer of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Reply {
    fn refused(status: u16, reason: &str) -> Self {
        Self { status, content_type: TEXT, body: format!("{reason}\n") }
    }
}

/// The newest state of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLog {
    /// What was cosigned.
    pub checkpoint: Checkpoint,
    /// The note with the cosignature.
    pub note: String,
}

/// What a witness knows, on its disk and in memory.
pub struct WitnessBook {
    dir: disk::Directory,
    name: String,
    key: SigningKey,
    logs: Vec<VerifierName>,
    seen: BTreeMap<String, SeenLog>,
}

impl WitnessBook {
    /// Makes a new witness in a directory that has none.
    ///
    /// # Errors
    /// [`WitnessBookError`].
    pub fn create(dir: &Path, name: &str, entropy: &dyn Entropy) -> Result<WitnessName, WitnessBookError> {
        let key = SigningKey::generate(entropy);
        let public = WitnessName { name: name.to_owned(), key: key.verifying_key() };
        if public.to_string().parse().as_ref() != Ok(&public) {
            return Err(WitnessBookError::Name(name.to_owned()));
        }
        disk::create(dir, name, key.danger_seed())?;
        Ok(public)
    }

    /// Opens a witness, for logs that are signed with one of these keys: those
    /// of a key's own name, and those below it.
    ///
    /// # Errors
    /// [`WitnessBookError`].
    pub fn open(dir: &Path, logs: Vec<VerifierName>) -> Result<Self, WitnessBookError> {
        let (dir, name, seed) = disk::open(dir)?;
        let key = SigningKey::danger_from_seed(Zeroizing::new(*seed));
        let mut book = Self { dir, name, key, logs, seen: BTreeMap::new() };
        for (path, note) in book.dir.notes()? {
            // A state of a log that it is not told of today stays on disk.
            let Some(log) = book.signer_of(note.split('\n').next().unwrap_or_default()) else { continue };
            let checkpoint = open_checkpoint(&note, &log.name, &log.key);
            let checkpoint = checkpoint.map_err(|_| WitnessBookError::Damaged(path))?;
            book.seen.insert(checkpoint.origin.clone(), SeenLog { checkpoint, note });
        }
        Ok(book)
    }

    /// Its key, for whoever verifies.
    pub fn public(&self) -> WitnessName {
        WitnessName { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// The newest state of each log.
    pub fn seen(&self) -> impl Iterator<Item = &SeenLog> {
        self.seen.values()
    }

    fn signer_of(&self, origin: &str) -> Option<&VerifierName> {
        let below = |log: &&VerifierName| {
            origin
                .strip_prefix(log.name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.logs.iter().find(below)
    }

    /// Answers an `add-checkpoint`. What is cosigned is on disk before the
    /// answer is there; `seconds` since 1970 are the time that it states.
    pub fn add_checkpoint(&mut self, body: &str, seconds: u64) -> Reply {
        let submission = match Submission::parse(body) {
            Ok(submission) => submission,
            Err(error) => return Reply::refused(400, &error.to_string()),
        };
        let origin = match submission.origin() {
            Ok(origin) => origin,
            Err(error) => return Reply::refused(400, &error.to_string()),
        };
        let Some(log) = self.signer_of(&origin) else {
            return Reply::refused(404, "this log is not watched here");
        };
        let known = self.seen.get(&origin).map(|seen| &seen.checkpoint);
        let checkpoint = match submission.judge(log, known) {
            Ok(checkpoint) => checkpoint,
            Err(Refusal::Conflict { size }) => {
                let body = format!("{size}\n");
                return Reply { status: 409, content_type: "text/x.tlog.size", body };
            }
            Err(refusal) => return Reply::refused(refusal.status(), &refusal.to_string()),
        };
        if known.is_none() && self.seen.len() >= LOGS_MAX {
            return Reply::refused(503, "no room for another log");
        }
        let Ok(line) = cosign(&submission.note, &self.key, &self.name, seconds) else {
            return Reply::refused(400, "the checkpoint cannot be cosigned");
        };
        let note = own_note(&submission.note, log, &line);
        if let Err(error) = self.dir.keep(&origin, &note) {
            return Reply::refused(500, &error.to_string());
        }
        self.seen.insert(origin, SeenLog { checkpoint, note });
        Reply { status: 200, content_type: TEXT, body: line }
    }
}

/// The note with the log's own signature and the witness's: what others put
/// under it was not checked, and is not kept.
fn own_note(note: &str, log: &VerifierName, line: &str) -> String {
    let (body, lines) = note.rsplit_once("\n\n").unwrap_or((note, ""));
    let prefix = format!("\u{2014} {} ", log.name);
    let own = lines.split_inclusive('\n').filter(|line| line.starts_with(&prefix));
    format!("{body}\n\n{}{line}", own.collect::<String>())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
mod tests {
    use coffer_keys::{Tree, consistency_proof, leaf_hash, root_of, sign_checkpoint, verify_cosignature};
    use coffer_model::Digest;

    use super::*;

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(1);
        }
    }

    const ORIGIN: &str = "coffer-07/log/ten-09";

    struct Log(SigningKey, Vec<Digest>);

    impl Log {
        fn new() -> Self {
            let leaves = (0..50_u8).map(|n| leaf_hash(&[n])).collect();
            Self(SigningKey::danger_from_seed(Zeroizing::new([7; 32])), leaves)
        }

        fn name(&self) -> VerifierName {
            VerifierName { name: "coffer-07".to_owned(), key: self.0.verifying_key() }
        }

        fn body(&self, origin: &str, old: usize, size: usize) -> String {
            let root = root_of(&self.1[..size]);
            let checkpoint = Checkpoint { origin: origin.to_owned(), size: size as u64, root };
            let note = sign_checkpoint(&self.0, "coffer-07", &checkpoint);
            let proof = consistency_proof(&self.1[..size], old as u64).unwrap();
            Submission { old: old as u64, proof, note }.to_text()
        }
    }

    fn witness(dir: &Path, log: &Log) -> WitnessBook {
        if !dir.join("key").exists() {
            WitnessBook::create(dir, "witness.example/w1", &Ones).unwrap();
        }
        WitnessBook::open(dir, vec![log.name()]).unwrap()
    }

    #[test]
    fn what_extends_the_log_is_cosigned_and_what_does_not_is_refused_with_the_status_of_the_standard() {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        let mut witness = witness(dir.path(), &log);
        let good = witness.add_checkpoint(&log.body(ORIGIN, 0, 20), 1_764_000_000);
        assert_eq!(good.status, 200);
        let note = log.body(ORIGIN, 0, 20).split_once("\n\n").unwrap().1.to_owned();
        assert_eq!(verify_cosignature(&format!("{note}{}", good.body), &witness.public()), Ok(1_764_000_000));
        let mut status = |body: &str| witness.add_checkpoint(body, 5).status;
        assert_eq!(status(&log.body(ORIGIN, 20, 30)), 200);
        assert_eq!(status(&log.body(ORIGIN, 30, 30)), 200, "asked again");
        assert_eq!(status("nothing"), 400);
        assert_eq!(status(&log.body("other/log/ten-09", 0, 20)), 404);
        assert_eq!(status(&log.body("coffer-070/log/ten-09", 0, 20)), 404, "a longer name is another one");
        assert_eq!(status(&log.body(ORIGIN, 30, 40).replacen("\n40\n", "\n41\n", 1)), 403);
        assert_eq!(status(&log.body(ORIGIN, 20, 40)), 409);
        let mut forked = Log::new();
        forked.1[3] = Tree::new().root();
        assert_eq!(status(&forked.body(ORIGIN, 30, 40)), 422);
        assert_eq!(status(&forked.body(ORIGIN, 30, 30)), 409);
        let conflict = witness.add_checkpoint(&log.body(ORIGIN, 0, 40), 5);
        assert_eq!((conflict.content_type, conflict.body.as_str()), ("text/x.tlog.size", "30\n"));
    }

    #[test]
    fn a_witness_that_is_started_again_still_refuses_a_log_that_went_back() {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        assert_eq!(witness(dir.path(), &log).add_checkpoint(&log.body(ORIGIN, 0, 30), 5).status, 200);
        let mut again = witness(dir.path(), &log);
        assert_eq!(again.seen().map(|seen| seen.checkpoint.size).collect::<Vec<_>>(), [30]);
        let went_back = again.add_checkpoint(&log.body(ORIGIN, 0, 20), 5);
        assert_eq!((went_back.status, went_back.body.as_str()), (409, "30\n"));
        assert_eq!(again.add_checkpoint(&log.body(ORIGIN, 30, 31), 5).status, 200);
    }

    #[test]
    fn what_cannot_be_kept_is_not_cosigned() {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        let mut witness = witness(dir.path(), &log);
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::File::create(dir.path()).unwrap();
        let reply = witness.add_checkpoint(&log.body(ORIGIN, 0, 30), 5);
        assert_eq!(reply.status, 500, "{}", reply.body);
        assert_eq!(witness.seen().count(), 0);
        std::fs::remove_file(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_state_a_second_process_and_a_second_key_are_refused() {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::new());
        let mut first = witness(dir.path(), &log);
        first.add_checkpoint(&log.body(ORIGIN, 0, 30), 5);
        let logs = || vec![log.name()];
        assert!(matches!(WitnessBook::open(dir.path(), logs()), Err(WitnessBookError::Busy(_))));
        assert!(matches!(WitnessBook::create(dir.path(), "w", &Ones), Err(WitnessBookError::Exists(_))));
        drop(first);
        let states = dir.path().join("states");
        let state = std::fs::read_dir(&states).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&state).unwrap().replacen("\n30\n", "\n20\n", 1);
        std::fs::write(&state, text).unwrap();
        assert!(matches!(WitnessBook::open(dir.path(), logs()), Err(WitnessBookError::Damaged(_))));
        let other = tempfile::tempdir().unwrap();
        let bad = WitnessBook::create(&other.path().join("x"), "two words", &Ones);
        assert!(matches!(bad, Err(WitnessBookError::Name(_))));
    }
}
