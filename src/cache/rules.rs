//! What a route says about caching, in the form in which requests are judged by it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use super::coding::Coding;
use super::kind;
use super::pattern::PathRules;
use super::policy;
use crate::config::{Cache, CacheRules, CacheStorageMode, CacheStrategy, Respect};
use crate::http1::field::Fields;

/// Bodies of fewer bytes are not compressed: what is saved is less than what the field lines cost.
const PACKED_BYTES_MIN: u64 = 256;

/// A request, as a key function sees it.
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo<'a> {
    /// The method: always `GET`, also where a HEAD asks, or a change ends what is stored.
    pub method: &'a str,
    /// The path with the mount prefix stripped. What is not UTF-8 keeps its usual name.
    pub path: &'a str,
    /// The query without its `?`, empty if there is none.
    pub query: &'a str,
    /// The fields.
    pub headers: Fields<'a>,
}

/// Names the stored response that a request is for.
#[derive(Clone)]
pub struct KeyFn(Arc<dyn Fn(&RequestInfo<'_>) -> String + Send + Sync>);

impl KeyFn {
    /// Wraps a function that is called on every worker, for every request that may be cached.
    pub fn new(name: impl Fn(&RequestInfo<'_>) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(name))
    }
}

impl fmt::Debug for KeyFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFn(..)")
    }
}

/// The rules of a route that caches.
#[derive(Debug)]
pub struct RouteRules {
    /// What RFC 9111 leaves to the operator.
    pub policy: policy::Rules,
    /// The largest body that is stored, in bytes.
    pub entry_bytes_max: u64,
    /// Whether bodies are kept in the worker's file.
    pub is_on_disk: bool,
    strategy: CacheStrategy,
    paths: PathRules,
    use_404_meta: bool,
    coding: Option<Coding>,
    key_fn: Option<KeyFn>,
}

impl RouteRules {
    /// The rules of a route, `None` if it caches nothing.
    pub fn new(rules: &CacheRules, cache: &Cache, key_fn: Option<KeyFn>) -> Option<Self> {
        if rules.strategy == CacheStrategy::None {
            return None;
        }
        let respect = match rules.respect {
            Respect::Rfc => policy::Respect::Rfc,
            Respect::Always => policy::Respect::Always,
        };
        let default_ttl = cache.default_ttl.map(|ttl| ttl.as_secs());
        Some(Self {
            policy: policy::Rules { respect, default_ttl },
            entry_bytes_max: cache.entry_bytes_max,
            is_on_disk: rules.storage_mode == CacheStorageMode::Filesystem,
            strategy: rules.strategy,
            paths: PathRules::new(&rules.include_paths, &rules.exclude_paths),
            use_404_meta: rules.use_404_meta,
            coding: Coding::of(rules.compress),
            key_fn,
        })
    }

    /// Whether the answer to such a request may come out of the cache.
    pub fn applies(&self, method: &str, path: &[u8]) -> bool {
        matches!(method, "GET" | "HEAD") && self.paths.allows(method, path)
    }

    /// Whether content of this type is stored.
    pub fn admits(&self, content_type: Option<&[u8]>) -> bool {
        kind::admits(self.strategy, content_type)
    }

    /// Whether a key function of the library's user names the entries.
    pub fn names_keys(&self) -> bool {
        self.key_fn.is_some()
    }

    /// What the key function calls the response that a request is for.
    pub fn key_name(&self, info: &RequestInfo<'_>) -> Option<String> {
        self.key_fn.as_ref().map(|key_fn| key_fn.0(info))
    }

    /// Whether a page counts as not found: by its status, or because it says so of itself.
    pub fn is_not_found(&self, status: u16, body: &[Bytes]) -> bool {
        status == 404 || self.use_404_meta && says_not_found(&whole(body))
    }

    /// The content coding in which a response is kept as well, if it gains by that; `len` is that of
    /// its body, `None` if it is not known yet.
    pub fn coding_for(
        &self,
        status: u16,
        response: Fields<'_>,
        len: Option<u64>,
    ) -> Option<Coding> {
        const SIZES: RangeInclusive<u64> =
            PACKED_BYTES_MIN..=super::compress::BODY_BYTES_MAX as u64;
        let is_plain = !response.has("content-encoding")
            && !response.has_token("cache-control", "no-transform")
            && kind::is_compressible(response.first("content-type"));
        let is_worth_it = len.is_none_or(|len| SIZES.contains(&len));
        self.coding.filter(|_| status == 200 && is_plain && is_worth_it)
    }
}

/// A body in one piece.
fn whole(body: &[Bytes]) -> Bytes {
    match body {
        [one] => one.clone(),
        pieces => pieces.concat().into(),
    }
}

/// Whether a page has the marks of the original's not-found pages.
fn says_not_found(page: &[u8]) -> bool {
    let has =
        |texts: [&str; 2]| texts.iter().any(|text| memmem::find(page, text.as_bytes()).is_some());
    has([r#"name="phantom-404""#, "name='phantom-404'"])
        && has([r#"content="true""#, "content='true'"])
}
