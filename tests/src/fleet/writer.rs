//! Somebody beside a pod, on its side of a partition, who writes to it again
//! and again, and remembers what it answers.
#![expect(clippy::disallowed_methods, reason = "the caller's credentials are files")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use coffer_custody::OsEntropy;
use coffer_model::{Entropy as _, FailureDomain, SiteDescription, SiteId, SlotId};
use coffer_regions::{Site as _, SiteError, SlotContent};
use coffer_site::{
    Discovery, PodCredentials, PodOptions, PodRefusal, PodSite, PodTiming, Whereabouts, Witness,
};

use crate::Namespace;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(50);

/// What the pod answered last, and how often it took a write.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    pub(super) taken: u64,
    pub(super) last: Option<Result<(), SiteError>>,
}

/// Writes for as long as it lives.
pub(super) struct Writer {
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The pod is there, and is of this incarnation as far as this caller knows.
struct There(Whereabouts);

#[async_trait]
impl Discovery for There {
    async fn find(&self, _: SiteId) -> Option<Whereabouts> {
        Some(self.0.clone())
    }
}

/// Refusals are seen in the answers.
struct Nobody;

impl Witness for Nobody {
    fn refused(&self, _: SiteId, _: &PodRefusal) {}
}

impl Writer {
    /// Begins, in the pod's namespace if it has one, as a caller who knows of this incarnation.
    pub(super) fn begin(
        namespace: Option<&Namespace>,
        site: &coffer_client::SiteInfo,
        endpoint: String,
        credentials: &Path,
        incarnation: Option<u64>,
    ) -> Self {
        let text = |name: &str| std::fs::read_to_string(credentials.join(name)).unwrap();
        let options = PodOptions {
            description: SiteDescription {
                id: site.id,
                name: site.name.clone(),
                country: site.country,
                domain: FailureDomain(site.domain.clone()),
                tier: site.tier,
            },
            endpoint: endpoint.clone(),
            discovery: Arc::new(There(Whereabouts { endpoint, incarnation })),
            credentials: PodCredentials {
                ca_pem: text("ca.pem"),
                certificate_pem: text("certificate.pem"),
                key_pem: text("key.pem").into(),
            },
            timing: PodTiming { probe_every: Duration::from_millis(200), ..PodTiming::default() },
            entropy: Arc::new(OsEntropy),
            witness: Arc::new(Nobody),
        };
        let (answers, stop) = (Arc::<Mutex<Answers>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&answers), Arc::clone(&stop));
        let enter = namespace.map(Namespace::door);
        let thread = std::thread::spawn(move || {
            // This thread alone is elsewhere from here on, and so are its sockets.
            enter.iter().for_each(crate::namespaces::Door::enter);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(write(options, &into, &until));
        });
        Self { answers, stop, thread: Some(thread) }
    }

    pub(super) fn answers(&self) -> Answers {
        self.answers.lock().unwrap().clone()
    }
}

async fn write(options: PodOptions, answers: &Mutex<Answers>, stop: &AtomicBool) {
    let site = PodSite::open(options).await.unwrap();
    let slot = SlotId::from_bytes(OsEntropy.sixteen());
    for generation in 1.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let answer = site.write_slot(slot, SlotContent { generation, body: "by a story".into() }).await;
        {
            let mut answers = answers.lock().unwrap();
            answers.taken += u64::from(answer.is_ok());
            answers.last = Some(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
