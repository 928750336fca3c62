//! What nodes and pods use: `metrics.k8s.io`, asked from the nodes.

use crate::api::Api;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::request::{Accept, Objects, Query};

pub(crate) async fn answer(
    api: &Api,
    _objects: &Objects,
    _query: &Query,
    _accept: &Accept,
) -> Result<Reply, Refusal> {
    let _ = &api.nodes;
    Err(Refusal::NoPath)
}
