//! Every file in `vectors/`: what it says must happen, happens.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first surprise")]
#![expect(clippy::disallowed_methods, reason = "vectors are files, found by listing their directory")]

use std::fmt::Debug;
use std::path::Path;

use coffer_keys::{
    Checkpoint, Context, Dek, Kek, RecoverySecret, RootKey, Share, Submission, TenantRoot, VerifierName,
    VerifyingKey, Wrap, combine, open_bytes, open_checkpoint, open_sealed, open_under_passphrase,
    open_with_root, to_canonical, unwrap_dek, unwrap_kek, verify_cosignature, verify_envelope,
};
use coffer_model::Digest;
use zeroize::Zeroizing;

struct Vector(Vec<(String, String)>);

impl Vector {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let field = |line: &str| {
            line.split_once(": ").or_else(|| line.strip_suffix(':').map(|name| (name, ""))).map(own)
        };
        Self(text.lines().map(|line| field(line).unwrap()).collect())
    }

    fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_else(|| panic!("the vector has no field {name}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let (pairs, odd) = self.text(name).as_bytes().as_chunks::<2>();
        assert!(odd.is_empty(), "{name}");
        let byte = |pair: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(byte).collect()
    }

    fn key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.bytes("key").try_into().unwrap())
    }

    fn id<T: core::str::FromStr<Err: Debug>>(&self, name: &str) -> T {
        self.text(name).parse().unwrap()
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// `ok` with hexadecimal bytes, or `error` with the error's name.
fn outcome(result: Result<Vec<u8>, impl Debug>) -> String {
    match result {
        Ok(bytes) => format!("ok {}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Err(error) => format!("error {error:?}"),
    }
}

fn wrap_outcome(v: &Vector, open: impl Fn(&Wrap) -> Result<Vec<u8>, coffer_keys::UnwrapError>) -> String {
    match Wrap::from_bytes(&v.bytes("wrap")) {
        Ok(wrap) => outcome(open(&wrap)),
        Err(error) => outcome(Err(error)),
    }
}

fn combined(v: &Vector) -> Result<Vec<u8>, coffer_keys::ShareError> {
    let shares = v.all("share").map(Share::from_text).collect::<Result<Vec<_>, _>>()?;
    combine(&shares).map(|secret| secret.to_vec())
}

fn run(v: &Vector) -> String {
    match v.text("operation") {
        "open-object" => {
            let context = Context::object(v.id("tenant"), v.id("bucket"), v.id("object"), v.id("version"));
            let key = Dek::danger_from_bytes(v.key());
            outcome(open_bytes(&key, &context, &v.bytes("sealed")).map(|plain| plain.to_vec()))
        }
        "subkey" => {
            let key = Dek::danger_from_bytes(v.key()).subkey(v.text("label"));
            outcome(Ok::<_, ()>(key.danger_expose().to_vec()))
        }
        "unwrap-dek" => wrap_outcome(v, |wrap| {
            let (kek, epoch) = (Kek::danger_from_bytes(v.key()), v.id("epoch"));
            let dek = unwrap_dek(&kek, v.id("key-id"), epoch, v.id("tenant"), v.id("version"), wrap)?;
            Ok(dek.danger_expose().to_vec())
        }),
        "unwrap-kek" => wrap_outcome(v, |wrap| {
            let (root, epoch) = (TenantRoot::danger_from_bytes(v.key()), v.id("epoch"));
            let kek = unwrap_kek(&root, v.id("key-id"), epoch, v.id("tenant"), v.id("subject"), wrap)?;
            Ok(kek.danger_expose().to_vec())
        }),
        "open-with-root" => {
            let root = RootKey::danger_from_bytes(v.key());
            let opened = open_with_root(&root, v.text("label"), &v.bytes("sealed"));
            outcome(opened.map(|secret| secret.to_vec()))
        }
        "combine" => outcome(combined(v)),
        "open-passphrase" => {
            let opened = open_under_passphrase(v.text("passphrase").as_bytes(), &v.bytes("slot"));
            outcome(opened.map(|secret| secret.to_vec()))
        }
        "open-recovery" => {
            let secret = RecoverySecret::danger_from_bytes(v.key());
            let opened = open_sealed(&secret, v.text("info").as_bytes(), &v.bytes("sealed"));
            outcome(opened.map(|secret| secret.to_vec()))
        }
        "open-checkpoint" => {
            let name: VerifierName = v.id("vkey");
            let note = String::from_utf8(v.bytes("note")).unwrap();
            let opened = open_checkpoint(&note, &name.name, &name.key);
            outcome(opened.map(|c| format!("{} {} {}", c.origin, c.size, c.root).into_bytes()))
        }
        "verify-cosignature" => {
            let note = String::from_utf8(v.bytes("note")).unwrap();
            let verified = verify_cosignature(&note, &v.id("vkey"));
            outcome(verified.map(|seconds| seconds.to_string().into_bytes()))
        }
        "judge-submission" => {
            let log: VerifierName = v.id("vkey");
            let known = Checkpoint {
                origin: log.name.clone(),
                size: v.id("known-size"),
                root: Digest(v.bytes("known-root").try_into().unwrap()),
            };
            let body = String::from_utf8(v.bytes("body")).unwrap();
            let judged = Submission::parse(&body).unwrap().judge(&log, Some(&known));
            outcome(judged.map(|c| format!("{} {} {}", c.origin, c.size, c.root).into_bytes()))
        }
        "verify-envelope" => {
            let key = VerifyingKey(*v.key());
            let opened = verify_envelope(&v.bytes("envelope"), &key, v.text("keyid"), v.text("type"));
            outcome(opened.map(|payload| to_canonical(&payload).unwrap()))
        }
        other => panic!("unknown operation {other}"),
    }
}

#[test]
fn every_vector_ends_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut good, mut bad) = (0, 0);
    for path in files.iter().filter(|path| path.extension().is_some_and(|kind| kind == "txt")) {
        let vector = Vector::read(path);
        let (expect, found) = (vector.text("expect"), run(&vector));
        let same = if expect.starts_with("ok") { found == expect } else { found.starts_with(expect) };
        assert!(same, "{}: {}\nexpected {expect}\nfound    {found}", path.display(), vector.text("about"));
        *if expect.starts_with("ok") { &mut good } else { &mut bad } += 1;
    }
    assert!(good >= 8 && bad >= 30, "{good} good and {bad} bad vectors: some are missing");
}
