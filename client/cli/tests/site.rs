//! What an operator is told of sites: how each is, where a pod's files went, and why something was not done.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, reason = "a test makes files")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "support/calls.rs"]
mod calls;
#[path = "support/places.rs"]
mod places;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;

use calls::{coffer, good};
use places::PLACES;
use process::Process;
use program::command;

/// What people read.
fn told(dir: &Path, arguments: &[&str]) -> String {
    let output = command(dir, arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {err}");
    out.into_owned()
}

/// The exit code of what must not be done, and what is said of it.
fn refused(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(dir, arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} was done");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The line about a site.
fn line(dir: &Path, site: &str) -> String {
    let listed = told(dir, &["site", "ls"]);
    let line = listed.lines().find(|line| line.starts_with(&format!("{site} ")));
    line.map(str::to_owned).unwrap_or_else(|| panic!("{site} is not in {listed}"))
}

fn says(dir: &Path, site: &str, state: &str) {
    let line = line(dir, site);
    assert!(line.contains(&format!(" {state}  ")), "{site} is not {state}: {line}");
    let shown = told(dir, &["site", "show", site]);
    assert!(shown.lines().any(|line| line == format!("state        {state}")), "{shown}");
}

/// A service in `data`, which ends with the test.
fn serve(dir: &Path, more: &[&str]) -> Process {
    let service = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--repair-every", "0s"];
    let service = Process::start(dir, &[&service[..], &["--exit-with-stdin"], more].concat());
    assert_eq!(service.until("ready")["ready"], true);
    service
}

/// A deployment of seven sites, one more than its policy needs.
fn served(dir: &Path) -> Process {
    places::write(dir, &PLACES);
    let service = serve(dir, &["--sites", places::FILE]);
    good(dir, &["tenant", "create", "demo"]);
    service
}

fn site_file(dir: &Path, name: &str, sites: &[(&str, &str, &str)]) {
    let entry = |(name, country, domain): &(&str, &str, &str)| {
        format!(
            "[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{domain}\"\ntier = \"III\"\n"
        )
    };
    fs::write(dir.join(name), sites.iter().map(entry).collect::<String>()).unwrap();
}

/// A file system that is too small for a shard of a megabyte; `None`, said aloud, where none can be mounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1536k", "tmpfs"]).arg(&at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        eprintln!("no tmpfs can be mounted here: the story goes on without a full site");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the service on it may be ending.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn the_list_says_of_each_site_what_keeps_it_from_taking_data() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let small;
    let _service = served(dir);
    says(dir, "fra1", "alive");
    let room = line(dir, "fra1");
    assert!(room.contains("  free ") && !room.contains("unknown"), "{room}");

    good(dir, &["site", "drain", "war1"]);
    says(dir, "war1", "alive, draining");
    good(dir, &["site", "kill", "war1"]);
    says(dir, "war1", "down, draining");
    good(dir, &["site", "revive", "war1"]);
    good(dir, &["repair", "run"]);
    good(dir, &["site", "retire", "war1"]);
    says(dir, "war1", "retired");

    small = SmallDisk::mount(dir.join("data/sites/hel1"));
    if small.is_some() {
        site_file(dir, "more.toml", &[("hel1", "FI", "hel1")]);
        good(dir, &["site", "add", "more.toml"]);
        says(dir, "hel1", "alive, full");
        good(dir, &["site", "drain", "hel1"]);
        says(dir, "hel1", "alive, draining, full");
    }
    let sites = good(dir, &["site", "ls"]);
    let of = |name: &str| sites.iter().find(|site| site["site"] == name).unwrap();
    assert_eq!((&of("fra1")["full"], &of("war1")["standing"]), (&false.into(), &"retired".into()));
    assert!(small.is_none() || of("hel1")["full"] == true);
}

#[test]
fn who_asks_something_of_a_retired_site_is_told_that_it_is_retired_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let _service = served(dir);
    good(dir, &["site", "drain", "war1"]);
    good(dir, &["repair", "run"]);
    good(dir, &["site", "retire", "war1"]);
    let certificate = ["--tier", "III", "--number", "1", "--from", "2025-06-01", "--until", "2027-05-31"];
    for asked in [
        &["site", "retire", "war1"][..],
        &["site", "drain", "--undo", "war1"],
        &["site", "drain", "war1"],
        &["site", "replace", "war1"],
        &[&["site", "certify", "war1"][..], &certificate].concat(),
    ] {
        let (code, said) = refused(dir, asked);
        assert_eq!(code, Some(1), "{asked:?}");
        assert!(said.contains("war1 is retired; a site's name is for life"), "{asked:?}: {said}");
        assert!(said.contains("add one under another name, `coffer site add`"), "{asked:?}: {said}");
        assert!(!said.contains("no site"), "it is in the list: {said}");
    }
    let (code, said) = refused(dir, &["site", "retire", "nowhere1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no site \"nowhere1\"") && said.contains("coffer site ls"), "{said}");
}

#[test]
fn a_site_file_without_the_one_that_is_wanted_is_told_from_one_with_several() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let _service = served(dir);
    let add = |more: &[&str]| {
        let (code, said) = refused(dir, &[&["site", "add"][..], more].concat());
        assert_eq!(code, Some(1), "{said}");
        said
    };
    assert!(add(&[places::FILE]).contains("every site of the site file is there already, or was"));
    assert!(add(&[places::FILE, "--name", "nosuch"]).contains("the site file describes no site \"nosuch\""));
    site_file(dir, "more.toml", &[("hel1", "FI", "a"), ("osl1", "NO", "b")]);
    assert!(add(&["more.toml"]).contains("2 sites that are not there yet; name one of them: hel1, osl1"));
    assert!(add(&["more.toml", "--name", "nosuch"]).contains("the site file describes no site \"nosuch\""));

    // Where nobody could be, and what fails together with nothing.
    site_file(dir, "nowhere.toml", &[("hel1", "XX", "a"), ("osl1", "NO", ""), ("cph1", "DK", "c")]);
    let said = add(&["nowhere.toml", "--name", "hel1"]);
    assert!(said.contains("the site \"hel1\" stands nowhere: XX is no country of ISO 3166-1"), "{said}");
    assert!(add(&["nowhere.toml", "--name", "osl1"]).contains("the site \"osl1\" has an empty domain"));
    good(dir, &["site", "add", "nowhere.toml", "--name", "cph1"]);
}

#[test]
fn a_policy_that_names_no_country_is_refused_and_says_which_was_meant() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let _service = served(dir);
    for (flag, place, said) in [
        ("--deny", "UK", "did you mean GB?"),
        ("--allow", "EL", "did you mean GR?"),
        ("--deny", "QQ", "QQ is no country of ISO 3166-1"),
    ] {
        let (code, told) = refused(dir, &["bucket", "create", "denies", flag, place]);
        assert_eq!(code, Some(2), "{place}");
        assert!(told.contains(said), "{told}");
    }
    good(dir, &["bucket", "create", "denies", "--allow", "EU", "--deny", "GB", "--deny", "XK"]);

    // A rate is typed as everywhere else.
    good(dir, &["site", "rebalance", "--run", "--rate", "3M"]);
    for rate in ["0", "3X"] {
        let (code, said) = refused(dir, &["site", "rebalance", "--run", "--rate", rate]);
        assert_eq!(code, Some(2), "{rate}");
        assert!(said.contains("a size is a number of bytes above 0, for example 512M"), "{said}");
    }
}

#[test]
fn a_pod_is_enrolled_under_a_name_and_in_a_country_that_the_site_file_takes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    for wrong in [
        &["Bad/Name", "--country", "DE"][..],
        &["", "--country", "DE"],
        &["fra1", "--country", "QQ"],
        &["fra1", "--country", "UK"],
    ] {
        let (code, said) = refused(dir, &[&["site", "enroll"][..], wrong, &["--out", "fra1"]].concat());
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
    }
    let made: Vec<_> = fs::read_dir(dir).unwrap().collect();
    assert!(made.is_empty(), "keys that no site file takes: {made:?}");
}

#[test]
fn who_enrolls_a_pod_in_a_wrong_folder_reads_where_the_credentials_are_and_no_service_gets_two_authorities() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let enroll = |name: &str| told(dir, &["site", "enroll", name, "--country", "DE", "--out", name]);
    let real = dir.canonicalize().unwrap();
    let shown = real.join("coffer-data/credentials/pods");
    let first = enroll("fra1");
    assert!(first.contains("a new authority was made in "), "{first}");
    assert!(first.contains(&format!("what the service shows to pods is in {}", shown.display())), "{first}");
    assert!(first.contains("no deployment is there yet: found it there, or"), "{first}");
    assert!(shown.join("ca.pem").exists());
    // What is in the way is told before anything is made.
    let elsewhere = dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let taken = ["site", "enroll", "fra9", "--country", "DE", "--out", "fra1", "--data-dir", "elsewhere"];
    let (code, said) = refused(dir, &taken);
    assert!(code == Some(1) && said.contains("is there already"), "{said}");
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_none(), "nothing was made there");
    let second = enroll("fra2");
    assert!(second.contains("the authority is in ") && !second.contains("a new authority"), "{second}");

    let other = ["site", "enroll", "fra3", "--country", "DE", "--out", "fra3", "--authority", "other"];
    let (code, said) = refused(dir, &other);
    assert_eq!(code, Some(1));
    assert!(said.contains("is of another authority") && said.contains("no pod was enrolled"), "{said}");
    assert!(!dir.join("fra3").exists());

    // Where a deployment is, there is nothing to say.
    let _service = serve(dir, &[]);
    let there = ["site", "enroll", "fra4", "--country", "DE", "--out", "fra4", "--data-dir", "data"];
    let said = told(dir, &there);
    assert!(said.contains("data/credentials/pods") && !said.contains("no deployment"), "{said}");
    assert!(coffer(dir, &["site", "ls"]).status.success());
}
