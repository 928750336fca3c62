//! The agent as a process of its own, killed as by a machine that is out of
//! memory: its pods run on, and the next one finds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coffer_embedded::Identity;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::bench;
use crate::fleet::{Fleet, container, phase, ready, restarts, until_true};

/// Serves the fleet's API without TLS: to this machine, in this test.
async fn plain(fleet: &Fleet) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = fleet.embedded().service(Identity::inside());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            let one = service_fn(move |request| tower::ServiceExt::oneshot(service.clone(), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), one));
        }
    });
    address
}

fn kubeconfig(fleet: &Fleet, api: SocketAddr) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": format!("http://{api}") } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "users": [{ "name": "test", "user": {} }],
    });
    let path = fleet.directory().join("kubeconfig");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    serde_json::to_writer(file, &config).unwrap();
    path
}

/// A process that does not outlive the test.
struct Agent(Child);

impl Agent {
    fn start(fleet: &Fleet, kubeconfig: &Path) -> Self {
        Self(command(fleet, kubeconfig, &bench::node_program(), &bench::sample_program()).spawn().unwrap())
    }
}

fn command(fleet: &Fleet, kubeconfig: &Path, program: &Path, sample: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--lease-seconds", "2", "--renew-seconds", "1", "--name", fleet.node()]);
    command.arg("--dir").arg(fleet.directory().join("agent")).arg("--kubeconfig").arg(kubeconfig);
    command.arg("--executable").arg(sample).stdout(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_root_runs_pods_with_what_it_has_and_says_what_it_lacks() {
    use std::os::unix::process::CommandExt;
    let Some(fleet) = Fleet::new("modest").await else { return };
    // A node that was root's before: its control groups are there, and somebody else's.
    fleet.start().abort().await;
    std::fs::remove_dir_all(fleet.directory().join("agent")).unwrap();
    let kubeconfig = kubeconfig(&fleet, plain(&fleet).await);
    // Where anybody can execute them; the build's own directory may be closed.
    let place = |from: PathBuf| {
        let to = fleet.directory().join(from.file_name().unwrap());
        bench::place_program(&from, &to);
        to
    };
    let (program, sample) = (place(bench::node_program()), place(bench::sample_program()));
    let nobody = 65_534;
    let directory = fleet.directory().join("agent");
    std::fs::create_dir(&directory).unwrap();
    for path in [&directory, &kubeconfig] {
        std::os::unix::fs::chown(path, Some(nobody), Some(nobody)).unwrap();
    }
    let mut command = command(&fleet, &kubeconfig, &program, &sample);
    let agent = Agent(command.uid(nobody).gid(nobody).spawn().unwrap());
    let once = json!({ "restartPolicy": "Never" });
    fleet.create_with("writes", &["write", "/data/shard", "bytes"], json!({}), once.clone()).await;
    fleet.until("writes", |pod| phase(pod) == "Succeeded").await;
    assert!(directory.join("data/site-data/writes/shard").exists());
    // Without a root of its own Landlock still keeps it from the machine's files.
    fleet.create_with("reads", &["read", "/etc/passwd"], json!({}), once).await;
    let reads = fleet.until("reads", |pod| phase(pod) == "Succeeded").await;
    let log = directory.join("runtime").join(format!("{}.0", reads.metadata.uid.unwrap())).join("log");
    assert!(!text(&log).contains("root:"), "{}", text(&log));
    let node = fleet.nodes().get("modest").await.unwrap();
    let lacks =
        node.status.unwrap().conditions.unwrap().into_iter().find(|one| one.type_ == "Confined").unwrap();
    assert_eq!(lacks.status, "False");
    assert!(lacks.message.unwrap().contains("mount"));
    // Its secret is closed even to its owner, who comes back all the same, and takes it away.
    fleet.secret("tls", "key", "dGhlIGtleQ==").await;
    let mounts = json!({ "volumeMounts": [{ "name": "tls", "mountPath": "/tls" }] });
    let secret = json!({ "volumes": [{ "name": "tls", "secret": { "secretName": "tls" } }] });
    fleet.create_with("returns", &["exit", "3"], mounts, secret).await;
    fleet.until("returns", |pod| restarts(pod) > 1).await;
    for name in ["writes", "reads", "returns"] {
        fleet.delete(name).await;
        fleet.until_gone(name).await;
    }
    // What was over already went from the API at once, and from the node a moment later.
    let place = directory.join("pods");
    until_true("no pod has a place", || std::fs::read_dir(&place).unwrap().next().is_none()).await;
    drop(agent);
}

#[expect(clippy::disallowed_methods, reason = "a test looks at what the pod said")]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_takes_no_pod_with_it_and_the_next_one_finds_them() {
    let Some(fleet) = Fleet::new("killed").await else { return };
    let kubeconfig = kubeconfig(&fleet, plain(&fleet).await);
    let first = Agent::start(&fleet, &kubeconfig);
    fleet.create("stays", &["wait"], json!({})).await;
    let before = fleet.until("stays", ready).await;
    let process = fleet.process(&before, 0);
    drop(first);
    assert!(rustix::process::test_kill_process(process).is_ok(), "the pod went with its agent");
    fleet.create("new", &["polite"], json!({})).await;
    let second = Agent::start(&fleet, &kubeconfig);
    fleet.until("new", ready).await;
    let after = fleet.until("stays", ready).await;
    assert_eq!(
        (restarts(&after), container(&after).container_id.clone()),
        (0, container(&before).container_id.clone())
    );
    assert_eq!(fleet.process(&after, 0), process);
    for name in ["stays", "new"] {
        fleet.delete(name).await;
        fleet.until_gone(name).await;
    }
    assert!(rustix::process::test_kill_process(process).is_err(), "the pod outlived its deletion");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_that_was_given_up_left_is_ended_without_an_api_and_its_bytes_stay() {
    let Some(fleet) = Fleet::new("givenup").await else { return };
    if !fleet.probe().had().has(coffer_agent::Layer::Disk) {
        return;
    }
    let agent = fleet.start_sized();
    let limits = json!({ "resources": { "limits": { "fleet.coffer/disk-bytes": "8Mi" } } });
    fleet.create("holds", &["wait"], limits).await;
    let pod = fleet.until("holds", ready).await;
    let process = fleet.process(&pod, 0);
    let directory = fleet.directory().join("agent");
    let data = directory.join("data/site-data/holds");
    let kept = std::fs::OpenOptions::new().write(true).create_new(true).open(data.join("shard"));
    std::io::Write::write_all(&mut kept.unwrap(), b"bytes").unwrap();
    let mounted = || text(Path::new("/proc/self/mountinfo")).contains(&data.display().to_string());
    assert!(mounted());
    agent.abort().await;

    let subnet = fleet.subnet();
    let end = || {
        let mut command = Command::new(bench::node_program());
        command.args(["end", "--name", fleet.node(), "--subnet", &subnet]);
        command.arg("--dir").arg(&directory).output().unwrap()
    };
    let ended = end();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(rustix::process::test_kill_process(process).is_err(), "the pod runs");
    assert!(!mounted() && std::fs::read_dir(directory.join("runtime")).unwrap().next().is_none());
    assert!(std::fs::read_dir(directory.join("pods")).unwrap().next().is_none());
    let groups = || {
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-name"]).arg(format!("coffer-{}", fleet.node()));
        String::from_utf8(find.output().unwrap().stdout).unwrap()
    };
    assert_eq!(groups(), "", "its control groups are there");
    // Once more, nothing is to be done, and nothing is made.
    assert!(end().status.success());
    assert_eq!(groups(), "", "control groups of nobody are there");
    coffer_agent::mount_sized(&data, 8 << 20).unwrap();
    assert_eq!(text(&data.join("shard")), "bytes");
    coffer_agent::unmount_sized(&data).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_below_a_directory_whose_name_has_spaces_is_found_and_unmounted() {
    let Some(fleet) = Fleet::new("spaced").await else { return };
    if !fleet.probe().had().has(coffer_agent::Layer::Disk) {
        return;
    }
    let data = fleet.directory().join("with space\tand \\040/data");
    coffer_agent::mount_sized(&data, 8 << 20).unwrap();
    let kept = std::fs::OpenOptions::new().write(true).create_new(true).open(data.join("shard"));
    std::io::Write::write_all(&mut kept.unwrap(), b"bytes").unwrap();
    let again = coffer_agent::mount_sized(&data, 8 << 20);
    let ended = coffer_agent::unmount_sized(&data);
    let hidden = !data.join("shard").exists();
    if !hidden {
        // Nothing outlives the test.
        drop(Command::new("umount").arg("-A").arg(&data).output());
    }
    assert!(again.is_ok() && ended.is_ok(), "{again:?} {ended:?}");
    assert!(hidden, "it is mounted still");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_away_is_said_and_stays_noted_for_the_next_attempt() {
    let Some(fleet) = Fleet::new("stuck").await else { return };
    let had = fleet.probe().had();
    if !had.has(coffer_agent::Layer::Disk) || !had.has(coffer_agent::Layer::Network) {
        return;
    }
    let agent = fleet.start_sized();
    let limits = json!({ "resources": { "limits": { "fleet.coffer/disk-bytes": "8Mi" } } });
    fleet.create("holds", &["wait"], limits).await;
    fleet.until("holds", ready).await;
    let directory = fleet.directory().join("agent");
    let data = directory.join("data/site-data/holds");
    agent.abort().await;
    let end = |subnet: &[&str]| {
        let mut command = Command::new(bench::node_program());
        command.args(["end", "--name", fleet.node()]).arg("--dir").arg(&directory).args(subnet);
        let ended = command.output().unwrap();
        (ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let noted = || std::fs::read_dir(directory.join("pods")).unwrap().count();
    // Somebody looks at its data.
    let looks = std::fs::OpenOptions::new().read(true).open(&data).unwrap();
    let subnet = fleet.subnet();
    let whole = ["--subnet", &subnet];
    let (ended, said) = end(&[]);
    assert!(!ended && said.contains("--subnet") && noted() == 1, "{said}");
    let (ended, said) = end(&whole);
    assert!(!ended && said.contains("site-data/holds") && noted() == 1, "{said}");
    drop(looks);
    let (ended, said) = end(&whole);
    assert!(ended && noted() == 0, "{said}");
}
