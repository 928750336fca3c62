//! Writes the golden vectors into the directory given as argument. A file
//! that exists is left as it is: vectors are made once, with fixed entropy,
//! and from then on the code follows them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "whoever runs it sees where it stopped")]
#![expect(clippy::disallowed_methods, reason = "a maker of files, run by hand")]

#[path = "../tests/seeded/mod.rs"]
mod seeded;

use std::fmt::Write as _;
use std::path::Path;

use coffer_keys::{
    Checkpoint, Context, Dek, Kek, RecoverySecret, RootKey, Share, SigningKey, Submission, TenantRoot,
    VerifierName, WitnessName, consistency_proof, cosign, leaf_hash, root_of, seal_bytes, seal_to,
    seal_under_passphrase, seal_with_root, sign_checkpoint, sign_statement, split_for, wrap_dek, wrap_kek,
};
use coffer_model::{BucketId, KeyId, ObjectId, TenantId, VersionId};
use seeded::Seeded;
use serde_json::json;

type Fields<'a> = Vec<(&'a str, String)>;

struct Maker<'a>(&'a Path);

impl Maker<'_> {
    fn write(&self, name: &str, about: &str, operation: &str, expect: &str, fields: &Fields<'_>) {
        let path = self.0.join(format!("{name}.txt"));
        if path.exists() {
            return;
        }
        let mut text = format!("about: {about}\noperation: {operation}\nexpect: {expect}\n");
        for (field, value) in fields {
            writeln!(text, "{field}: {value}").expect("a string grows");
        }
        std::fs::write(path, text).expect("the directory is there");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fields with one of them replaced.
fn with<'a>(fields: &Fields<'a>, name: &str, value: String) -> Fields<'a> {
    let replace =
        |(field, old): &(&'a str, String)| (*field, if *field == name { value.clone() } else { old.clone() });
    fields.iter().map(replace).collect()
}

fn flipped(bytes: &[u8], at: usize) -> String {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    hex(&bytes)
}

const TENANT: TenantId = TenantId::from_bytes([0x11; 16]);
const VERSION: VersionId = VersionId::from_bytes([0x44; 16]);

fn objects(maker: &Maker<'_>) {
    let entropy = Seeded::new(1001);
    let key = Dek::generate(&entropy);
    let ids = (BucketId::from_bytes([0x22; 16]), ObjectId::from_bytes([0x33; 16]));
    let sealed = seal_bytes(&key, &Context::object(TENANT, ids.0, ids.1, VERSION), &entropy, b"Coffer")
        .expect("short");
    let good: Fields<'_> = vec![
        ("key", hex(key.danger_expose())),
        ("tenant", TENANT.to_string()),
        ("bucket", ids.0.to_string()),
        ("object", ids.1.to_string()),
        ("version", VERSION.to_string()),
        ("sealed", hex(&sealed)),
    ];
    let ok = format!("ok {}", hex(b"Coffer"));
    let case = |name: &str, about: &str, expect: &str, fields: &Fields<'_>| {
        maker.write(name, about, "open-object", expect, fields);
    };
    case("object-small", "six bytes in one short chunk", &ok, &good);
    let other = |kind: &str| format!("{kind}-{}", "99".repeat(16));
    for (field, kind) in [("tenant", "ten"), ("bucket", "bkt"), ("object", "obj"), ("version", "ver")] {
        let about = format!("a good object presented as another {field}'s");
        case(
            &format!("object-other-{field}"),
            &about,
            "error WrongKeyOrContext",
            &with(&good, field, other(kind)),
        );
    }
    let wrong = "error WrongKeyOrContext";
    case("object-other-key", "opened with another key", wrong, &with(&good, "key", "07".repeat(32)));
    case(
        "object-flipped-salt",
        "a bit of the salt flipped",
        wrong,
        &with(&good, "sealed", flipped(&sealed, 0)),
    );
    case(
        "object-flipped-commitment",
        "a bit of the commitment flipped",
        wrong,
        &with(&good, "sealed", flipped(&sealed, 24)),
    );
    let tampered = "error Tampered { chunk: 0 }";
    case(
        "object-flipped-body",
        "a bit of the body flipped",
        tampered,
        &with(&good, "sealed", flipped(&sealed, 56)),
    );
    let last = sealed.len() - 1;
    case(
        "object-flipped-tag",
        "a bit of the tag flipped",
        tampered,
        &with(&good, "sealed", flipped(&sealed, last)),
    );
    object_cuts(&case, &good, &sealed);
    let full = seal_bytes(&key, &Context::object(TENANT, ids.0, ids.1, VERSION), &entropy, &[0; 16384])
        .expect("short");
    let cut = with(&good, "sealed", hex(&full[..56 + 16400]));
    case(
        "object-no-short-chunk",
        "a whole chunk of zeros, the empty last one missing",
        "error Truncated",
        &cut,
    );
    let subkey = vec![("key", hex(key.danger_expose())), ("label", "content".to_owned())];
    let ok = format!("ok {}", hex(key.subkey("content").danger_expose()));
    maker.write("subkey-content", "the sub-key under which content is sealed", "subkey", &ok, &subkey);
}

fn object_cuts(case: &dyn Fn(&str, &str, &str, &Fields<'_>), good: &Fields<'_>, sealed: &[u8]) {
    for (name, len) in
        [("empty", 0), ("in-salt", 23), ("in-commitment", 55), ("after-header", 56), ("in-tag", 71)]
    {
        let about = format!("cut to {len} bytes");
        let cut = with(good, "sealed", hex(&sealed[..len]));
        case(&format!("object-cut-{name}"), &about, "error Truncated", &cut);
    }
    let cut = with(good, "sealed", hex(&sealed[..sealed.len() - 1]));
    case("object-cut-by-one", "the last byte missing", "error Tampered { chunk: 0 }", &cut);
    let longer = with(good, "sealed", hex(sealed) + "00");
    case("object-trailing-byte", "a byte behind the last chunk", "error Tampered { chunk: 0 }", &longer);
}

fn wraps(maker: &Maker<'_>) {
    let entropy = Seeded::new(1002);
    let (kek, dek, kek_id) =
        (Kek::generate(&entropy), Dek::generate(&entropy), KeyId::from_bytes([0x55; 16]));
    let wrap = wrap_dek(&kek, kek_id, 7, TENANT, VERSION, &dek, &entropy).to_bytes();
    let good: Fields<'_> = vec![
        ("key", hex(kek.danger_expose())),
        ("key-id", kek_id.to_string()),
        ("epoch", "7".to_owned()),
        ("tenant", TENANT.to_string()),
        ("version", VERSION.to_string()),
        ("wrap", hex(&wrap)),
    ];
    let case = |name: &str, about: &str, expect: &str, fields: &Fields<'_>| {
        maker.write(name, about, "unwrap-dek", expect, fields);
    };
    case("wrap-dek", "a DEK under KEK epoch 7", &format!("ok {}", hex(dek.danger_expose())), &good);
    let refused = "error NotAuthentic";
    case("wrap-other-epoch", "asked for epoch 8", "error OtherEpoch", &with(&good, "epoch", "8".to_owned()));
    let mut relabelled = wrap;
    relabelled[20] = 8;
    let forged = with(&with(&good, "epoch", "8".to_owned()), "wrap", hex(&relabelled));
    case("wrap-forged-epoch", "the epoch in the wrap altered to 8", refused, &forged);
    let other = |kind: &str| format!("{kind}-{}", "99".repeat(16));
    case(
        "wrap-other-key-id",
        "asked for another KEK",
        "error OtherKey",
        &with(&good, "key-id", other("key")),
    );
    case("wrap-other-tenant", "moved to another tenant", refused, &with(&good, "tenant", other("ten")));
    case("wrap-other-version", "moved to another version", refused, &with(&good, "version", other("ver")));
    case("wrap-other-kek", "another KEK with the same id", refused, &with(&good, "key", "07".repeat(32)));
    case(
        "wrap-flipped-nonce",
        "a bit of the nonce flipped",
        refused,
        &with(&good, "wrap", flipped(&wrap, 21)),
    );
    case(
        "wrap-flipped-body",
        "a bit of the wrapped key flipped",
        refused,
        &with(&good, "wrap", flipped(&wrap, 33)),
    );
    case("wrap-cut", "the last byte missing", "error Length", &with(&good, "wrap", hex(&wrap[..80])));
    case(
        "wrap-newer",
        "of a version yet to come",
        "error Version",
        &with(&good, "wrap", "02".to_owned() + &hex(&wrap[1..])),
    );
    upper_wraps(maker, &entropy, &kek, kek_id);
}

fn upper_wraps(maker: &Maker<'_>, entropy: &Seeded, kek: &Kek, kek_id: KeyId) {
    let refused = "error NotAuthentic";
    let tenant_root = TenantRoot::generate(entropy);
    let root_id = KeyId::from_bytes([0x66; 16]);
    let wrap = wrap_kek(&tenant_root, root_id, 7, TENANT, kek_id, kek, entropy).to_bytes();
    let good: Fields<'_> = vec![
        ("key", hex(tenant_root.danger_expose())),
        ("key-id", root_id.to_string()),
        ("epoch", "7".to_owned()),
        ("tenant", TENANT.to_string()),
        ("subject", kek_id.to_string()),
        ("wrap", hex(&wrap)),
    ];
    let ok = format!("ok {}", hex(kek.danger_expose()));
    maker.write("wrap-kek", "a KEK under its tenant root", "unwrap-kek", &ok, &good);
    let moved = with(&good, "subject", format!("key-{}", "99".repeat(16)));
    maker.write("wrap-kek-as-another", "a KEK presented as another KEK", "unwrap-kek", refused, &moved);

    let root = RootKey::generate(entropy);
    let sealed = seal_with_root(&root, "ca key", entropy, b"secret");
    let good: Fields<'_> =
        vec![("key", hex(root.danger_expose())), ("label", "ca key".to_owned()), ("sealed", hex(&sealed))];
    let ok = format!("ok {}", hex(b"secret"));
    maker.write("secret-deployment", "a secret of the deployment", "open-with-root", &ok, &good);
    let other = with(&good, "label", "log key".to_owned());
    maker.write("secret-other-label", "opened as another secret", "open-with-root", refused, &other);
}

fn shares(maker: &Maker<'_>) {
    let secret = [0x5a; 32];
    let texts = |seed: u64| -> Vec<String> {
        let shares = split_for("root key", &secret, 3, 5, &Seeded::new(seed)).expect("3 of 5");
        shares.iter().map(Share::to_text).map(|text| text.trim_end().to_owned()).collect()
    };
    let (set, foreign) = (texts(1003), texts(1004));
    let case = |name: &str, about: &str, expect: &str, lines: &[&String]| {
        let fields = lines.iter().map(|line| ("share", (*line).clone())).collect();
        maker.write(name, about, "combine", expect, &fields);
    };
    case("share-three-of-five", "any three", &format!("ok {}", hex(&secret)), &[&set[4], &set[0], &set[2]]);
    case("share-too-few", "two where three are needed", "error NotEnough", &[&set[4], &set[0]]);
    case("share-twice", "one of three given twice", "error Duplicate", &[&set[4], &set[0], &set[4]]);
    case(
        "share-mixed",
        "one of another set for the same key",
        "error MixedSets",
        &[&set[4], &set[0], &foreign[1]],
    );
    let damaged = set[2].replacen("\"share\":\"", "\"share\":\"A", 1).replacen("=\",\"comm", "\",\"comm", 1);
    case("share-damaged", "a letter too many in the third", "error Damaged", &[&set[4], &set[0], &damaged]);
    let lowered =
        set.iter().map(|text| text.replace("\"threshold\":3", "\"threshold\":2")).collect::<Vec<_>>();
    case(
        "share-forged-threshold",
        "the threshold altered to two",
        "error Damaged",
        &[&lowered[4], &lowered[0]],
    );
}

fn slots(maker: &Maker<'_>) {
    let entropy = Seeded::new(1005);
    let slot = seal_under_passphrase(b"correct horse", &[0x5a; 32], &entropy).expect("64 MiB");
    let good: Fields<'_> = vec![("passphrase", "correct horse".to_owned()), ("slot", hex(&slot))];
    let case = |name: &str, about: &str, expect: &str, fields: &Fields<'_>| {
        maker.write(name, about, "open-passphrase", expect, fields);
    };
    case("passphrase", "a key under a passphrase", &format!("ok {}", "5a".repeat(32)), &good);
    let other = with(&good, "passphrase", "correct house".to_owned());
    case("passphrase-other", "another passphrase", "error WrongPassphrase", &other);
    let flip = with(&good, "slot", flipped(&slot, 100));
    case("passphrase-flipped", "a bit of the tag flipped", "error WrongPassphrase", &flip);
    let mut greedy = slot.clone();
    greedy[1..5].copy_from_slice(&[0xff; 4]);
    case("passphrase-greedy", "asks for 4 TiB of memory", "error Cost", &with(&good, "slot", hex(&greedy)));

    let secret = RecoverySecret::generate(&entropy);
    let sealed = seal_to(&secret.public_key(), b"ten/kek/7", &[0x5a; 32], &entropy).expect("a good key");
    let good: Fields<'_> = vec![
        ("key", hex(secret.danger_expose())),
        ("info", "ten/kek/7".to_owned()),
        ("sealed", hex(&sealed)),
    ];
    let ok = format!("ok {}", "5a".repeat(32));
    maker.write("recovery", "a key sealed to a recovery key", "open-recovery", &ok, &good);
    let other = with(&good, "info", "ten/kek/8".to_owned());
    maker.write(
        "recovery-other-info",
        "opened for another epoch",
        "open-recovery",
        "error NotAuthentic",
        &other,
    );
    let mut kem = sealed;
    kem[2] ^= 1;
    let other = with(&good, "sealed", hex(&kem));
    maker.write("recovery-other-kem", "names another KEM", "open-recovery", "error Format", &other);
}

fn evidence(maker: &Maker<'_>) {
    let key = SigningKey::generate(&Seeded::new(1006));
    let name = "coffer.example/log";
    let checkpoint = Checkpoint { origin: name.to_owned(), size: 11, root: leaf_hash(b"vector") };
    let note = sign_checkpoint(&key, name, &checkpoint);
    let vkey = VerifierName { name: name.to_owned(), key: key.verifying_key() }.to_string();
    let good: Fields<'_> = vec![("vkey", vkey), ("note", hex(note.as_bytes()))];
    let ok = format!("ok {}", hex(format!("{name} 11 {}", checkpoint.root).as_bytes()));
    maker.write("checkpoint", "a signed checkpoint", "open-checkpoint", &ok, &good);
    let forged = with(&good, "note", hex(note.replace("\n11\n", "\n12\n").as_bytes()));
    maker.write(
        "checkpoint-forged-size",
        "a leaf more than was signed",
        "open-checkpoint",
        "error BadSignature",
        &forged,
    );

    let envelope = sign_statement(&key, "k1", "application/vnd.in-toto+json", &json!({"differences": 0}))
        .expect("small");
    let good: Fields<'_> = vec![
        ("key", hex(&key.verifying_key().0)),
        ("keyid", "k1".to_owned()),
        ("type", "application/vnd.in-toto+json".to_owned()),
        ("envelope", hex(&envelope)),
    ];
    let ok = format!("ok {}", hex(b"{\"differences\":0}"));
    maker.write("envelope", "a signed record", "verify-envelope", &ok, &good);
    let other = with(&good, "keyid", "k2".to_owned());
    maker.write("envelope-other-keyid", "another key id", "verify-envelope", "error KeyId", &other);
    let spaced = with(&good, "envelope", hex(&envelope) + "0a");
    maker.write(
        "envelope-newline",
        "a newline at the end",
        "verify-envelope",
        "error Envelope(NotCanonical",
        &spaced,
    );
}

fn witnesses(maker: &Maker<'_>) {
    let (log, witness) = (SigningKey::generate(&Seeded::new(1006)), SigningKey::generate(&Seeded::new(1007)));
    let (origin, cosigner) = ("coffer.example/log", "witness.example/w1");
    let leaves: Vec<_> = (0..11_u8).map(|n| leaf_hash(&[n])).collect();
    let state = |size: u64| {
        let root = root_of(&leaves[..usize::try_from(size).expect("small")]);
        Checkpoint { origin: origin.to_owned(), size, root }
    };
    let note = sign_checkpoint(&log, origin, &state(11));
    let line = cosign(&note, &witness, cosigner, 1_764_000_000).expect("a note");
    let vkey = WitnessName { name: cosigner.to_owned(), key: witness.verifying_key() }.to_string();
    let good: Fields<'_> = vec![("vkey", vkey), ("note", hex(format!("{note}{line}").as_bytes()))];
    let case = |name: &str, about: &str, expect: &str, fields: &Fields<'_>| {
        maker.write(name, about, "verify-cosignature", expect, fields);
    };
    case("cosignature", "a checkpoint with a cosignature", &format!("ok {}", hex(b"1764000000")), &good);
    let with_note = |text: String| with(&good, "note", hex(text.as_bytes()));
    let other = sign_checkpoint(&log, origin, &state(10));
    case(
        "cosignature-other-checkpoint",
        "of another state",
        "error False",
        &with_note(format!("{other}{line}")),
    );
    case("cosignature-missing", "signed by the log alone", "error Missing", &with_note(note.clone()));
    let twice = format!("{note}{line}{line}");
    case("cosignature-twice", "two lines of one witness", "error Twice", &with_note(twice));

    let proof = consistency_proof(&leaves, 7).expect("smaller");
    let body = Submission { old: 7, proof, note }.to_text();
    let known = state(7);
    let good: Fields<'_> = vec![
        ("vkey", VerifierName { name: origin.to_owned(), key: log.verifying_key() }.to_string()),
        ("known-size", "7".to_owned()),
        ("known-root", hex(&known.root.0)),
        ("body", hex(body.as_bytes())),
    ];
    let new = state(11);
    let ok = format!("ok {}", hex(format!("{origin} 11 {}", new.root).as_bytes()));
    let case = |name: &str, about: &str, expect: &str, fields: &Fields<'_>| {
        maker.write(name, about, "judge-submission", expect, fields);
    };
    case("submission", "eleven leaves that extend seven", &ok, &good);
    let forked = with(&good, "known-root", hex(&leaf_hash(b"another past").0));
    case("submission-forked", "the witness knows another past", "error Inconsistent", &forked);
    let ahead = with(&good, "known-size", "8".to_owned());
    case("submission-stale", "the witness knows eight leaves", "error Conflict { size: 8 }", &ahead);
}

fn main() {
    let directory = std::env::args().nth(1).expect("usage: make_vectors DIRECTORY");
    let maker = Maker(Path::new(&directory));
    objects(&maker);
    wraps(&maker);
    shares(&maker);
    slots(&maker);
    evidence(&maker);
    witnesses(&maker);
}
