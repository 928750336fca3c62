//! Over the network only certificates of the fleet's authority are let in.

use std::net::SocketAddr;

use coffer_embedded::Tls;
use http::Uri;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::fixture::Fixture;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn certify(&self, user: &str, group: &str) -> (String, String) {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, user);
        name.push(DnType::OrganizationName, group);
        params.distinguished_name = name;
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn client(address: SocketAddr, authority: &Authority, (certificate, key): (String, String)) -> Client {
    let mut config = Config::new(format!("https://127.0.0.1:{}", address.port()).parse::<Uri>().unwrap());
    let der = |pem: &str| x509_der(pem);
    config.root_cert = Some(vec![der(&authority.pem())]);
    config.auth_info.client_certificate_data = Some(base64_of(certificate.as_bytes()));
    config.auth_info.client_key_data = Some(base64_of(key.as_bytes()).into());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn x509_der(pem: &str) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_calls_and_one_of_another_authority_says_nothing() {
    let fixture = Fixture::new().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.certify("api", "servers");
    let tls = Tls { certificate, key: key.into(), clients: authority.pem() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let embedded = fixture.embedded.clone();
    let serving =
        tokio::spawn(async move { embedded.listen(listener, tls, async { drop(stopped.await) }).await });
    let pods = |client: Client| -> Api<Pod> { Api::namespaced(client, "default") };
    let viewer = client(address, &authority, authority.certify("v", "fleet.coffer:viewer"));
    pods(viewer.clone()).list(&kube::api::ListParams::default()).await.unwrap();
    let refused = pods(viewer).delete("a", &kube::api::DeleteParams::default()).await;
    assert_eq!(crate::fixture::code(refused), 403);
    let unknown = client(address, &authority, authority.certify("x", "others"));
    assert_eq!(crate::fixture::code(pods(unknown).list(&kube::api::ListParams::default()).await), 403);
    let forged = client(address, &authority, stranger.certify("v", "system:masters"));
    let outcome = pods(forged).list(&kube::api::ListParams::default()).await;
    assert!(!matches!(outcome, Ok(_) | Err(kube::Error::Api(_))), "no answer at all");
    drop(stop);
    serving.await.unwrap().unwrap();
}
