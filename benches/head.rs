//! Reading a request head: ours, monoio-http's codec over the same bytes, and bare httparse.
//!
//! The three do not do the same. httparse alone is the bound: it neither looks for the end of the
//! head first nor keeps anything. monoio-http copies names into a map and owns the bytes; filling
//! its buffer is not timed. Ours checks more than either and keeps spans.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput};
use monoio_codec::{Decoded, Decoder as _};
use monoio_http::h1::codec::decoder::RequestHeadDecoder;
use phantom_frame::http1::head::{FieldSpan, HeadScanner, RequestHead};

use super::support::heads;

/// Bytes of a head that are accepted; the configuration's default.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Fields of a head that are accepted; the configuration's default.
const HEAD_FIELDS_MAX: usize = 100;

/// Fields that httparse is given room for; both heads have fewer.
const HTTPARSE_FIELDS: usize = 32;

/// Runs the benches of this file.
pub fn bench(criterion: &mut Criterion) {
    let shapes = [
        ("browser", heads::BROWSER, heads::BROWSER_FIELDS),
        ("handshake", heads::HANDSHAKE, heads::HANDSHAKE_FIELDS),
    ];
    for (name, bytes, fields) in shapes {
        let mut group = criterion.benchmark_group(format!("head/{name}"));
        group.throughput(Throughput::Bytes(u64::try_from(bytes.len()).expect("a short head")));
        group.bench_function("phantom-frame", |bencher| {
            let mut slots = Vec::new();
            bencher.iter(|| slots = ours(black_box(bytes), std::mem::take(&mut slots), fields));
        });
        group.bench_function("monoio-http", |bencher| {
            let filled = || BytesMut::from(bytes);
            bencher.iter_batched(
                filled,
                |buffer| monoio_http(black_box(buffer), fields),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("httparse", |bencher| {
            bencher.iter(|| httparse(black_box(bytes), fields));
        });
        group.finish();
    }
}

fn ours(bytes: &[u8], slots: Vec<FieldSpan>, fields: usize) -> Vec<FieldSpan> {
    let scanned = HeadScanner::new().scan(bytes, HEAD_BYTES_MAX).expect("a valid head");
    let len = scanned.expect("a whole head");
    let head = RequestHead::parse(bytes, len, slots, HEAD_FIELDS_MAX).expect("a valid head");
    assert_eq!(head.method(), "GET");
    assert_eq!(head.fields().iter().count(), fields);
    head.into_parts().1
}

fn monoio_http(mut buffer: BytesMut, fields: usize) {
    let decoded = RequestHeadDecoder.decode(&mut buffer);
    let Ok(Decoded::Some(head)) = decoded else { panic!("not a whole head") };
    assert_eq!(head.method, "GET");
    assert_eq!(head.headers.len(), fields);
}

fn httparse(bytes: &[u8], fields: usize) {
    let mut room = [httparse::EMPTY_HEADER; HTTPARSE_FIELDS];
    let mut head = httparse::Request::new(&mut room);
    assert!(head.parse(bytes).expect("a valid head").is_complete());
    assert_eq!(head.method, Some("GET"));
    assert_eq!(head.headers.len(), fields);
}
