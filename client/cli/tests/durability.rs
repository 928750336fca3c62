//! `coffer durability` without any service: supposed sites, told inputs.
#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it should be")]

use std::process::{Command, Output};

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

/// The object about the supposed sites.
fn figures(arguments: &[&str]) -> serde_json::Value {
    let six =
        ["--tier", "I", "--tier", "I", "--tier", "III", "--tier", "III", "--tier", "IV", "--tier", "IV"];
    let told = durability(&[&six[..], &["--decode-rate", "1000", "--gib", "100"], arguments].concat());
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let lines = String::from_utf8(told.stdout).unwrap();
    let mut objects = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    objects.find(|object| !object["policy_of"].is_null()).unwrap()
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
