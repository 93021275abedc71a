//! What the builder says about caching.

use std::path::PathBuf;
use std::time::Duration;

use super::CreateProxyConfig;
use crate::cache::rules::{KeyFn, RequestInfo};
use crate::config::{CacheFill, CacheStorageMode, CacheStrategy, CompressStrategy, Respect};

impl CreateProxyConfig {
    /// Caches only paths that match one of these, `[METHOD ]pattern` with `*` for any characters; none
    /// means every path.
    #[must_use]
    pub fn with_include_paths(mut self, patterns: Vec<String>) -> Self {
        self.cache.include_paths = patterns;
        self
    }

    /// Does not cache paths that match one of these, whatever is included.
    #[must_use]
    pub fn with_exclude_paths(mut self, patterns: Vec<String>) -> Self {
        self.cache.exclude_paths = patterns;
        self
    }

    /// Sets which types of content are cached; [`CacheStrategy::None`] caches nothing.
    #[must_use]
    pub fn with_cache_strategy(mut self, strategy: CacheStrategy) -> Self {
        self.cache.strategy = strategy;
        self
    }

    /// The same as [`CreateProxyConfig::with_cache_strategy`].
    #[must_use]
    pub fn caching_strategy(self, strategy: CacheStrategy) -> Self {
        self.with_cache_strategy(strategy)
    }

    /// Sets in which content coding text is kept beside as it is.
    #[must_use]
    pub fn with_compress_strategy(mut self, strategy: CompressStrategy) -> Self {
        self.cache.compress = strategy;
        self
    }

    /// The same as [`CreateProxyConfig::with_compress_strategy`].
    #[must_use]
    pub fn compression_strategy(self, strategy: CompressStrategy) -> Self {
        self.with_compress_strategy(strategy)
    }

    /// Sets where bodies are kept.
    #[must_use]
    pub fn with_cache_storage_mode(mut self, mode: CacheStorageMode) -> Self {
        self.cache.storage_mode = mode;
        self
    }

    /// Sets the private directory of [`CacheStorageMode::Filesystem`].
    #[must_use]
    pub fn with_cache_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache.directory = Some(directory.into());
        self
    }

    /// Sets how many 404 answers are kept; 0 keeps none.
    #[must_use]
    pub fn with_cache_404_capacity(mut self, capacity: usize) -> Self {
        self.cache.cache_404_capacity = capacity;
        self
    }

    /// Lets a page with `<meta name="phantom-404" content="true">` count as a 404 answer.
    #[must_use]
    pub fn with_use_404_meta(mut self, enabled: bool) -> Self {
        self.cache.use_404_meta = enabled;
        self
    }

    /// Sets who decides what is stored: the response, or the route.
    ///
    /// [`Respect::Always`] is for prerendered sites: a page that differs by cookie without saying so is
    /// served to everybody.
    #[must_use]
    pub fn with_respect(mut self, respect: Respect) -> Self {
        self.cache.respect = respect;
        self
    }

    /// Names stored responses: requests of one host with the same name get the same response.
    ///
    /// The default is `GET:/path?query`. Purge patterns see these names. The function runs on the
    /// workers, for every request that may be cached: it must neither block nor panic.
    #[must_use]
    pub fn with_cache_key_fn(
        mut self,
        name: impl Fn(&RequestInfo<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        self.cache_key_fn = Some(KeyFn::new(name));
        self
    }

    /// Bounds the memory of the process for stored responses, in bytes; by default 256 MiB.
    #[must_use]
    pub fn with_cache_max_bytes(mut self, bytes: usize) -> Self {
        self.cache_limits.bytes_max = bytes;
        self
    }

    /// Sets the largest body that is stored, in bytes; by default 8 MiB.
    #[must_use]
    pub fn with_cache_max_entry_bytes(mut self, bytes: u64) -> Self {
        self.cache_limits.entry_bytes_max = bytes;
        self
    }

    /// Sets how long a response is fresh that does not say it.
    #[must_use]
    pub fn with_cache_default_ttl(mut self, ttl: Duration) -> Self {
        self.cache_limits.default_ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
        self
    }

    /// Sets how often the same response is fetched.
    #[must_use]
    pub fn with_cache_fill(mut self, fill: CacheFill) -> Self {
        self.cache_limits.fill = fill;
        self
    }
}
