//! The service in a process of its own, for stories that kill it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coffer_client::{Client, Credentials};

use crate::{Deployment, Held};

/// A running service that can be killed.
pub struct Process {
    child: Child,
    endpoint: String,
}

impl Process {
    /// Starts `program` (`coffer-test-service`) over the data of a deployment
    /// that is stopped, and waits until it listens.
    pub fn start(program: &str, deployment: &Deployment) -> Self {
        Self::run(Command::new(program).arg(deployment.data()).arg(plant_root_key(deployment)))
    }

    /// The same, with something held back; nothing was noted there yet.
    pub fn start_held(program: &str, deployment: &Deployment, held: &Held) -> Self {
        std::fs::create_dir(held.notes()).unwrap();
        let mut command = Command::new(program);
        command.arg(deployment.data()).arg(plant_root_key(deployment));
        Self::run(command.arg(held.what()).arg(held.notes()))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, endpoint: value["endpoint"].as_str().unwrap().to_owned() }
    }

    /// A connection to it with any credential.
    pub async fn connect(&self, deployment: &Deployment, credentials: &Credentials) -> Client {
        deployment.connect_at(&self.endpoint, credentials).await
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The root key in a file beside the data, for the other process.
#[expect(clippy::disallowed_methods, reason = "the root key goes to a file for the other process")]
fn plant_root_key(deployment: &Deployment) -> PathBuf {
    let path: &Path = deployment.scratch();
    let path = path.join("root-key");
    std::fs::write(&path, deployment.root().danger_expose()).unwrap();
    path
}
