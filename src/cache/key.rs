//! What a stored response is found by: the route, the host it was asked of, and its name.
//!
//! The name is `GET:/path?query` with the mount prefix stripped, or what a key function of the
//! library's user made of it; purge patterns see the name alone. The host is part of the key although
//! no pattern sees it: two sites behind one route must never answer for each other.

/// Bytes in front of the host.
const ROUTE_BYTES: usize = 2;

/// Appends the key of a resource to `out`.
///
/// `authority` is what the client called us; case does not matter there (RFC 9110 §4.2.3).
pub fn write(out: &mut Vec<u8>, route: usize, authority: &[u8], name: Name<'_>) {
    out.extend_from_slice(&u16::try_from(route).unwrap_or(u16::MAX).to_le_bytes());
    let authority = authority.strip_suffix(b":80").unwrap_or(authority);
    out.extend(authority.iter().map(u8::to_ascii_lowercase));
    out.push(0);
    match name {
        Name::Made(name) => out.extend_from_slice(name),
        Name::Usual { path, query } => {
            out.extend_from_slice(b"GET:");
            out.extend_from_slice(path);
            if let Some(query) = query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
    }
}

/// What a resource is called within its route and host.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// By its path and query, as they came.
    Usual {
        /// Begins with `/`, or is `*`.
        path: &'a [u8],
        /// Without its `?`.
        query: Option<&'a [u8]>,
    },
    /// By whatever a key function said.
    Made(&'a [u8]),
}

/// The route and the name in a key.
pub fn parts(key: &[u8]) -> (usize, &[u8]) {
    let (route, rest) = key.split_first_chunk::<ROUTE_BYTES>().unwrap_or((&[0; 2], &[]));
    let name = memchr::memchr(0, rest).and_then(|at| rest.get(at + 1..)).unwrap_or_default();
    (usize::from(u16::from_le_bytes(*route)), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(route: usize, authority: &str, path: &str, query: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        let name = Name::Usual { path: path.as_bytes(), query: query.map(str::as_bytes) };
        write(&mut out, route, authority.as_bytes(), name);
        out
    }

    #[test]
    fn a_key_gives_back_its_route_and_name() {
        let key = key(258, "A.Example:80", "/x", Some("y=1"));
        assert_eq!(parts(&key), (258, &b"GET:/x?y=1"[..]));
        assert_eq!(parts(b""), (0, &b""[..]));
    }

    #[test]
    fn hosts_and_queries_are_told_apart_and_case_of_the_host_is_not() {
        assert_ne!(key(0, "a", "/", None), key(0, "b", "/", None));
        assert_ne!(key(0, "a", "/", None), key(1, "a", "/", None));
        assert_ne!(key(0, "a", "/", None), key(0, "a", "/", Some("")));
        assert_ne!(key(0, "a:8080", "/", None), key(0, "a", "/", None));
        assert_eq!(key(0, "EXAMPLE", "/", None), key(0, "example:80", "/", None));
    }
}
