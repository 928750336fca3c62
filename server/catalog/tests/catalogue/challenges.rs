//! Challenges: new until drawn, gone with what they are about.

use std::collections::BTreeSet;

use coffer_catalog::{Catalog, ChallengeRow, ManifestRow, NewChallenges};
use coffer_model::{Digest, RecordId, SiteId};

use crate::sample::{fresh, key, leaf, manifest, path, put, reservation, sixteen, version};

fn site(number: u8) -> SiteId {
    SiteId::from_bytes([number; 16])
}

/// Four challenges at each of two sites.
fn challenges(number: u64) -> NewChallenges {
    let at = |site: u8, nonce: u8| ChallengeRow {
        version: version(number),
        site: SiteId::from_bytes([site; 16]),
        record: RecordId::from_bytes(sixteen(number << 8 | u64::from(site))),
        nonce: [nonce; 8],
        answer: Digest([nonce; 32]),
    };
    let rows = [1, 2].into_iter().flat_map(|site| (0..4).map(move |nonce| at(site, nonce)));
    NewChallenges { rows: rows.collect(), whole: true }
}

async fn put_challenged(catalog: &Catalog, number: u64) -> ManifestRow {
    let new = reservation(number, &format!("key-{number}"));
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
    let row = manifest(&new, reserved);
    catalog.commit_under(row.clone(), None, challenges(number), leaf("outcome")).await.unwrap();
    row
}

#[tokio::test]
async fn nothing_is_asked_twice_while_something_new_is_left() {
    let (_folder, catalog) = fresh().await;
    for number in 1..=3 {
        put_challenged(&catalog, number).await;
    }
    let mut seen = BTreeSet::new();
    for round in 0..4_u64 {
        let drawn = catalog.draw_challenges(site(1), vec![round * 7, u64::MAX, 5]).await.unwrap();
        assert_eq!(drawn.len(), 3);
        for challenge in drawn {
            assert!(!challenge.repeated);
            assert_eq!(challenge.row.site, site(1));
            assert!(seen.insert(challenge.id), "{} came twice", challenge.id);
        }
    }
    assert_eq!(seen.len(), 12, "three versions with four each");
    let again = catalog.draw_challenges(site(1), vec![0; 50]).await.unwrap();
    assert_eq!(again.len(), 12, "and then all of them once more, none twice");
    assert!(again.iter().all(|challenge| challenge.repeated));
    assert_eq!(catalog.draw_challenges(site(9), vec![1]).await.unwrap(), []);
}

#[tokio::test]
async fn the_last_new_one_of_a_version_at_a_site_says_so() {
    let (_folder, catalog) = fresh().await;
    put_challenged(&catalog, 1).await;
    let drawn = catalog.draw_challenges(site(2), vec![3; 4]).await.unwrap();
    let last: Vec<bool> = drawn.iter().map(|challenge| challenge.last).collect();
    assert_eq!(last, [false, false, false, true]);
}

#[tokio::test]
async fn what_was_drawn_counts_as_asked_after_a_crash() {
    let (folder, catalog) = fresh().await;
    put_challenged(&catalog, 1).await;
    let drawn = catalog.draw_challenges(site(1), vec![1]).await.unwrap();
    drop(catalog);
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path(folder.path()).display());
        let to = format!("{}{suffix}", path(&copy).display());
        if std::path::Path::new(&from).exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
    let catalog = Catalog::open(path(&copy), key(1), crate::sample::TENANT).await.unwrap();
    let rest = catalog.draw_challenges(site(1), vec![0; 3]).await.unwrap();
    assert!(rest.iter().all(|challenge| !challenge.repeated && challenge.id != drawn[0].id));
}

#[tokio::test]
async fn a_version_without_challenges_is_listed_until_it_has_them() {
    let (_folder, catalog) = fresh().await;
    put(&catalog, 1, "bare").await;
    put_challenged(&catalog, 2).await;
    assert_eq!(catalog.unchallenged(None, 10).await.unwrap(), [version(1)]);
    assert_eq!(catalog.unchallenged(Some(version(1)), 10).await.unwrap(), []);
    let part = NewChallenges { whole: false, ..challenges(1) };
    catalog.add_challenges(version(1), part).await.unwrap();
    assert_eq!(catalog.unchallenged(None, 10).await.unwrap(), [version(1)], "not every shard has some");
    catalog.add_challenges(version(1), challenges(1)).await.unwrap();
    let counts = catalog.challenge_counts().await.unwrap();
    assert_eq!(counts.unchallenged_versions, 0);
    assert_eq!(
        counts.fresh.into_iter().collect::<Vec<_>>(),
        [(site(1), 8), (site(2), 8)],
        "replaced, not added"
    );
}

#[tokio::test]
async fn forgotten_challenges_are_not_drawn_and_leave_their_version_unchallenged() {
    let (_folder, catalog) = fresh().await;
    put_challenged(&catalog, 1).await;
    for number in [1, 2] {
        let drawn = catalog.draw_challenges(site(number), vec![0; 4]).await.unwrap();
        catalog.drop_challenges(drawn.iter().map(|challenge| challenge.id).collect()).await.unwrap();
        assert_eq!(catalog.draw_challenges(site(number), vec![0]).await.unwrap(), []);
    }
    assert_eq!(catalog.unchallenged(None, 10).await.unwrap(), [version(1)]);
    catalog.add_challenges(version(77), challenges(77)).await.unwrap();
    assert_eq!(
        catalog.draw_challenges(site(1), vec![0]).await.unwrap(),
        [],
        "nobody challenges what is not there"
    );
}

#[tokio::test]
async fn challenges_of_a_put_that_does_not_stand_do_not_stand_either() {
    let (_folder, catalog) = fresh().await;
    let new = reservation(5, "key");
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
    let mut row = manifest(&new, reserved);
    row.manifest.order += 1;
    assert!(catalog.commit_under(row, None, challenges(5), leaf("outcome")).await.is_err());
    assert_eq!(catalog.challenge_counts().await.unwrap(), Default::default());
}
