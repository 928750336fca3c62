//! A listed caller that uses the generated client as it likes, and what it puts.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;

use coffer_proto::SITE_SERVER_NAME;
use coffer_proto::site::v1::store_client::StoreClient;
use coffer_proto::site::v1::{PutHeader, RecordHeader, RecordPart};
use coffer_regions::Record;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::pods::Fleet;

/// Where it calls, with its certificate.
pub(crate) fn endpoint(fleet: &Fleet, address: SocketAddr) -> Endpoint {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&fleet.authority.ca_pem))
        .identity(Identity::from_pem(fleet.caller.certificate.pem(), &fleet.caller.key_pem))
        .domain_name(SITE_SERVER_NAME);
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap()
}

/// Connects, and keeps no limit of its own.
pub(crate) async fn connect(endpoint: Endpoint) -> StoreClient<Channel> {
    StoreClient::new(endpoint.connect().await.unwrap()).max_encoding_message_size(usize::MAX)
}

/// What a put announces.
pub(crate) fn header(records: u32, body_bytes: u64) -> PutHeader {
    PutHeader { nonce: vec![1; 32].into(), records, body_bytes, fence: None }
}

/// A record in one part.
pub(crate) fn part(record: &Record) -> RecordPart {
    let header = RecordHeader {
        id: record.id().as_bytes().to_vec().into(),
        kind: 1,
        k: 4,
        m: 2,
        index: 0,
        digest: record.digest().0.to_vec().into(),
        body_bytes: u32::try_from(record.body().len()).unwrap(),
    };
    RecordPart { header: Some(header), data: record.body().clone() }
}
