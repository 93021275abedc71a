//! What can be asked for, and by whom: pure, from the path to what is left to do.

use subtle::ConstantTimeEq;

use super::answer::Answer;
use crate::http1::field::Fields;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Does the process live?
    Health,
    /// Does it serve?
    Readiness,
    /// What has it done?
    Metrics,
    /// Purge everything, in the words of this form.
    InvalidateAll {
        /// Whether it was asked for by its old name.
        old: bool,
    },
    /// Purge by one pattern.
    Invalidate,
    /// Purge by many patterns.
    BulkInvalidate,
    /// Do this with the snapshot of one path.
    Snapshot,
    /// Do this with the snapshots of many paths.
    BulkSnapshot {
        /// Its name in the summary.
        operation: &'static str,
    },
    /// Fetch every snapshot again.
    RefreshAllSnapshots,
}

/// Every path and what is there.
const PATHS: [(&str, Endpoint); 14] = [
    ("/healthz", Endpoint::Health),
    ("/readyz", Endpoint::Readiness),
    ("/metrics", Endpoint::Metrics),
    ("/invalidate_all", Endpoint::InvalidateAll { old: false }),
    ("/refresh-cache", Endpoint::InvalidateAll { old: true }),
    ("/invalidate", Endpoint::Invalidate),
    ("/bulk_invalidate", Endpoint::BulkInvalidate),
    ("/add_snapshot", Endpoint::Snapshot),
    ("/refresh_snapshot", Endpoint::Snapshot),
    ("/remove_snapshot", Endpoint::Snapshot),
    ("/bulk_add_snapshot", Endpoint::BulkSnapshot { operation: "bulk_add_snapshot" }),
    ("/bulk_refresh_snapshot", Endpoint::BulkSnapshot { operation: "bulk_refresh_snapshot" }),
    ("/bulk_remove_snapshot", Endpoint::BulkSnapshot { operation: "bulk_remove_snapshot" }),
    ("/refresh_all_snapshots", Endpoint::RefreshAllSnapshots),
];

impl Endpoint {
    /// What `method` asks for at `path`.
    ///
    /// # Errors
    ///
    /// Answer so: there is nothing, or not for this method.
    pub fn find(method: &str, path: &[u8]) -> Result<Self, Answer> {
        let found = PATHS.iter().find(|(known, _)| known.as_bytes() == path);
        let Some((_, endpoint)) = found else { return Err(Answer::empty(404)) };
        let (is_allowed, allow) = if endpoint.is_read() {
            (matches!(method, "GET" | "HEAD"), "GET, HEAD")
        } else {
            (method == "POST", "POST")
        };
        if is_allowed {
            Ok(*endpoint)
        } else {
            Err(Answer { allow: Some(allow), ..Answer::empty(405) })
        }
    }

    /// Whether it only tells something.
    const fn is_read(self) -> bool {
        matches!(self, Self::Health | Self::Readiness | Self::Metrics)
    }

    /// Whether it is behind the token. Whoever checks health has none, and learns nothing else.
    pub const fn needs_token(self) -> bool {
        !matches!(self, Self::Health | Self::Readiness)
    }
}

/// The token that is asked for, as the field has to bring it.
#[derive(Debug)]
pub struct Guard(Option<Vec<u8>>);

impl Guard {
    /// A guard that asks for `token`; without one everybody may pass.
    pub fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| [b"Bearer ", token.as_bytes()].concat()))
    }

    /// Whether these fields may pass: exactly one Authorization, exactly as it has to be.
    ///
    /// The time it takes tells nothing but the length of the token.
    pub fn admits(&self, fields: Fields<'_>) -> bool {
        let Some(expected) = &self.0 else { return true };
        let mut lines = fields.all("authorization");
        match (lines.next(), lines.next()) {
            (Some(value), None) => value.ct_eq(expected).into(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::RequestHead;

    #[test]
    fn every_path_has_its_method() {
        for (path, endpoint) in PATHS {
            let (good, bad, allow) = match path {
                "/healthz" | "/readyz" | "/metrics" => (["GET", "HEAD"], "POST", "GET, HEAD"),
                _ => (["POST", "POST"], "GET", "POST"),
            };
            for method in good {
                assert_eq!(Endpoint::find(method, path.as_bytes()), Ok(endpoint), "{path}");
            }
            for method in [bad, "PUT", "get", "OPTIONS"] {
                let refused = Endpoint::find(method, path.as_bytes()).unwrap_err();
                assert_eq!((refused.status, refused.allow), (405, Some(allow)), "{method} {path}");
            }
        }
    }

    #[test]
    fn nothing_is_anywhere_else() {
        for path in ["/", "*", "/invalidate/", "/Invalidate", "/invalidate_al", "//metrics", ""] {
            assert_eq!(Endpoint::find("POST", path.as_bytes()), Err(Answer::empty(404)), "{path}");
        }
    }

    #[test]
    fn only_the_exact_token_passes() {
        let admits = |guard: &Guard, lines: &str| {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            let len = bytes.len();
            let head = RequestHead::parse(bytes, len, Vec::new(), 9).unwrap();
            guard.admits(head.fields())
        };
        let guard = Guard::new(Some("geheim"));
        assert!(admits(&guard, "Authorization: Bearer geheim\r\n"));
        assert!(admits(&guard, "authorization:Bearer geheim \r\n"), "the field's own spaces");
        for lines in [
            "",
            "Authorization: Bearer\r\n",
            "Authorization: geheim\r\n",
            "Authorization: bearer geheim\r\n",
            "Authorization: Bearer  geheim\r\n",
            "Authorization: Bearer geheim2\r\n",
            "Authorization: Bearer gehei\r\n",
            "Authorization: Bearer Geheim\r\n",
            "Authorization: Bearer geheim, Bearer geheim\r\n",
            "Authorization: Bearer geheim\r\nAuthorization: Bearer geheim\r\n",
            "Proxy-Authorization: Bearer geheim\r\n",
        ] {
            assert!(!admits(&guard, lines), "{lines}");
        }
        assert!(admits(&Guard::new(None), ""));
    }
}
