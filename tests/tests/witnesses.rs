//! Witnesses that lie, stall or know better, as the service meets them; the
//! way over the network is in the tests of the command line.
#![expect(clippy::unwrap_used, reason = "cases of tests: what fails here fails the test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffer_client::LogError;
use coffer_client::witness::WitnessBook;
use coffer_keys::{SigningKey, Submission, VerifierName, WitnessName, WitnessPolicy, cosign};
use coffer_server::{Witness, WitnessAnswer, WitnessError, WitnessTrouble};
use coffer_tests::{Deployment, TenantClient};
use zeroize::Zeroizing;

type Answer = Box<dyn FnMut(&str) -> Result<WitnessAnswer, WitnessError> + Send>;

/// A witness that answers as it is told to.
struct Scripted {
    key: WitnessName,
    answer: Mutex<Answer>,
}

#[async_trait]
impl Witness for Scripted {
    fn key(&self) -> &WitnessName {
        &self.key
    }

    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, WitnessError> {
        (self.answer.lock().unwrap())(&body)
    }
}

const NAME: &str = "witness.example/w1";

fn secret() -> SigningKey {
    SigningKey::danger_from_seed(Zeroizing::new([5; 32]))
}

fn public() -> WitnessName {
    WitnessName { name: NAME.to_owned(), key: secret().verifying_key() }
}

async fn with(answer: Answer) -> (Deployment, TenantClient) {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("tenant").await;
    let witness = Arc::new(Scripted { key: public(), answer: Mutex::new(answer) });
    deployment.service().witness_by(vec![witness], None);
    (deployment, tenant)
}

fn trouble(deployment: &Deployment) -> Option<WitnessTrouble> {
    deployment.service().witness_states()[0].trouble.clone()
}

/// Asks for a cosigned checkpoint, which is there whatever the witness does.
async fn ask(tenant: &TenantClient) -> Result<(), LogError> {
    let mut watch = tenant.watch();
    watch.advance_cosigned(&tenant.client).await.unwrap();
    let policy = WitnessPolicy::all_of(vec![public()]);
    Ok(policy.check(&watch.key(), watch.remembered().unwrap()).map(drop)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lying_witness_answers_is_not_taken_and_is_told() {
    let signed = |body: &str| {
        let note = Submission::parse(body).unwrap().note;
        cosign(&note, &secret(), NAME, 7).unwrap()
    };
    let other = SigningKey::danger_from_seed(Zeroizing::new([6; 32]));
    let cases: Vec<(Answer, WitnessTrouble)> = vec![
        (Box::new(|_| Ok(WitnessAnswer::Cosigned("nonsense\n".to_owned()))), WitnessTrouble::Signature),
        (
            Box::new(move |body| {
                let note = Submission::parse(body).unwrap().note;
                Ok(WitnessAnswer::Cosigned(cosign(&note, &other, NAME, 7).unwrap()))
            }),
            WitnessTrouble::Signature,
        ),
        (Box::new(|_| Ok(WitnessAnswer::Refused(403))), WitnessTrouble::Refused(403)),
        (
            Box::new(|_| Err(WitnessError::Answer)),
            WitnessTrouble::Silent("its answer is none of a witness".to_owned()),
        ),
        // It says zero, was told zero, and says it again.
        (Box::new(|_| Ok(WitnessAnswer::Knows(0))), WitnessTrouble::Refused(409)),
    ];
    for (answer, expected) in cases {
        let (deployment, tenant) = with(answer).await;
        assert!(matches!(ask(&tenant).await, Err(LogError::Witnesses(_))), "{expected}");
        assert_eq!(trouble(&deployment), Some(expected));
    }
    let (deployment, tenant) = with(Box::new(move |body| Ok(WitnessAnswer::Cosigned(signed(body))))).await;
    ask(&tenant).await.unwrap();
    assert_eq!(trouble(&deployment), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_knows_more_than_there_is_raises_an_alarm_of_its_own() {
    let (deployment, tenant) = with(Box::new(|_| Ok(WitnessAnswer::Knows(1_000_000)))).await;
    assert!(ask(&tenant).await.is_err());
    let Some(WitnessTrouble::Ahead { known, size, .. }) = trouble(&deployment) else {
        panic!("{:?}", trouble(&deployment));
    };
    assert!(known == 1_000_000 && size < known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_whose_state_moves_under_the_questions_is_asked_three_times_and_no_more() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let answer: Answer = Box::new(move |body| {
        let old = Submission::parse(body).unwrap().old;
        seen.lock().unwrap().push(old);
        Ok(WitnessAnswer::Knows(old + 1))
    });
    let (deployment, tenant) = with(answer).await;
    assert!(ask(&tenant).await.is_err());
    assert_eq!(trouble(&deployment), Some(WitnessTrouble::Unsteady));
    assert_eq!(*asked.lock().unwrap(), [0, 1, 2]);
}

/// The witness that we ship, without its socket.
struct Own {
    key: WitnessName,
    book: Mutex<WitnessBook>,
}

#[async_trait]
impl Witness for Own {
    fn key(&self) -> &WitnessName {
        &self.key
    }

    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, WitnessError> {
        let reply = self.book.lock().unwrap().add_checkpoint(&body, 1_764_000_000);
        Ok(match reply.status {
            200 => WitnessAnswer::Cosigned(reply.body),
            409 => WitnessAnswer::Knows(reply.body.trim_end().parse().unwrap()),
            status => WitnessAnswer::Refused(status),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_forgot_its_witness_learns_from_it_where_it_stands() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("tenant").await;
    let dir = deployment.scratch().join("witness");
    let key = WitnessBook::create(&dir, NAME, deployment.entropy()).unwrap();
    let name = tenant.log_origin.split_once("/log/").unwrap().0.to_owned();
    let log = VerifierName { name, key: tenant.log_key };
    let own =
        Arc::new(Own { key: key.clone(), book: Mutex::new(WitnessBook::open(&dir, vec![log]).unwrap()) });
    deployment.service().witness_by(vec![Arc::clone(&own) as Arc<dyn Witness>], None);
    let policy = WitnessPolicy::all_of(vec![key]);
    let first = tenant.watch().advance_witnessed(&tenant.client, &policy).await.unwrap();
    deployment.stop().await;
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    deployment.service().witness_by(vec![own as Arc<dyn Witness>], None);
    let second = tenant.watch().advance_witnessed(&tenant.client, &policy).await.unwrap();
    assert!(second.size > first.size);
    assert_eq!(trouble(&deployment), None);
}
