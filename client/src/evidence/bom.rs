//! A bill of materials, CycloneDX 1.6, from the lock file that the program was
//! built with: every package that the program can reach, with its digest.

use std::collections::{BTreeMap, BTreeSet};

use coffer_keys::{CanonicalError, to_canonical};
use serde_json::{Value, json};

/// The package that the program is.
const PROGRAM: &str = "coffer-cli";

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum BomError {
    /// The lock file has no such package.
    #[error("the lock file has no package {PROGRAM}")]
    NoProgram,
    /// The bill has no canonical form.
    #[error(transparent)]
    Form(#[from] CanonicalError),
}

#[derive(Clone, Debug, Default)]
struct Package {
    name: String,
    version: String,
    outside: bool,
    checksum: Option<String>,
    dependencies: Vec<String>,
}

/// The packages of a lock file: as much of TOML as it uses.
fn packages(lock: &str) -> Vec<Package> {
    let mut all: Vec<Package> = Vec::new();
    let mut in_list = false;
    for line in lock.lines() {
        if line == "[[package]]" {
            all.push(Package::default());
            continue;
        }
        let Some(package) = all.last_mut() else { continue };
        if in_list {
            match line.trim().trim_end_matches(',') {
                "]" => in_list = false,
                item => package.dependencies.push(item.trim_matches('"').to_owned()),
            }
            continue;
        }
        let Some((field, value)) = line.split_once(" = ") else { continue };
        let text = value.trim_matches('"').to_owned();
        match field {
            "name" => package.name = text,
            "version" => package.version = text,
            "source" => package.outside = true,
            "checksum" => package.checksum = Some(text),
            "dependencies" => in_list = value == "[",
            _ => {}
        }
    }
    all
}

fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

/// The bill of the program that was built with this `Cargo.lock`. Packages
/// that only build scripts or tests of the program use are in it too: a lock
/// file does not tell them apart.
///
/// # Errors
/// [`BomError`].
pub fn bill_of_materials(lock: &str) -> Result<Vec<u8>, BomError> {
    let all = packages(lock);
    let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &all {
        by_name.entry(&package.name).or_default().push(package);
    }
    // `name` where there is one version, `name version` where there are more.
    let find = |wanted: &str| -> Option<&Package> {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next()?, words.next());
        by_name.get(name)?.iter().find(|one| version.is_none_or(|version| one.version == version)).copied()
    };
    let program = find(PROGRAM).ok_or(BomError::NoProgram)?;
    let (mut reached, mut left) = (BTreeMap::new(), vec![program]);
    while let Some(package) = left.pop() {
        if reached.insert(reference(package), package).is_none() {
            left.extend(package.dependencies.iter().filter_map(|wanted| find(wanted)));
        }
    }
    let others = reached.iter().filter(|(name, _)| **name != reference(program));
    let components: Vec<Value> = others.map(|(name, package)| component(name, package)).collect();
    let edges: Vec<Value> = reached
        .iter()
        .map(|(name, package)| {
            let on: BTreeSet<String> =
                package.dependencies.iter().filter_map(|wanted| find(wanted)).map(reference).collect();
            json!({ "ref": name, "dependsOn": on })
        })
        .collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": component(&reference(program), program) },
        "components": components,
        "dependencies": edges,
    });
    Ok(to_canonical(&bill)?)
}

fn component(name: &str, package: &Package) -> Value {
    let kind = if package.name == PROGRAM { "application" } else { "library" };
    let mut component = json!({
        "type": kind,
        "bom-ref": name,
        "name": package.name,
        "version": package.version,
    });
    if package.outside {
        component["purl"] = json!(name);
    }
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"aa\"\n\n\
        [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nsource = \"registry\"\nchecksum = \"bb\"\n\n\
        [[package]]\nname = \"coffer-cli\"\nversion = \"0.1.0\"\ndependencies = [\n \"a 2.0.0\",\n]\n\n\
        [[package]]\nname = \"unused\"\nversion = \"3.0.0\"\n";

    #[test]
    fn a_bill_lists_what_the_program_reaches_and_nothing_else() {
        let bill: Value = serde_json::from_slice(&bill_of_materials(LOCK).unwrap()).unwrap();
        let components = bill["components"].as_array().unwrap();
        assert_eq!(components.len(), 1);
        assert_eq!(components[0]["bom-ref"], "pkg:cargo/a@2.0.0");
        assert_eq!(components[0]["hashes"][0]["content"], "bb");
        assert!(matches!(bill_of_materials("[[package]]\nname = \"x\"\n"), Err(BomError::NoProgram)));
    }
}
