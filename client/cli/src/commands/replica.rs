//! A service as one of several, and with sites that move: its lease of the
//! deployment is a Lease of a Kubernetes API, its sites are where the
//! EndpointSlices there say. The service itself knows of neither.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_client::hex;
use coffer_control::{Leadership, Tenure};
use coffer_server::OwnerLease;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api;
use super::home::Endpoints;
use crate::context::Context;
use crate::exit::Failure;
use crate::flags::{KubernetesName, ReplicaFlags, ServeFlags};
use crate::output::trouble;

/// So long the API may take to list where the sites are, before they are looked for where they were.
const LISTING: Duration = Duration::from_secs(10);
/// A shorter lease would be lost by a moment's work.
const LEASE_LEAST: u64 = 5;
/// So long after it could not be given up a lease is given up once more.
const GIVE_UP_AGAIN: Duration = Duration::from_secs(1);
/// Callers that may wait to be let in.
const BACKLOG: u32 = 1024;

/// A lease as the service asks for it.
pub(super) struct Owned(Arc<Tenure>);

impl OwnerLease for Owned {
    fn held(&self) -> Option<u64> {
        self.0.held()
    }

    fn elsewhere(&self) -> Option<String> {
        self.0.elsewhere()
    }
}

/// What Kubernetes does for a service; it ends when this is dropped.
pub(super) struct Replica {
    pub(super) tenure: Option<Arc<Tenure>>,
    /// The file of where the sites are, if it is kept here.
    pub(super) endpoints: Option<PathBuf>,
    tasks: JoinSet<()>,
}

impl Replica {
    /// Begins to wait for the lease, and to watch where the sites are, as far as the flags ask for it.
    pub(super) async fn of(context: &Context<'_>, flags: &ServeFlags) -> Result<Self, Failure> {
        let mut replica = Self { tenure: None, endpoints: None, tasks: JoinSet::new() };
        let asked = &flags.replica;
        if asked.lease.is_none() && asked.discover.is_none() {
            return Ok(replica);
        }
        let client = api::client(context, asked.kubeconfig.clone()).await?;
        if let Some(service) = &asked.discover {
            replica.endpoints = Some(replica.discover(context, &client, service, &flags.data_dir).await?);
        }
        if let Some(lease) = &asked.lease {
            let leadership = leadership(context, asked, lease)?;
            let clock = Arc::clone(&context.clock);
            let tenure = Tenure::new(client, leadership, advertised(flags)?, clock);
            let kept = Arc::clone(&tenure);
            replica.tasks.spawn(async move { kept.keep(|error| trouble(error)).await });
            replica.tenure = Some(tenure);
        }
        Ok(replica)
    }

    async fn discover(
        &mut self,
        context: &Context<'_>,
        client: &kube::Client,
        service: &KubernetesName,
        data_dir: &Path,
    ) -> Result<PathBuf, Failure> {
        let path = data_dir.join("endpoints.json");
        let endpoints = Endpoints::open(path.clone())?;
        let (tell, mut listed) = watch::channel(false);
        let (client, wanted) = (client.clone(), service.clone());
        self.tasks.spawn(async move {
            endpoints.keep(client, &wanted.namespace, &wanted.name, &tell).await;
        });
        if tokio::time::timeout(LISTING, listed.wait_for(|listed| *listed)).await.is_err() {
            context.output.remark(format_args!(
                "remark: {service} cannot be listed now; the sites are looked for where they were, until it can"
            ));
        }
        Ok(path)
    }

    /// The lease as a port of the service.
    pub(super) fn owner(&self) -> Option<Arc<dyn OwnerLease>> {
        Some(Arc::new(Owned(Arc::clone(self.tenure.as_ref()?))))
    }

    /// Nothing is changed under the lease any more: whoever waits for it may have it.
    pub(super) async fn end(mut self, context: &Context<'_>) {
        self.tasks.shutdown().await;
        if let Some(tenure) = &self.tenure
            && let Err(error) = tenure.give_up().await
        {
            context.output.remark(format_args!("remark: {error}; it ends by itself"));
        }
    }
}

fn leadership(
    context: &Context<'_>,
    flags: &ReplicaFlags,
    lease: &KubernetesName,
) -> Result<Leadership, Failure> {
    if flags.lease_lasts.0 < LEASE_LEAST {
        return Err(Failure::usage(format!("a lease lasts {LEASE_LEAST} s or longer")));
    }
    // Of this process alone: a replica that starts anew is another holder, with another epoch.
    let mut name = [0; 12];
    context.entropy.fill(&mut name);
    Ok(Leadership {
        namespace: lease.namespace.clone(),
        name: lease.name.clone(),
        holder: format!("coffer-{}", hex(&name)),
        lasts: Duration::from_secs(flags.lease_lasts.0),
    })
}

/// Where clients reach this replica.
fn advertised(flags: &ServeFlags) -> Result<Option<String>, Failure> {
    if let Some(url) = &flags.replica.advertise {
        return Ok(Some(url.clone()));
    }
    let listen = flags.listen;
    if listen.port() == 0 {
        return Err(Failure::usage("a replica listens on a port that others can be told")
            .next("name one with --listen, or say with --advertise where it is reached"));
    }
    Ok((!listen.ip().is_unspecified()).then(|| format!("https://{listen}")))
}

/// The address of a replica that waits: it is taken, and whoever connects is turned away at once.
pub(super) fn reserve(flags: &ServeFlags) -> Result<TcpSocket, Failure> {
    let address = flags.listen;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address).map_err(|error| super::serve::taken(address, &error))?;
    Ok(socket)
}

/// Serves whenever the lease is held, until `stop` is told or something fails that another attempt cannot mend. Who
/// lost it goes on to answer where the owner is, and begins anew when the lease comes back.
pub(super) async fn in_turn<S, F>(
    context: &Context<'_>,
    flags: &ServeFlags,
    tenure: &Arc<Tenure>,
    stop: &watch::Receiver<bool>,
    mut serve: S,
) -> Result<(), Failure>
where
    S: FnMut(TcpListener, u64, futures::future::BoxFuture<'static, ()>) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let mut epoch = 0;
    loop {
        let socket = reserve(flags)?;
        let lease = flags.replica.lease.as_ref().map(ToString::to_string);
        context
            .output
            .object(&json!({ "standby": true, "lease": lease, "listen": socket.local_addr()?.to_string() }));
        context.output.remark("waiting for the lease of the deployment");
        tokio::select! {
            biased;
            () = told(stop.clone()) => return Ok(()),
            newer = tenure.acquired_after(epoch) => epoch = newer,
        }
        let (again, stopped) = (Arc::clone(tenure), stop.clone());
        let until = Box::pin(async move {
            tokio::select! {
                () = told(stopped) => {}
                _ = again.acquired_after(epoch) => {}
            }
        });
        let ended = serve(socket.listen(BACKLOG)?, epoch, until).await;
        match ended {
            Err(failure) if tenure.held() == Some(epoch) => return Err(failure),
            // What a replica cannot do without its lease is the owner's business. Nothing runs under the epoch any
            // more, so that it must not come back: it is given up, whenever the API is there to be told.
            Err(failure) => {
                context.output.remark(format_args!("remark: {}", failure.what));
                tokio::select! {
                    biased;
                    () = told(stop.clone()) => {}
                    _ = tenure.acquired_after(epoch) => {}
                    () = given_up(tenure) => {}
                }
            }
            Ok(()) => {}
        }
        if *stop.borrow() {
            return Ok(());
        }
    }
}

/// Gives the lease up, however long that takes.
async fn given_up(tenure: &Tenure) {
    while tenure.give_up().await.is_err() {
        tokio::time::sleep(GIVE_UP_AGAIN).await;
    }
}

/// Until somebody ends the program.
pub(super) async fn told(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could tell.
        std::future::pending::<()>().await;
    }
}
