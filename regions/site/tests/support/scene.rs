//! A pod with an honest caller, who is to be served whatever others do there,
//! and a clock that jumps, so that nobody waits for a limit of two minutes.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_model::SlotId;
use coffer_proto::site::v1::store_client::StoreClient;
use coffer_proto::site::v1::{self, PutRequest, PutResponse};
use coffer_regions::{Record, RecordKind, Site, SiteError, SlotContent};
use coffer_site::{DirectorySite, PodSite, SiteOptions};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::caller::{self, header, part};
use crate::pods::{Fleet, RunningPod};
use crate::support::{self, id, record};

/// Who takes longer than this waits for what never comes.
const HANG: Duration = Duration::from_secs(60);

/// Waits for something, but not for ever.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work).await.unwrap()
}

/// The clock of everybody in this process jumps ahead; it then goes on as
/// before, so that sockets have their time.
pub(crate) async fn skip(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// A put of one record in one message.
pub(crate) fn put_of(record: &Record) -> PutRequest {
    let bytes = u64::try_from(record.body().len()).unwrap();
    PutRequest { header: Some(header(1, bytes)), parts: vec![part(record)] }
}

/// A put on its way.
pub(crate) type Put = JoinHandle<Result<Response<PutResponse>, Status>>;

/// A pod, and an honest caller of it, who came first.
pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    pub(crate) address: SocketAddr,
    /// The adapter of an honest caller.
    pub(crate) honest: PodSite,
    next: AtomicU64,
    _dir: TempDir,
    _running: RunningPod,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|store| Arc::new(store)).await
    }

    /// The same with something before the store.
    pub(crate) async fn with(before: impl FnOnce(DirectorySite) -> Arc<dyn Site>) -> Self {
        Self::on(support::quick(), before).await
    }

    /// The same on another disk.
    pub(crate) async fn on(
        options: SiteOptions,
        before: impl FnOnce(DirectorySite) -> Arc<dyn Site>,
    ) -> Self {
        let (fleet, dir) = (Fleet::new(), TempDir::new().unwrap());
        let site = before(support::open_with(dir.path(), options).unwrap());
        let description = site.description().clone();
        let running = fleet.serve(site).await;
        let address = running.address;
        let honest = fleet.open(description, address).await;
        assert!(honest.answers());
        let scene = Self { fleet, address, honest, next: AtomicU64::new(1), _dir: dir, _running: running };
        scene.serves_everything().await;
        scene
    }

    /// A client that says what it likes, and leaves so many bytes of an
    /// answer unread before the pod has to wait for it.
    pub(crate) async fn client(&self, window: u32) -> StoreClient<Channel> {
        let endpoint = caller::endpoint(&self.fleet, self.address).initial_stream_window_size(window);
        caller::connect(endpoint.initial_connection_window_size(16 << 20)).await
    }

    /// A number that no record has yet.
    pub(crate) fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// An honest call that nobody holds up. Where the clock jumped while the
    /// adapter waited for an answer, it has to ask again.
    pub(crate) async fn asks<T>(&self, call: impl AsyncFn(&PodSite) -> Result<T, SiteError>) -> T {
        let answered = async {
            loop {
                match call(&self.honest).await {
                    Err(SiteError::Unreachable) => tokio::time::sleep(Duration::from_millis(5)).await,
                    answer => return answer.unwrap(),
                }
            }
        };
        within(answered).await
    }

    /// What needs neither room for bodies nor a place for reads.
    pub(crate) async fn serves_small_calls(&self) {
        let slot = SlotId::from_bytes([9; 16]);
        let content = SlotContent { generation: self.fresh(), body: "keys".into() };
        self.asks(async |pod| pod.write_slot(slot, content.clone()).await).await;
        assert_eq!(self.asks(async |pod| pod.read_slot(slot).await).await, content);
        self.asks(async |pod| pod.list(RecordKind::Shard, None, 10).await).await;
        self.asks(async |pod| pod.delete(vec![id(0)]).await).await;
        self.asks(async |pod| if pod.state().await.alive { Ok(()) } else { Err(SiteError::Unreachable) })
            .await;
    }

    /// A put of the honest caller.
    pub(crate) async fn serves_puts(&self) -> u64 {
        let n = self.fresh();
        self.asks(async |pod| pod.put(vec![record(n, 1000)]).await).await;
        n
    }

    /// Everything, as on any day.
    pub(crate) async fn serves_everything(&self) {
        let n = self.serves_puts().await;
        assert_eq!(self.asks(async |pod| pod.get(id(n)).await).await, record(n, 1000));
        self.serves_small_calls().await;
    }

    /// So many ways there and back, in which whatever can happen does.
    pub(crate) async fn rounds(&self, client: &StoreClient<Channel>, rounds: usize) {
        for _ in 0..rounds {
            within(client.clone().state(v1::StateRequest {})).await.unwrap();
        }
    }

    /// Puts one record after the other until one has to wait; that one, or
    /// `None` if none ever has to.
    pub(crate) async fn put_that_waits(&self, client: &StoreClient<Channel>) -> Option<Put> {
        for _ in 0..200 {
            let (mut putter, put) = (client.clone(), put_of(&record(self.fresh(), 100)));
            let put = tokio::spawn(async move { putter.put(tokio_stream::iter([put])).await });
            self.rounds(client, 50).await;
            if !put.is_finished() {
                return Some(put);
            }
            put.await.unwrap().unwrap();
        }
        None
    }
}

/// A put that says how much will come, and then nothing.
pub(crate) fn stalled(client: &StoreClient<Channel>, body_bytes: u64) -> Put {
    let (mut client, header) = (client.clone(), header(4, body_bytes));
    let begun = PutRequest { header: Some(header), parts: Vec::new() };
    let messages = tokio_stream::iter([begun]).chain(tokio_stream::pending());
    tokio::spawn(async move { client.put(messages).await })
}
