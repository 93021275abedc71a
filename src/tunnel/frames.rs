//! Where a direction of a WebSocket tunnel stands: between two frames, or inside of one.
//!
//! Only headers are looked at (RFC 6455 5.2), and nothing is held against anybody: a direction that
//! cannot be followed is simply not known any more. What it is for is the close frame of a drain
//! (RFC 6455 5.5.1), which may stand between any two frames, also those of one message (5.4), and
//! never inside of one.

use std::hash::{BuildHasher, RandomState};

/// Lengths of more bytes are not followed: frames of 16 MiB are rare, and do without a goodbye.
const LENGTH_BYTES_KNOWN: u8 = 3;
const LEFT_MAX: u32 = (1 << 24) - 1;

/// The code of a server that goes away (RFC 6455 7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// The code of a server that is there again already (IANA's registry of close codes).
pub const SERVICE_RESTART: u16 = 1012;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody knows, for good.
    Unknown,
    /// The first byte of a frame.
    First,
    /// The second.
    Second,
    /// The rest of the frame.
    Rest,
    /// So many bytes of the length, in front of a mask or not.
    Length { more: u8, is_masked: bool },
}

/// The place in the bytes of one direction, in four bytes: every tunnel has two of them.
///
/// The lowest three are what is left of the frame, or its length so far; the highest is the stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames(u32);

impl Frames {
    /// In front of the first frame; or never known, where the protocol is another one.
    pub fn new(is_websocket: bool) -> Self {
        Self::at(if is_websocket { Stage::First } else { Stage::Unknown }, 0)
    }

    fn at(stage: Stage, left: u32) -> Self {
        let stage = match stage {
            Stage::Unknown => 0,
            Stage::First => 1,
            Stage::Second => 2,
            Stage::Rest => 3,
            Stage::Length { more, is_masked } => 0x80 | u32::from(more) << 1 | u32::from(is_masked),
        };
        Self(stage << 24 | left & LEFT_MAX)
    }

    fn stage(self) -> Stage {
        match self.0 >> 24 {
            0 => Stage::Unknown,
            1 => Stage::First,
            2 => Stage::Second,
            3 => Stage::Rest,
            packed => Stage::Length {
                more: u8::try_from(packed >> 1 & 0x0f).unwrap_or(0),
                is_masked: packed & 1 != 0,
            },
        }
    }

    fn left(self) -> u32 {
        self.0 & LEFT_MAX
    }

    /// Whether a frame may begin here.
    pub fn is_between(self) -> bool {
        self.stage() == Stage::First
    }

    /// Whether it is known where frames end.
    pub fn is_known(self) -> bool {
        self.stage() != Stage::Unknown
    }

    /// These bytes came next.
    pub fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            match self.stage() {
                Stage::Unknown => return,
                Stage::Rest => {
                    let skipped = rest.len().min(self.left() as usize);
                    rest = rest.get(skipped..).unwrap_or_default();
                    self.skip(skipped);
                    continue;
                }
                Stage::First => *self = Self::at(Stage::Second, 0),
                Stage::Second => *self = begin(*byte),
                Stage::Length { more, is_masked } => self.lengthen(*byte, more, is_masked),
            }
            rest = behind;
        }
    }

    /// So many bytes came next that nobody has seen.
    pub fn skip(&mut self, bytes: usize) {
        match (self.stage(), u32::try_from(bytes)) {
            (Stage::Rest, Ok(bytes)) if bytes <= self.left() => {
                *self = rest(self.left() - bytes, false);
            }
            _ if bytes > 0 => *self = Self::at(Stage::Unknown, 0),
            _ => {}
        }
    }

    fn lengthen(&mut self, byte: u8, more: u8, is_masked: bool) {
        *self = if more > LENGTH_BYTES_KNOWN && byte != 0 {
            Self::at(Stage::Unknown, 0)
        } else if more == 1 {
            rest(self.left() << 8 | u32::from(byte), is_masked)
        } else {
            let stage = Stage::Length { more: more - 1, is_masked };
            Self::at(stage, self.left() << 8 | u32::from(byte))
        };
    }
}

/// Behind the second byte of a frame.
fn begin(byte: u8) -> Frames {
    let is_masked = byte & 0x80 != 0;
    match byte & 0x7f {
        126 => Frames::at(Stage::Length { more: 2, is_masked }, 0),
        127 => Frames::at(Stage::Length { more: 8, is_masked }, 0),
        length => rest(u32::from(length), is_masked),
    }
}

/// In front of so many bytes, and of a mask or not.
fn rest(length: u32, is_masked: bool) -> Frames {
    match length + if is_masked { 4 } else { 0 } {
        0 => Frames::at(Stage::First, 0),
        left @ 1..=LEFT_MAX => Frames::at(Stage::Rest, left),
        _ => Frames::at(Stage::Unknown, 0),
    }
}

/// A mask that no peer can foresee (RFC 6455 5.3).
pub fn mask() -> [u8; 4] {
    let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_be_bytes();
    [a, b, c, d]
}

/// A close frame with this code: from a server, or with this mask from a client.
pub fn close_frame(code: u16, mask: Option<[u8; 4]>) -> ([u8; 8], usize) {
    let [high, low] = code.to_be_bytes();
    match mask {
        None => ([0x88, 2, high, low, 0, 0, 0, 0], 4),
        Some([a, b, c, d]) => ([0x88, 0x82, a, b, c, d, high ^ a, low ^ b], 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize, mask: bool) -> Vec<u8> {
        let mut bytes = vec![first];
        let bit = if mask { 0x80 } else { 0 };
        match u16::try_from(length) {
            Ok(short @ 0..=125) => bytes.push(bit | u8::try_from(short).unwrap()),
            Ok(middle) => {
                bytes.push(bit + 126);
                bytes.extend(middle.to_be_bytes());
            }
            Err(_) => {
                bytes.push(bit + 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        // Bytes that would be headers if they were taken for some.
        bytes.extend(vec![0x7f; length + if mask { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn every_cut_of_every_kind_of_frame_is_known() {
        let lengths = [0, 1, 5, 125, 126, 127, 300, 65_535, 65_536, 70_000];
        for (length, mask) in lengths.into_iter().flat_map(|len| [(len, false), (len, true)]) {
            let one = frame(0x82, length, mask);
            let both = [one.clone(), frame(0x01, 3, mask)].concat();
            for cut in (0..both.len().min(40)).chain(one.len() - 1..both.len()) {
                let mut frames = Frames::new(true);
                frames.follow(&both[..cut]);
                assert_eq!(frames.is_between(), cut == 0 || cut == one.len(), "{length} {cut}");
                frames.follow(&both[cut..]);
                assert!(frames.is_between(), "{length} {cut}");
            }
            let mut frames = Frames::new(true);
            for byte in &both {
                frames.follow(&[*byte]);
            }
            assert!(frames.is_between());
        }
    }

    #[test]
    fn what_nobody_has_seen_is_known_inside_of_one_frame_alone() {
        let one = frame(0x82, 1000, false);
        for (skipped, is_between) in [(1000, true), (999, false), (1001, false)] {
            let mut frames = Frames::new(true);
            frames.follow(&one[..4]);
            frames.skip(skipped);
            assert_eq!(frames.is_between(), is_between, "{skipped}");
        }
        let mut frames = Frames::new(true);
        frames.skip(0);
        assert!(frames.is_between());
        frames.skip(1);
        frames.follow(&one);
        assert!(!frames.is_between(), "for good");
    }

    #[test]
    fn another_protocol_and_a_length_of_nonsense_are_not_followed() {
        let mut other = Frames::new(false);
        other.follow(&frame(0x82, 1, false));
        assert!(!other.is_between());
        for length in [u64::MAX, 1 << 32, 1 << 24, (1 << 24) - 4] {
            let mut frames = Frames::new(true);
            frames.follow(&[0x82, 0xff]);
            frames.follow(&length.to_be_bytes());
            frames.follow(&frame(0x82, 1, true));
            assert!(!frames.is_between(), "{length}");
        }
        assert_eq!(size_of::<Frames>(), 4);
    }

    #[test]
    fn a_close_frame_is_as_in_the_rfc() {
        let (frame, len) = close_frame(GOING_AWAY, None);
        assert_eq!(&frame[..len], [0x88, 0x02, 0x03, 0xe9]);
        let (frame, len) = close_frame(SERVICE_RESTART, Some([1, 2, 3, 4]));
        assert_eq!(&frame[..len], [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xf4 ^ 2]);
    }
}
