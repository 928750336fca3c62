//! `coffer durability`: of supposed sites, with told inputs; and of a service
//! and its drills, with what these have measured.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and damages files")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

#[path = "support/calls.rs"]
mod calls;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;

use calls::{coffer, good};
use process::Process;

fn durability(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_coffer"))
        .args(["--json", "durability"])
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap()
}

fn six(arguments: &[&str]) -> Vec<Value> {
    let six =
        ["--tier", "I", "--tier", "I", "--tier", "III", "--tier", "III", "--tier", "IV", "--tier", "IV"];
    let told = durability(&[&six[..], &["--decode-rate", "1000", "--gib", "100"], arguments].concat());
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let lines = String::from_utf8(told.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The object about the supposed sites.
fn figures(arguments: &[&str]) -> Value {
    six(arguments).into_iter().find(|object| !object["policy_of"].is_null()).unwrap()
}

#[test]
fn a_wider_budget_loses_less_and_slower_repairs_lose_more() {
    let loss = |arguments: &[&str]| figures(arguments)["striped_object"]["loss_in_a_year"].as_f64().unwrap();
    assert!(loss(&["--geometry", "3+3"]) < loss(&["--geometry", "4+2"]));
    assert!(loss(&["--repair", "30d"]) > loss(&["--repair", "1d"]));
    assert!(loss(&["--losses-per-year", "0.1"]) > loss(&["--losses-per-year", "0.01"]));
}

#[test]
fn two_lost_sites_come_back_by_the_stated_rates_and_three_never_at_4_2() {
    let seconds = |arguments: &[&str], scenario: usize| {
        figures(arguments)["restorations"][scenario]["seconds"].as_f64()
    };
    let cold =
        seconds(&["--custodians", "1h", "--rebuild-rate", "10000", "--objects", "1000000"], 2).unwrap();
    // An hour, a hundred seconds, and 100 GiB at 100 MiB a second.
    assert!((cold - (3600.0 + 100.0 + 1024.0)).abs() < 1e-6, "{cold}");
    assert_eq!(seconds(&["--lost", "3"], 1), None);
    assert!(seconds(&["--lost", "3", "--geometry", "3+3"], 1).is_some());
}

#[test]
fn too_few_sites_and_rates_that_are_none_are_wrong_usage() {
    for arguments in [
        &["--tier", "I", "--tier", "I"][..],
        &["--tier", "I", "--geometry", "1+1", "--losses-per-year", "0"],
        &["--tier", "I", "--geometry", "1+1", "--repair", "0s"],
        &["--geometry", "4+2"],
    ] {
        assert_eq!(durability(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn without_a_service_every_input_is_given_or_says_that_it_is_supposed_and_what_would_measure_it() {
    let told = &six(&["--custodians", "2h"])[0];
    for (name, source) in told["sources"].as_object().unwrap() {
        let given = ["bytes", "decode_bytes_per_second", "custodian_seconds"].contains(&name.as_str());
        assert_eq!(source["source"], if given { "given" } else { "supposed" }, "{name}");
        assert!(given || !source["advice"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(told["inputs"]["custodian_seconds"], 7200.0);
    let unpinned = durability(&["--tier", "I", "--geometry", "1+1", "--record", "record.json"]);
    assert_eq!(unpinned.status.code(), Some(2), "believed under whose key?");
}

#[test]
fn a_repair_takes_its_discovery_and_what_the_model_says_of_one_lost_site_unless_it_is_given() {
    let seconds = |arguments: &[&str]| figures(arguments)["repair_seconds"].as_f64().unwrap();
    // 100 GiB, read once and a quarter of it written, at 50 MiB a second.
    let made = 102_400.0 * 1.25 / 50.0;
    let all = seconds(&["--discovery", "6h", "--repair-rate", "50"]);
    assert!((all - (21_600.0 + made)).abs() < 1e-6, "{all}");
    assert!((seconds(&["--repair", "3d", "--repair-rate", "50"]) - 259_200.0).abs() < 1e-6);
}

fn serve(dir: &Path) -> Process {
    let service = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--exit-with-stdin"];
    let service = Process::start(dir, &service);
    assert_eq!(service.until("ready")["ready"], true);
    service
}

/// The inputs and their sources, of the service in this directory.
fn inputs(dir: &Path, arguments: &[&str]) -> (Value, Value) {
    let told = good(dir, &[&["durability", "--decode-rate", "1000"], arguments].concat());
    (told[0]["inputs"].clone(), told[0]["sources"].clone())
}

/// The same record with one character of its statement another one.
fn forged(record: &str) -> String {
    let mut envelope: Value = serde_json::from_str(record).unwrap();
    let payload = envelope["payload"].as_str().unwrap();
    let at = payload.len() / 2;
    let other = if payload[at..].starts_with('A') { "B" } else { "A" };
    let payload = format!("{}{other}{}", &payload[..at], &payload[at + 1..]);
    envelope["payload"] = payload.into();
    envelope.to_string()
}

#[test]
fn what_a_service_counted_its_drills_measured_and_the_command_reads_is_marked_so_and_flags_go_before() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let service = serve(dir);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "things"]);
    for (name, bytes) in [("large", 300_000), ("small", 500)] {
        fs::write(dir.join(name), vec![7; bytes]).unwrap();
        good(dir, &["object", "put", name, &format!("things/{name}")]);
    }
    let (values, sources) = inputs(dir, &[]);
    assert_eq!((&values["objects"], &values["bytes"]), (&2.0.into(), &300_500.0.into()));
    for counted in ["objects", "bytes"] {
        assert_eq!(sources[counted]["source"], "measured", "{sources}");
    }
    for unknown in ["client_bytes_per_second", "site_bytes_per_second", "rebuild_objects_per_second"] {
        assert_eq!(sources[unknown]["source"], "supposed", "{sources}");
    }
    let (values, sources) = inputs(dir, &["--objects", "7", "--measure", "1M"]);
    assert_eq!((&values["objects"], &sources["objects"]["source"]), (&7.0.into(), &"given".into()));
    let read = sources["client_bytes_per_second"]["of"].as_str().unwrap();
    assert!(read.starts_with("0.3 MiB of 2 objects read in "), "{read}");
    let site = sources["site_bytes_per_second"]["of"].as_str().unwrap();
    assert!(site.ends_with("of which a site gave 0.1 MiB: at least that"), "{site}");

    let done = &good(dir, &["drill", "run", "--bucket", "things", "--out", "drill"])[0];
    assert_eq!(done["satisfied"], true, "{done}");
    let by = |sources: &Value| sources["client_bytes_per_second"]["of"].as_str().map(str::to_owned);
    let drill = format!("by the drill {}", done["drill"].as_str().unwrap());
    assert!(by(&inputs(dir, &[]).1).unwrap().ends_with(&drill), "found on the shelf");
    let pinned =
        ["--tier", "I", "--tier", "I", "--geometry", "1+1", "--kit", ".config/coffer/recovery-kit.json"];
    let found = inputs(dir, &[&pinned[..], &["--record", "drill/record.json"]].concat()).1;
    assert!(by(&found).unwrap().ends_with(&drill), "in a file");
    assert_eq!(found["custodian_seconds"]["source"], "supposed", "nobody's shares were asked for");
    let record = fs::read_to_string(dir.join("drill/record.json")).unwrap();
    fs::write(dir.join("forged.json"), forged(&record)).unwrap();
    for (key, record) in [(&pinned[..], "forged.json"), (&[], "forged.json")] {
        let refused = coffer(dir, &[&["durability"], key, &["--record", record]].concat());
        assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
        assert!(!String::from_utf8_lossy(&refused.stdout).contains("inputs"), "nothing is predicted from it");
    }

    drop(service);
    fs::remove_dir_all(dir.join("data/service/catalogues")).unwrap();
    let _service = serve(dir);
    let (values, sources) = inputs(dir, &[]);
    let versions = values["objects"].as_f64().unwrap();
    assert!(versions > 2.0, "the drill's files are versions as well: {versions}");
    let rebuilt = &sources["rebuild_objects_per_second"];
    assert!(rebuilt["of"].as_str().unwrap().starts_with(&format!("a rebuild of {versions} versions in ")));
}
