//! Every class of difference is found when a restored tree is tampered with.

use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use crate::bench::{Bench, acl, fifo, noise, set_mode, set_mtime, set_xattr, sparse};
use coffer_client::backup::DifferenceClass;

/// A restored tree with one file of each sort, tampered with; what is found.
async fn found(tamper: impl FnOnce(&Path)) -> Vec<(String, DifferenceClass)> {
    let bench = Bench::new().await;
    let source = bench.source();
    std::fs::write(source.join("file"), b"content").unwrap();
    std::fs::write(source.join("first"), b"linked").unwrap();
    std::fs::hard_link(source.join("first"), source.join("second")).unwrap();
    symlink("file", source.join("link")).unwrap();
    sparse(&source.join("sparse"), 4 << 20, &[(1 << 20, &noise(1, 4096))]);
    let (report, manifest) = bench.backup().await;
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
    let times = std::fs::metadata(bench.target()).unwrap().modified().unwrap();
    tamper(&bench.target());
    // The root's own time changes with its names; it is not what is tested.
    std::fs::File::open(bench.target()).unwrap().set_modified(times).unwrap();
    let named = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    bench.differences(&manifest).into_iter().map(|found| (named(&found.path), found.class)).collect()
}

fn one(path: &str, class: DifferenceClass) -> Vec<(String, DifferenceClass)> {
    vec![(path.to_owned(), class)]
}

/// Changes a file and puts its time back, as a tamperer would.
fn keeping_time(path: &Path, change: impl FnOnce(&Path)) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    change(path);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[tokio::test]
async fn a_missing_file_is_found() {
    let found = found(|tree| std::fs::remove_file(tree.join("file")).unwrap()).await;
    assert_eq!(found, one("file", DifferenceClass::Missing));
}

#[tokio::test]
async fn an_extra_file_is_found() {
    let found = found(|tree| std::fs::write(tree.join("guest"), b"").unwrap()).await;
    assert_eq!(found, one("guest", DifferenceClass::Extra));
}

#[tokio::test]
async fn another_kind_is_found() {
    let found = found(|tree| {
        std::fs::remove_file(tree.join("file")).unwrap();
        fifo(&tree.join("file"));
    });
    assert_eq!(found.await, one("file", DifferenceClass::Kind));
}

#[tokio::test]
async fn one_flipped_bit_is_found() {
    let flip = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"C", 0).unwrap();
    };
    let found = found(|tree| keeping_time(&tree.join("file"), flip)).await;
    assert_eq!(found, one("file", DifferenceClass::Content));
}

#[tokio::test]
async fn another_mode_is_found() {
    let found = found(|tree| set_mode(&tree.join("file"), 0o4711)).await;
    assert_eq!(found, one("file", DifferenceClass::Mode));
}

#[tokio::test]
async fn another_owner_is_found() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let chown = |tree: &Path| std::os::unix::fs::chown(tree.join("file"), Some(4711), None).unwrap();
    assert_eq!(found(chown).await, one("file", DifferenceClass::Owner));
}

#[tokio::test]
async fn another_time_is_found_to_the_nanosecond() {
    let found = found(|tree| set_mtime(&tree.join("link"), 1_000_000_000, 1)).await;
    assert_eq!(found, one("link", DifferenceClass::Mtime));
}

#[tokio::test]
async fn another_extended_attribute_is_found() {
    let found = found(|tree| set_xattr(&tree.join("file"), "user.note", b"x")).await;
    assert_eq!(found, one("file", DifferenceClass::Xattr));
}

#[tokio::test]
async fn another_access_control_list_is_found() {
    let found = found(|tree| set_xattr(&tree.join("file"), "system.posix_acl_access", &acl(7))).await;
    assert!(found.contains(&("file".to_owned(), DifferenceClass::Acl)), "{found:?}");
    assert!(!found.iter().any(|(_, class)| *class == DifferenceClass::Xattr), "{found:?}");
}

#[tokio::test]
async fn a_broken_hard_link_is_found() {
    let found = found(|tree| {
        let time = std::fs::metadata(tree.join("first")).unwrap().modified().unwrap();
        std::fs::remove_file(tree.join("second")).unwrap();
        std::fs::write(tree.join("second"), b"linked").unwrap();
        std::fs::File::open(tree.join("second")).unwrap().set_modified(time).unwrap();
    });
    assert_eq!(found.await, one("second", DifferenceClass::HardLink));
}

#[tokio::test]
async fn a_filled_hole_is_found() {
    let fill = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[0; 4096], 3 << 20).unwrap();
    };
    let found = found(|tree| keeping_time(&tree.join("sparse"), fill)).await;
    assert_eq!(found, one("sparse", DifferenceClass::Holes));
}

#[tokio::test]
async fn another_link_target_is_found() {
    let found = found(|tree| {
        let path = tree.join("link");
        let time = std::fs::symlink_metadata(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink("elsewhere", &path).unwrap();
        use std::os::unix::fs::MetadataExt;
        set_mtime(&path, time.mtime(), time.mtime_nsec());
    });
    assert_eq!(found.await, one("link", DifferenceClass::SymlinkTarget));
}

#[tokio::test]
async fn another_device_is_found() {
    let device = |path: &Path, minor| {
        let kind = rustix::fs::FileType::CharacterDevice;
        let number = rustix::fs::makedev(1, minor);
        let made =
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::from_raw_mode(0o600), number);
        set_mtime_if(made.is_ok(), path);
        made.is_ok()
    };
    let bench = Bench::new().await;
    if !device(&bench.source().join("device"), 3) {
        return;
    }
    let (report, manifest) = bench.backup().await;
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
    let times = std::fs::metadata(bench.target()).unwrap().modified().unwrap();
    std::fs::remove_file(bench.target().join("device")).unwrap();
    assert!(device(&bench.target().join("device"), 5));
    std::fs::File::open(bench.target()).unwrap().set_modified(times).unwrap();
    let classes: Vec<_> = bench.differences(&manifest).into_iter().map(|found| found.class).collect();
    assert_eq!(classes, [DifferenceClass::Device]);
}

fn set_mtime_if(made: bool, path: &Path) {
    if made {
        set_mtime(path, 1_000_000_000, 0);
    }
}
