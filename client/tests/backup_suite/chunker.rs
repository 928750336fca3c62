//! Cuts depend on content alone.

use std::io::{self, Read};

use crate::bench::noise;
use coffer_client::backup::{Chunker, Cutter};
use proptest::prelude::{ProptestConfig, any, proptest};

/// Delivers its bytes in pieces of the given sizes, over and over.
struct Pieces<'a> {
    data: &'a [u8],
    sizes: Vec<usize>,
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        let length = size.min(buffer.len()).min(self.data.len());
        buffer[..length].copy_from_slice(&self.data[..length]);
        self.data = &self.data[length..];
        Ok(length)
    }
}

fn chunks(cutter: &Cutter, reader: impl Read) -> Vec<Vec<u8>> {
    let mut chunker = Chunker::new(cutter, reader);
    let mut chunks = Vec::new();
    while let Some(chunk) = chunker.next_chunk().unwrap() {
        chunks.push(chunk.to_vec());
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_put_together_are_the_input_and_cuts_do_not_depend_on_reads(
        seed in any::<u64>(),
        length in 0_usize..12 << 20,
        sizes in proptest::collection::vec(1_usize..3 << 20, 1..6),
        zeros in any::<bool>(),
    ) {
        let data = if zeros { vec![0; length] } else { noise(seed, length) };
        let cutter = Cutter::new(seed);
        let whole = chunks(&cutter, data.as_slice());
        assert_eq!(whole.concat(), data);
        let (last, others) = whole.split_last().map_or((&[][..], &[][..]), |(l, o)| (l.as_slice(), o));
        assert!(last.len() <= 4 << 20);
        assert!(others.iter().all(|chunk| (256 << 10..=4 << 20).contains(&chunk.len())));
        let pieces = Pieces { data: &data, sizes, next: 0 };
        assert_eq!(chunks(&cutter, pieces), whole);
    }
}

#[test]
fn an_insertion_changes_only_the_chunks_around_it() {
    let cutter = Cutter::new(7);
    let mut data = noise(1, 24 << 20);
    let before = chunks(&cutter, data.as_slice());
    data.splice(10 << 20..10 << 20, *b"inserted");
    let after = chunks(&cutter, data.as_slice());
    let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
    assert!((1..=4).contains(&new), "{new} of {} chunks are new", after.len());
}

#[test]
fn repositories_cut_at_different_places() {
    let data = noise(1, 16 << 20);
    let lengths =
        |seed| -> Vec<usize> { chunks(&Cutter::new(seed), data.as_slice()).iter().map(Vec::len).collect() };
    assert_ne!(lengths(1), lengths(2));
}
