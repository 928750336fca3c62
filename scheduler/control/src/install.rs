//! The namespace and the definitions of the fleet's resources: made, brought up
//! to date, and waited for until the API serves them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec as Spec,
};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};

use crate::resources::definitions;

/// Between two looks at a definition that is not served yet.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked at: for half a minute.
const LOOKS_MAX: usize = 600;

/// Why the fleet's resources are not there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The API does not answer, or refuses.
    #[error("the definitions of the fleet's resources cannot be read or written: {0}")]
    Api(#[from] kube::Error),
    /// The API has a definition and does not serve it.
    #[error(
        "the API does not serve {0} half a minute after its definition was made; what it says of it: {1}"
    )]
    NotServed(String, String),
}

/// Makes the namespace and the definitions of the fleet's resources, or brings them up to date, and waits until
/// the API serves them. Where they are as they should be nothing is written.
///
/// # Errors
/// [`InstallError`].
pub async fn install(client: &Client, namespace: &str) -> Result<(), InstallError> {
    let mut object = Namespace::default();
    object.metadata.name = Some(namespace.to_owned());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Seen first: who may look may not be one who may make it.
    if namespaces.get_opt(namespace).await?.is_none() {
        create(&namespaces, &object).await?;
    }
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for mut definition in definitions() {
        let name = definition.name_any();
        let known = match api.get_opt(&name).await? {
            Some(known) => Some(known),
            // Another control plane may be quicker; then it is seen what it made.
            None if create(&api, &definition).await? => None,
            None => api.get_opt(&name).await?,
        };
        if let Some(known) = known.filter(|known| !is_as(&known.spec, &definition.spec)) {
            definition.metadata.resource_version = known.metadata.resource_version;
            api.replace(&name, &PostParams::default(), &definition).await?;
        }
    }
    for definition in definitions() {
        until_served(&api, &definition.name_any()).await?;
        until_listed(client, namespace, &definition).await?;
    }
    Ok(())
}

/// Whether it was made; not if there is one already.
async fn create<K>(api: &Api<K>, object: &K) -> Result<bool, kube::Error>
where
    K: kube::Resource + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a definition says what is wanted. What is not said of names and conversion the API fills in.
fn is_as(known: &Spec, wanted: &Spec) -> bool {
    let mut filled = wanted.clone();
    filled.conversion = filled.conversion.or_else(|| known.conversion.clone());
    filled.preserve_unknown_fields = filled.preserve_unknown_fields.or(known.preserve_unknown_fields);
    let (names, others) = (&mut filled.names, &known.names);
    names.list_kind = names.list_kind.take().or_else(|| others.list_kind.clone());
    names.singular = names.singular.take().or_else(|| others.singular.clone());
    filled == *known
}

/// A resource can be asked for only a while after its definition was made.
async fn until_served(api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), InstallError> {
    let mut said = String::new();
    for _ in 0..LOOKS_MAX {
        let known = api.get(name).await?;
        let is_going = known.metadata.deletion_timestamp.is_some();
        let conditions = known.status.and_then(|status| status.conditions).unwrap_or_default();
        // One that is being deleted is served until it is gone, and everything of its kind goes first.
        if !is_going && conditions.iter().any(|one| one.type_ == "Established" && one.status == "True") {
            return Ok(());
        }
        let refused = conditions.iter().filter(|one| one.status == "False");
        said = refused.filter_map(|one| one.message.clone()).collect::<Vec<_>>().join("; ");
        tokio::time::sleep(PAUSE).await;
    }
    Err(InstallError::NotServed(name.to_owned(), said))
}

/// An API that serves a resource may not be able yet to say what there is of it; who watches too early waits long.
async fn until_listed(
    client: &Client,
    namespace: &str,
    definition: &CustomResourceDefinition,
) -> Result<(), InstallError> {
    let Spec { group, names, versions, .. } = &definition.spec;
    let version = versions.first().map(|version| version.name.as_str()).unwrap_or_default();
    let kind = GroupVersionKind::gvk(group, version, &names.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let mut said = String::new();
    for _ in 0..LOOKS_MAX {
        match api.list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429 | 503) => {
                said = status.message.clone()
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(InstallError::NotServed(definition.name_any(), said))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceConversion;

    use super::*;

    fn wanted() -> Spec {
        definitions().remove(0).spec
    }

    /// As an API server returns it.
    fn filled() -> Spec {
        let mut known = wanted();
        let conversion = CustomResourceConversion { strategy: "None".to_owned(), webhook: None };
        known.conversion = Some(conversion);
        known.names.list_kind = Some(format!("{}List", known.names.kind));
        known
    }

    #[test]
    fn what_the_api_fills_in_is_no_reason_to_write_a_definition() {
        assert!(is_as(&wanted(), &wanted()));
        assert!(is_as(&filled(), &wanted()));
    }

    #[test]
    fn a_definition_with_a_field_more_or_another_column_is_written_anew() {
        let mut older = filled();
        older.versions[0].additional_printer_columns = None;
        assert!(!is_as(&older, &wanted()));
        let mut older = filled();
        let schema = older.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().insert("old".to_owned(), Default::default());
        assert!(!is_as(&older, &wanted()));
    }
}
