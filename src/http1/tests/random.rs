//! Random heads and chunked bodies in random pieces, against what they were made from.

use proptest::{
    collection::vec,
    prelude::{
        Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    },
    sample::Index,
};

use super::chunks::{Body, decode};
use crate::http1::{
    chunked::{Decoder, LAST_CHUNK, chunk_head},
    head::{HeadScanner, RequestHead},
};

/// A name and a value without whitespace around it.
type Pair = (String, Vec<u8>);

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![6 => 0x21..=0x7e_u8, 1 => 0x80..=0xff_u8, 1 => Just(b' '), 1 => Just(b'\t')];
    vec(byte, 0..20).prop_map(|bytes| {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = bytes.iter().position(|byte| !is_space(byte)).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(|byte| !is_space(byte)).map_or(start, |at| at + 1);
        bytes[start..end].to_vec()
    })
}

fn field_lines(max: usize) -> impl Strategy<Value = Vec<Pair>> {
    vec((token(), value()), 0..max)
}

fn extension() -> impl Strategy<Value = String> {
    let value = prop_oneof![token(), "\"([ -!#-\\[\\]-~\t]|\\\\[ -~\t]){0,8}\""];
    let one = prop_oneof![
        token().prop_map(|name| format!(";{name}")),
        (token(), value).prop_map(|(name, value)| format!("; {name}\t= {value}")),
    ];
    vec(one, 0..3).prop_map(|all| all.concat())
}

fn chunks() -> impl Strategy<Value = Vec<(Vec<u8>, String)>> {
    vec((vec(any::<u8>(), 1..60), extension()), 0..8)
}

fn written(fields: &[Pair]) -> Vec<u8> {
    let line = |(name, value): &Pair| [name.as_bytes(), b": ", value.as_slice(), b"\r\n"].concat();
    fields.iter().flat_map(line).collect()
}

/// Cuts `bytes` at these places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    starts.zip(&cuts).map(|(start, &end)| &bytes[start..end]).collect()
}

/// The whole of a chunked body and its trailer section.
fn encoded(chunks: &[(Vec<u8>, String)], trailers: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (data, extension) in chunks {
        let mut line = [0; 18];
        bytes.extend_from_slice(chunk_head(data.len(), &mut line).strip_suffix(b"\r\n").unwrap());
        bytes.extend_from_slice(extension.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
    }
    [bytes.as_slice(), LAST_CHUNK, trailers, b"\r\n"].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_head_comes_out_as_it_went_in(
        method in token(),
        target in vec(prop_oneof![0x21..=0x7e_u8, 0x80..=0xff_u8], 1..30),
        fields in field_lines(50),
        behind in vec(any::<u8>(), 0..20),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let line = [method.as_bytes(), b" ", &target, b" HTTP/1.1\r\n"].concat();
        let head = [line, written(&fields), b"\r\n".to_vec()].concat();
        let stream = [head.as_slice(), &behind].concat();
        let mut scanner = HeadScanner::new();
        let mut received = Vec::new();
        let mut len = None;
        for piece in pieces(&stream, &cuts) {
            received.extend_from_slice(piece);
            len = scanner.scan(&received, head.len()).unwrap();
            if len.is_some() {
                break;
            }
        }
        prop_assert_eq!(len, Some(head.len()));
        let parsed = RequestHead::parse(received, head.len(), Vec::new(), 100).unwrap();
        prop_assert_eq!(parsed.method(), method);
        prop_assert_eq!(parsed.target(), target);
        let found: Vec<_> = parsed.fields().iter().map(|f| (f.name, f.value)).collect();
        let sent: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())).collect();
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn a_sound_body_comes_out_as_it_went_in(
        chunks in chunks(),
        trailers in field_lines(5),
        behind in vec(any::<u8>(), 0..20),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let trailers = written(&trailers);
        let body = encoded(&chunks, &trailers);
        let stream = [body.as_slice(), &behind].concat();
        let data: Vec<u8> = chunks.iter().flat_map(|(data, _)| data.clone()).collect();
        let expected = Ok(Some(Body { data, trailers, consumed: body.len() }));
        prop_assert_eq!(decode(&pieces(&stream, &cuts), 4096), expected);
    }

    #[test]
    fn a_damaged_body_is_judged_alike_in_any_pieces(
        chunks in chunks(),
        trailers in field_lines(5),
        at in any::<Index>(),
        byte in prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b';'), Just(b'"'), any::<u8>()],
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut body = encoded(&chunks, &written(&trailers));
        let at = at.index(body.len());
        body[at] = byte;
        prop_assert_eq!(decode(&pieces(&body, &cuts), 100), decode(&[&body], 100));
    }

    #[test]
    fn no_bytes_panic_a_parser(bytes in vec(any::<u8>(), 0..200), len in 0..250_usize) {
        let scanned = HeadScanner::new().scan(&bytes, 100);
        prop_assert!(scanned.is_err() || scanned.is_ok_and(|len| len.is_none_or(|len| len <= 100)));
        let parsed = RequestHead::parse(bytes.as_slice(), len, Vec::new(), 100);
        prop_assert!(parsed.is_err() || len <= bytes.len());
        let decoded = Decoder::new(100).decode(&mut bytes.clone());
        prop_assert!(decoded.is_err() || decoded.is_ok_and(|d| d.payload <= d.consumed));
    }
}
