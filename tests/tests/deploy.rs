//! What `scheduler/deploy/` starts: units that systemd understands, and command lines that our
//! programs take. The manifests are held against APIs and types in `scheduler/control/tests/deploy.rs`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "what could not be tested must be seen")]
#![expect(clippy::disallowed_methods, reason = "it reads plain files of the workspace")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coffer_tests::fleet::Programs;
use serde_json::Value;

/// What stands for something else until it is deployed.
const STANDS_FOR: [(&str, &str); 9] = [
    ("%l", "node"),
    ("${ADDRESS}", "192.0.2.7"),
    ("${DISK_BYTES}", "10Ti"),
    ("${IOPS}", "1000"),
    ("$(POD_IP)", "192.0.2.7"),
    ("$(COFFER_POD_IP)", "192.0.2.7"),
    ("$(COFFER_PORT)", "7420"),
    ("$(COFFER_DATA_DIR)", "/data"),
    ("$(COFFER_CERTIFICATE_DIR)", "/certificate"),
];

fn deploy(ending: &str) -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../scheduler/deploy");
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|has| has == ending)).collect()
}

/// The program that is called so, and was built with this test.
fn built(name: &str) -> PathBuf {
    // That they are there is looked at by whoever finds them.
    drop(Programs::find());
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name)
}

/// A command line is taken when all that is wrong with it is the word that was added.
fn is_taken(program: &str, words: &[String]) {
    let word =
        |word: &String| STANDS_FOR.iter().fold(word.clone(), |word, (from, to)| word.replace(from, to));
    let words: Vec<String> = words.iter().map(word).collect();
    let open = words.iter().find(|word| word.contains(['$', '%']));
    assert!(open.is_none(), "{program}: nobody knows what {open:?} stands for");
    let output = Command::new(built(program))
        .args(&words)
        .arg("--no-such-flag")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("unexpected argument '--no-such-flag'"), "{program} {words:?}: {said}");
}

#[test]
fn the_units_are_understood_by_systemd_and_start_programs_as_they_want_to_be_started() {
    let units = deploy("service");
    assert!(units.len() >= 2);
    let dir = tempfile::tempdir().unwrap();
    for unit in &units {
        let name = unit.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(unit).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let program = Path::new(&words[0]).file_name().unwrap().to_str().unwrap();
        is_taken(program, &words[1..]);
        // In the place where this machine has it.
        let here = dir.path().join(name);
        fs::write(&here, text.replace(&words[0], built(program).to_str().unwrap())).unwrap();
        let verify = ["verify", "--man=no", "--recursive-errors=no"];
        match Command::new("systemd-analyze").args(verify).arg(&here).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.trim().is_empty(), "{name}: {said}");
            }
            Err(error) => eprintln!("NOT TESTED HERE: {name}: systemd-analyze: {error}"),
        }
    }
}

#[test]
fn the_command_lines_of_the_manifests_are_those_of_the_programs() {
    let mut lines = 0;
    for file in deploy("yaml") {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&file).unwrap()).unwrap();
        for document in documents {
            let words = |args: &Value| -> Vec<String> {
                args.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
            };
            match document["kind"].as_str() {
                Some("Deployment") => {
                    for container in document["spec"]["template"]["spec"]["containers"].as_array().unwrap() {
                        is_taken("coffer", &words(&container["args"]));
                        lines += 1;
                    }
                }
                Some("SiteSet") => {
                    is_taken("coffer-site", &words(&document["spec"]["template"]["args"]));
                    lines += 1;
                }
                _ => {}
            }
        }
    }
    assert!(lines >= 3, "only {lines} command lines");
}

/// No stage of the container file takes a program that the build beside it does not make.
#[test]
fn the_images_are_made_of_programs_that_are_built() {
    let text = fs::read_to_string(deploy("service")[0].with_file_name("Containerfile")).unwrap();
    let copied: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("COPY ")).collect();
    assert!(copied.len() >= 2);
    for line in copied {
        let (program, place) = line.split_once(' ').unwrap();
        assert!(built(program).exists(), "{program}");
        assert!(text.contains(&format!("ENTRYPOINT [\"{place}\"]")), "{place} is never started");
    }
}
