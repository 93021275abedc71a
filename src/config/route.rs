//! Routes: which backend answers which path, and under which rules.
//!
//! A mount prefix is stripped before anything else looks at the path: filters, webhooks, cache keys
//! and the backend all see what is left.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::backend_url::{BackendUrl, is_path_byte};
use super::fault::Complaint;

/// One `[server.NAME]` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `NAME`; `default` for a file of the old form.
    pub name: String,
    /// Which paths it takes; no two routes of a [`Config`](super::Config) have the same.
    pub mount: Mount,
    /// Where requests go.
    pub backend: BackendUrl,
    /// Whether a request may upgrade at all.
    pub enable_websocket: bool,
    /// To which protocols a request may upgrade when `enable_websocket` is true.
    pub upgrade_protocols: UpgradeProtocols,
    /// Our addresses from which the backend is connected to, in turn; empty leaves it to the system.
    pub source_addresses: Vec<IpAddr>,
    /// Connections made ahead of time by each worker; 0 to 1024.
    pub warm_connections: usize,
    /// What the backend reads in the `Host` field.
    pub host_header: HostHeader,
    /// Whether every method but GET is refused with 405.
    pub forward_get_only: bool,
    /// Whether requests may go to the backend as they come.
    pub proxy_mode: ProxyMode,
    /// What may be cached, and how.
    pub cache: CacheRules,
    /// Whom to ask or tell about a request, in order. Checked; nobody is called in this version.
    pub webhooks: Vec<Webhook>,
    /// A command to start with the proxy. Checked; nothing is started in this version.
    pub execute: Option<String>,
    /// The directory in which `execute` runs.
    pub execute_dir: Option<PathBuf>,
}

/// The paths a route takes (`bind_to`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Everything that no prefix takes: `*` or `/`.
    Fallback,
    /// Begins with `/`, does not end in one, has no empty segment, and is more than `/`.
    Prefix(String),
    /// None: a reload has removed the route, and what it serves runs to its end.
    Gone,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fallback => "*",
            Self::Prefix(prefix) => prefix,
            Self::Gone => "(gone)",
        })
    }
}

/// The protocols to which a route lets requests upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeProtocols {
    /// Whatever client and backend agree on.
    Any,
    /// One of these tokens (RFC 9110 §7.8), in lower case; never empty.
    Only(Vec<String>),
}

/// What the backend reads in the `Host` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent.
    Preserve,
    /// The authority of the backend's URL.
    Backend,
    /// This value: `host[:port]`.
    Literal(String),
}

/// Whether requests may go to the backend as they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// They may.
    Dynamic,
    /// Pages are fetched ahead of requests.
    PreGenerate {
        /// The paths to fetch.
        paths: Vec<String>,
        /// Whether what was not fetched ahead may go to the backend; upgrades need it.
        fallthrough: bool,
    },
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dynamic => "Dynamic",
            Self::PreGenerate { .. } => "PreGenerate",
        })
    }
}

/// What a route may cache, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRules {
    /// `[METHOD ]pattern`; empty means every path.
    pub include_paths: Vec<String>,
    /// Overrides `include_paths`.
    pub exclude_paths: Vec<String>,
    /// Which types of content.
    pub strategy: CacheStrategy,
    /// How entries are kept.
    pub compress: CompressStrategy,
    /// Where entries are kept.
    pub storage_mode: CacheStorageMode,
    /// The directory of [`CacheStorageMode::Filesystem`]; `None` is one below the temporary
    /// directory.
    pub directory: Option<PathBuf>,
    /// How many 404 answers are kept; 0 keeps none.
    pub cache_404_capacity: usize,
    /// Whether a page can mark itself as a 404 answer.
    pub use_404_meta: bool,
    /// Who decides what is stored.
    pub respect: Respect,
}

impl Default for CacheRules {
    fn default() -> Self {
        super::document::default_cache_rules()
    }
}

/// Who decides what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Respect {
    /// The response, by RFC 9111.
    Rfc,
    /// The route: everything that is not plainly somebody's own.
    Always,
}

/// Which types of content are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStrategy {
    /// Every type.
    All,
    /// Nothing is cached.
    None,
    /// HTML pages.
    OnlyHtml,
    /// Every type but images.
    NoImages,
    /// Images.
    OnlyImages,
    /// Images, fonts, scripts, styles and data.
    OnlyAssets,
}

/// The coding in which entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressStrategy {
    /// As they came.
    None,
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate`, in the zlib format (RFC 1950).
    Deflate,
}

/// Where entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStorageMode {
    /// In memory.
    Memory,
    /// In files.
    Filesystem,
}

/// Someone to ask or tell about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "`webhook_type` is the original library's name")]
pub struct Webhook {
    /// An `http` or `https` URL.
    pub url: String,
    /// What its answer means.
    pub webhook_type: WebhookType,
    /// How long it may take, in milliseconds; at least 1.
    pub timeout_ms: u64,
}

/// What the answer of a webhook means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookType {
    /// Whether the request may go on.
    Blocking,
    /// Nothing; it is not waited for.
    Notify,
    /// The key under which the response is cached.
    CacheKey,
}

/// Returns the route that takes `path`, as an index into `routes`, and what is left of the path
/// without the mount prefix, which begins with `/`.
///
/// `path` has no query. The longest prefix that ends on a segment boundary wins, the fallback comes
/// last. A `path` of `*` (`OPTIONS *`, RFC 9112 §3.2.4) goes to the fallback as it is. Prefixes are
/// compared byte by byte: `/%61pi` is not `/api`.
///
/// Costs one comparison per route; no order has to be prepared.
///
/// # Examples
///
/// ```
/// use phantom_frame::config::{self, route};
///
/// let text = "[server.api]\nbind_to = '/api'\n[server.rest]\n";
/// let config = config::parse(text, true, &|_| None).unwrap().config;
/// assert_eq!(route::select(&config.routes, b"/api/x"), Some((0, &b"/x"[..])));
/// assert_eq!(route::select(&config.routes, b"/apix"), Some((1, &b"/apix"[..])));
/// ```
pub fn select<'p>(routes: &[Route], path: &'p [u8]) -> Option<(usize, &'p [u8])> {
    if path != b"*" && path.first() != Some(&b'/') {
        return None;
    }
    let mut best: Option<(usize, usize, &'p [u8])> = None;
    for (index, route) in routes.iter().enumerate() {
        let (length, rest) = match &route.mount {
            Mount::Fallback => (0, path),
            Mount::Gone => continue,
            Mount::Prefix(prefix) => match strip(path, prefix.as_bytes()) {
                Some(rest) => (prefix.len(), rest),
                None => continue,
            },
        };
        if best.is_none_or(|(_, longest, _)| length > longest) {
            best = Some((index, length, rest));
        }
    }
    best.map(|(index, _, rest)| (index, rest))
}

fn strip<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix)?;
    match rest.first() {
        None => Some(b"/"),
        Some(b'/') => Some(rest),
        Some(_) => None,
    }
}

/// Reads `bind_to`. One slash at the end is forgiven: the original took it.
pub(super) fn parse_mount(text: &str) -> Result<Mount, Complaint> {
    if matches!(text, "*" | "/") {
        return Ok(Mount::Fallback);
    }
    if text.is_empty() {
        return Err(Complaint::new("an empty prefix").with_remedy("try `\"*\"` for every path"));
    }
    let Some(path) = text.strip_prefix('/') else {
        return Err(Complaint::new("a prefix begins with `/`")
            .with_remedy(format!("try `{:?}`", format!("/{text}"))));
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.split('/').any(str::is_empty) {
        return Err(Complaint::new("a prefix has no empty segment").with_remedy("remove the `//`"));
    }
    if path.contains(['*', '?', '#']) {
        return Err(Complaint::new("a prefix is a plain path, without `*`, `?` or `#`")
            .with_remedy("end it at a segment: `/api` takes `/api` and everything below"));
    }
    if !path.bytes().all(is_path_byte) {
        return Err(Complaint::new("the prefix holds a character that no request path can hold")
            .with_remedy("percent-encode it as clients do, such as `%20` for a space"));
    }
    Ok(Mount::Prefix(format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn routes(mounts: &[&str]) -> Vec<Route> {
        let default = Config::for_backend("http://localhost").unwrap().routes.remove(0);
        let route = |mount: &&str| Route { mount: parse_mount(mount).unwrap(), ..default.clone() };
        mounts.iter().map(route).collect()
    }

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let routes = routes(&["/api", "*", "/api/v1", "/a"]);
        for (path, index, rest) in [
            ("/api", 0, "/"),
            ("/api/", 0, "/"),
            ("/api/x", 0, "/x"),
            ("/api//x", 0, "//x"),
            ("/api/v1", 2, "/"),
            ("/api/v1/x", 2, "/x"),
            ("/api/v12", 0, "/v12"),
            ("/apix", 1, "/apix"),
            ("/API", 1, "/API"),
            ("/a/pi", 3, "/pi"),
            ("/", 1, "/"),
            ("//api", 1, "//api"),
            ("*", 1, "*"),
        ] {
            let found = select(&routes, path.as_bytes());
            assert_eq!(found, Some((index, rest.as_bytes())), "{path}");
        }
    }

    #[test]
    fn without_a_fallback_other_paths_have_no_route() {
        let routes = routes(&["/api"]);
        for path in ["/", "/x", "*", "", "api", "example.com:443"] {
            assert_eq!(select(&routes, path.as_bytes()), None, "{path}");
        }
        assert_eq!(select(&[], b"/"), None);
    }

    #[test]
    fn what_is_not_a_path_does_not_reach_the_fallback() {
        let routes = routes(&["/"]);
        for path in ["", "x", "**", "example.com:443"] {
            assert_eq!(select(&routes, path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn mounts_are_checked() {
        for (text, shown) in
            [("*", "*"), ("/", "*"), ("/api", "/api"), ("/api/", "/api"), ("/a/b%20c", "/a/b%20c")]
        {
            assert_eq!(parse_mount(text).unwrap().to_string(), shown, "{text}");
        }
        for text in
            ["", "api", "//", "/a//b", "/a//", "/a/*", "/a?b", "/a#b", "/a b", "/é", "/{x}", "**"]
        {
            assert!(parse_mount(text).is_err(), "{text}");
        }
    }
}
