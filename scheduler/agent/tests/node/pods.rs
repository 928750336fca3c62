//! The agent's loop against the embedded API, in process, with real processes:
//! what a pod's status says, what a node refuses, and what outlives what.

use crate::fleet::{Fleet, container, lease_of, phase, ready, restarts, waits};
use coffer_agent::{LogOptions, PodLease};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_pod_runs_and_its_status_says_so() {
    let Some(fleet) = Fleet::new("status").await else { return };
    let agent = fleet.start();
    fleet.create("one", &["wait"], json!({})).await;
    let pod = fleet.until("one", ready).await;
    let status = pod.status.unwrap();
    assert!(status.pod_ip.is_some() && status.host_ip.is_some() && status.start_time.is_some());
    let container = &status.container_statuses.unwrap()[0];
    assert!(container.ready && container.restart_count == 0);
    let node = fleet.nodes().get("status").await.unwrap();
    assert_eq!(node.metadata.annotations.as_ref().unwrap()["fleet.coffer/attestation"], "v9.signed.somebody");
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    assert!(conditions.iter().any(|condition| condition.type_ == "Confined"));
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_is_refused_with_what_is_short() {
    let Some(fleet) = Fleet::new("refusal").await else { return };
    let agent = fleet.start();
    let much = json!({ "resources": { "requests": { "fleet.coffer/disk-bytes": "2Pi" } } });
    fleet.create("much", &["wait"], much).await;
    let pod = fleet.until("much", |pod| phase(pod) == "Failed").await;
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("OutOffleet.coffer/disk-bytes"));
    let privileged = json!({ "securityContext": { "privileged": true } });
    fleet.create("mighty", &["wait"], privileged).await;
    fleet.until("mighty", |pod| phase(pod) == "Failed").await;
    fleet.delete("much").await;
    fleet.until_gone("much").await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_is_started_again_and_one_that_may_not_is_not() {
    let Some(fleet) = Fleet::new("restarts").await else { return };
    let agent = fleet.start();
    fleet.create("again", &["exit", "3"], json!({})).await;
    let pod = fleet.until("again", |pod| restarts(pod) >= 2).await;
    let last = container(&pod).last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    fleet.create_with("once", &["exit", "0"], json!({}), json!({ "restartPolicy": "Never" })).await;
    fleet.until("once", |pod| phase(pod) == "Succeeded").await;
    fleet.create_with("badly", &["exit", "4"], json!({}), json!({ "restartPolicy": "OnFailure" })).await;
    fleet.until("badly", |pod| restarts(pod) >= 1).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_is_asked_to_end_and_then_gone() {
    let Some(fleet) = Fleet::new("deletion").await else { return };
    let agent = fleet.start();
    fleet.create("polite", &["polite"], json!({})).await;
    fleet.until("polite", ready).await;
    fleet.until_says(&agent, "polite", "ready").await;
    let kept = fleet.directory().join("agent/runtime");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1);
    fleet.delete("polite").await;
    fleet.until_gone("polite").await;
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0, "nothing of it is left");
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_outlives_its_pod_and_nothing_else_does() {
    let Some(fleet) = Fleet::new("data").await else { return };
    let agent = fleet.start();
    let once = json!({ "restartPolicy": "Never", "data": "a" });
    fleet.create_with("writer", &["write", "/data/shard", "bytes"], json!({}), once.clone()).await;
    fleet.until("writer", |pod| phase(pod) == "Succeeded").await;
    fleet.delete("writer").await;
    fleet.until_gone("writer").await;
    fleet.create_with("reader", &["read", "/data/shard"], json!({}), once.clone()).await;
    fleet.until("reader", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(fleet.log(&agent, "reader").await, "bytes\n");
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_over_what_its_predecessor_left_running() {
    let Some(fleet) = Fleet::new("successor").await else { return };
    let first = fleet.start();
    fleet.create("stays", &["wait"], json!({})).await;
    let before = fleet.until("stays", ready).await;
    fleet.until_says(&first, "stays", "ready").await;
    first.abort().await;
    let second = fleet.start();
    let away = fleet.until("stays", ready).await;
    assert_eq!(restarts(&away), 0);
    assert_eq!(container(&before).container_id, container(&away).container_id);
    fleet.create("new", &["wait"], json!({})).await;
    fleet.until("new", ready).await;
    fleet.delete("stays").await;
    fleet.until_gone("stays").await;
    second.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_on_and_are_started_again_while_the_api_is_away_but_may_not_write() {
    let Some(fleet) = Fleet::new("away").await else { return };
    let agent = fleet.start();
    fleet.create("alone", &["wait"], json!({})).await;
    let pod = fleet.until("alone", ready).await;
    fleet.until_says(&agent, "alone", "ready").await;
    let first = lease_of(&fleet, &pod);
    fleet.until_lease(&pod, |lease| lease.valid_until_unix_ms > first.valid_until_unix_ms).await;
    fleet.cut_off(true);
    let last = fleet.settled_lease(&pod).await;
    fleet.kill_container(&pod, 0);
    fleet.until_started(&pod, 1).await;
    assert_eq!(lease_of(&fleet, &pod), last, "no renewal of the node, none of the pod");
    fleet.cut_off(false);
    fleet.until("alone", |pod| ready(pod) && restarts(pod) == 1).await;
    fleet.until_lease(&pod, |lease| lease.valid_until_unix_ms > last.valid_until_unix_ms).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_without_an_api_keeps_its_pods() {
    let Some(fleet) = Fleet::new("dark").await else { return };
    let first = fleet.start();
    fleet.create("kept", &["wait"], json!({})).await;
    let pod = fleet.until("kept", ready).await;
    first.abort().await;
    fleet.cut_off(true);
    let second = fleet.start();
    fleet.kill_container(&pod, 0);
    fleet.until_started(&pod, 1).await;
    fleet.cut_off(false);
    fleet.until("kept", |pod| ready(pod) && restarts(pod) == 1).await;
    second.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_ready_when_it_answers_and_started_again_when_it_does_not() {
    let Some(fleet) = Fleet::new("probes").await else { return };
    let agent = fleet.start();
    let port = json!([{ "containerPort": 7171, "name": "web" }]);
    let http = json!({ "httpGet": { "port": "web", "path": "/" }, "periodSeconds": 1 });
    fleet.create("answers", &["serve", "7171"], json!({ "ports": port, "readinessProbe": http })).await;
    fleet.until("answers", ready).await;
    let exec =
        json!({ "exec": { "command": ["/pod", "exit", "1"] }, "periodSeconds": 1, "failureThreshold": 1 });
    fleet.create("silent", &["polite"], json!({ "livenessProbe": exec })).await;
    fleet.until("silent", |pod| restarts(pod) >= 1).await;
    let tcp = json!({ "tcpSocket": { "port": 7999 }, "periodSeconds": 1 });
    fleet.create("deaf", &["wait"], json!({ "readinessProbe": tcp })).await;
    let pod = fleet.until("deaf", |pod| phase(pod) == "Running").await;
    assert!(!ready(&pod));
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_here_is_waited_for_and_said() {
    let Some(fleet) = Fleet::new("images").await else { return };
    let agent = fleet.start();
    let image = format!("coffer.local/other@sha256:{}", "0".repeat(64));
    fleet.create("absent", &["wait"], json!({ "image": image })).await;
    fleet.until("absent", |pod| waits(pod, "ErrImagePull")).await;
    fleet.create("tagged", &["wait"], json!({ "image": "coffer.local/other:latest" })).await;
    fleet.until("tagged", |pod| waits(pod, "InvalidImageName")).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_told_by_tail_and_of_the_one_before() {
    let Some(fleet) = Fleet::new("logs").await else { return };
    // The one before stays the one before while its log is read.
    let agent = fleet.start_with(|config| {
        let minute = std::time::Duration::from_secs(60);
        (config.backoff.first, config.backoff.most) = (minute, minute);
    });
    fleet.create("talks", &["say", "one", "two", "three"], json!({})).await;
    fleet.until("talks", |pod| restarts(pod) >= 1).await;
    let access = agent.access();
    let options = LogOptions { tail: Some(2), ..LogOptions::default() };
    let mut log = access.log(("coffer", "talks", "site"), true, false, options.clone()).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), b"two\nthree\n");
    assert!(access.log(("coffer", "nobody", "site"), false, false, options.clone()).is_err());
    assert!(access.log(("coffer", "talks", "other"), false, false, options).is_err());
    agent.end_all().await;
}

#[test]
fn a_pod_lease_is_read_as_it_is_documented() {
    let text = r#"{"version":1,"epoch":7,"holder":"n1","valid_until_unix_ms":5,"valid_until_boottime_ms":6}"#;
    let lease: PodLease = serde_json::from_str(text).unwrap();
    assert_eq!((lease.epoch, lease.valid_until_unix_ms, lease.valid_until_boottime_ms), (7, 5, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_a_node_is_as_old_as_its_last_change_also_under_the_next_agent() {
    let Some(fleet) = Fleet::new("conditions").await else { return };
    let times = async |after: Option<&str>| {
        loop {
            let node = fleet.nodes().get_opt("conditions").await.unwrap();
            let conditions = node.and_then(|node| node.status?.conditions).unwrap_or_default();
            let of = |one: &k8s_openapi::api::core::v1::NodeCondition| {
                (one.type_.clone(), one.last_transition_time.as_ref().unwrap().0.to_string())
            };
            let ready = conditions.iter().find(|one| one.type_ == "Ready");
            let beat = ready.map(|ready| ready.last_heartbeat_time.as_ref().unwrap().0.to_string());
            if let Some(beat) = beat.filter(|beat| after != Some(beat.as_str())) {
                return (beat, conditions.iter().map(of).collect::<Vec<_>>());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let agent = fleet.start();
    let (first, began) = times(None).await;
    let (second, told_again) = times(Some(&first)).await;
    assert_eq!(told_again, began);
    agent.abort().await;
    let agent = fleet.start();
    assert_eq!(times(Some(&second)).await.1, began);
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_log_finds_no_room_runs_on_and_it_is_said() {
    let Some(fleet) = Fleet::new("fulllog").await else { return };
    let room = SmallDisk::mount(&fleet.directory().join("agent/runtime"));
    let agent = fleet.start();
    // Some megabytes with their times, on a disk of one.
    fleet.create("chatter", &["chatter", "50000"], json!({})).await;
    let pods: kube::Api<k8s_openapi::api::core::v1::Event> =
        kube::Api::namespaced(fleet.embedded().client(), "coffer");
    let said = async {
        loop {
            let events = pods.list(&Default::default()).await.unwrap().items;
            let lost = events.into_iter().find(|event| event.reason.as_deref() == Some("LogLost"));
            if let Some(lost) = lost {
                return lost;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let lost = tokio::time::timeout(std::time::Duration::from_secs(60), said).await.unwrap();
    assert_eq!(lost.involved_object.name.as_deref(), Some("chatter"));
    let pod = fleet.until("chatter", ready).await;
    assert_eq!(restarts(&pod), 0, "it goes on");
    assert!(fleet.log(&agent, "chatter").await.contains("line 0\n"));
    agent.end_all().await;
    drop(room);
}

/// One megabyte of disk.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(place: &std::path::Path) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=711", "small"]).arg(place);
        assert!(mount.status().unwrap().success());
        Self(place.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
