//! The promises of the [`Runtime`] port as one suite: every adapter runs it in
//! its tests. It asserts, so it belongs into tests only.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test suite: a broken promise panics")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::layer::Layers;
use crate::logs::{LogOptions, LogReader};
use crate::{
    Container, ContainerId, Exit, Limits, Program, Root, Runtime, RuntimeError, StartError, State, Volume,
};

/// How long anything in the suite may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Where the suite runs.
pub struct Bench {
    /// The sample program, `examples/pod.rs`.
    pub sample: PathBuf,
    /// A directory that a pod's user may be given.
    pub data: PathBuf,
    /// User id of the containers.
    pub uid: u32,
    /// Opens the runtime anew on the same directory, as an agent that starts again does.
    pub open: Box<dyn Fn() -> Arc<dyn Runtime>>,
}

impl Bench {
    /// A container of that name which does what `args` say.
    pub fn container(&self, id: &str, args: &[&str]) -> Container {
        Container {
            id: ContainerId::try_from(id.to_owned()).unwrap(),
            hostname: id.to_owned(),
            root: Root::Executable { file: self.sample.clone(), name: "pod".to_owned() },
            volumes: vec![Volume { source: self.data.clone(), target: "/data".into(), writable: true }],
            program: Program {
                path: "/pod".into(),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                env: vec![("GREETING".to_owned(), "hello there".to_owned())],
                directory: "/data".into(),
            },
            uid: self.uid,
            limits: Limits::default(),
            listen: Vec::new(),
            connect: Some(Vec::new()),
            network: None,
            without: Layers::none(),
        }
    }
}

/// Runs every check.
///
/// # Panics
/// When the adapter breaks a promise of the port.
pub async fn conformance(bench: &Bench) {
    what_was_never_started_is_absent(bench).await;
    the_exit_code_and_the_output_are_kept(bench).await;
    a_name_is_given_once(bench).await;
    a_program_that_is_not_there_is_no_container(bench).await;
    the_pod_is_who_it_was_told_to_be(bench).await;
    the_image_is_read_only_and_the_data_is_not(bench).await;
    a_polite_program_ends_by_itself(bench).await;
    a_stubborn_program_ends_after_the_grace(bench).await;
    what_runs_is_not_removed(bench).await;
    memory_has_an_end(bench).await;
    processes_have_an_end(bench).await;
    operations_on_the_disk_are_limited_or_it_is_said_that_they_are_not(bench).await;
    a_command_runs_inside_and_is_confined_too(bench).await;
    usage_is_that_of_the_container(bench).await;
    another_agent_finds_what_runs(bench).await;
}

/// The log so far, without times.
///
/// # Panics
/// When the log cannot be read.
pub fn log(runtime: &dyn Runtime, id: &ContainerId) -> String {
    let mut reader = LogReader::new(&runtime.log(id), LogOptions::default());
    String::from_utf8(reader.present().unwrap()).unwrap()
}

async fn finished(runtime: &dyn Runtime, container: &Container) -> (Exit, String) {
    runtime.start(container).await.unwrap();
    let exit = tokio::time::timeout(STUCK, runtime.wait(&container.id)).await.unwrap().unwrap();
    let said = log(runtime, &container.id);
    runtime.remove(&container.id).await.unwrap();
    (exit, said)
}

/// Waits until the log has the line.
///
/// # Panics
/// When it never comes.
pub async fn says(runtime: &dyn Runtime, id: &ContainerId, line: &str) {
    let look = async {
        while !log(runtime, id).lines().any(|said| said == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(STUCK, look).await.is_err() {
        panic!("{id} never said {line:?}, but {:?}; {:?}", log(runtime, id), runtime.state(id).await);
    }
}

async fn what_was_never_started_is_absent(bench: &Bench) {
    let runtime = (bench.open)();
    let id = ContainerId::try_from("nobody".to_owned()).unwrap();
    assert_eq!(runtime.state(&id).await.unwrap(), State::Absent);
    assert!(matches!(runtime.wait(&id).await, Err(RuntimeError::Absent(_))));
    assert!(matches!(runtime.usage(&id).await, Err(RuntimeError::Absent(_))));
    runtime.remove(&id).await.unwrap();
}

async fn the_exit_code_and_the_output_are_kept(bench: &Bench) {
    let runtime = (bench.open)();
    let (exit, said) = finished(&*runtime, &bench.container("say", &["say", "one", "two"])).await;
    assert_eq!((exit.code, exit.signal, said.as_str()), (0, None, "one\ntwo\n"));
    let (exit, said) = finished(&*runtime, &bench.container("complain", &["complain", "ouch"])).await;
    assert_eq!((exit.code, said.as_str()), (0, "ouch\n"));
    let (exit, _) = finished(&*runtime, &bench.container("seven", &["exit", "7"])).await;
    assert_eq!((exit.code, exit.not_started), (7, None));
    assert!(exit.finished_unix_ms >= exit.started_unix_ms);
}

async fn a_name_is_given_once(bench: &Bench) {
    let runtime = (bench.open)();
    let container = bench.container("twice", &["say", "once"]);
    runtime.start(&container).await.unwrap();
    assert!(matches!(runtime.start(&container).await, Err(StartError::Exists(_))));
    runtime.wait(&container.id).await.unwrap();
    runtime.remove(&container.id).await.unwrap();
    assert_eq!(runtime.state(&container.id).await.unwrap(), State::Absent);
}

async fn a_program_that_is_not_there_is_no_container(bench: &Bench) {
    let runtime = (bench.open)();
    let mut container = bench.container("missing", &[]);
    container.program.path = "/not-there".into();
    let refused = runtime.start(&container).await;
    assert!(matches!(refused, Err(StartError::Container(_))), "{refused:?}");
    runtime.kill(&container.id).await.unwrap();
    runtime.remove(&container.id).await.unwrap();
}

async fn the_pod_is_who_it_was_told_to_be(bench: &Bench) {
    let runtime = (bench.open)();
    let (_, said) = finished(&*runtime, &bench.container("about", &["about"])).await;
    let uid = format!("uid {}", bench.uid);
    for line in [uid.as_str(), "pid 1", "host about", "dir /data", "env GREETING=hello there"] {
        assert!(said.lines().any(|found| found == line), "{line:?} is not in {said:?}");
    }
    assert!(!said.contains("env PATH=") || said.contains("env PATH=/"), "{said:?}");
}

async fn the_image_is_read_only_and_the_data_is_not(bench: &Bench) {
    let runtime = (bench.open)();
    let (_, said) = finished(&*runtime, &bench.container("data", &["write", "/data/file", "kept"])).await;
    assert_eq!(said, "done\n");
    assert_eq!(crate::files::read_text(&bench.data.join("file")).unwrap(), "kept");
    let (_, said) = finished(&*runtime, &bench.container("again", &["read", "/data/file"])).await;
    assert_eq!(said, "kept\n");
    for path in ["/file", "/pod", "/dev/file", "/proc/file"] {
        let (_, said) = finished(&*runtime, &bench.container("image", &["write", path, "no"])).await;
        assert_ne!(said, "done\n", "{path}");
    }
    let host = Path::new("/etc/passwd");
    if host.exists() {
        let (exit, _) = finished(&*runtime, &bench.container("host", &["exists", "/etc/passwd"])).await;
        assert_eq!(exit.code, 1, "the machine's own files are seen");
    }
}

async fn a_polite_program_ends_by_itself(bench: &Bench) {
    let runtime = (bench.open)();
    let container = bench.container("polite", &["polite"]);
    runtime.start(&container).await.unwrap();
    says(&*runtime, &container.id, "ready").await;
    let exit = runtime.stop(&container.id, STUCK).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, None));
    assert!(log(&*runtime, &container.id).ends_with("bye\n"));
    runtime.remove(&container.id).await.unwrap();
}

async fn a_stubborn_program_ends_after_the_grace(bench: &Bench) {
    let runtime = (bench.open)();
    let container = bench.container("stubborn", &["wait"]);
    runtime.start(&container).await.unwrap();
    says(&*runtime, &container.id, "ready").await;
    let exit = runtime.stop(&container.id, Duration::from_millis(50)).await.unwrap();
    assert_eq!(exit.code, 137);
    assert!(matches!(runtime.state(&container.id).await.unwrap(), State::Exited(_)));
    // Stopping what has ended says again how it ended.
    assert_eq!(runtime.stop(&container.id, STUCK).await.unwrap(), exit);
    runtime.remove(&container.id).await.unwrap();
}

async fn what_runs_is_not_removed(bench: &Bench) {
    let runtime = (bench.open)();
    let container = bench.container("running", &["wait"]);
    runtime.start(&container).await.unwrap();
    assert!(matches!(runtime.remove(&container.id).await, Err(RuntimeError::Runs(_))));
    assert!(matches!(runtime.state(&container.id).await.unwrap(), State::Running { .. }));
    runtime.kill(&container.id).await.unwrap();
    runtime.remove(&container.id).await.unwrap();
}

async fn memory_has_an_end(bench: &Bench) {
    let runtime = (bench.open)();
    let mut container = bench.container("eat", &["eat", "268435456"]);
    container.limits.memory = Some(32 << 20);
    let (exit, said) = finished(&*runtime, &container).await;
    assert_ne!(exit.code, 0, "it had more than its limit: {said:?}");
}

async fn processes_have_an_end(bench: &Bench) {
    let runtime = (bench.open)();
    let mut container = bench.container("threads", &["threads", "200"]);
    container.limits.pids = 16;
    let (_, said) = finished(&*runtime, &container).await;
    let started: u32 = said.trim().trim_start_matches("started ").parse().unwrap();
    assert!(started < 16, "{started} threads and one process under a limit of 16");
}

async fn operations_on_the_disk_are_limited_or_it_is_said_that_they_are_not(bench: &Bench) {
    let runtime = (bench.open)();
    let mut container = bench.container("operations", &["wait"]);
    assert_eq!(runtime.not_held(&container), None, "it has no such limit");
    container.limits.iops = Some(4321);
    runtime.start(&container).await.unwrap();
    match runtime.not_held(&container) {
        Some(why) => eprintln!("NOT TESTED HERE: {}: {why}", runtime.name()),
        None => assert!(kernel_says(&container.id, "4321"), "{}: no group has the limit", runtime.name()),
    }
    runtime.kill(&container.id).await.unwrap();
    runtime.remove(&container.id).await.unwrap();
    // What it writes to lies in memory: that cannot be limited, and is no reason not to run.
    let mut nowhere = bench.container("nowhere", &["wait"]);
    nowhere.limits.iops = Some(4321);
    nowhere.volumes.clear();
    nowhere.program.directory = "/".into();
    runtime.start(&nowhere).await.unwrap();
    assert!(runtime.not_held(&nowhere).is_some());
    runtime.kill(&nowhere.id).await.unwrap();
    runtime.remove(&nowhere.id).await.unwrap();
}

/// Whether a control group of this container limits operations to so many.
fn kernel_says(id: &ContainerId, limit: &str) -> bool {
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = left.pop() {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        left.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|one| one.path()),
        );
        if !directory.to_string_lossy().contains(id.as_str()) {
            continue;
        }
        let says = |name: &str| {
            let text = crate::files::read_text(&directory.join(name)).unwrap_or_default();
            text.split(|c: char| !c.is_ascii_digit()).any(|word| word == limit)
        };
        if says("io.max") || says("blkio.throttle.write_iops_device") {
            return true;
        }
    }
    false
}

async fn a_command_runs_inside_and_is_confined_too(bench: &Bench) {
    let runtime = (bench.open)();
    let container = bench.container("inside", &["wait"]);
    runtime.start(&container).await.unwrap();
    let run = |args: &[&str]| {
        let command: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (runtime, id) = (Arc::clone(&runtime), container.id.clone());
        async move { runtime.execute(&id, &command, STUCK).await }
    };
    assert_eq!(run(&["/pod", "exit", "3"]).await.unwrap(), 3);
    // Probes of one container run side by side: each runs its own command.
    for _ in 0..4 {
        let (one, other) = tokio::join!(run(&["/pod", "exit", "4"]), run(&["/pod", "exit", "5"]));
        assert_eq!((one.unwrap(), other.unwrap()), (4, 5));
    }
    assert_eq!(run(&["/pod", "exists", "/data"]).await.unwrap(), 0);
    assert_eq!(run(&["/pod", "exists", "/etc/passwd"]).await.unwrap(), 1);
    assert!(matches!(run(&["/not-there"]).await, Err(RuntimeError::Command(_))));
    let command = ["/pod".to_owned(), "wait".to_owned()];
    let late = runtime.execute(&container.id, &command, Duration::from_millis(200)).await;
    assert!(matches!(late, Err(RuntimeError::TimedOut(_))), "{late:?}");
    runtime.kill(&container.id).await.unwrap();
    let gone = run(&["/pod", "exit", "0"]).await;
    assert!(matches!(gone, Err(RuntimeError::Absent(_))), "{gone:?}");
    runtime.remove(&container.id).await.unwrap();
}

async fn usage_is_that_of_the_container(bench: &Bench) {
    let runtime = (bench.open)();
    let container = bench.container("spin", &["spin"]);
    runtime.start(&container).await.unwrap();
    let look = async {
        loop {
            let usage = runtime.usage(&container.id).await.unwrap();
            if usage.cpu > Duration::from_millis(20) && usage.memory > 0 && usage.pids > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STUCK, look).await.unwrap();
    runtime.kill(&container.id).await.unwrap();
    runtime.remove(&container.id).await.unwrap();
}

async fn another_agent_finds_what_runs(bench: &Bench) {
    let first = (bench.open)();
    let container = bench.container("adopted", &["polite"]);
    first.start(&container).await.unwrap();
    says(&*first, &container.id, "ready").await;
    drop(first);
    let second = (bench.open)();
    assert!(second.list().await.unwrap().contains(&container.id));
    assert!(matches!(second.state(&container.id).await.unwrap(), State::Running { .. }));
    let exit = second.stop(&container.id, STUCK).await.unwrap();
    assert_eq!(exit.code, 0);
    assert_eq!(log(&*second, &container.id), "ready\nbye\n");
    second.remove(&container.id).await.unwrap();
    assert!(!second.list().await.unwrap().contains(&container.id));
}
