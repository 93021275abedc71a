//! What is going to happen, told by the target of a request: both ends follow it, and both know every byte.

use std::fmt;

use crate::support::Random;

/// Most bytes that a tunnel carries one way.
const TUNNEL_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes that are sent together with the head that opens a tunnel.
const EARLY_BYTES_MAX: usize = 8 * 1024;

/// How a tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    ClientCloses,
    BackendCloses,
    ClientResets,
    BackendResets,
    /// The client is cut off.
    ClientLost,
}

impl End {
    /// Every one, with its word in targets, which is also the reason in the metrics.
    pub(super) const ALL: [(Self, &'static str); 5] = [
        (Self::ClientCloses, "client_closed"),
        (Self::BackendCloses, "backend_closed"),
        (Self::ClientResets, "client_reset"),
        (Self::BackendResets, "backend_reset"),
        (Self::ClientLost, "client_lost"),
    ];

    /// The word in targets and metrics.
    pub(super) fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(end, _)| *end == self);
        found.expect("every end has a word").1
    }

    /// Whether everything sent must arrive.
    pub(super) fn is_orderly(self) -> bool {
        matches!(self, Self::ClientCloses | Self::BackendCloses)
    }
}

/// A tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel {
    pub(super) end: End,
    /// Of the bytes toward the backend; those toward the client have the next one.
    pub(super) seed: u64,
    /// Bytes that the client sends.
    pub(super) up: usize,
    /// Bytes that the backend sends.
    pub(super) down: usize,
    /// Bytes behind the request's head.
    pub(super) early: usize,
    /// Whether the client, the backend, reads with pauses.
    pub(super) slow: (bool, bool),
}

impl Tunnel {
    /// Plans one.
    pub(super) fn random(random: &mut Random) -> Self {
        // The last one takes a cable.
        let end = End::ALL[random.below(End::ALL.len() - 1)].0;
        let (seed, up, down) = (random.next_u64() >> 1, amount(random), amount(random));
        let early =
            if random.below(3) == 0 { random.below(up.min(EARLY_BYTES_MAX) + 1) } else { 0 };
        let slow = (random.below(8) == 0, random.below(8) == 0);
        Self { end, seed, up, down, early, slow }
    }

    /// Plans a short one.
    pub(super) fn short(end: End, (up, down): (usize, usize), random: &mut Random) -> Self {
        let seed = random.next_u64() >> 1;
        Self { end, seed, up, down, early: 0, slow: (false, false) }
    }

    /// Returns the request that opens it, without early bytes.
    pub(super) fn request(&self) -> String {
        format!(
            "GET {self} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: my-proto\r\n\r\n"
        )
    }

    /// Reads what [`Tunnel`] shows.
    pub(super) fn parse(target: &str) -> Option<Self> {
        let mut words = target.strip_prefix("/t/")?.split('/');
        let word = words.next()?;
        let end = End::ALL.iter().find(|(_, name)| *name == word)?.0;
        let mut number = || words.next()?.parse::<u64>().ok();
        let seed = number()?;
        let mut count = || number().and_then(|number| usize::try_from(number).ok());
        let (up, down, early) = (count()?, count()?, count()?);
        let slow = (count()? == 1, count()? == 1);
        Some(Self { end, seed, up, down, early, slow })
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, seed, up, down, early, slow } = self;
        let (client, backend) = (u8::from(slow.0), u8::from(slow.1));
        write!(f, "/t/{}/{seed}/{up}/{down}/{early}/{client}/{backend}", end.word())
    }
}

/// A request whose answer is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// Nobody else's.
    pub(super) id: u64,
    /// Bytes of the request's body.
    pub(super) asked: usize,
    /// Bytes of the answer's body.
    pub(super) answered: usize,
    /// How the backend frames it.
    pub(super) framing: Framing,
}

/// How the end of an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

impl Exchange {
    /// Plans one.
    pub(super) fn random(id: u64, random: &mut Random) -> Self {
        let framing = [Framing::Length, Framing::Length, Framing::Chunked, Framing::Close];
        let framing = framing[random.below(framing.len())];
        let size = |random: &mut Random| {
            let most = if random.below(12) == 0 { 200_000 } else { 4_000 };
            random.below(most)
        };
        Self { id, asked: size(random), answered: size(random), framing }
    }

    /// Reads what [`Exchange`] shows.
    pub(super) fn parse(target: &str) -> Option<Self> {
        let mut words = target.strip_prefix("/h/")?.split('/');
        let id = words.next()?.parse().ok()?;
        let asked = words.next()?.parse().ok()?;
        let answered = words.next()?.parse().ok()?;
        let framing = match words.next()? {
            "length" => Framing::Length,
            "chunked" => Framing::Chunked,
            _ => Framing::Close,
        };
        Some(Self { id, asked, answered, framing })
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let framing = match self.framing {
            Framing::Length => "length",
            Framing::Chunked => "chunked",
            Framing::Close => "close",
        };
        write!(f, "/h/{}/{}/{}/{framing}", self.id, self.asked, self.answered)
    }
}

/// Returns what stands in bytes `from..to` of the content with this seed.
pub(super) fn content(seed: u64, from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|at| byte(seed, at)).collect()
}

/// Panics unless `bytes` are those of the content from `from` on.
pub(super) fn verify(seed: u64, from: usize, bytes: &[u8]) {
    let wrong = (from..).zip(bytes).find(|(at, byte)| self::byte(seed, *at) != **byte);
    assert!(wrong.is_none(), "content {seed}: another byte at {wrong:?}, piece from {from}");
}

/// The byte of a content at a position: an eighth of a splitmix64 of both (Steele 2014).
fn byte(seed: u64, at: usize) -> u8 {
    let at = u64::try_from(at).expect("a length fits 64 bits");
    let mut mixed = seed.wrapping_add((at / 8 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let shift = 8 * (at % 8);
    ((mixed ^ (mixed >> 31)) >> shift).to_le_bytes()[0]
}

/// From one byte to the most; small ones as often as large ones.
fn amount(random: &mut Random) -> usize {
    let most = [16, 1_000, 20_000, 100_000, TUNNEL_BYTES_MAX][random.below(5)];
    1 + random.below(most)
}
