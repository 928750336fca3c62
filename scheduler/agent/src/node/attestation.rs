//! The node's attestation: read anew while the agent runs, told once, and warned
//! of before it ends. Who signed it is for the control plane to judge. The file may
//! lie on a disk that hangs: then it is waited for a moment, and the node goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_scheduler::{ATTESTATION_MAX, Said, said_by};
use k8s_openapi::api::core::v1::Node;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Context;
use super::config::AgentConfig;
use crate::{clock, files};

/// The statement of where the node stands.
pub(super) const ATTESTATION: &str = "fleet.coffer/attestation";
/// The condition of a node whose attestation holds, and not only for a little while.
pub(super) const LASTS: &str = "AttestationLasts";
/// The text and what surrounds it, in bytes.
const FILE_MAX: u64 = 2 * ATTESTATION_MAX as u64;

/// How long a disk is waited for.
const DISK: Duration = Duration::from_secs(5);

/// What is said of the attestation that a node carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Whether it holds, with enough of its time left.
    pub lasts: bool,
    pub reason: &'static str,
    pub message: String,
}

/// What the file says, and what was told of it.
pub(super) struct Attested {
    file: Option<PathBuf>,
    /// Where it is noted which text was told last.
    note: PathBuf,
    node: String,
    /// The part of its time, in percent, below which the end is near.
    warning: u8,
    /// What the file said last that can be told.
    own: Option<String>,
    /// Why that is not what it says now.
    wrong: Option<String>,
    /// What was told last, also where that could not be noted.
    told: Option<String>,
    /// What was warned of last.
    warned: Option<String>,
    /// A reading that hangs. Another one is begun only when it has ended.
    reading: Option<JoinHandle<Result<String, Unusable>>>,
    /// A noting that hangs.
    noting: Option<JoinHandle<()>>,
}

/// The text of a file that is no attestation.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is not of the form v1.STATEMENT.SIGNATURE, or not whole; `coffer fleet attest` prints one")]
    Form,
    #[error("it speaks of the node {0}")]
    OtherNode(String),
    #[error("its disk does not answer")]
    Silent,
}

/// Whether there is such a file to begin with.
pub(super) fn is_there(config: &AgentConfig) -> io::Result<()> {
    config.attestation.as_ref().map_or(Ok(()), |file| files::read_plain(file, FILE_MAX).map(drop))
}

/// What a file says. A version that is not known here is somebody else's to judge, and is carried as it is where it
/// has the three parts; one that is known must be whole, for a file is read while it is written.
fn read(file: &Path, node: &str) -> Result<String, Unusable> {
    let text = String::from_utf8(files::read_plain(file, FILE_MAX)?).map_err(|_| Unusable::Form)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Unusable::Empty);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [version, body, signature] = parts[..] else { return Err(Unusable::Form) };
    if !version.starts_with('v') || body.is_empty() || signature.is_empty() {
        return Err(Unusable::Form);
    }
    if version == "v1" {
        let Said { statement, .. } = said_by(text).ok_or(Unusable::Form)?;
        if statement.node.as_str() != node {
            return Err(Unusable::OtherNode(statement.node.to_string()));
        }
    }
    Ok(text.to_owned())
}

/// What a node carries.
fn carried(node: Option<&Node>) -> Option<&str> {
    node?.metadata.annotations.as_ref()?.get(ATTESTATION).map(String::as_str)
}

impl Attested {
    pub(super) async fn new(context: &Context) -> Self {
        let note = context.places.told_attestation();
        let noted = note.clone();
        let told = timeout(DISK, spawn_blocking(move || files::read_text(&noted).ok())).await;
        let told = told.ok().and_then(Result::ok).flatten();
        let mut attested = Self {
            file: context.config.attestation.clone(),
            note,
            node: context.config.name.clone(),
            warning: context.config.attestation_warning,
            own: None,
            wrong: None,
            told,
            warned: None,
            reading: None,
            noting: None,
        };
        attested.look().await;
        attested
    }

    /// Reads the file anew; whether another thing is wrong with it than before. What cannot be told changes nothing
    /// but what is warned of: it may be half written.
    pub(super) async fn look(&mut self) -> bool {
        let Some(file) = self.file.clone() else { return false };
        let reading = self.reading.get_or_insert_with(|| {
            let (file, node) = (file.clone(), self.node.clone());
            spawn_blocking(move || read(&file, &node))
        });
        let said = match timeout(DISK, reading).await {
            Ok(said) => {
                self.reading = None;
                said.unwrap_or_else(|why| Err(io::Error::other(why).into()))
            }
            Err(_) => Err(Unusable::Silent),
        };
        let wrong = match said {
            Ok(text) => {
                self.own = Some(text);
                None
            }
            Err(why) => Some(format!("{}: {why}", file.display())),
        };
        let before = std::mem::replace(&mut self.wrong, wrong);
        before != self.wrong
    }

    /// The attestation, where it is news. One that was told already and stands there no more was replaced by an
    /// operator, who knows better: telling it again would put a node back to where it stood before.
    pub(super) fn news(&self, node: Option<&Node>) -> Option<&str> {
        let own = self.own.as_deref()?;
        (carried(node).is_none() || self.told.as_deref() != Some(own)).then_some(own)
    }

    /// It was told. What could not be noted is told once more by the next agent.
    pub(super) async fn is_told(&mut self, text: &str) {
        self.told = Some(text.to_owned());
        if self.noting.as_ref().is_some_and(|noting| !noting.is_finished()) {
            return;
        }
        let (note, text) = (self.note.clone(), text.to_owned());
        let noting = spawn_blocking(move || drop(files::replace(&note, text.as_bytes(), 0o600)));
        if timeout(DISK, self.noting.insert(noting)).await.is_ok() {
            self.noting = None;
        }
    }

    /// What is to be said of a node that carries this from now on.
    pub(super) fn outlook(&self, node: Option<&Node>, news: Option<&str>) -> Outlook {
        let mut outlook =
            outlook(news.or_else(|| carried(node)), &self.node, self.warning, clock::wall().as_secs());
        if let Some(wrong) = &self.wrong {
            if outlook.lasts {
                outlook.reason = "NotTakenUp";
            }
            outlook.message = format!("{}; not taken up: {wrong}", outlook.message);
        }
        outlook
    }

    /// What somebody has to see to, and was not told yet.
    pub(super) fn warning(&mut self, outlook: &Outlook) -> Option<String> {
        let matter = (!outlook.lasts || self.wrong.is_some()).then(|| outlook.message.clone());
        let news = matter.clone().filter(|_| matter != self.warned);
        self.warned = matter;
        news
    }
}

/// How long what a node carries holds; `now` in seconds since 1970, `warning` in percent of its time.
fn outlook(text: Option<&str>, node: &str, warning: u8, now: u64) -> Outlook {
    let outlook = |lasts, reason, message| Outlook { lasts, reason, message };
    let Some(text) = text else {
        return outlook(
            false,
            "Missing",
            "the node carries no attestation, and gets no storage pod".to_owned(),
        );
    };
    let Some(Said { id, statement }) = said_by(text) else {
        return outlook(false, "NotUnderstood", "how long the attestation holds cannot be read".to_owned());
    };
    let moment = |seconds: u64| clock::timestamp(Duration::from_secs(seconds));
    let (from, until) = (statement.not_before, statement.not_after);
    let (begins, ends) = (moment(from), moment(until));
    if statement.node.as_str() != node {
        return outlook(
            false,
            "OtherNode",
            format!("the attestation {id} speaks of the node {}", statement.node),
        );
    }
    if now < from {
        return outlook(false, "NotYet", format!("the attestation {id} holds only from {begins}"));
    }
    if now >= until {
        return outlook(false, "Ended", format!("the attestation {id} ended at {ends}; sign another one"));
    }
    let (left, whole) = (u128::from(until - now), u128::from(until - from));
    if left * 100 < whole * u128::from(warning) {
        let message = format!(
            "the attestation {id} ends at {ends}, and then the storage pods leave: sign another one, and put it into the agent's file, which is read while it runs"
        );
        return outlook(false, "EndsSoon", message);
    }
    outlook(true, "Holds", format!("the attestation {id} holds until {ends}"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    /// A statement with a signature that nobody made.
    fn text(node: &str, not_before: u64, not_after: u64) -> String {
        let statement = json!({
            "node": node, "country": "DE", "domain": "fra", "tier": "III",
            "not_before": not_before, "not_after": not_after,
        });
        let [statement, signature] =
            [statement.to_string().as_bytes(), &[7; 64]].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("v1.{statement}.{signature}")
    }

    #[test]
    fn an_attestation_is_warned_of_before_it_ends_and_not_long_before() {
        let text = text("fra1", 1000, 2000);
        let at = |now| outlook(Some(&text), "fra1", 20, now);
        let reasons = [999, 1000, 1800, 1801, 1999, 2000].map(|now| (at(now).reason, at(now).lasts));
        let expected = [
            ("NotYet", false),
            ("Holds", true),
            ("Holds", true),
            ("EndsSoon", false),
            ("EndsSoon", false),
            ("Ended", false),
        ];
        assert_eq!(reasons, expected);
        assert!(at(1900).message.contains("1970-01-01T00:33:20"), "{:?}", at(1900));
        assert_eq!(outlook(Some(&text), "fra1", 0, 1999).reason, "Holds");
        assert_eq!(outlook(Some(&text), "par1", 20, 1000).reason, "OtherNode");
        assert_eq!(outlook(Some("v2.e30.e30"), "fra1", 20, 1000).reason, "NotUnderstood");
        assert_eq!(outlook(None, "fra1", 20, 1000).reason, "Missing");
    }

    async fn attested(dir: &Path) -> Attested {
        let mut attested = Attested {
            file: Some(dir.join("attestation")),
            note: dir.join("attestation.told"),
            node: "fra1".to_owned(),
            warning: 20,
            own: None,
            wrong: None,
            told: None,
            warned: None,
            reading: None,
            noting: None,
        };
        attested.look().await;
        attested
    }

    fn carrying(text: &str) -> Node {
        let node = json!({ "metadata": { "name": "fra1", "annotations": { ATTESTATION: text } } });
        serde_json::from_value(node).unwrap()
    }

    #[tokio::test]
    async fn a_file_is_told_when_it_changes_and_never_against_an_operators_word() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, theirs] = [2000, 3000, 4000].map(|until| text("fra1", 1000, until));
        let write =
            |text: &str| files::replace(&dir.path().join("attestation"), text.as_bytes(), 0o600).unwrap();
        write(&format!("{first}\n"));
        let mut ours = attested(dir.path()).await;
        assert_eq!(ours.news(None), Some(first.as_str()));
        ours.is_told(&first).await;
        assert_eq!(ours.news(Some(&carrying(&first))), None);
        // What an operator put in its place stays, until the file says something new.
        let replaced = carrying(&theirs);
        ours.look().await;
        assert_eq!(ours.news(Some(&replaced)), None);
        write(&second);
        ours.look().await;
        assert_eq!(ours.news(Some(&replaced)), Some(second.as_str()));
        ours.is_told(&second).await;
        assert_eq!(ours.news(Some(&replaced)), None);
        // A node that was made anew carries none.
        assert_eq!(ours.news(None), Some(second.as_str()));
    }

    #[tokio::test]
    async fn what_is_half_written_or_of_another_node_is_said_and_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let good = text("fra1", 1000, u64::MAX / 1_000_000_000);
        let write =
            |text: &str| files::replace(&dir.path().join("attestation"), text.as_bytes(), 0o600).unwrap();
        write(&good);
        let mut ours = attested(dir.path()).await;
        ours.is_told(&good).await;
        let node = carrying(&good);
        assert_eq!(ours.warning(&ours.outlook(Some(&node), None)), None);
        // A newer one, which would be news, cut off at every byte.
        let newer = text("fra1", 1001, u64::MAX / 1_000_000_000);
        let cut = (0..newer.len()).map(|end| newer[..end].to_owned());
        for wrong in cut.chain([text("par1", 1000, 2000)]) {
            let wrong = wrong.as_str();
            write(wrong);
            ours.look().await;
            assert_eq!(ours.news(Some(&node)), None, "{wrong}");
            let outlook = ours.outlook(Some(&node), None);
            assert!(outlook.lasts && outlook.reason == "NotTakenUp", "{outlook:?}");
        }
        let outlook = ours.outlook(Some(&node), None);
        assert!(ours.warning(&outlook).is_some_and(|said| said.contains("par1")));
        assert_eq!(ours.warning(&outlook), None, "told once");
        write(&good);
        ours.look().await;
        assert_eq!(ours.outlook(Some(&node), None).reason, "Holds");
    }

    #[tokio::test]
    async fn what_is_no_plain_file_or_too_long_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("attestation");
        let good = text("fra1", 1000, 2000);
        files::replace(&file, good.as_bytes(), 0o600).unwrap();
        let mut ours = attested(dir.path()).await;
        std::fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
        assert!(ours.look().await);
        assert!(ours.wrong.as_ref().is_some_and(|why| why.contains("no plain file")), "{:?}", ours.wrong);
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        ours.look().await;
        assert!(ours.wrong.as_ref().is_some_and(|why| why.contains("no plain file")), "{:?}", ours.wrong);
        std::fs::remove_dir(&file).unwrap();
        files::replace(&file, good.repeat(100).as_bytes(), 0o600).unwrap();
        ours.look().await;
        assert!(ours.wrong.as_ref().is_some_and(|why| why.contains("too large")), "{:?}", ours.wrong);
        assert_eq!(ours.own.as_deref(), Some(good.as_str()), "what was good stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_told_and_no_second_reading_is_begun() {
        let dir = tempfile::tempdir().unwrap();
        let good = text("fra1", 1000, 2000);
        files::replace(&dir.path().join("attestation"), good.as_bytes(), 0o600).unwrap();
        let mut ours = attested(dir.path()).await;
        let (answer, hangs) = tokio::sync::oneshot::channel::<()>();
        ours.reading = Some(tokio::spawn(async move {
            drop(hangs.await);
            Err(Unusable::Empty)
        }));
        assert!(ours.look().await && !ours.look().await);
        assert!(ours.wrong.as_ref().is_some_and(|why| why.contains("does not answer")), "{:?}", ours.wrong);
        assert!(ours.reading.is_some());
        answer.send(()).unwrap();
        ours.look().await;
        ours.look().await;
        assert_eq!((&ours.wrong, ours.own.as_deref()), (&None, Some(good.as_str())));
    }
}
