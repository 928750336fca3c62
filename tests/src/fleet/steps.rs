//! The steps of the story: one fault each, on the whole fleet, while a tenant
//! writes and reads; and after each of them everything is as it was.

use std::fmt;
use std::time::Duration;

use kube::api::DeleteParams;
use rustix::process::Signal;
use tokio::time::Instant;

use super::writer::Writer;
use super::{Fleet, Traffic, until};
use coffer_regions::SiteError;

/// What a renewal of a node's lease holds for.
const LEASE: Duration = Duration::from_secs(10);
/// What a replacement may take beyond it.
const REPLACEMENT: Duration = Duration::from_secs(10);
/// Where pods of a fleet at home listen.
const POD_PORT: u16 = 7441;
/// How much later than a lease's end it is seen that it has ended.
const SEEN: Duration = Duration::from_secs(2);

/// What a step measured.
pub struct Measured {
    step: &'static str,
    times: Vec<(&'static str, Duration, Option<Duration>)>,
    /// Objects that were acknowledged so far; all of them came back.
    objects: usize,
    /// What this machine does not permit.
    skipped: Option<&'static str>,
}

impl Measured {
    fn new(step: &'static str) -> Self {
        Self { step, times: Vec::new(), objects: 0, skipped: None }
    }

    fn note(&mut self, what: &'static str, since: Instant) {
        self.times.push((what, since.elapsed(), None));
    }

    fn bound(&mut self, what: &'static str, since: Instant, bound: Duration) {
        self.times.push((what, since.elapsed(), Some(bound)));
    }

    /// Whether everything came within its bound.
    pub fn in_time(&self) -> bool {
        self.times.iter().all(|(_, took, bound)| bound.is_none_or(|bound| *took <= bound))
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<34}", self.step)?;
        if let Some(why) = self.skipped {
            return write!(f, "SKIPPED: {why}");
        }
        for (what, took, bound) in &self.times {
            write!(f, "{what} {:.1} s", took.as_secs_f64())?;
            if let Some(bound) = bound {
                let verdict = if took <= bound { "within" } else { "NOT WITHIN" };
                write!(f, " ({verdict} {} s)", bound.as_secs())?;
            }
            write!(f, ", ")?;
        }
        write!(f, "all {} objects read back", self.objects)
    }
}

/// The fleet and its traffic.
pub struct Story {
    /// First: it ends before what it speaks to.
    traffic: Traffic,
    fleet: Fleet,
}

impl Story {
    /// Begins to write and read.
    pub async fn begin(fleet: Fleet) -> Self {
        fleet.until_whole().await;
        Self { traffic: Traffic::begin(&fleet).await, fleet }
    }

    async fn over(&self, mut measured: Measured) -> Measured {
        self.fleet.until_whole().await;
        self.traffic.more(self.traffic.mark(), 4, 20).await;
        measured.objects = self.traffic.all_back().await;
        measured
    }

    async fn node_of(&self, pod: &str) -> usize {
        until(&format!("{pod} has a node"), async || self.fleet.placed(pod).await).await.node
    }

    /// `kill -9` of an agent and its pod; the machine's supervisor starts the agent again.
    pub async fn agent_and_pod_killed(&mut self) -> Measured {
        let mut measured = Measured::new("agent and pod killed");
        let (pod, mark, begun) = ("sites-0", self.traffic.mark(), Instant::now());
        let node = self.node_of(pod).await;
        let containers = self.fleet.nodes[node].containers();
        assert!(!containers.is_empty());
        self.fleet.nodes[node].kill_agent();
        for container in &containers {
            container.shim.signal(Signal::KILL);
            container.init.signal(Signal::KILL);
        }
        self.fleet.until_site(pod, "is down", |site| !site.alive).await;
        self.traffic.more(mark, 4, 20).await;
        self.fleet.nodes[node].start();
        self.fleet.until_site(pod, "takes writes again", |site| site.alive && !site.read_only).await;
        measured.bound("replaced on its disk in", begun, LEASE + REPLACEMENT);
        self.over(measured).await
    }

    /// SIGSTOP of a pod: its sockets stay, nobody answers.
    pub async fn pod_stopped(&mut self) -> Measured {
        let mut measured = Measured::new("pod stopped");
        let (pod, mark, begun) = ("sites-1", self.traffic.mark(), Instant::now());
        let node = self.node_of(pod).await;
        let containers = self.fleet.nodes[node].containers();
        assert!(!containers.is_empty());
        containers.iter().for_each(|container| container.init.signal(Signal::STOP));
        self.fleet.until_site(pod, "is down", |site| !site.alive).await;
        measured.note("missed after", begun);
        self.traffic.more(mark, 4, 20).await;
        let resumed = Instant::now();
        containers.iter().for_each(|container| container.init.signal(Signal::CONT));
        self.fleet.until_site(pod, "takes writes again", |site| site.alive && !site.read_only).await;
        measured.note("back after", resumed);
        self.over(measured).await
    }

    /// SIGSTOP of an agent: nobody renews the lease of its pod, which stops writing by itself.
    pub async fn agent_stopped(&mut self) -> Measured {
        let mut measured = Measured::new("agent stopped");
        let (pod, mark, begun) = ("sites-1", self.traffic.mark(), Instant::now());
        let node = self.node_of(pod).await;
        self.fleet.nodes[node].signal_agent(Signal::STOP);
        self.fleet.until_site(pod, "takes no writes", |site| site.alive && site.read_only).await;
        measured.bound("pod fenced itself after", begun, LEASE + SEEN);
        self.traffic.more(mark, 4, 20).await;
        let resumed = Instant::now();
        self.fleet.nodes[node].signal_agent(Signal::CONT);
        self.fleet.until_site(pod, "takes writes again", |site| site.alive && !site.read_only).await;
        measured.note("writes again after", resumed);
        self.over(measured).await
    }

    /// A node is cut off by the packet filter of its namespace, its place changes
    /// hands, and the cut heals: nothing is written under the epoch before.
    pub async fn node_cut_off(&mut self) -> Measured {
        let mut measured = Measured::new("node cut off");
        if !self.fleet.has_namespaces() {
            measured.skipped = Some("no network namespaces with a packet filter here");
            return measured;
        }
        let pod = "sites-2";
        let placed = until("it has a node", async || self.fleet.placed(pod).await).await;
        let before = self.fleet.nodes[placed.node].containers();
        let beside = self.beside(placed.node, pod, None).await;
        until("somebody beside it writes", async || (beside.answers().taken > 0).then_some(())).await;

        let (mark, begun) = (self.traffic.mark(), Instant::now());
        self.fleet.namespaces[placed.node].cut();
        let fenced = async || (beside.answers().last == Some(Err(SiteError::NoLease))).then_some(());
        until("the pod refuses writes on its side of the cut", fenced).await;
        measured.bound("fenced itself after", begun, LEASE + SEEN);
        let taken = beside.answers().taken;
        let spare = format!("sites-{}", super::COUNTRIES.len() - super::SPARE);
        until("a replacement serves", async || self.fleet.is_ready(&spare).await.then_some(())).await;
        measured.bound("replacement served after", begun, LEASE + REPLACEMENT);
        self.traffic.more(mark, 4, 20).await;

        // Its place changes hands: whoever takes it up has a higher epoch.
        let gone = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.fleet.pods().delete(pod, &gone).await.unwrap();
        {
            let knowing = self.beside(placed.node, pod, Some(placed.epoch + 1)).await;
            until("a caller who knows was answered", async || knowing.answers().last).await.unwrap_err();
        }
        assert_eq!(beside.answers().taken, taken, "nothing was taken under a lease that had ended");
        let healed = Instant::now();
        self.fleet.namespaces[placed.node].mend();
        // The first write that is taken is taken by the next incarnation.
        until("its successor takes writes", async || (beside.answers().taken > taken).then_some(())).await;
        assert!(
            before.iter().all(|container| !container.init.lives()),
            "the pod of the old epoch has written"
        );
        let after = until("it has a node again", async || self.fleet.placed(pod).await).await;
        assert!(after.epoch > placed.epoch && after.node == placed.node, "on its disk, under a higher epoch");
        measured.bound("successor wrote after the healing", healed, LEASE + REPLACEMENT);
        drop(beside);
        self.over(measured).await
    }

    /// Somebody who writes to a pod from beside it.
    async fn beside(&self, node: usize, pod: &str, incarnation: Option<u64>) -> Writer {
        let site = self.fleet.deployment().site(pod).await;
        let endpoint = format!("https://{}:{POD_PORT}", self.fleet.nodes[node].address());
        let credentials = self.fleet.deployment().data().join("credentials/pods");
        Writer::begin(self.fleet.namespaces.get(node), &site, endpoint, &credentials, incarnation)
    }

    /// A pod's disk is filled up to its last block by somebody else, and emptied again.
    #[expect(clippy::disallowed_methods, reason = "the story fills a disk")]
    pub async fn disk_full(&mut self) -> Measured {
        use std::io::Write as _;
        let mut measured = Measured::new("disk full");
        let pod = "sites-3";
        let node = self.node_of(pod).await;
        let Some(disk) = self.fleet.nodes[node].disk(pod) else {
            measured.skipped = Some("pods have no file systems of their own size here");
            return measured;
        };
        let (mark, begun) = (self.traffic.mark(), Instant::now());
        let ballast = disk.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        let (mut block, chunk) = (1 << 20, vec![0x5a; 1 << 20]);
        while block > 0 {
            // Ever smaller pieces: until not a byte has room.
            match file.write(&chunk[..block]) {
                Ok(written) if written > 0 => {}
                Ok(_) | Err(_) => block /= 2,
            }
        }
        let full = |site: &coffer_client::SiteInfo| site.free_bytes.is_some_and(|free| free < 1 << 20);
        self.fleet.until_site(pod, "is full", full).await;
        measured.note("full after", begun);
        self.traffic.more(mark, 20, 40).await;
        drop(file);
        std::fs::remove_file(&ballast).unwrap();
        let roomy = |site: &coffer_client::SiteInfo| site.free_bytes.is_none_or(|free| free > 16 << 20);
        self.fleet.until_site(pod, "has room again", roomy).await;
        self.over(measured).await
    }

    /// `kill -9` of the control plane, which stays away for this long: reads go on,
    /// and writes for as long as the leases hold.
    pub async fn control_plane_down(&mut self, away: Duration) -> Measured {
        let mut measured = Measured::new("control plane down");
        let (mark, begun, refused) = (self.traffic.mark(), Instant::now(), self.traffic.refused());
        self.fleet.control.kill();
        self.traffic.more(mark, 0, 20).await;
        tokio::time::sleep_until(begun + away).await;
        self.traffic.assert_right();
        measured.note("away for", begun);
        let last = self.traffic.last_write();
        if self.traffic.refused() > refused {
            measured.times.push((
                "the last write was taken after",
                last.saturating_duration_since(begun),
                None,
            ));
        }
        let mark = self.traffic.mark();
        let back = Instant::now();
        self.fleet.control.run();
        self.traffic.more(mark, 1, 1).await;
        measured.note("a write was taken after its return in", back);
        self.fleet.until_whole().await;
        measured.bound("every pod took writes after", back, LEASE + REPLACEMENT);
        self.over(measured).await
    }
}
