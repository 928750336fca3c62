//! Cut, flip, swap, replay: whatever is done to the disks of two sites, reads
//! return the right bytes, and the sites are found out.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coffer_client::GetError;
use coffer_model::RecordId;
use coffer_regions::{Record, RecordKind, Site, SlotContent};
use coffer_server::{RecoveryKit, RepairBudget};
use coffer_site::DirectorySite;
use coffer_tests::{
    Deployment, Files, TenantClient, bucket_name, copy_tree, cut, flip, object_key, pattern, replace_tree,
    volumes, write_at,
};

/// So many readings of everything are enough to meet what is damaged.
const ATTEMPTS: usize = 100;

/// What lies in a deployment before it is damaged.
struct Stored {
    deployment: Deployment,
    tenant: TenantClient,
    objects: Vec<(String, Bytes)>,
}

impl Stored {
    /// Small objects, which ride in their manifests, and striped ones.
    async fn new() -> Self {
        let deployment = Deployment::six_sites().await;
        let tenant = deployment.tenant("acme").await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        let mut objects = vec![("large".to_owned(), pattern(200, 9 << 20))];
        for n in 0..18_usize {
            objects.push((format!("small-{n}"), pattern(n as u64, 40 + 700 * n)));
            objects.push((format!("striped-{n}"), pattern(100 + n as u64, 66_000)));
        }
        for (key, body) in &objects {
            tenant.put(&bucket, key, body.clone()).await;
        }
        Self { deployment, tenant, objects }
    }

    /// Reads everything; every byte must be right.
    async fn all_right(&self, what: &str) {
        for (key, body) in &self.objects {
            let read = self.tenant.get(&bucket_name("things"), key).await;
            assert!(read.is_ok_and(|read| read == *body), "{key} after {what}");
        }
    }

    /// Reads everything until these are found out. A site that is late is not
    /// waited for, so that one reading need not meet what is wrong there.
    async fn read_until_found_out(&self, names: &[&str], what: &str) {
        let mut attempts = 0..ATTEMPTS;
        for name in names {
            loop {
                // At least once, and every time every byte must be right.
                self.all_right(what).await;
                if self.found_out(name).await > 0 {
                    break;
                }
                assert!(attempts.next().is_some(), "{name} was found out after {what}");
            }
        }
    }

    async fn kit(&self) -> RecoveryKit {
        self.deployment.service().kit().await.unwrap()
    }

    async fn restart(&mut self, change: impl AsyncFnOnce(&Deployment)) {
        self.deployment.between(&mut self.tenant, change).await;
    }

    async fn recover(&mut self, kit: &RecoveryKit, change: impl AsyncFnOnce(&Deployment)) {
        self.deployment.stop().await;
        change(&self.deployment).await;
        self.deployment.lose_all_but_sites();
        self.deployment.recover(kit).await;
        self.deployment.reconnect(&mut self.tenant).await;
    }

    /// How often this site was found to be damaged, by itself or by readers,
    /// or to be older than it was, so that nobody reads from it any more.
    async fn found_out(&self, site: &str) -> u64 {
        let site = self.deployment.site(site).await;
        site.damaged + site.reported + u64::from(site.quarantined)
    }
}

/// Every record of a kind at a site.
async fn records(site: &DirectorySite, kind: RecordKind) -> Vec<Record> {
    let mut records = Vec::new();
    for line in site.list(kind, None, usize::MAX).await.unwrap() {
        records.push(site.get(line.id).await.unwrap());
    }
    records
}

/// Puts another body under the id of a record, with a digest that is right.
async fn forge(site: &DirectorySite, id: RecordId, kind: RecordKind, as_in: &Record, body: Bytes) {
    let forged = Record::new(kind, id, as_in.geometry(), body).unwrap();
    site.delete(vec![id]).await.unwrap();
    site.put(vec![forged]).await.unwrap();
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// Where each body lies in the volumes of a site.
fn places(site_dir: &Path, records: &[Record]) -> Vec<(PathBuf, u64)> {
    let start = |body: &[u8]| *body.first_chunk::<16>().unwrap();
    let by_start: HashMap<[u8; 16], usize> =
        records.iter().enumerate().map(|(n, record)| (start(record.body()), n)).collect();
    let mut found = vec![None; records.len()];
    for (path, bytes) in Files::of(&site_dir.join("volumes")).iter() {
        let mut at = 0;
        while let Some(window) = bytes[at..].first_chunk::<16>() {
            at += 1;
            let Some(n) = by_start.get(window) else { continue };
            if bytes[at - 1..].starts_with(records[*n].body()) {
                found[*n] = Some((site_dir.join("volumes").join(path), u64::try_from(at - 1).unwrap()));
                at += records[*n].body().len() - 1;
            }
        }
    }
    found.into_iter().map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_all_over_two_sites_cost_nothing_and_both_sites_are_found_out() {
    let mut stored = Stored::new().await;
    for (first, second) in [("fra1", "par1"), ("zrh1", "mad1")] {
        stored
            .restart(async |deployment| {
                for name in [first, second] {
                    for volume in volumes(&deployment.site_dir(name)) {
                        let end = length(&volume);
                        // Headers and tables near the start, then all over.
                        let spread = (0..200).map(|n| n * end / 200);
                        (128..600).step_by(37).chain(spread).for_each(|at| flip(&volume, at));
                    }
                }
            })
            .await;
        stored.read_until_found_out(&[first, second], "flips").await;
        // What two sites lost is whole again before the next two are damaged.
        stored.heal_by_rewriting().await;
    }
}

impl Stored {
    /// Writes every object anew, so that each lies whole at all its sites.
    async fn heal_by_rewriting(&mut self) {
        for (n, (key, body)) in self.objects.iter_mut().enumerate() {
            *body = pattern(1000 + n as u64, body.len());
            self.tenant.put(&bucket_name("things"), key, body.clone()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_flipped_under_a_running_service_are_noticed_at_the_next_read() {
    let stored = Stored::new().await;
    for name in ["ams1", "sto1"] {
        for volume in volumes(&stored.deployment.site_dir(name)) {
            let end = length(&volume);
            (0..3000).for_each(|n| flip(&volume, 128 + n * (end - 128) / 3000));
        }
    }
    stored.read_until_found_out(&["ams1", "sto1"], "flips under the running service").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_found_damaged_is_healed_and_a_scrub_finds_nothing_more() {
    let mut stored = Stored::new().await;
    let kit = stored.kit().await;
    let bucket = bucket_name("things");
    let striped = stored.tenant.client.stat(&bucket, &object_key("large")).await.unwrap().sites;
    let small = stored.tenant.client.stat(&bucket, &object_key("small-9")).await.unwrap();
    let version = *small.object.version.as_bytes();
    // How many records of each site are flipped.
    let mut damaged: BTreeMap<String, u64> = BTreeMap::new();
    stored
        .restart(async |deployment| {
            // The first data shards of every stripe, and the first two copies.
            for (name, index) in [(&striped[0], 0), (&striped[1], 1)] {
                let mut shards = records(&deployment.open_site(&kit, name), RecordKind::Shard).await;
                shards.retain(|record| record.geometry().index == index && record.body().len() > 200_000);
                assert!(!shards.is_empty());
                *damaged.entry(name.clone()).or_default() += shards.len() as u64;
                for (path, at) in places(&deployment.site_dir(name), &shards) {
                    flip(&path, at + 100);
                }
            }
            for name in &small.sites[..2] {
                let mut manifests = records(&deployment.open_site(&kit, name), RecordKind::Manifest).await;
                manifests.retain(|record| record.body()[1..17] == version);
                *damaged.entry(name.clone()).or_default() += 1;
                let (path, at) = places(&deployment.site_dir(name), &manifests).remove(0);
                flip(&path, at + manifests[0].body().len() as u64 - 1);
            }
        })
        .await;
    let mut attempts = 0..ATTEMPTS;
    for (name, records) in &damaged {
        // Each is reported once, by the reader that met it.
        stored.all_right("damage to first shards and first copies").await;
        while stored.deployment.site(name).await.reported < *records {
            assert!(attempts.next().is_some(), "all {records} records at {name} were found out");
            stored.all_right("damage to first shards and first copies").await;
        }
    }
    let mut before = Vec::new();
    for (name, records) in &damaged {
        assert_eq!(stored.deployment.site(name).await.reported, *records, "{name}");
        before.push(stored.found_out(name).await);
    }
    stored.all_right("healing").await;
    for (name, before) in damaged.keys().zip(before) {
        assert_eq!(stored.found_out(name).await, before, "{name} is not blamed again");
    }
    stored.deployment.stop().await;
    for name in damaged.keys() {
        let findings = stored.deployment.open_site(&kit, name).scrub().await.unwrap();
        assert_eq!(findings, [], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_exchanged_on_disk_within_a_site_and_between_two_are_never_taken_for_each_other() {
    let mut stored = Stored::new().await;
    let kit = stored.kit().await;
    stored
        .restart(async |deployment| {
            // Shards of equal length change places, pair by pair: every other
            // pair between fra1 and par1, the others within each of the two.
            let mut all = Vec::new();
            for name in ["fra1", "par1"] {
                let mut shards = records(&deployment.open_site(&kit, name), RecordKind::Shard).await;
                shards.sort_by_key(|record| record.body().len());
                let places = places(&deployment.site_dir(name), &shards);
                all.push(places.into_iter().zip(shards).collect::<Vec<_>>());
            }
            let (within, between): (Vec<_>, Vec<_>) =
                all[0].iter().zip(&all[1]).enumerate().partition(|(n, _)| n % 4 < 2);
            let pairs = between.into_iter().map(|(_, pair)| pair);
            let halves = within.as_chunks::<2>().0.iter();
            let pairs = pairs.chain(halves.flat_map(|[(_, (a, b)), (_, (c, d))]| [(*a, *c), (*b, *d)]));
            let mut exchanged = 0;
            for ((a, one), (b, other)) in pairs.filter(|(a, b)| a.1.body().len() == b.1.body().len()) {
                write_at(&a.0, a.1, other.body());
                write_at(&b.0, b.1, one.body());
                exchanged += 1;
            }
            assert!(exchanged > 10, "{exchanged} pairs were exchanged");
        })
        .await;
    stored.all_right("the exchange").await;
    assert!(stored.found_out("fra1").await + stored.found_out("par1").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_volumes_exchanged_between_two_sites_stop_neither_service_nor_reads() {
    let mut stored = Stored::new().await;
    stored
        .restart(async |deployment| {
            let (a, b) = (deployment.site_dir("ams1"), deployment.site_dir("zrh1"));
            let spare = deployment.scratch().join("spare");
            std::fs::rename(a.join("volumes"), &spare).unwrap();
            std::fs::rename(b.join("volumes"), a.join("volumes")).unwrap();
            std::fs::rename(&spare, b.join("volumes")).unwrap();
        })
        .await;
    for name in ["ams1", "zrh1"] {
        stored.all_right("the exchange").await;
        if stored.deployment.site(name).await.alive {
            stored.read_until_found_out(&[name], "the exchange").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_two_sites_cut_short_anywhere_cost_nothing_and_both_are_found_out() {
    let mut stored = Stored::new().await;
    stored.deployment.stop().await;
    let kept = stored.deployment.scratch().join("kept");
    copy_tree(&stored.deployment.data(), &kept);
    let names = ["fra1", "mad1"];
    let ends = names.map(|name| length(volumes(&stored.deployment.site_dir(name)).last().unwrap()));
    let part = |eighths: u64| ends.map(|end| end * eighths / 8);
    let cuts = [[0, 1], [64, 128], [129, 700], part(2), part(4), part(6), ends.map(|end| end - 1)];
    for lengths in cuts {
        replace_tree(&kept, &stored.deployment.data());
        for (name, length) in names.iter().zip(lengths) {
            cut(volumes(&stored.deployment.site_dir(name)).last().unwrap(), length);
        }
        stored.deployment.start().await;
        stored.deployment.reconnect(&mut stored.tenant).await;
        let what = format!("cuts to {lengths:?}");
        stored.all_right(&what).await;
        for (name, (length, end)) in names.iter().zip(lengths.iter().zip(ends)) {
            // The last bytes may be of a log record, which no reader asks for.
            if *length <= end / 2 && stored.found_out(name).await == 0 {
                stored.read_until_found_out(&[name], &what).await;
            }
        }
        stored.deployment.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lost_its_volumes_or_its_site_file_is_one_lost_site_and_no_more() {
    let mut stored = Stored::new().await;
    stored
        .restart(async |deployment| {
            std::fs::remove_dir_all(deployment.site_dir("par1").join("volumes")).unwrap();
            cut(&deployment.site_dir("sto1").join("SITE"), 10);
        })
        .await;
    for name in ["par1", "sto1"] {
        stored.all_right("the loss of volumes and of a SITE file").await;
        if stored.deployment.site(name).await.alive {
            stored.read_until_found_out(&[name], "the loss of volumes and of a SITE file").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_a_lying_site_made_up_with_right_digests_are_not_believed() {
    let mut stored = Stored::new().await;
    let kit = stored.kit().await;
    let liars = ["fra1", "sto1"];
    stored
        .restart(async |deployment| {
            for name in liars {
                let site = deployment.open_site(&kit, name);
                for (n, record) in records(&site, RecordKind::Shard).await.iter().enumerate() {
                    let body = pattern(n as u64, record.body().len());
                    forge(&site, record.id(), RecordKind::Shard, record, body).await;
                }
            }
        })
        .await;
    stored.read_until_found_out(&liars, "forged shards").await;
}

/// A tenant with two versions of everything, beside another tenant.
async fn two_versions() -> (Stored, TenantClient) {
    let mut stored = Stored::new().await;
    stored.objects.truncate(12);
    let other = stored.deployment.tenant("other").await;
    other.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    for (key, body) in &stored.objects {
        other.put(&bucket_name("things"), key, pattern(5000, body.len())).await;
    }
    stored.heal_by_rewriting().await;
    (stored, other)
}

/// What stands in the place of each record at a lying site.
#[derive(Clone, Copy, Debug)]
enum Replay {
    /// The next record of the same kind, whosever: of another tenant, or an
    /// older version.
    Next,
    /// One record everywhere.
    First,
    /// Nothing but noise.
    Noise,
}

async fn replay(deployment: &Deployment, kit: &RecoveryKit, name: &str, kind: RecordKind, how: Replay) {
    let site = deployment.open_site(kit, name);
    let all = records(&site, kind).await;
    for (n, record) in all.iter().enumerate() {
        let body = match how {
            Replay::Next => all[(n + 1) % all.len()].body().clone(),
            Replay::First => all[0].body().clone(),
            Replay::Noise => pattern(n as u64, record.body().len()),
        };
        forge(&site, record.id(), kind, record, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_other_tenants_and_older_versions_put_in_place_are_not_read_as_content() {
    let (mut stored, _other) = two_versions().await;
    let kit = stored.kit().await;
    for how in [Replay::Next, Replay::Noise] {
        stored
            .restart(async |deployment| {
                for name in ["fra1", "par1"] {
                    replay(deployment, &kit, name, RecordKind::Manifest, how).await;
                }
            })
            .await;
        stored.all_right("replayed manifests").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_not_misled_by_records_that_two_sites_put_in_place_of_others() {
    for how in [Replay::Next, Replay::First, Replay::Noise] {
        let (mut stored, other) = two_versions().await;
        let bucket = bucket_name("things");
        stored.tenant.client.delete(&bucket, &object_key("small-0")).await.unwrap();
        stored.tenant.client.note_digest("before", &coffer_model::Digest([1; 32])).await.unwrap();
        let kit = stored.kit().await;
        drop(other.client);
        stored
            .recover(&kit, async |deployment| {
                for name in ["fra1", "par1"] {
                    for kind in
                        [RecordKind::Manifest, RecordKind::Registry, RecordKind::Tombstone, RecordKind::Log]
                    {
                        replay(deployment, &kit, name, kind, how).await;
                    }
                }
            })
            .await;
        let gone = stored.tenant.get(&bucket, "small-0").await;
        assert!(matches!(gone, Err(GetError::Call(_))), "{how:?}: a deleted object came back");
        stored.objects.retain(|(key, _)| key != "small-0");
        let listed = stored.tenant.client.list(&bucket, b"").await.unwrap();
        assert!(listed.len() >= stored.objects.len(), "{how:?}: objects are missing");
        stored.read_until_found_out(&["fra1", "par1"], &format!("a rebuild from {how:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sites_that_return_with_an_older_disk_bring_nothing_back_that_was_deleted() {
    let mut stored = Stored::new().await;
    let kept = stored.deployment.scratch().join("kept");
    stored.restart(async |deployment| copy_tree(&deployment.data(), &kept)).await;
    let bucket = bucket_name("things");
    for key in ["small-3", "striped-3", "large"] {
        stored.tenant.client.delete(&bucket, &object_key(key)).await.unwrap();
    }
    stored.objects.retain(|(key, _)| !["small-3", "striped-3", "large"].contains(&key.as_str()));
    stored.heal_by_rewriting().await;
    let kit = stored.kit().await;
    stored
        .recover(&kit, async |deployment| {
            for name in ["ams1", "zrh1"] {
                replace_tree(&kept.join("sites").join(name), &deployment.site_dir(name));
            }
        })
        .await;
    stored.all_right("the return of two older disks").await;
    let listed = stored.tenant.client.list(&bucket, b"").await.unwrap();
    assert_eq!(listed.len(), stored.objects.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_shows_rubbish_as_the_newest_generation_of_every_key_slot_hides_no_key() {
    let mut stored = Stored::new().await;
    let kit = stored.kit().await;
    stored.restart(async |deployment| rubbish_slots(deployment, &kit).await).await;
    stored.all_right("the rubbish").await;
    stored.recover(&kit, async |_| ()).await;
    stored.all_right("the rubbish").await;
}

/// Overwrites every key slot of one site as somebody with its disk could.
async fn rubbish_slots(deployment: &Deployment, kit: &RecoveryKit) {
    let site = deployment.open_site(kit, "fra1");
    let slots = site.list_slots().await.unwrap();
    assert!(slots.len() >= 2, "the deployment's and the tenants' keys");
    for line in slots {
        let rubbish = SlotContent { generation: u64::MAX, body: Bytes::from(vec![7; 500]) };
        site.write_slot(line.slot, rubbish).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_slot_that_rotted_is_found_by_the_scrub_written_anew_and_not_found_again() {
    let mut stored = Stored::new().await;
    let mut rotten = 0;
    stored
        .restart(async |deployment| {
            for file in std::fs::read_dir(deployment.site_dir("fra1").join("slots")).unwrap() {
                let path = file.unwrap().path();
                write_at(&path, 0, &vec![7; usize::try_from(length(&path)).unwrap()]);
                rotten += 1;
            }
        })
        .await;
    let service = stored.deployment.service();
    let findings = async || {
        let scrubbed = service.scrub_once(u64::MAX).await.unwrap();
        scrubbed.iter().map(|site| site.findings).sum::<u64>()
    };
    assert!(rotten >= 2, "the deployment's and the tenants' keys");
    assert_eq!(findings().await, rotten);
    assert_eq!(service.repair_once(RepairBudget::default()).await.unwrap().slots, rotten);
    assert_eq!(findings().await, 0);
}
