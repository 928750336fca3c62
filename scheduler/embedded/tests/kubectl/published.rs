//! The published table is what discovery says.

use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

use crate::server::Server;

/// Between these lines of `API.md` stands the table.
const BEGIN: &str = "<!-- from discovery -->";
const END: &str = "<!-- end -->";

#[tokio::test(flavor = "multi_thread")]
async fn the_published_table_is_what_discovery_says() {
    let server = Server::start().await;
    let client = server.client();
    let core = client.list_core_api_versions_aggregated().await.unwrap();
    let groups = client.list_api_groups_aggregated().await.unwrap();
    let mut table =
        String::from("| resource | kind | where | verbs | parts | short |\n|---|---|---|---|---|---|\n");
    for (version, resource) in resources(&core).chain(resources(&groups)) {
        table.push_str(&line(&version, resource));
    }
    let document = include_str!("../../API.md");
    let (_, rest) = document.split_once(BEGIN).expect("the beginning of the table");
    let (published, _) = rest.split_once(END).expect("the end of the table");
    assert!(published.trim() == table.trim(), "API.md should say:\n\n{table}");
}

fn resources(list: &APIGroupDiscoveryList) -> impl Iterator<Item = (String, &APIResourceDiscovery)> {
    list.items.iter().flat_map(|group| {
        let name = group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default();
        group.versions.iter().flat_map(move |version| {
            let number = version.version.as_deref().unwrap_or_default();
            let api = if name.is_empty() { number.to_owned() } else { format!("{name}/{number}") };
            version.resources.iter().map(move |resource| (api.clone(), resource))
        })
    })
}

fn line(version: &str, resource: &APIResourceDiscovery) -> String {
    let kind = resource.response_kind.as_ref().and_then(|kind| kind.kind.as_deref()).unwrap_or_default();
    let place = if resource.scope.as_deref() == Some("Namespaced") { "namespace" } else { "cluster" };
    let full = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let verbs = if resource.verbs == full { "all".to_owned() } else { resource.verbs.join(", ") };
    let parts: Vec<String> = resource
        .subresources
        .iter()
        .map(|part| {
            format!("{} ({})", part.subresource.as_deref().unwrap_or_default(), part.verbs.join(", "))
        })
        .collect();
    let plural = resource.resource.as_deref().unwrap_or_default();
    let short = resource.short_names.join(", ");
    format!("| `{version}` {plural} | {kind} | {place} | {verbs} | {} | {short} |\n", parts.join("; "))
}
