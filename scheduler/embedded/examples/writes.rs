//! How many writes a second the embedded API takes, each on the disk before it
//! is answered: through the store alone, and through the whole request path of
//! a client in process. Arguments: a directory for the file, seconds for each line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::store::{CommitError, Expect, Key, Limits, Operation, Store};
use coffer_embedded::{Embedded, NoAudit, NoNodeAccess, Options, StartError};
use coffer_model::Clock as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("usage: writes DIRECTORY [SECONDS]")]
    Usage,
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    #[error(transparent)]
    Open(#[from] coffer_embedded::store::OpenError),
    #[error(transparent)]
    Start(Box<StartError>),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

fn manifest(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "labels": {"fleet.coffer/site-set": "s", "fleet.coffer/site": name},
        },
        "spec": {"schedulerName": "coffer", "containers": [{
            "name": "site", "image": "coffer.local/site@sha256:0000", "args": ["serve"],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        }]},
    })
}

/// Runs writers until the time is over; how many writes a second all of them made.
async fn measure<F, R>(writers: usize, lasting: Duration, write: F) -> Result<f64, BenchError>
where
    F: Fn(String) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), BenchError>> + Send,
{
    let begun = SystemClock.monotonic();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let write = write.clone();
            tokio::spawn(async move {
                let mut written = 0_u32;
                while SystemClock.monotonic().saturating_sub(begun) < lasting {
                    write(format!("w{writers}-{writer}-{written}")).await?;
                    written += 1;
                }
                Ok::<u32, BenchError>(written)
            })
        })
        .collect();
    let mut written = 0_u32;
    for task in tasks {
        written += task.await??;
    }
    Ok(f64::from(written) / SystemClock.monotonic().saturating_sub(begun).as_secs_f64())
}

async fn store_alone(directory: &Path, lasting: Duration) -> Result<(), BenchError> {
    let store = Store::open(&directory.join("store.sqlite"), Limits::default())?;
    for writers in [1, 32] {
        let store = store.clone();
        let write = move |name: String| {
            let store = store.clone();
            async move {
                let key = Key::new(&"pods".into(), "default", &name);
                store
                    .commit(vec![Operation::Put { key, object: manifest(&name), expect: Expect::Absent }])
                    .await?;
                Ok(())
            }
        };
        println!("store, {writers} writers: {:.0} writes/s", measure(writers, lasting, write).await?);
    }
    Ok(())
}

async fn whole_path(directory: &Path, lasting: Duration) -> Result<(), BenchError> {
    let options = Options {
        path: directory.join("api.sqlite"),
        limits: Limits::default(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        nodes: Arc::new(NoNodeAccess),
        audit: Arc::new(NoAudit),
    };
    let embedded = Embedded::open(options).await.map_err(|error| BenchError::Start(Box::new(error)))?;
    for writers in [1, 32] {
        let pods: Api<Pod> = Api::namespaced(embedded.client(), "default");
        let write = move |name: String| {
            let pods = pods.clone();
            async move {
                let pod: Pod = serde_json::from_value(manifest(&name))?;
                pods.create(&PostParams::default(), &pod).await?;
                Ok(())
            }
        };
        println!(
            "pods through a client, {writers} writers: {:.0} writes/s",
            measure(writers, lasting, write).await?
        );
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), BenchError> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or(BenchError::Usage)?);
    let seconds = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(5);
    std::fs::create_dir_all(&directory)?;
    let lasting = Duration::from_secs(seconds);
    store_alone(&directory, lasting).await?;
    whole_path(&directory, lasting).await
}
