//! Kinds of content: which a route caches, and which are worth compressing.
//!
//! Both go by `Content-Type` without its parameters and without case (RFC 9110 §8.3.1). Whoever sends
//! none is cached only where every type is, and never compressed: the bytes may be anything.

use crate::config::CacheStrategy;

/// Types outside of `image/` and `font/` that pages are made of.
const ASSETS: [&str; 9] = [
    "text/css",
    "text/javascript",
    "text/xml",
    "application/javascript",
    "application/x-javascript",
    "application/json",
    "application/manifest+json",
    "application/wasm",
    "application/xml",
];

/// Types outside of `text/`, `+json` and `+xml` that shrink. Fonts are those without compression of
/// their own: WOFF and WOFF2 have it.
const COMPRESSIBLE: [&str; 19] = [
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/json5",
    "application/ld+json",
    "application/ndjson",
    "application/rtf",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
];

/// Returns whether a route with this `cache_strategy` caches a response of this type.
pub fn admits(strategy: CacheStrategy, content_type: Option<&[u8]>) -> bool {
    let kind = content_type.map(essence);
    let is = |accepted: fn(&[u8]) -> bool| kind.is_some_and(accepted);
    match strategy {
        CacheStrategy::All => true,
        CacheStrategy::None => false,
        CacheStrategy::OnlyHtml => is(is_html),
        CacheStrategy::NoImages => !is(is_image),
        CacheStrategy::OnlyImages => is(is_image),
        CacheStrategy::OnlyAssets => is(is_asset),
    }
}

/// Returns whether compressing a body of this type is likely to make it smaller.
///
/// Not for pictures, sound, film, archives and fonts, which are compressed already; SVG is text.
/// `text/event-stream` is left out: it ends when its last reader leaves, if at all.
pub fn is_compressible(content_type: Option<&[u8]>) -> bool {
    let Some(kind) = content_type.map(essence) else { return false };
    if starts(kind, "text/") {
        return !kind.eq_ignore_ascii_case(b"text/event-stream");
    }
    any_of(kind, &COMPRESSIBLE) || ends(kind, "+json") || ends(kind, "+xml")
}

/// Returns `type/subtype` of a field's value.
fn essence(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

fn is_html(kind: &[u8]) -> bool {
    any_of(kind, &["text/html", "application/xhtml+xml"])
}

fn is_image(kind: &[u8]) -> bool {
    starts(kind, "image/")
}

fn is_asset(kind: &[u8]) -> bool {
    is_image(kind) || starts(kind, "font/") || any_of(kind, &ASSETS)
}

fn any_of(kind: &[u8], known: &[&str]) -> bool {
    known.iter().any(|known| kind.eq_ignore_ascii_case(known.as_bytes()))
}

fn starts(kind: &[u8], prefix: &str) -> bool {
    kind.get(..prefix.len()).is_some_and(|found| found.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn ends(kind: &[u8], suffix: &str) -> bool {
    let from = kind.len().checked_sub(suffix.len());
    let end = from.and_then(|from| kind.get(from..));
    end.is_some_and(|found| found.eq_ignore_ascii_case(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_admits_its_types() {
        use CacheStrategy::{All, NoImages, None as Nothing, OnlyAssets, OnlyHtml, OnlyImages};
        let rows: [(Option<&str>, &[CacheStrategy]); 14] = [
            (Some("text/html"), &[All, NoImages, OnlyHtml]),
            (Some("Text/HTML ; charset=utf-8"), &[All, NoImages, OnlyHtml]),
            (Some("application/xhtml+xml"), &[All, NoImages, OnlyHtml]),
            (Some("text/htmlx"), &[All, NoImages]),
            (Some("text/plain"), &[All, NoImages]),
            (Some("image/png"), &[All, OnlyAssets, OnlyImages]),
            (Some("IMAGE/svg+xml"), &[All, OnlyAssets, OnlyImages]),
            (Some("font/woff2"), &[All, NoImages, OnlyAssets]),
            (Some("text/css"), &[All, NoImages, OnlyAssets]),
            (Some("application/json;a=b"), &[All, NoImages, OnlyAssets]),
            (Some("application/problem+json"), &[All, NoImages]),
            (Some("text/xml"), &[All, NoImages, OnlyAssets]),
            (Some(""), &[All, NoImages]),
            (None, &[All, NoImages]),
        ];
        for (content_type, admitting) in rows {
            for strategy in [All, Nothing, OnlyHtml, NoImages, OnlyImages, OnlyAssets] {
                let found = admits(strategy, content_type.map(str::as_bytes));
                let expected = admitting.contains(&strategy);
                assert_eq!(found, expected, "{strategy:?} {content_type:?}");
            }
        }
    }

    #[test]
    fn every_asset_is_admitted() {
        for kind in ASSETS {
            assert!(admits(CacheStrategy::OnlyAssets, Some(kind.as_bytes())), "{kind}");
        }
    }

    #[test]
    fn text_shrinks_and_what_is_compressed_does_not() {
        for kind in COMPRESSIBLE {
            assert!(is_compressible(Some(kind.to_ascii_uppercase().as_bytes())), "{kind}");
        }
        for kind in [
            "text/html; charset=utf-8",
            "TEXT/plain",
            "application/problem+json",
            "application/atom+xml ;x",
            "application/manifest+json",
        ] {
            assert!(is_compressible(Some(kind.as_bytes())), "{kind}");
        }
        for kind in [
            "",
            "text",
            "text/event-stream",
            "image/png",
            "image/webp",
            "video/mp4",
            "audio/mpeg",
            "application/zip",
            "application/gzip",
            "application/octet-stream",
            "application/pdf",
            "font/woff",
            "font/woff2",
            "json",
        ] {
            assert!(!is_compressible(Some(kind.as_bytes())), "{kind}");
        }
        assert!(!is_compressible(None));
    }
}
