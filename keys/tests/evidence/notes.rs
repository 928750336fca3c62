//! Checkpoints that do not open.

use coffer_keys::{
    Checkpoint, NoteError, SigningKey, VerifierName, VerifierNameError, leaf_hash, open_checkpoint,
    sign_checkpoint,
};

use crate::seeded::Seeded;

const NAME: &str = "coffer.example/ten";

fn sample() -> (SigningKey, Checkpoint, String) {
    let key = SigningKey::generate(&Seeded::new(1));
    let checkpoint = Checkpoint { origin: NAME.to_owned(), size: 42, root: leaf_hash(b"root") };
    let note = sign_checkpoint(&key, NAME, &checkpoint);
    (key, checkpoint, note)
}

#[test]
fn a_checkpoint_opens_as_what_was_signed() {
    let (key, checkpoint, note) = sample();
    assert_eq!(open_checkpoint(&note, NAME, &key.verifying_key()), Ok(checkpoint));
}

#[test]
fn no_single_changed_byte_of_a_note_is_accepted() {
    let (key, _, note) = sample();
    for at in 0..note.len() {
        for value in [0, b'\n', b' ', b'+', b'0', b'1', b'A', b'Q', b'z', 0x7f, note.as_bytes()[at] ^ 1] {
            let mut bytes = note.clone().into_bytes();
            if bytes[at] == value {
                continue;
            }
            bytes[at] = value;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let opened = open_checkpoint(&text, NAME, &key.verifying_key());
            assert!(opened.is_err(), "byte {at} to {value}");
        }
    }
}

#[test]
fn another_key_or_name_finds_no_signature_of_its_own() {
    let (key, _, note) = sample();
    let other = SigningKey::generate(&Seeded::new(2));
    assert_eq!(open_checkpoint(&note, NAME, &other.verifying_key()), Err(NoteError::Unsigned));
    assert_eq!(open_checkpoint(&note, "other", &key.verifying_key()), Err(NoteError::Unsigned));
}

#[test]
fn a_witness_s_line_is_passed_over_and_a_line_that_is_none_is_not() {
    let (key, checkpoint, note) = sample();
    let witness = sign_checkpoint(&SigningKey::generate(&Seeded::new(2)), "witness.example", &checkpoint);
    let line = witness.lines().last().unwrap();
    let cosigned = format!("{note}{line}\n");
    assert_eq!(open_checkpoint(&cosigned, NAME, &key.verifying_key()), Ok(checkpoint));
    let broken = format!("{note}- {NAME} AAAA\n");
    assert_eq!(
        open_checkpoint(&broken, NAME, &key.verifying_key()),
        Err(NoteError::SignatureLine { line: 2 })
    );
}

#[test]
fn signed_notes_that_are_not_canonical_checkpoints_are_refused() {
    let (key, checkpoint, _) = sample();
    // An origin with a line of its own makes a note of four lines.
    for origin in ["a\nb", "", "a\n1\n2"] {
        let note =
            sign_checkpoint(&key, NAME, &Checkpoint { origin: origin.to_owned(), ..checkpoint.clone() });
        let opened = open_checkpoint(&note, NAME, &key.verifying_key());
        assert_eq!(opened, Err(NoteError::NotACheckpoint), "{origin:?}");
    }
}

#[test]
fn texts_that_are_no_notes_are_refused() {
    let (key, _, note) = sample();
    let long = format!("{}{note}", "x".repeat(1 << 16));
    for text in ["", "\n\n", "a\n\nb", note.trim_end(), &note.replace('\n', "\r\n"), &long] {
        assert!(open_checkpoint(text, NAME, &key.verifying_key()).is_err());
    }
}

#[test]
fn a_verification_key_reads_back_and_a_mistyped_one_does_not() {
    let name =
        VerifierName { name: NAME.to_owned(), key: SigningKey::generate(&Seeded::new(1)).verifying_key() };
    let text = name.to_string();
    assert_eq!(text.parse(), Ok(name.clone()));
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        assert!(String::from_utf8(bytes).unwrap().parse::<VerifierName>().is_err(), "byte {at}");
    }
    assert_eq!("a+b".parse::<VerifierName>(), Err(VerifierNameError::Format));
    assert_eq!(
        "a+00000000+BAAA".parse::<VerifierName>(),
        Err(VerifierNameError::Type { found: 4, wanted: 1 })
    );
}

#[test]
fn the_hash_in_a_verification_key_is_the_one_of_the_specification() {
    use sha2::Digest as _;
    let key = SigningKey::generate(&Seeded::new(1)).verifying_key();
    let message = [b"log.example\n\x01".as_slice(), &key.0].concat();
    let digest = sha2::Sha256::digest(message);
    let text = VerifierName { name: "log.example".to_owned(), key }.to_string();
    let hash: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text.starts_with(&format!("log.example+{hash}+")));
}
