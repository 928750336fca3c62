//! A part of a tree, restored alone.

use std::sync::Arc;

use coffer_client::backup::{
    DifferenceClass, Manifest, Part, Quiet, SnapshotId, compare, manifest_in_memory, plan_restore, restore,
};

use crate::bench::{Bench, noise, rich_tree};

/// Restores a part and says in what it differs, and how many entries it has.
async fn restored(
    bench: &Bench,
    snapshot: &SnapshotId,
    manifest: &Manifest,
    part: Part,
    name: &str,
) -> (Vec<(String, DifferenceClass)>, u64) {
    let target = bench.place.path().join(name);
    let whole = plan_restore(&bench.repository, snapshot, &target).await.unwrap();
    let plan = whole.of_part(&bench.repository, part, &target).await.unwrap();
    let (entries, bytes) = (plan.entries, plan.bytes);
    let report = restore(&bench.repository, plan, Arc::new(Quiet)).await.unwrap();
    assert_eq!((report.entries, report.bytes), (entries, bytes));
    let (back, problems) = manifest_in_memory(&target).unwrap();
    assert_eq!(problems, []);
    let differences = compare(manifest, &back).into_iter();
    (differences.map(|d| (String::from_utf8_lossy(&d.path).into_owned(), d.class)).collect(), entries)
}

#[tokio::test]
async fn a_part_is_as_the_whole_has_it_and_lies_in_its_own_directories() {
    let bench = Bench::new().await;
    for number in 0..400 {
        let directory = bench.source().join(format!("a{}/b{}/c", number / 100, number / 20));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("f{number}")), noise(number, 5000)).unwrap();
    }
    let (report, manifest) = bench.backup().await;
    let all = report.stats.entries;
    let (first, _) =
        restored(&bench, &report.snapshot, &manifest, Part::spread(all, 80, 0, 5000), "t0").await;
    let (other, _) =
        restored(&bench, &report.snapshot, &manifest, Part::spread(all, 80, 1, 5000), "t1").await;
    for differences in [&first, &other] {
        assert!(differences.iter().all(|(_, class)| *class == DifferenceClass::Missing), "{differences:?}");
        let files = differences.iter().filter(|(path, _)| path.contains("/f")).count();
        assert!((320..370).contains(&files), "{files} files are missing");
    }
    // Another turn brings other files back.
    let missing_in_both =
        first.iter().filter(|(path, _)| path.contains("/f") && other.iter().any(|(o, _)| o == path));
    assert!(missing_in_both.count() < 300);
}

#[tokio::test]
async fn a_part_has_no_second_name_of_a_file_and_none_of_the_large_ones() {
    let bench = Bench::new().await;
    rich_tree(&bench.source());
    let (report, manifest) = bench.backup().await;
    let all = report.stats.entries;
    let part = Part::spread(all, all, 0, 1 << 20);
    let (differences, entries) = restored(&bench, &report.snapshot, &manifest, part, "t").await;
    assert!(entries < all);
    let has = |path: &str, class| differences.iter().any(|(p, c)| p == path && *c == class);
    for missing in ["deep/er/large", "zwei"] {
        assert!(has(missing, DifferenceClass::Missing), "{differences:?}");
    }
    let of_links =
        |class: &DifferenceClass| matches!(class, DifferenceClass::Missing | DifferenceClass::HardLink);
    assert!(differences.iter().all(|(_, class)| of_links(class)), "{differences:?}");
}
