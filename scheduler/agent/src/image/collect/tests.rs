//! What must not happen when images are removed: to what is used, when the
//! machine stops in between, when the clock is wrong. The disk is a real
//! directory, of a size that the test says.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::shelf::{KernelShelf, Room, Shelf, taken};
use super::*;
use crate::image::{Image, ImageError, PULLED, blob};

/// The moment at which the tests begin.
const BEGIN: Duration = Duration::from_secs(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);

/// A disk of this size, on which the store is alone; it works so many steps long, and then the machine is off.
struct Disk {
    capacity: AtomicU64,
    steps: AtomicUsize,
}

impl Disk {
    fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self { capacity: AtomicU64::new(capacity), steps: AtomicUsize::new(usize::MAX) })
    }

    fn step(&self) -> io::Result<()> {
        let gone = self.steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        gone.map(drop).map_err(|_| io::Error::other("the machine is off"))
    }
}

impl Shelf for Arc<Disk> {
    fn room(&self, directory: &Path) -> io::Result<Room> {
        let capacity = self.capacity.load(Ordering::SeqCst);
        Ok(Room { capacity, available: capacity.saturating_sub(taken(directory)?) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        KernelShelf.rename(from, to)
    }

    fn sync(&self, directory: &Path) -> io::Result<()> {
        self.step()?;
        KernelShelf.sync(directory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // Off in the middle of it.
        let inside = path.join("bin/site");
        if self.step().is_err() {
            if inside.exists() && self.steps.load(Ordering::SeqCst) == 0 {
                std::fs::remove_file(inside)?;
            }
            return Err(io::Error::other("the machine is off"));
        }
        KernelShelf.remove(path)
    }
}

/// A store, with images as if they were pulled.
struct Bench {
    directory: tempfile::TempDir,
    disk: Arc<Disk>,
    store: ImageStore,
    keeping: ImageKeeping,
}

fn keeping() -> ImageKeeping {
    ImageKeeping { unused: MINUTE * 10, high: 85, low: 80, every: MINUTE }
}

fn nobody() -> io::Result<Vec<PodImage>> {
    Ok(Vec::new())
}

/// A pod that runs this image, as it is noted.
fn runs(digest: &ImageDigest, root: Option<String>) -> PodImage {
    PodImage { image: Some(named(digest)), root, began: true }
}

fn named(digest: &ImageDigest) -> ImageReference {
    ImageReference { name: "registry.example/site".to_owned(), digest: digest.clone() }
}

/// A layer with one program of so many bytes that no disk makes smaller.
fn layer(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let content: Vec<u8> = noise.take(bytes).collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, "bin/site", content.as_slice()).unwrap();
    builder.into_inner().unwrap()
}

fn put(layout: &Path, bytes: &[u8]) -> ImageDigest {
    let digest = ImageDigest::of(bytes);
    let path = blob(layout, &digest);
    files::make_dirs(path.parent().unwrap(), 0o700).unwrap();
    files::swap(&path, bytes, 0o600).unwrap();
    digest
}

fn document(layout: &Path, value: &Value) -> ImageDigest {
    put(layout, &serde_json::to_vec(value).unwrap())
}

/// An image of these layers in a layout.
fn image(layout: &Path, layers: &[Vec<u8>]) -> ImageDigest {
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let layers = layers.iter().map(|layer| (put(layout, layer), layer.len()));
    let layers: Vec<_> = layers.collect();
    let ids: Vec<String> = layers.iter().map(|(digest, _)| digest.to_string()).collect();
    let config = json!({ "rootfs": { "diff_ids": ids }, "config": { "Entrypoint": ["/bin/site"] } });
    let config = document(layout, &config);
    let layers: Vec<Value> = layers
        .iter()
        .map(|(digest, size)| json!({ "mediaType": kind, "digest": digest.to_string(), "size": size }))
        .collect();
    document(layout, &json!({ "config": { "digest": config.to_string(), "size": 1 }, "layers": layers }))
}

fn index(layout: &Path, manifest: &ImageDigest) -> ImageDigest {
    document(layout, &json!({ "manifests": [{ "digest": manifest.to_string(), "size": 1 }] }))
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(1 << 40);
        let store = Self::open(directory.path(), &disk);
        Self { directory, disk, store, keeping: keeping() }
    }

    /// One whose disk is beyond its mark whatever is removed.
    fn full() -> Self {
        Self { keeping: ImageKeeping { high: 0, low: 0, ..keeping() }, ..Self::new() }
    }

    fn open(directory: &Path, disk: &Arc<Disk>) -> ImageStore {
        let layouts = vec![directory.join("operator")];
        ImageStore::on(directory.join("images"), layouts, Vec::new(), Box::new(Arc::clone(disk))).unwrap()
    }

    /// As after the agent was killed and started again.
    fn again(&mut self) {
        self.disk = Disk::new(self.disk.capacity.load(Ordering::SeqCst));
        self.store = Self::open(self.directory.path(), &self.disk);
    }

    fn images(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    fn pulled(&self) -> PathBuf {
        self.images().join(PULLED)
    }

    /// An image that was pulled, and unpacked.
    fn ready(&self, bytes: usize, seed: u32) -> ImageDigest {
        let digest = image(&self.pulled(), &[layer(bytes, seed)]);
        self.run(&digest).unwrap();
        digest
    }

    fn run(&self, digest: &ImageDigest) -> Result<Image, ImageError> {
        self.store.ready(&named(digest))
    }

    fn collect(&self, pods: &[PodImage], now: Duration) -> Collected {
        let round = self.store.collect(&self.keeping, &|| Ok(pods.to_vec()), now).unwrap();
        assert!(round.failed.is_none(), "{:?}", round.failed);
        round
    }

    /// The names of everything that an image could leave.
    fn left(&self) -> Vec<String> {
        let ready = files::names(&self.images()).unwrap();
        let ready = ready.into_iter().filter(|name| name != PULLED && name != "unused.json");
        ready.chain(files::names(&self.pulled().join("blobs/sha256")).unwrap()).collect()
    }
}

#[test]
fn what_no_pod_uses_is_removed_when_it_was_unused_for_long_enough_and_not_before() {
    let bench = Bench::new();
    let digest = bench.ready(10_000, 1);
    assert_eq!(bench.left().len(), 4, "manifest, configuration, layer, root");
    for minutes in [0, 5, 9] {
        bench.collect(&[], BEGIN + MINUTE * minutes);
        assert!(bench.run(&digest).is_ok());
    }
    let round = bench.collect(&[], BEGIN + MINUTE * 10);
    assert!(round.freed > 20_000, "{round:?}");
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    assert!(matches!(bench.run(&digest), Err(ImageError::Absent(_))));
}

#[test]
fn what_a_pod_uses_is_never_removed_whatever_the_disk_and_the_clock_say() {
    let bench = Bench::full();
    let run = bench.ready(10_000, 1);
    let behind = index(&bench.pulled(), &bench.ready(10_000, 2));
    let other = bench.ready(10_000, 3);
    let before = bench.left().len();
    let pods = [runs(&run, None), runs(&behind, None)];
    let round = bench.collect(&pods, BEGIN);
    let (_, wanted) = round.full.unwrap();
    assert!(wanted > 0);
    for days in [0, 1, 1000] {
        bench.collect(&pods, BEGIN + MINUTE * 60 * 24 * days);
        assert!(bench.run(&run).is_ok() && bench.run(&behind).is_ok());
    }
    assert!(matches!(bench.run(&other), Err(ImageError::Absent(_))));
    assert_eq!(bench.left().len(), before - 4);
}

#[test]
fn a_layer_of_two_images_stays_as_long_as_one_of_them_is_used() {
    let bench = Bench::full();
    let shared = layer(10_000, 1);
    let kept = image(&bench.pulled(), &[shared.clone(), layer(10_000, 2)]);
    let gone = image(&bench.pulled(), &[shared.clone(), layer(10_000, 3)]);
    bench.collect(&[runs(&kept, None)], BEGIN);
    assert!(bench.run(&kept).is_ok());
    assert!(!blob(&bench.pulled(), &gone).exists());
}

#[test]
fn a_root_in_which_a_container_runs_stays_also_when_nothing_says_any_more_what_it_was_unpacked_from() {
    let bench = Bench::full();
    let operator = bench.directory.path().join("operator");
    let manifest = image(&operator, &[layer(10_000, 1)]);
    let behind = index(&operator, &manifest);
    bench.run(&behind).unwrap();
    let root = format!("oci-{}", manifest.hex());
    // The operator has put a newer image into the layout.
    std::fs::remove_dir_all(&operator).unwrap();
    bench.collect(&[runs(&behind, Some(root.clone()))], BEGIN);
    assert!(bench.images().join(&root).exists());
    // An agent of before did not note in what the container runs: then no root goes, and that is said.
    let round = bench.collect(&[runs(&behind, None)], BEGIN);
    assert!(bench.images().join(&root).exists() && round.unsure.unwrap().contains(behind.hex()));
    // Of one that never began there is nothing to lose.
    let waits = PodImage { began: false, ..runs(&behind, None) };
    assert!(bench.collect(&[waits], BEGIN).unsure.is_none());
    assert!(!bench.images().join(&root).exists());
}

#[test]
fn a_layout_of_the_operator_is_never_touched_and_starts_what_was_removed() {
    let bench = Bench::full();
    let operator = bench.directory.path().join("operator");
    let digest = image(&operator, &[layer(10_000, 1)]);
    bench.run(&digest).unwrap();
    // Pulled too, but for its layer.
    let manifest = files::read(&blob(&operator, &digest)).unwrap();
    put(&bench.pulled(), &manifest);
    bench.collect(&[], BEGIN);
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    assert!(bench.run(&digest).is_ok());
}

#[test]
fn an_image_of_which_a_part_is_gone_hides_no_whole_one() {
    let bench = Bench::new();
    let layers = [layer(10_000, 1)];
    let digest = image(&bench.pulled(), &layers);
    image(&bench.directory.path().join("operator"), &layers);
    std::fs::remove_file(blob(&bench.pulled(), &ImageDigest::of(&layers[0]))).unwrap();
    bench.run(&digest).unwrap();
}

#[test]
fn beyond_the_mark_the_longest_unused_goes_at_once_until_the_other_mark() {
    let bench = Bench::new();
    let images: Vec<ImageDigest> = (1..=5).map(|seed| bench.ready(900_000, seed)).collect();
    // One after the other falls out of use, the last ones first; the first one never does.
    for left in [4, 3, 2, 1] {
        let pods: Vec<PodImage> = images.iter().take(left).map(|digest| runs(digest, None)).collect();
        bench.collect(&pods, BEGIN + Duration::from_secs(10 - u64::try_from(left).unwrap()));
    }
    let used = [runs(&images[0], None)];
    let mut rounds = 0;
    loop {
        let before = taken(&bench.images()).unwrap();
        bench.disk.capacity.store(before * 100 / 87, Ordering::SeqCst);
        let round = bench.collect(&used, BEGIN + MINUTE);
        let there: Vec<bool> = images.iter().map(|digest| bench.run(digest).is_ok()).collect();
        assert!(there[0] && there.is_sorted_by(|one, next| one >= next), "{there:?}");
        if let Some((percent, wanted)) = round.full {
            assert!(percent >= 85 && wanted > 0 && there == [true, false, false, false, false]);
            assert!(rounds >= 4);
            return;
        }
        // No more than it must: two thirds of what one image takes.
        assert!(round.freed >= before * 7 / 100 && round.freed < 1_900_000, "{round:?}");
        rounds += 1;
    }
}

#[test]
fn a_pod_that_comes_while_images_are_removed_finds_its_own_whole() {
    let bench = Bench::full();
    let digest = bench.ready(10_000, 1);
    let (wanted, uses) = (Arc::new(Mutex::new(None)), Arc::clone(bench.store.uses()));
    let (kept, comes) = (Arc::clone(&wanted), digest.clone());
    let asked = AtomicUsize::new(0);
    let pods = || {
        // Between the look at what is used and the first removal.
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            *kept.lock().unwrap() = Some(uses.want(&comes));
        }
        nobody()
    };
    let round = bench.store.collect(&bench.keeping, &pods, BEGIN).unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), round.freed), (2, 0));
    assert!(bench.run(&digest).is_ok());
    wanted.lock().unwrap().take();
    bench.collect(&[], BEGIN);
    assert!(bench.left().is_empty());
}

#[test]
fn what_a_pull_brings_stays_while_it_is_under_way_and_belongs_to_its_image_afterwards() {
    let bench = Bench::full();
    let layers = [layer(10_000, 1)];
    let elsewhere = tempfile::tempdir().unwrap();
    let digest = image(elsewhere.path(), &layers);
    let blobs: Vec<Vec<u8>> = files::names(&elsewhere.path().join("blobs/sha256"))
        .unwrap()
        .iter()
        .map(|hex| files::read(&elsewhere.path().join("blobs/sha256").join(hex)).unwrap())
        .collect();
    // Its configuration and its layer have come; what names them comes last.
    let wanted = bench.store.want(&named(&digest));
    let coming = bench.store.uses().coming(blobs.iter().map(|bytes| ImageDigest::of(bytes)).collect());
    let (last, first): (Vec<_>, Vec<_>) = blobs.iter().partition(|bytes| ImageDigest::of(bytes) == digest);
    first.iter().for_each(|bytes| drop(put(&bench.pulled(), bytes)));
    bench.collect(&[], BEGIN);
    assert_eq!(bench.left().len(), 2);
    // The pull ends between the look and the first removal.
    let coming = Mutex::new(Some(coming));
    let pods = || {
        if let Some(coming) = coming.lock().unwrap().take() {
            last.iter().for_each(|bytes| drop(put(&bench.pulled(), bytes)));
            drop(coming);
        }
        nobody()
    };
    bench.store.collect(&bench.keeping, &pods, BEGIN).unwrap();
    bench.run(&digest).unwrap();
    drop(wanted);
    bench.collect(&[], BEGIN);
    assert!(bench.left().is_empty());
}

#[test]
fn what_was_used_between_two_rounds_is_unused_from_then_on() {
    let bench = Bench::new();
    let digest = bench.ready(10_000, 1);
    bench.collect(&[], BEGIN);
    drop(bench.store.want(&named(&digest)));
    bench.collect(&[], BEGIN + MINUTE * 9);
    bench.collect(&[], BEGIN + MINUTE * 18);
    assert!(bench.run(&digest).is_ok());
    bench.collect(&[], BEGIN + MINUTE * 19);
    assert!(bench.left().is_empty());
}

#[test]
fn an_agent_that_is_started_again_goes_on_counting() {
    let mut bench = Bench::new();
    bench.ready(10_000, 1);
    bench.collect(&[], BEGIN);
    bench.again();
    bench.collect(&[], BEGIN + MINUTE * 9);
    assert_eq!(bench.left().len(), 4);
    bench.again();
    bench.collect(&[], BEGIN + MINUTE * 10);
    assert!(bench.left().is_empty());
}

#[test]
fn a_clock_that_is_set_back_begins_to_count_anew_and_keeps_nothing_for_ever() {
    let mut bench = Bench::new();
    bench.ready(10_000, 1);
    let earlier = BEGIN - MINUTE * 10_000;
    bench.collect(&[], BEGIN);
    bench.again();
    for minutes in [0, 9] {
        bench.collect(&[], earlier + MINUTE * minutes);
        assert_eq!(bench.left().len(), 4, "{minutes}");
    }
    bench.collect(&[], earlier + MINUTE * 10);
    assert!(bench.left().is_empty());
}

#[test]
fn a_file_of_moments_that_is_spoiled_or_of_another_version_begins_anew() {
    for spoiled in [&b"{"[..], br#"{"version":2,"since_unix_ms":{}}"#, b"[]", b""] {
        let mut bench = Bench::new();
        bench.ready(10_000, 1);
        bench.collect(&[], BEGIN);
        files::swap(&bench.images().join("unused.json"), spoiled, 0o600).unwrap();
        bench.again();
        bench.collect(&[], BEGIN + MINUTE * 10);
        assert_eq!(bench.left().len(), 4);
        bench.collect(&[], BEGIN + MINUTE * 20);
        assert!(bench.left().is_empty());
    }
}

#[test]
fn nothing_is_removed_when_it_is_not_known_what_pods_use() {
    let bench = Bench::full();
    let digest = bench.ready(10_000, 1);
    let unknown = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
    let refused = bench.store.collect(&bench.keeping, &unknown, BEGIN);
    assert!(matches!(refused, Err(CollectError::Pods(_))), "{refused:?}");
    assert!(bench.run(&digest).is_ok());
}

#[test]
fn a_machine_that_stops_between_any_two_steps_leaves_neither_half_an_image_nor_anything_for_ever() {
    let mut steps = 0;
    loop {
        let mut bench = Bench::full();
        let manifest = bench.ready(10_000, 1);
        let digest = index(&bench.pulled(), &manifest);
        let whole = bench.left().len();
        bench.disk.steps.store(steps, Ordering::SeqCst);
        let round = bench.store.collect(&bench.keeping, &nobody, BEGIN).unwrap();
        let is_done = round.failed.is_none();
        bench.again();
        // What is there by its name is whole, and what is not is not there.
        for digest in [&digest, &manifest] {
            match bench.run(digest).map(|image| image.root) {
                Ok(crate::Root::Image { directory }) => {
                    let found = std::fs::metadata(directory.join("bin/site")).unwrap();
                    assert_eq!(found.size(), 10_000, "after {steps} steps");
                }
                Err(ImageError::Absent(_)) => {}
                other => panic!("after {steps} steps: {other:?}"),
            }
        }
        let layer = blob(&bench.pulled(), &ImageDigest::of(&layer(10_000, 1)));
        if blob(&bench.pulled(), &manifest).exists() {
            assert!(layer.exists(), "a manifest stayed without its layer after {steps} steps");
        }
        bench.collect(&[], BEGIN);
        assert!(bench.left().is_empty(), "after {steps} steps: {:?}", bench.left());
        if is_done {
            assert!(whole == 5 && steps > whole, "{steps}");
            return;
        }
        steps += 1;
    }
}

#[test]
fn what_was_being_made_when_the_agent_was_killed_is_removed_and_what_is_being_made_now_is_not() {
    let bench = Bench::new();
    let hex = ImageDigest::of(b"x").hex().to_owned();
    let half = bench.images().join(format!("new-{hex}"));
    let copy = bench.images().join(format!("exe-{hex}.new"));
    files::make_dirs(&half.join("bin"), 0o755).unwrap();
    std::fs::OpenOptions::new().write(true).create_new(true).open(&copy).unwrap().write_all(b"x").unwrap();
    let making = bench.store.making.lock().unwrap();
    bench.collect(&[], BEGIN);
    assert!(half.exists() && copy.exists());
    drop(making);
    bench.collect(&[], BEGIN);
    assert!(bench.left().is_empty(), "{:?}", bench.left());
}
