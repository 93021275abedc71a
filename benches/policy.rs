//! The cache's rules per request: parsed, decided, reused; beside the crate `http-cache-semantics`.
//!
//! Both start from a head that is parsed already. Theirs takes `http::HeaderMap`s, which this proxy does
//! not have otherwise; the row `convert` is the price of making one.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use http_cache_semantics::{CacheOptions, CachePolicy};
use phantom_frame::cache::{
    Answer, Demand, Moment, Representation, Reuse, Rules, Terms, Times, Vary, VaryKind, answer,
    date, may_store,
};
use phantom_frame::http1::field::Fields;
use phantom_frame::http1::head::{RequestHead, ResponseHead};

use super::support::heads;

/// A cacheable page as application servers send it: 10 fields.
const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
Server: app/2.1\r\n\
Content-Type: text/html; charset=utf-8\r\n\
Content-Length: 5120\r\n\
Cache-Control: public, max-age=600, stale-while-revalidate=30\r\n\
ETag: \"5f3a-61b2c9d0e7a40\"\r\n\
Last-Modified: Mon, 13 Nov 2023 10:00:00 GMT\r\n\
Vary: Accept-Encoding\r\n\
X-Frame-Options: DENY\r\n\
X-Content-Type-Options: nosniff\r\n\r\n";

/// When [`PAGE`] arrives.
const ARRIVAL: Moment = Moment(1_700_000_000_000);

/// When it is asked for again.
const LATER: Moment = Moment(1_700_000_010_000);

/// Runs the benches of this file.
pub fn bench(criterion: &mut Criterion) {
    let browser = RequestHead::parse(heads::BROWSER, heads::BROWSER.len(), Vec::new(), 100);
    let page = ResponseHead::parse(PAGE, PAGE.len(), Vec::new(), 100);
    let (browser, page) = (browser.expect("a valid head"), page.expect("a valid head"));
    let mut group = criterion.benchmark_group("policy");
    group.throughput(Throughput::Elements(1));
    ours(&mut group, browser.fields(), page.fields());
    parts(&mut group, browser.fields(), page.fields());
    theirs(&mut group, browser.fields(), page.fields());
    group.finish();
}

fn stored(demand: &Demand, page: Fields<'_>) -> Terms {
    let times = Times { sent: ARRIVAL, received: ARRIVAL };
    may_store(demand, 200, page, times, &Rules::default()).expect("a cacheable page")
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, browser: Fields<'_>, page: Fields<'_>) {
    group.bench_function("store", |bencher| {
        bencher.iter(|| {
            let demand = Demand::of(black_box(browser));
            assert_eq!(stored(&demand, black_box(page)).ttl(ARRIVAL), 600);
        });
    });
    let terms = stored(&Demand::default(), page);
    let VaryKind::Names(vary) = Vary::of(page) else { unreachable!("the page varies") };
    let secondary = vary.secondary(browser).expect("a short key");
    group.bench_function("reuse", |bencher| {
        bencher.iter(|| {
            let demand = Demand::of(black_box(browser));
            assert!(vary.matches(black_box(&secondary), browser));
            assert_eq!(black_box(&terms).reuse(&demand, LATER), Reuse::Fresh);
            assert_eq!(terms.age(LATER), 10);
        });
    });
}

/// What a hit and a miss are made of.
fn parts(group: &mut BenchmarkGroup<'_, WallTime>, browser: Fields<'_>, page: Fields<'_>) {
    group.bench_function("demand", |bencher| {
        bencher.iter(|| assert!(Demand::of(black_box(browser)).is_conditional()));
    });
    let VaryKind::Names(vary) = Vary::of(page) else { unreachable!("the page varies") };
    let secondary = vary.secondary(browser).expect("a short key");
    group.bench_function("vary", |bencher| {
        bencher.iter(|| assert!(vary.matches(black_box(&secondary), black_box(browser))));
    });
    let page = Representation { status: 200, fields: page, len: 5120, received: ARRIVAL };
    group.bench_function("not modified", |bencher| {
        bencher.iter(|| {
            assert_eq!(answer("GET", black_box(browser), black_box(&page)), Answer::NotModified);
        });
    });
    group.bench_function("date", |bencher| {
        let date = b"Tue, 14 Nov 2023 22:13:20 GMT";
        bencher.iter(|| assert_eq!(date::parse(black_box(date)), Some(ARRIVAL.seconds())));
    });
}

fn theirs(group: &mut BenchmarkGroup<'_, WallTime>, browser: Fields<'_>, page: Fields<'_>) {
    group.bench_function("http-cache-semantics/convert", |bencher| {
        bencher.iter(|| assert_eq!(request(black_box(browser)).headers().len(), 12));
    });
    group.bench_function("http-cache-semantics/store", |bencher| {
        let (request, response) = (request(browser), response(page));
        bencher.iter(|| {
            let policy = policy(black_box(&request), black_box(&response));
            assert!(policy.is_storable());
            assert_eq!(policy.time_to_live(at(ARRIVAL)), Duration::from_mins(10));
        });
    });
    group.bench_function("http-cache-semantics/reuse", |bencher| {
        let request = request(browser);
        let policy = policy(&request, &response(page));
        bencher.iter(|| {
            let found = policy.before_request(black_box(&request), at(LATER));
            assert!(found.satisfies_without_revalidation());
        });
    });
}

fn policy(request: &http::Request<()>, response: &http::Response<()>) -> CachePolicy {
    CachePolicy::new_options(request, response, at(ARRIVAL), CacheOptions::default())
}

fn at(moment: Moment) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(moment.0)
}

fn request(fields: Fields<'_>) -> http::Request<()> {
    let target = "http://www.shop.example/assets/app.js";
    let mut request = http::Request::get(target).body(()).expect("a valid request");
    copy(fields, request.headers_mut());
    request
}

fn response(fields: Fields<'_>) -> http::Response<()> {
    let mut response = http::Response::new(());
    copy(fields, response.headers_mut());
    response
}

fn copy(fields: Fields<'_>, map: &mut http::HeaderMap) {
    for field in fields.iter() {
        let name = http::HeaderName::from_bytes(field.name).expect("a valid name");
        map.append(name, http::HeaderValue::from_bytes(field.value).expect("a valid value"));
    }
}
