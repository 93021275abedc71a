//! Chunked bodies: what is accepted, what is refused, and that cuts change nothing.

use crate::http1::chunked::{ChunkError, Decoded, Decoder, LAST_CHUNK, chunk_head};

/// A complete body.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Body {
    pub(super) data: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    /// Bytes of input that belonged to it.
    pub(super) consumed: usize,
}

/// Decodes the pieces as they would come from a socket. None if the body does not end in them.
pub(super) fn decode(
    pieces: &[&[u8]],
    trailer_bytes_max: usize,
) -> Result<Option<Body>, ChunkError> {
    let mut decoder = Decoder::new(trailer_bytes_max);
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let decoded = decoder.decode(&mut buffer)?;
        check(decoded, &buffer, piece);
        data.extend_from_slice(&buffer[..decoded.payload]);
        consumed += decoded.consumed;
        if decoded.done {
            return Ok(Some(Body { data, trailers: decoder.trailers().to_vec(), consumed }));
        }
    }
    Ok(None)
}

/// What holds after every call, with `buffer` as it was left and `piece` as it was given.
fn check(decoded: Decoded, buffer: &[u8], piece: &[u8]) {
    assert!(decoded.payload <= decoded.consumed);
    assert!(decoded.done || decoded.consumed == piece.len());
    assert_eq!(buffer[decoded.consumed..], piece[decoded.consumed..]);
}

fn whole(bytes: &[u8]) -> Result<Option<Body>, ChunkError> {
    decode(&[bytes], 1024)
}

fn body(data: &str, trailers: &str, consumed: usize) -> Body {
    Body { data: data.into(), trailers: trailers.into(), consumed }
}

const BODIES: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "1\r\na\r\n2\r\nbc\r\n03\r\n\r\n\r\r\n000\r\n\r\n",
    "3;a\r\nabc\r\n0;b=\"\\\"\r\";c\r\n\r\n",
    "3; a = b ; c=\"d;\\\"e\";f\r\nabc\r\n0\r\nX: y\r\nZ:\r\n\r\nrest",
    "0\r\nX: y\r\n folded\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\n\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "fffffffffffffffff\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "0\r\nX: 0123456789012345678901234567890123456789\r\n\r\n",
];

#[test]
fn data_is_compacted_and_what_follows_is_left() {
    let mut bytes = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: u\r\n\r\nnext".to_vec();
    let mut decoder = Decoder::new(100);
    let decoded = decoder.decode(&mut bytes).unwrap();
    assert!(decoded.done);
    assert_eq!(&bytes[..decoded.payload], b"abc0123456789");
    assert_eq!(&bytes[decoded.consumed..], b"next");
    assert_eq!(decoder.trailers(), b"T: u\r\n");
    // A finished decoder takes nothing more.
    let decoded = decoder.decode(&mut bytes).unwrap();
    assert_eq!((decoded.payload, decoded.consumed, decoded.done), (0, 0, true));
}

#[test]
fn an_incomplete_body_is_consumed_and_not_done() {
    let mut bytes = b"5\r\nhel".to_vec();
    let decoded = Decoder::new(0).decode(&mut bytes).unwrap();
    assert_eq!((decoded.payload, decoded.consumed, decoded.done), (3, 6, false));
    let decoded = Decoder::new(0).decode(&mut []).unwrap();
    assert_eq!((decoded.payload, decoded.consumed, decoded.done), (0, 0, false));
}

#[test]
fn sizes_are_hexadecimal_digits_alone() {
    assert_eq!(whole(b"0\r\n\r\n"), Ok(Some(body("", "", 5))));
    assert_eq!(whole(b"0000000000000000\r\n\r\n"), Ok(Some(body("", "", 20))));
    assert_eq!(whole(b"00000001\r\na\r\n0\r\n\r\n"), Ok(Some(body("a", "", 18))));
    assert_eq!(whole(b"B\r\nhello world\r\n0\r\n\r\n"), Ok(Some(body("hello world", "", 21))));
    for size in [
        "", " 5", "5 ", "5\t", "\t5", "+5", "-5", "0x5", "5h", "g", "5_", "_5", "5,", "5.0", "\0",
        "5\0", "\"5\"", "5\x0b", "\x0c5", "\u{ff15}", "5 ;a", "5\t;a", ";a", " ;a", "5:", "x",
    ] {
        let text = format!("{size}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(whole(text.as_bytes()), Err(ChunkError::Syntax), "{size:?}");
        // Nor is it a zero that ends the body.
        let text = format!("{size}\r\n\r\n");
        assert_eq!(whole(text.as_bytes()), Err(ChunkError::Syntax), "{size:?}");
    }
}

#[test]
fn sizes_stop_below_two_to_the_63() {
    for (size, expected) in [
        ("7ffffffffffffffe", Ok(None)),
        ("7fffffffffffffff", Ok(None)),
        ("7FFFFFFFFFFFFFFF", Ok(None)),
        ("8000000000000000", Err(ChunkError::SizeOverflow)),
        ("ffffffffffffffff", Err(ChunkError::SizeOverflow)),
        ("10000000000000000", Err(ChunkError::SizeOverflow)),
        ("000000000000000a", Ok(None)),
        ("0000000000000000a", Err(ChunkError::SizeOverflow)),
        ("00000000000000000", Err(ChunkError::SizeOverflow)),
    ] {
        assert_eq!(whole(format!("{size}\r\nab").as_bytes()), expected, "{size}");
    }
}

#[test]
fn lines_and_data_end_in_both_bytes() {
    for text in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\n\r\r\n",
        "0\r\n\rX",
        "0\r\nA: b\n\r\n",
        "0\r\nA: b\r\n\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_eq!(whole(text.as_bytes()), Err(ChunkError::Syntax), "{text:?}");
    }
}

#[test]
fn extensions_follow_the_grammar_and_are_dropped() {
    for extension in [
        ";a",
        ";a=b",
        ";a;b",
        "; a",
        ";\ta = b",
        ";a ;b",
        ";a=b ; c",
        ";a=\"\"",
        ";a=\"b c\"",
        ";a=\"b;c=\\\"\\\\\t\"",
        ";a=\"\u{e9}\";d",
        ";a=\"x\" ;b",
        ";!#$%=&'*",
    ] {
        let text = format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n");
        assert_eq!(
            whole(text.as_bytes()),
            Ok(Some(body("hello", "", text.len()))),
            "{extension:?}"
        );
    }
    for extension in [
        ";",
        ";;a",
        ";a;",
        "; ",
        ";=b",
        ";a=",
        ";a= ",
        ";a ",
        ";a=b ",
        ";a=b c",
        ";a b",
        ";a=\"",
        ";a=\"b",
        ";a=\"b\\",
        ";a=\"b\"c",
        ";a=\"b\" ",
        ";a=\0",
        ";a\0",
        ";a=\"\x7f\"",
        ";a=\"\0\"",
        ";a=\"b\r\nc\"",
        ";a=\"\\\r\n\"",
        ";a\u{e9}",
        ";(a)",
        ";a=b=c",
        ";a\x0b",
        ";a=\"b\"\"c\"",
        ";a==b",
        ";a=\"b\"=c",
    ] {
        let text = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(whole(text.as_bytes()), Err(ChunkError::Syntax), "{extension:?}");
    }
}

#[test]
fn a_line_takes_256_bytes_of_extensions() {
    for (len, expected) in [(255, true), (256, true), (257, false)] {
        let text = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(len - 1));
        if expected {
            assert_eq!(whole(text.as_bytes()), Ok(Some(body("a", "", text.len()))));
        } else {
            assert_eq!(whole(text.as_bytes()), Err(ChunkError::LineTooLong));
        }
    }
}

#[test]
fn trailers_are_as_strict_as_fields() {
    assert_eq!(whole(b"0\r\nA: b\r\nc:\td \r\n\r\n"), Ok(Some(body("", "A: b\r\nc:\td \r\n", 18))));
    for trailer in [
        "A : b",
        " A: b",
        "\tA: b",
        "A",
        ": b",
        "A: b\r\n c",
        "A: \0",
        "A: b\rc",
        "A\u{e9}: b",
        "A: \x7f",
        "A b: c",
        "A: b\x0b",
    ] {
        let text = format!("0\r\nX: y\r\n{trailer}\r\n\r\n");
        assert_eq!(whole(text.as_bytes()), Err(ChunkError::Syntax), "{trailer:?}");
    }
}

#[test]
fn trailers_have_a_limit_of_bytes_and_fields() {
    let text = b"0\r\nA: b\r\nC: d\r\n\r\n";
    for (limit, fits) in [(0, false), (11, false), (12, true), (13, true)] {
        let expected = if fits {
            Ok(Some(body("", "A: b\r\nC: d\r\n", text.len())))
        } else {
            Err(ChunkError::TrailersTooLong)
        };
        assert_eq!(decode(&[text], limit), expected, "{limit}");
    }
    assert_eq!(decode(&[b"0\r\n\r\n"], 0), Ok(Some(body("", "", 5))));
    for count in [99, 100, 101] {
        let text = format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
        let decoded = whole(text.as_bytes());
        if count <= 100 {
            assert!(decoded.unwrap().is_some(), "{count}");
        } else {
            assert_eq!(decoded, Err(ChunkError::TrailersTooLong), "{count}");
        }
    }
}

#[test]
fn a_body_cut_anywhere_is_the_same_body() {
    for text in BODIES {
        let bytes = text.as_bytes();
        let expected = decode(&[bytes], 30);
        for cut in 0..=bytes.len() {
            let pieces = decode(&[&bytes[..cut], &bytes[cut..]], 30);
            assert_eq!(pieces, expected, "{text:?} cut at {cut}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(decode(&single, 30), expected, "{text:?} byte by byte");
    }
}

#[test]
fn chunk_heads_are_lowercase_without_leading_zeros() {
    let mut out = [0; 18];
    for (len, expected) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0x1a2b, "1a2b\r\n"),
        (16 * 1024, "4000\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        assert_eq!(chunk_head(len, &mut out), expected.as_bytes());
    }
    assert_eq!(LAST_CHUNK, b"0\r\n");
}
