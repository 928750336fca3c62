//! The embedded home: one transaction.

use async_trait::async_trait;
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use serde_json::{Value, json};

use super::{Batch, Bind, BindError, Bound, placement_record, pod_binding};

/// Binds by the embedded API's transactions.
pub struct Transactions {
    client: Client,
}

impl Transactions {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Whether the API behind this client has transactions: an empty one is tried.
    ///
    /// # Errors
    /// [`BindError`], where the API does not answer at all.
    pub async fn are_offered(client: &Client, namespace: &str) -> Result<bool, BindError> {
        let empty = Batch { namespace: namespace.to_owned(), ..Batch::default() };
        match (Self { client: client.clone() }).bind(&empty).await {
            Ok(_) => Ok(true),
            // Not known, not allowed, or not that way.
            Err(BindError::Api(kube::Error::Api(status))) if (403..=405).contains(&status.code) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Bind for Transactions {
    async fn bind(&self, batch: &Batch) -> Result<Bound, BindError> {
        let bindings: Result<Vec<Value>, _> =
            batch.bindings.iter().map(|one| serde_json::to_value(pod_binding(one))).collect();
        let records = batch.records.iter().map(|one| placement_record(&batch.namespace, one));
        let creates: Result<Vec<Value>, _> = records.map(serde_json::to_value).collect();
        let body = json!({
            "apiVersion": "fleet.coffer/v1",
            "kind": "Transaction",
            "bindings": bindings?,
            "creates": creates?,
        });
        let path = format!("/apis/fleet.coffer/v1/namespaces/{}/transactions", batch.namespace);
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body)?)?;
        match self.client.request::<Status>(request).await {
            Ok(_) => Ok(Bound::All),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let name = status.details.as_ref().map(|details| details.name.clone());
                let name = name.filter(|name| batch.bindings.iter().any(|one| one.name == *name));
                match name {
                    Some(name) => Ok(Bound::None(name, status.message.clone())),
                    None => Err(BindError::Api(kube::Error::Api(status))),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}
