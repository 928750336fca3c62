//! Bytes of retired sites are removed beside the node's heartbeats, however long
//! that takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::fleet::Fleet;

/// A disk on which nothing that is written comes to an end while it is frozen.
struct Frozen(PathBuf);

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

impl Frozen {
    fn mount(image: &Path, place: &Path) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let text = |path: &Path| path.display().to_string();
        std::fs::File::create_new(image).unwrap().set_len(8 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", &text(image)]);
        run("mount", &["-o", "loop", &text(image), &text(place)]);
        Self(place.to_owned())
    }

    fn freeze(&self) {
        run("fsfreeze", &["--freeze", &self.0.display().to_string()]);
    }

    fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", &self.0.display().to_string()]);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Nothing ends before it is thawed.
        drop(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).output());
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_takes_its_time_holds_up_no_heartbeat() {
    let Some(fleet) = Fleet::new("removal").await else { return };
    let data = fleet.directory().join("agent/data");
    let disk = Frozen::mount(&fleet.directory().join("disk.img"), &data);
    let site = data.join("site-data/gold-1");
    std::fs::create_dir_all(site.join("store")).unwrap();
    let agent = fleet.start();
    fleet.until_node(is_ready).await;
    disk.freeze();
    let told = json!({ "discard.fleet.coffer/gold": "site-data/gold-1" });
    fleet.patch_node(json!({ "metadata": { "annotations": told } })).await;
    // What the platform does with a node that it has missed; more often than the agent needs to begin the removal.
    for _ in 0..5 {
        let missed = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
        let missed = kube::api::Patch::Merge(missed);
        fleet.nodes().patch_status(fleet.node(), &Default::default(), &missed).await.unwrap();
        fleet.until_node(is_ready).await;
    }
    assert!(site.exists());
    disk.thaw();
    let done = |node: &Node| {
        let said = node.metadata.annotations.as_ref().and_then(|all| all.get("fleet.coffer/discarded"));
        said.map(String::as_str) == Some("site-data/gold-1")
    };
    fleet.until_node(done).await;
    assert!(!site.exists());
    agent.end_all().await;
}
