//! Random bytes that a seed repeats, and checksums of what went through.

/// The xorshift64* generator (Marsaglia 2003, Vigna 2016): small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed; 0 is taken for 1, because xorshift stays at 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a length fits 64 bits");
        usize::try_from(self.next_u64() % limit).expect("less than a length")
    }

    /// Fills a slice.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            eight.copy_from_slice(&random[..eight.len()]);
        }
    }

    /// Returns this many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }
}

/// A CRC-32 and a byte count over what passed, in however many pieces.
#[derive(Clone, Debug, Default)]
pub struct Checksum {
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl Checksum {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += u64::try_from(bytes.len()).expect("a length fits 64 bits");
    }

    /// Returns the CRC-32 and the number of bytes, to be compared as a pair.
    pub fn finish(self) -> (u32, u64) {
        (self.crc.finalize(), self.bytes)
    }
}

/// Returns the checksum of bytes in one piece.
pub fn checksum(bytes: &[u8]) -> (u32, u64) {
    let mut checksum = Checksum::default();
    checksum.update(bytes);
    checksum.finish()
}
