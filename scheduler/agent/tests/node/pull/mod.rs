//! Images from registries: honest ones, hostile ones, and a real one.

mod collected;
mod interrupted;
mod logins;
mod picture;
mod pods;
mod process;
mod real;
mod refused;
mod registry;

use std::sync::OnceLock;
use std::time::Duration;

use coffer_agent::{
    FetchError, Image, ImageError, ImageReference, ImageStore, Layer, Layers, Login, Probe, PullError,
    PullLimits, PullProcess, Pulled, Puller, Registry, RegistryConfig,
};
use tempfile::TempDir;

use crate::bench;
use picture::Picture;
use registry::Served;

/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// A node's images, and the way to one registry.
struct Node {
    directory: TempDir,
    puller: Puller,
}

impl Node {
    /// A node that asks these registries.
    fn asking(registries: &[&str]) -> Self {
        Self::with(registries, |_| {})
    }

    fn with(registries: &[&str], change: impl FnOnce(&mut RegistryConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registries = registries.iter().map(|text| Registry::parse(text).unwrap()).collect();
        let mut config = RegistryConfig { registries, ..RegistryConfig::default() };
        change(&mut config);
        let puller = Puller::new(config, pull_process(), directory.path());
        Self { directory, puller }
    }

    fn running(program: std::path::PathBuf, registry: &Served) -> Self {
        let mut node = Self::asking(&[&registry.plain()]);
        let config = RegistryConfig {
            registries: vec![Registry::parse(&registry.plain()).unwrap()],
            ..RegistryConfig::default()
        };
        let process = PullProcess { program, ..pull_process() };
        node.puller = Puller::new(config, process, node.directory.path());
        node
    }

    async fn pull(&self, registry: &Served, picture: &Picture) -> Result<Pulled, PullError> {
        self.pull_as(registry, picture, None).await
    }

    async fn pull_as(
        &self,
        registry: &Served,
        picture: &Picture,
        login: Option<Login>,
    ) -> Result<Pulled, PullError> {
        let reference = picture.at(&registry.host());
        let pulling = self.puller.pull(&reference, login, false);
        tokio::time::timeout(STUCK, pulling).await.unwrap()
    }

    /// What a pod would be started from.
    fn ready(&self, reference: &ImageReference) -> Result<Image, ImageError> {
        ImageStore::new(self.directory.path().to_owned(), Vec::new(), Vec::new()).unwrap().ready(reference)
    }

    fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path().join("layout/blobs/sha256"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn partials(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("layout/partial")).map_or(0, Iterator::count)
    }
}

/// Limits that let a test of a silent registry end soon.
fn hasty(config: &mut RegistryConfig) {
    config.limits = PullLimits { patience: Duration::from_millis(300), ..PullLimits::default() };
}

fn had() -> Layers {
    static HAD: OnceLock<Layers> = OnceLock::new();
    let had = HAD.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let probe = Probe::run(&bench::node_program(), scratch.path(), "pull");
        for layer in [Layer::Landlock, Layer::Seccomp, Layer::User, Layer::Capabilities] {
            if !probe.had().has(layer) {
                eprintln!("THIS MACHINE LACKS {layer}: processes that pull go without it");
            }
        }
        probe.had()
    });
    had.clone()
}

fn pull_process() -> PullProcess {
    let users = (0..4).map(|number| 1_999_999_000 + number).collect();
    PullProcess { program: bench::node_program(), had: had(), users }
}

fn fetch<T: std::fmt::Debug>(pulled: Result<T, PullError>) -> FetchError {
    match pulled {
        Err(PullError::Fetch(error)) => error,
        other => panic!("{other:?}"),
    }
}
