//! Reading in parts: a range takes from the sites what its chunks need and no
//! more, whatever is dead, damaged or lying.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::ops::Range;

use bytes::Bytes;
use coffer_model::BucketName;
use coffer_tests::{
    Deployment, Returned, TenantClient, Watches, bucket_name, flip, object_key, pattern, volumes,
};

const MIB: usize = 1 << 20;
/// A chunk with its tag, and the header before the first one.
const SEALED_CHUNK: u64 = 16_400;
const HEADER: u64 = 56;
/// A site that is late is not waited for: reads that are to meet what is wrong
/// there, or to be counted, are made up to so many times.
const ATTEMPTS: usize = 200;

struct Stored {
    deployment: Deployment,
    watches: Watches,
    tenant: TenantClient,
    bucket: BucketName,
    body: Bytes,
}

impl Stored {
    async fn new(size: usize) -> Self {
        let (deployment, watches) = Deployment::six_watched_sites().await;
        let tenant = deployment.tenant("acme").await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        let body = pattern(7, size);
        tenant.put(&bucket, "large", body.clone()).await;
        Self { deployment, watches, tenant, bucket, body }
    }

    /// Reads a range, which must be right; what the sites returned for it.
    async fn read(&self, range: Range<usize>) -> Returned {
        let wanted = range.start as u64..range.end as u64;
        let read = async {
            let key = object_key("large");
            let (_, part) = self.tenant.client.get(&self.bucket, &key, Some(wanted)).await.unwrap();
            part.collect(self.body.len() as u64).await.unwrap()
        };
        let (part, returned) = self.watches.during(read).await;
        assert!(part == self.body.slice(range.clone()), "{range:?}");
        returned
    }

    /// What the sites return for a range when none of them is late. On a busy
    /// machine one may be, and others are asked beside it: the range is read
    /// until nobody was, twice, so that nothing of such a read comes later.
    async fn read_undisturbed(&self, range: Range<usize>) -> Returned {
        let beside = || {
            let load = self.deployment.service().read_load();
            load.hedges + load.probes + load.rescues
        };
        let mut quiet = false;
        for _ in 0..ATTEMPTS {
            let before = beside();
            let returned = self.read(range.clone()).await;
            let was_quiet = std::mem::replace(&mut quiet, beside() == before);
            if was_quiet && quiet {
                return returned;
            }
        }
        unreachable!("in {ATTEMPTS} reads of {range:?} there were no two in a row without a late site")
    }

    /// Reads a range; the sites return as many parts and bytes as said.
    async fn takes(&self, range: Range<usize>, parts: u64, bytes: u64) {
        let returned = self.read_undisturbed(range.clone()).await;
        assert_eq!(returned, Returned { gets: 0, parts, bytes }, "{range:?}");
    }

    /// The names of the object's sites, in shard order.
    async fn sites(&self) -> Vec<String> {
        self.tenant.client.stat(&self.bucket, &object_key("large")).await.unwrap().sites
    }

    async fn found_out(&self, site: &str) -> u64 {
        let site = self.deployment.site(site).await;
        site.damaged + site.reported
    }

    /// How often readers charged this site with something.
    async fn reported(&self, site: &str) -> u64 {
        self.deployment.site(site).await.reported
    }

    fn distrusted(&self) -> u64 {
        self.deployment.service().read_load().distrusted
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_range_of_a_large_object_takes_its_chunk_and_the_header_from_the_sites() {
    let stored = Stored::new(32 * MIB).await;
    let middle = 17 * MIB + 5000;
    stored.takes(middle..middle + 100, 2, HEADER + SEALED_CHUNK).await;
    // Two chunks, in one part of one shard.
    stored.takes(middle..middle + 16_384, 2, HEADER + 2 * SEALED_CHUNK).await;
    // At the beginning the header comes with the chunk.
    stored.takes(0..1, 1, HEADER + SEALED_CHUNK).await;
    // The end of the object is authenticated with its last chunk, which is
    // empty here; the one before lies on both sides of a border.
    stored.takes(32 * MIB - 1..32 * MIB, 3, HEADER + SEALED_CHUNK + 16).await;
    // More than a stripe: whole where it is whole, in parts at both ends.
    let returned = stored.read_undisturbed(3 * MIB..9 * MIB).await;
    assert_eq!(returned.gets, 4, "{returned:?}");
    assert!(returned.bytes < 6 * MIB as u64 + 3 * SEALED_CHUNK + 8192, "{returned:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_around_every_border_are_right_whichever_two_sites_are_dead() {
    let stored = Stored::new(9 * MIB + 12_345).await;
    let operator = stored.deployment.operator().await;
    let sites = stored.sites().await;
    let size = stored.body.len();
    for (first, second) in [(0, 1), (1, 4), (2, 3), (4, 5)] {
        for name in [&sites[first], &sites[second]] {
            operator.set_site_alive(name, false).await.unwrap();
        }
        for border in [0, MIB, 2 * MIB, 4 * MIB, 5 * MIB, 8 * MIB, size] {
            for (before, after) in [(40_000, 0), (9_000, 9_000), (0, 1), (1, 40_000), (MIB, MIB)] {
                stored.read(border.saturating_sub(before)..(border + after).min(size)).await;
            }
        }
        for name in [&sites[first], &sites[second]] {
            operator.set_site_alive(name, true).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_holder_is_dead_the_same_bytes_of_four_others_are_enough() {
    let stored = Stored::new(8 * MIB).await;
    let operator = stored.deployment.operator().await;
    let sites = stored.sites().await;
    // The second shard of the second stripe; the header is in the first shard.
    operator.set_site_alive(&sites[1], false).await.unwrap();
    let at = 5 * MIB + MIB / 2;
    stored.takes(at..at + 10, 5, HEADER + 4 * SEALED_CHUNK).await;
    assert_eq!(stored.found_out(&sites[1]).await, 0, "to be dead is not to be wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flipped_within_a_range_is_healed_and_never_returned() {
    let stored = Stored::new(8 * MIB).await;
    let sites = stored.sites().await;
    // Every volume byte from a third on: hits every shard at that site.
    for volume in volumes(&stored.deployment.site_dir(&sites[2])) {
        let end = volume.metadata().unwrap().len();
        (end / 3..end).step_by(9000).for_each(|at| flip(&volume, at));
    }
    // The third shard of the second stripe, which lies in the last two thirds.
    let at = 4 * MIB + 2 * MIB + MIB / 2;
    let mut attempts = 0..ATTEMPTS;
    let (returned, distrusted) = loop {
        assert!(attempts.next().is_some(), "{} was found out", sites[2]);
        let (reported, distrusted) = (stored.reported(&sites[2]).await, stored.distrusted());
        let returned = stored.read(at..at + 50_000).await;
        if stored.reported(&sites[2]).await > reported {
            break (returned, stored.distrusted() - distrusted);
        }
    };
    assert!(returned.gets >= 4, "the stripe was read whole: {returned:?}");
    assert_eq!(distrusted, 1);
    let (reported, distrusted) = (stored.reported(&sites[2]).await, stored.distrusted());
    let healed = stored.read_undisturbed(at..at + 50_000).await;
    assert_eq!(healed.gets, 0, "the shard was healed: {healed:?}");
    assert_eq!((stored.reported(&sites[2]).await, stored.distrusted()), (reported, distrusted));
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_that_lie_about_parts_are_not_believed_about_chunks_or_headers() {
    let stored = Stored::new(8 * MIB).await;
    let sites = stored.sites().await;
    for name in &sites[..2] {
        stored.watches.of(name).lie(true);
    }
    let mut attempts = 0..ATTEMPTS;
    while stored.distrusted() == 0 {
        assert!(attempts.next().is_some(), "no lie was found out");
        for at in [0, MIB / 2, MIB + MIB / 2, 2 * MIB - 5, 4 * MIB + 77, 8 * MIB - 1] {
            stored.read(at..(at + 3000).min(stored.body.len())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lost_a_shard_gets_it_back_from_a_reader_of_a_range() {
    let mut stored = Stored::new(8 * MIB).await;
    let sites = stored.sites().await;
    let kit = stored.deployment.service().kit().await.unwrap();
    stored.deployment.stop().await;
    {
        use coffer_regions::{RecordKind, Site as _};
        let site = stored.deployment.open_site(&kit, &sites[0]);
        let shards = site.list(RecordKind::Shard, None, usize::MAX).await.unwrap();
        assert_eq!(shards.len(), 3);
        site.delete(shards.iter().map(|line| line.id).collect()).await.unwrap();
    }
    stored.deployment.start().await;
    stored.deployment.reconnect(&mut stored.tenant).await;
    // Of the first stripe and of the second one.
    let mut attempts = 0..ATTEMPTS;
    while stored.reported(&sites[0]).await < 2 {
        assert!(attempts.next().is_some(), "{} was asked for both", sites[0]);
        stored.read(100..200).await;
        stored.read(4 * MIB + 100..4 * MIB + 200).await;
    }
    let again = stored.read_undisturbed(4 * MIB + 100..4 * MIB + 200).await;
    assert_eq!(again.gets, 0, "{again:?}");
    assert_eq!(stored.reported(&sites[0]).await, 2, "both were given back at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_leaves_its_intent_before_its_outcome_in_the_log() {
    let stored = Stored::new(2 * MIB).await;
    stored.tenant.put(&stored.bucket, "small", pattern(1, 1000)).await;
    let before = stored.tenant.leaves().await.len();
    stored.tenant.get(&stored.bucket, "small").await.unwrap();
    stored.tenant.get(&stored.bucket, "large").await.unwrap();
    stored.read(5..10).await;
    assert!(stored.tenant.get(&stored.bucket, "nothing").await.is_err());
    let leaves = stored.tenant.leaves().await;
    let gets = leaves[before..].iter().filter(|leaf| leaf.operation == "object_get");
    let outcomes: Vec<&str> = gets.map(|leaf| leaf.outcome.as_str()).collect();
    assert_eq!(outcomes, ["intent", "done", "intent", "done", "intent", "done", "failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_finds_too_few_shards_is_refused_and_logged_as_failed() {
    let stored = Stored::new(2 * MIB).await;
    stored.tenant.put(&stored.bucket, "small", pattern(1, 1000)).await;
    let operator = stored.deployment.operator().await;
    let sites = stored.sites().await;
    let small = stored.tenant.client.stat(&stored.bucket, &object_key("small")).await.unwrap().sites;
    for name in sites[..3].iter().chain(&small) {
        operator.set_site_alive(name, false).await.unwrap();
    }
    for key in ["large", "small"] {
        assert!(stored.tenant.get(&stored.bucket, key).await.is_err(), "{key}");
    }
    for name in sites[..3].iter().chain(&small) {
        operator.set_site_alive(name, true).await.unwrap();
    }
    let leaves = stored.tenant.leaves().await;
    let gets: Vec<_> = leaves.iter().filter(|leaf| leaf.operation == "object_get").collect();
    let outcomes: Vec<&str> = gets.iter().map(|leaf| leaf.outcome.as_str()).collect();
    assert_eq!(outcomes, ["intent", "failed", "intent", "failed"]);
    assert!(stored.tenant.get(&stored.bucket, "large").await.unwrap() == stored.body);
}
