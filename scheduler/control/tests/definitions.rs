//! The definitions in `scheduler/deploy/` are those of the types.

use kube::ResourceExt as _;

#[test]
#[expect(clippy::disallowed_methods, reason = "it reads plain files of the workspace")]
fn the_definitions_that_are_deployed_are_those_of_the_types() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/definitions");
    let definitions = coffer_control::definitions();
    for definition in &definitions {
        let path = format!("{dir}/{}.json", definition.name_any());
        let text = std::fs::read_to_string(&path).unwrap();
        let wanted = serde_json::to_string_pretty(definition).unwrap() + "\n";
        assert_eq!(
            text, wanted,
            "run `cargo run -p coffer-control --example definitions -- scheduler/deploy/definitions`"
        );
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), definitions.len());
}
