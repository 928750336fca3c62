//! The control plane of a fleet as a process of its own: API, scheduler and
//! controllers, without the service and without agents.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{DISK, Programs, SPARE, STUCK};

/// `coffer fleet serve`.
pub(super) struct ControlPlane {
    program: PathBuf,
    arguments: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    events: mpsc::UnboundedReceiver<Value>,
}

impl ControlPlane {
    /// Starts it over `dir/data`, for the nodes of a site file.
    pub(super) fn start(programs: &Programs, dir: &Path, places: &Path, listen: SocketAddr) -> Self {
        let text = |path: PathBuf| path.display().to_string();
        let arguments = [
            ["--config-dir".to_owned(), text(dir.join("operator"))],
            ["fleet".to_owned(), "serve".to_owned()],
            ["--data-dir".to_owned(), text(dir.join("data"))],
            ["--sites".to_owned(), text(places.to_owned())],
            ["--listen".to_owned(), listen.to_string()],
            ["--spare".to_owned(), SPARE.to_string()],
            ["--disk".to_owned(), DISK.to_string()],
            ["--no-agents".to_owned(), "--exit-with-stdin".to_owned()],
        ];
        let arguments = ["--json".to_owned()].into_iter().chain(arguments.into_iter().flatten()).collect();
        let mut control = Self { program: programs.coffer.clone(), arguments, running: None };
        control.run();
        control
    }

    /// Starts it, after it was killed, over what it left.
    pub(super) fn run(&mut self) {
        let mut command = Command::new(&self.program);
        // Held open by the child's handle; should this process be killed, it ends.
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What it remarks is for people; failures are events too.
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let (tell, events) = mpsc::unbounded_channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            let parsed = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            // Read to the end in any case, so that nobody waits for a reader.
            parsed.for_each(|event| drop(tell.send(event)));
        });
        self.running = Some(Running { child, events });
    }

    /// Waits for an event.
    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let running = self.running.as_mut().unwrap();
        let found = async {
            loop {
                let event = running.events.recv().await;
                assert!(event.is_some(), "the control plane ended before {what}");
                let event = event.unwrap();
                assert!(event.get("error").is_none(), "before {what}: {event}");
                if is(&event) {
                    return event;
                }
            }
        };
        let found = tokio::time::timeout(STUCK, found).await;
        assert!(found.is_ok(), "it never came: {what}");
        found.unwrap()
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
