//! Every scenario of a drill on one tenant, by the real program: each once as
//! it should be, and once with a planted fault that it must find. Small for the
//! tests, large for `tests/examples/drill_all.rs`.

use std::fs;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// How large the tree is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Files.
    pub(crate) files: usize,
    /// Bytes of a usual one; every hundredth has fifty times as many.
    pub(crate) bytes_each: usize,
}

/// What is wrong, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Nothing.
    Nothing,
    /// A wrong byte at rest in each shard, on more sites than may be lost.
    WrongBytes,
    /// The backup lost a hard link of its source.
    LostLink,
    /// An object that was deleted opens.
    Opens,
    /// A tenant reads what it names.
    ReadsAnother,
}

/// One drill that is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The scenario, as the table calls it.
    pub(crate) scenario: &'static str,
    /// What is planted.
    pub(crate) planted: Planted,
    /// What is lost: flags of the plan.
    lost: Vec<String>,
    /// Flags of the run.
    run: Vec<String>,
    /// What its reason must say; empty where everything must be satisfied.
    pub(crate) reason: &'static str,
}

/// One drill that was done.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// How it ended.
    pub(crate) exit: Option<i32>,
    /// What its plan said.
    pub(crate) plan: Value,
    /// The summary of the record.
    pub(crate) summary: Value,
    /// What was printed to stderr.
    pub(crate) words: String,
    /// Whether the record verifies without the service.
    pub(crate) verified: bool,
    /// The most memory that the drilling program held, KiB.
    pub(crate) peak_kib: u64,
}

/// A directory with a deployment, two tenants, a backup and a service.
pub(crate) struct Rehearsal {
    dir: PathBuf,
    coffer: PathBuf,
    reader: Vec<String>,
    service: Option<Child>,
    /// The tree as it was, and the one that lost a link.
    snapshots: [String; 2],
    /// The moment before everything is rewritten.
    moment: String,
    done: usize,
}

/// Sites whose loss together is more than 4+2 bears.
const ROTTEN: [&str; 3] = ["ams1", "zrh1", "sto1"];

/// Where the middle of each shard of a volume lies (`regions/LAYOUT.md`).
fn shards(volume: &[u8]) -> Vec<usize> {
    let number = |at: usize, bytes: usize| {
        volume[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (mut found, mut batch) = (Vec::new(), 128);
    while volume.get(batch..batch + 8) == Some(b"CFBATCH1") {
        let table = batch + 92;
        let mut body = table + 56 * number(batch + 48, 4);
        for entry in (table..body).step_by(56) {
            let bytes = number(entry + 20, 4);
            if volume[entry] == 1 {
                found.push(body + bytes / 2);
            }
            body += bytes;
        }
        batch = body;
    }
    found
}

/// Bytes that compress to about a quarter and that every run makes again.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"the same words again and");
    }
    bytes.truncate(length);
    bytes
}

fn make_tree(root: &Path, size: Size) {
    for number in 0..size.files {
        let folder = root.join(format!("d{}", number / 200));
        fs::create_dir_all(&folder).unwrap();
        let length = if number % 100 == 99 { size.bytes_each * 50 } else { size.bytes_each };
        fs::write(folder.join(format!("f{number}")), content(number as u64 + 1, length)).unwrap();
    }
    fs::hard_link(root.join("d0/f1"), root.join("again")).unwrap();
    std::os::unix::fs::symlink("d0/f2", root.join("link")).unwrap();
    fs::File::create(root.join("sparse")).unwrap().set_len(8 << 20).unwrap();
}

/// The most memory that a process has held so far, KiB; nothing once it is over.
fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Rehearsal {
    /// Founds, backs up twice (the second time with a link lost, and with the
    /// first one's manifest in its place), and removes the source.
    pub(crate) fn begin(dir: &Path, coffer: &Path, reader: &[String], size: Size) -> Self {
        let mut rehearsal = Self {
            dir: dir.to_owned(),
            coffer: coffer.to_owned(),
            reader: reader.to_vec(),
            service: None,
            snapshots: [String::new(), String::new()],
            moment: String::new(),
            done: 0,
        };
        rehearsal.serve();
        for tenant in ["demo", "other"] {
            rehearsal.good(&["tenant", "create", tenant, "--people-out", &format!("people-{tenant}")]);
        }
        rehearsal.good(&["bucket", "create", "documents"]);
        let tree = dir.join("tree");
        make_tree(&tree, size);
        let back_up = |rehearsal: &Self| {
            let told = rehearsal.good(&["backup", "tree", "--bucket", "documents"]);
            told[0]["snapshot"].as_str().unwrap().to_owned()
        };
        let whole = back_up(&rehearsal);
        fs::remove_file(tree.join("again")).unwrap();
        fs::copy(tree.join("d0/f1"), tree.join("again")).unwrap();
        let broken = back_up(&rehearsal);
        fs::remove_dir_all(&tree).unwrap();
        let manifests = dir.join(".config/coffer/tenants/demo/manifests/documents");
        for kind in ["manifest", "json"] {
            let file = |id: &str| manifests.join(format!("{id}.{kind}"));
            fs::copy(file(&whole), file(&broken)).unwrap();
        }
        fs::write(dir.join("junk"), "written by somebody else").unwrap();
        rehearsal.good(&["object", "put", "junk", "documents/decoy"]);
        let decoy = rehearsal.good(&["object", "stat", "documents/decoy"]);
        rehearsal.moment = decoy[0]["created"].as_str().unwrap().to_owned();
        rehearsal.good(&["object", "rm", "documents/decoy"]);
        rehearsal.snapshots = [whole, broken];
        rehearsal
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.coffer);
        command.args(arguments).current_dir(&self.dir).env_clear().env("HOME", &self.dir);
        command
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.asking(arguments).output().unwrap()
    }

    fn asking(&self, arguments: &[&str]) -> Command {
        let acts_as_tenant = !matches!(arguments[0], "tenant" | "serve");
        let tenant: &[&str] = if acts_as_tenant { &["--tenant", "demo"] } else { &[] };
        self.command(&[&["--json", "-q"], tenant, arguments].concat())
    }

    /// The same, with the most memory that it had held when it told its last.
    fn ask_watched(&self, arguments: &[&str]) -> (Output, u64) {
        let mut command = self.asking(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut told, mut peak) = (Vec::new(), 0);
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            peak = peak_kib(child.id()).unwrap_or(peak);
            told.extend_from_slice(line.as_bytes());
            told.push(b'\n');
        }
        let ended = child.wait_with_output().unwrap();
        (Output { stdout: told, ..ended }, peak)
    }

    fn good(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.ask(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", words(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts the service, without jobs that would mend what is planted.
    fn serve(&mut self) {
        let arguments = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--exit-with-stdin"];
        let jobs = ["--scrub-rate", "0", "--challenge-every", "0s", "--repair-every", "0s"];
        let mut child = self
            .command(&[&arguments[..], &jobs].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.starts_with("ready on"));
        assert!(ready, "the service ended before it was ready");
        self.service = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut service) = self.service.take() {
            drop(service.stdin.take());
            let _ = service.wait();
        }
    }

    /// Every case that can be done here, in the order in which they can be:
    /// the last ones leave a tenant behind that is rewritten.
    pub(crate) fn cases(&self) -> Vec<Case> {
        use Planted::{LostLink, Nothing, Opens, ReadsAnother, WrongBytes};
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let case = |scenario, planted, lost: &[&str], run: Vec<String>, reason| Case {
            scenario,
            planted,
            lost: owned(lost),
            run,
            reason,
        };
        let lost = |scenario| match scenario {
            "sites" => &["--lose-site", "fra1", "--lose-site", "par1"][..],
            "jurisdiction" => &["--lose-country", "DE", "--lose-country", "ES"],
            "catalogue" => &["--scenario", "catalogue"],
            "key-service" => &["--scenario", "key-service"],
            "lost-host" => &["--scenario", "lost-host", "--lose-site", "fra1", "--lose-site", "par1"],
            "provider-exit" => &["--scenario", "provider-exit", "--lose-site", "fra1", "--lose-site", "par1"],
            "negative" => &["--scenario", "negative"],
            _ => &[],
        };
        let run = |scenario| match scenario {
            "catalogue" => owned(&["--data-dir", "data"]),
            "key-service" => self.left(false),
            "lost-host" => self.left(true),
            "provider-exit" => [self.left(true), self.reader_flags()].concat(),
            "negative" => [owned(&["--deleted", "decoy"]), self.not_tenant("other")].concat(),
            _ => vec![],
        };
        let unread = "too few shards or copies";
        let wanted = [
            ("rehearsal", LostLink, "HardLink (1)"),
            ("sites", WrongBytes, unread),
            ("jurisdiction", LostLink, "HardLink (1)"),
            ("catalogue", WrongBytes, unread),
            ("key-service", LostLink, "HardLink (1)"),
            ("lost-host", WrongBytes, unread),
            ("provider-exit", WrongBytes, unread),
            ("negative", Opens, "reads of objects that were deleted (1 of 1)"),
            ("negative", ReadsAnother, "calls that name the tenant"),
        ];
        let possible: Vec<_> = wanted
            .into_iter()
            .filter(|(name, ..)| *name != "provider-exit" || !self.reader.is_empty())
            .collect();
        let mut cases: Vec<Case> = Vec::new();
        for (scenario, planted, _) in &possible {
            if *planted != ReadsAnother {
                cases.push(case(scenario, Nothing, lost(scenario), run(scenario), ""));
            }
        }
        for (scenario, planted, reason) in possible {
            let flags = match planted {
                ReadsAnother => self.not_tenant("demo"),
                _ => run(scenario),
            };
            cases.push(case(scenario, planted, lost(scenario), flags, reason));
        }
        // From here on everything of now is rewritten and gone.
        let past = ["--as-of", &self.moment];
        cases.push(case("ransomware", Nothing, &past, vec![], ""));
        cases.push(case("ransomware", WrongBytes, &past, vec![], unread));
        cases
    }

    fn left(&self, tenant: bool) -> Vec<String> {
        let mut flags = vec!["--data-dir".to_owned(), "data".to_owned()];
        for number in [5, 4, 2] {
            let provider = format!(".config/coffer/custodians/custodian-{number}.json");
            flags.extend(["--provider-share".to_owned(), provider]);
        }
        let people: Vec<PathBuf> = fs::read_dir(self.dir.join("people-demo"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .take(3)
            .collect();
        for share in people.iter().filter(|_| tenant) {
            flags.extend(["--tenant-share".to_owned(), share.display().to_string()]);
        }
        flags
    }

    fn reader_flags(&self) -> Vec<String> {
        let mut parts = self.reader.iter();
        let program = parts.next().into_iter().flat_map(|program| ["--reader".to_owned(), program.clone()]);
        program.chain(parts.flat_map(|part| ["--reader-arg".to_owned(), part.clone()])).collect()
    }

    fn not_tenant(&self, name: &str) -> Vec<String> {
        let file = self.dir.join(format!(".config/coffer/tenants/{name}/tenant.json"));
        let told: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        vec!["--not-tenant".to_owned(), told["tenant"].as_str().unwrap().to_owned()]
    }

    /// Turns a bit in the middle of every shard of three sites; done again,
    /// everything is as it was.
    fn rot(&self) {
        for site in ROTTEN {
            for entry in fs::read_dir(self.dir.join("data/sites").join(site).join("volumes")).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
                for at in shards(&bytes) {
                    file.seek(SeekFrom::Start(at as u64)).unwrap();
                    file.write_all(&[bytes[at] ^ 1]).unwrap();
                }
            }
        }
    }

    /// Everything rewritten and deleted, with valid credentials.
    fn ransom(&self) {
        for object in self.good(&["object", "ls", "documents"]) {
            let address = format!("documents/{}", object["key"].as_str().unwrap());
            self.good(&["object", "put", "junk", &address]);
            self.good(&["object", "rm", &address]);
        }
    }

    /// Plans a drill, plants its fault, carries it out, and verifies its record.
    pub(crate) fn act(&mut self, case: &Case) -> Done {
        self.done += 1;
        let out = format!("drill-{}", self.done);
        let snapshot = &self.snapshots[usize::from(case.planted == Planted::LostLink)];
        // Where nothing of the bucket is left, there is no latest to be found now.
        if case.scenario == "ransomware" && case.planted == Planted::Nothing {
            self.ransom();
        }
        if case.planted == Planted::Opens {
            self.good(&["object", "put", "junk", "documents/decoy"]);
        }
        let lost: Vec<&str> = case.lost.iter().map(String::as_str).collect();
        let wish = [&["drill", "plan", "--bucket", "documents", "--snapshot", snapshot][..], &lost].concat();
        let plan = self.good(&wish);
        let id = plan[0]["drill"].as_str().unwrap().to_owned();
        let rots = case.planted == Planted::WrongBytes;
        if rots {
            self.rot();
        }
        let flags: Vec<&str> = case.run.iter().map(String::as_str).collect();
        let run = [&["drill", "run", "--plan", &id, "--out", &out][..], &flags].concat();
        let (ran, peak_kib) = self.ask_watched(&run);
        if rots {
            self.rot();
            // What it has heard of damage is not true any more.
            self.stop();
            self.serve();
        }
        if case.planted == Planted::Opens {
            self.good(&["object", "rm", "documents/decoy"]);
        }
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let record = format!("{out}/record.json");
        let verify = ["drill", "verify", &record, "--kit", ".config/coffer/recovery-kit.json"];
        let verified = self.ask(&verify);
        let verified: Value = serde_json::from_slice(&verified.stdout).unwrap_or(Value::Null);
        assert!(!self.dir.join(&out).join("left").exists(), "copies of disks were left behind");
        fs::remove_dir_all(self.dir.join(&out)).unwrap();
        Done {
            exit: ran.status.code(),
            plan: plan[0].clone(),
            summary: serde_json::from_str(text.lines().next().unwrap_or("null")).unwrap_or(Value::Null),
            words: words(&ran),
            verified: verified["verified"].is_array(),
            peak_kib,
        }
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Done {
    /// The verdicts that are not satisfied, with their reasons.
    pub(crate) fn unmet(&self) -> Vec<(String, String)> {
        let verdicts = self.summary["verdicts"].as_object().cloned().unwrap_or_default();
        let unmet = verdicts.into_iter().filter(|(_, judged)| judged["verdict"] != "satisfied");
        unmet.map(|(name, judged)| (name, judged["reason"].as_str().unwrap_or_default().to_owned())).collect()
    }

    /// The phases that were foreseen, with what they were to take and took.
    pub(crate) fn phases(&self) -> Vec<String> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let took = list(&self.summary["phases"]);
        let one = |phase: Value| {
            let found = took.iter().find(|took| took["name"] == phase["name"]);
            let foreseen = phase["duration_ns"].as_u64().unwrap_or_default() / 1_000_000;
            let name = phase["name"].as_str().unwrap_or_default().to_owned();
            let took = found.map_or(Value::Null, |took| took["seconds"].clone());
            format!("{name} {}.{:03}/{took}", foreseen / 1000, foreseen % 1000)
        };
        list(&self.plan["predicted"]["phases"]).into_iter().map(one).collect()
    }

    /// Whether the drill found what it had to: nothing, or the fault for its
    /// own reason, with the exit code that says so.
    pub(crate) fn is_right(&self, case: &Case) -> bool {
        let unmet = self.unmet();
        let found = match case.reason {
            "" => self.exit == Some(0) && unmet.is_empty() && self.summary["satisfied"] == true,
            reason => self.exit == Some(4) && unmet.iter().any(|(_, why)| why.contains(reason)),
        };
        found && self.verified
    }
}
