//! Decompression of zlib streams (RFC 1950 and 1951), as far as reading
//! published vectors needs it. Panics on bytes that are not such a stream.

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, i| value | self.bit() << i)
    }

    fn bit(&mut self) -> usize {
        let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        usize::from(bit)
    }
}

/// A canonical Huffman code: how many codes of each length, and the symbols in order.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|length| counts[*length] += 1);
        counts[0] = 0;
        let symbols = (1..16)
            .flat_map(|length| (0..lengths.len()).filter(move |symbol| lengths[*symbol] == length))
            .collect();
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.bit();
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}

fn dynamic(bits: &mut Bits<'_>) -> (Code, Code) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances) = (bits.take(5) + 257, bits.take(5) + 1);
    let count = bits.take(4) + 4;
    let mut lengths = [0; 19];
    ORDER[..count].iter().for_each(|symbol| lengths[*symbol] = bits.take(3));
    let code = Code::new(&lengths);
    let mut all: Vec<usize> = Vec::new();
    while all.len() < literals + distances {
        let (value, times) = match code.read(bits) {
            16 => (*all.last().unwrap(), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        all.extend(std::iter::repeat_n(value, times));
    }
    (Code::new(&all[..literals]), Code::new(&all[literals..]))
}

fn fixed() -> (Code, Code) {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    (Code::new(&lengths), Code::new(&[5; 30]))
}

fn block(bits: &mut Bits<'_>, (literals, distances): (Code, Code), out: &mut Vec<u8>) {
    loop {
        let symbol = literals.read(bits);
        let length = match symbol {
            0..=255 => {
                out.push(u8::try_from(symbol).unwrap());
                continue;
            }
            256 => return,
            257..=264 => symbol - 254,
            285 => 258,
            _ => {
                let extra = (symbol - 261) / 4;
                3 + ((4 + (symbol - 261) % 4) << extra) + bits.take(extra)
            }
        };
        let symbol = distances.read(bits);
        let distance = if symbol < 4 {
            symbol + 1
        } else {
            let extra = symbol / 2 - 1;
            1 + ((2 + symbol % 2) << extra) + bits.take(extra)
        };
        for _ in 0..length {
            out.push(out[out.len() - distance]);
        }
    }
}

pub(crate) fn inflate(zlib: &[u8]) -> Vec<u8> {
    let mut bits = Bits { bytes: &zlib[2..], at: 0 };
    let mut out = Vec::new();
    loop {
        let last = bits.bit() == 1;
        match bits.take(2) {
            0 => {
                let start = bits.at.div_ceil(8);
                let length = usize::from(bits.bytes[start]) | usize::from(bits.bytes[start + 1]) << 8;
                out.extend_from_slice(&bits.bytes[start + 4..start + 4 + length]);
                bits.at = (start + 4 + length) * 8;
            }
            1 => block(&mut bits, fixed(), &mut out),
            2 => {
                let codes = dynamic(&mut bits);
                block(&mut bits, codes, &mut out);
            }
            _ => panic!("not a deflate block"),
        }
        if last {
            return out;
        }
    }
}
