//! What goes wrong with one entry is reported, and the rest goes on.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bench::{Bench, noise, raw};
use coffer_client::backup::{Progress, Trouble, UNFINISHED_MARKER};

/// Does something to the tree the first time that file bytes were read.
struct Meddling<F> {
    done: AtomicBool,
    meddle: F,
}

impl<F: Fn() + Send + Sync> Progress for Meddling<F> {
    fn stage(&self, _name: &str, _total_bytes: Option<u64>, _total_items: Option<u64>) {}
    fn advance(&self, bytes: u64, _items: u64) {
        if bytes > 0 && !self.done.swap(true, Ordering::SeqCst) {
            (self.meddle)();
        }
    }
}

fn once(meddle: impl Fn() + Send + Sync + 'static) -> Arc<dyn Progress> {
    Arc::new(Meddling { done: AtomicBool::new(false), meddle })
}

async fn bench(names: &[&str]) -> (Bench, Vec<PathBuf>) {
    let bench = Bench::new().await;
    let paths: Vec<_> = names.iter().map(|name| bench.source().join(name)).collect();
    paths.iter().for_each(|path| std::fs::write(path, noise(1, 6 << 20)).unwrap());
    (bench, paths)
}

#[tokio::test]
async fn a_file_that_vanishes_is_a_problem_and_the_rest_is_backed_up() {
    let (bench, paths) = bench(&["a", "b", "c"]).await;
    let victim = paths[1].clone();
    let (report, manifest) = bench.backup_with(once(move || std::fs::remove_file(&victim).unwrap())).await;
    let [problem] = report.problems.as_slice() else { panic!("{:?}", report.problems) };
    assert_eq!((problem.path.as_slice(), problem.trouble), (&b"b"[..], Trouble::Vanished));
    assert_eq!(report.stats.problems, 1);
    assert!(manifest.find(b"a").is_some() && manifest.find(b"b").is_none() && manifest.find(b"c").is_some());
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

#[tokio::test]
async fn a_directory_that_vanishes_is_a_problem() {
    let (bench, _) = bench(&["a"]).await;
    let victim = bench.source().join("z");
    std::fs::create_dir(&victim).unwrap();
    let (report, _) = bench.backup_with(once(move || std::fs::remove_dir(&victim).unwrap())).await;
    assert_eq!(report.problems[0].trouble, Trouble::Vanished);
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_is_reported() {
    let (bench, paths) = bench(&["a"]).await;
    let path = paths[0].clone();
    let grow = once(move || {
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    });
    let (report, manifest) = bench.backup_with(grow).await;
    assert_eq!(report.problems[0].trouble, Trouble::ChangedWhileRead);
    assert_eq!(manifest.find(b"a").unwrap().size, 6 << 20);
    // What was read is what comes back, whatever it is now.
    let differences = bench.restore(&report.snapshot, &manifest).await;
    assert_eq!(differences, []);
}

#[tokio::test]
async fn a_file_that_is_cut_short_while_it_is_read_is_reported_and_restores_as_read() {
    let (bench, _) = bench(&[]).await;
    let path = bench.source().join("a");
    std::fs::write(&path, noise(1, 40 << 20)).unwrap();
    let cut = once(move || std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap());
    let (report, manifest) = bench.backup_with(cut).await;
    assert_eq!(report.problems[0].trouble, Trouble::ChangedWhileRead);
    assert!(manifest.find(b"a").unwrap().size < 40 << 20);
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

#[tokio::test]
async fn a_pipe_that_took_the_place_of_a_file_does_not_hang_the_backup() {
    let (bench, paths) = bench(&["a", "b"]).await;
    let path = paths[1].clone();
    let swap = once(move || {
        std::fs::remove_file(&path).unwrap();
        crate::bench::fifo(&path);
    });
    let (report, manifest) = bench.backup_with(swap).await;
    assert_eq!(report.problems, []);
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

#[tokio::test]
async fn an_unfinished_restore_is_reported_and_its_marker_is_not_backed_up() {
    let (bench, _) = bench(&["a"]).await;
    std::fs::write(raw(&bench.source(), UNFINISHED_MARKER), b"").unwrap();
    let (report, manifest) = bench.backup().await;
    assert_eq!(report.problems[0].trouble, Trouble::UnfinishedRestore);
    assert!(manifest.find(UNFINISHED_MARKER).is_none());
}
