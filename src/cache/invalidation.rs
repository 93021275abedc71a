//! What a request that changes something makes invalid (RFC 9111 §4.4).
//!
//! Another origin's entries are never touched, whatever `Location` says: a backend could empty the
//! cache of its neighbour.

use crate::http1::field::{Fields, is, trim};

/// Returns whether the response to a request makes what is stored under its target invalid: the
/// method is not known to be safe, and it did not fail.
pub fn invalidates(method: &str, status: u16) -> bool {
    let is_safe = ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"];
    !is_safe.contains(&method) && matches!(status, 200..=399)
}

/// Returns the path and query of what else becomes invalid: `Location` and `Content-Location`, as far
/// as they are of this host.
///
/// `authority` is the request's, `target` its path and query, which relative references start from.
/// The scheme is not looked at: both belong to the same backend.
pub fn invalidated_targets<'a>(
    authority: &'a [u8],
    target: &'a [u8],
    response: Fields<'a>,
) -> impl Iterator<Item = Vec<u8>> {
    ["location", "content-location"]
        .into_iter()
        .filter_map(move |name| response.first(name))
        .filter_map(move |reference| resolve(authority, target, trim(reference)))
        .filter(move |resolved| resolved != target)
}

/// Resolves a reference (RFC 3986 §5.2) into path and query; `None` if it is of another host.
fn resolve(authority: &[u8], target: &[u8], reference: &[u8]) -> Option<Vec<u8>> {
    let reference = split(reference, b'#').0;
    if let Some(rest) = after_scheme(reference) {
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(end)?;
        return same_host(host, authority).then(|| rooted(path));
    }
    let (base, _) = split(target, b'?');
    match reference {
        [] => Some(target.to_vec()),
        [b'/', ..] => Some(rooted(reference)),
        [b'?', ..] => Some([base, reference].concat()),
        // Some other scheme, `mailto:` or the like.
        _ if has_scheme(reference) => None,
        _ => {
            let folder = base.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            Some(rooted(&[base.get(..folder)?, reference].concat()))
        }
    }
}

/// Returns what follows `http://`, `https://` or `//`.
fn after_scheme(reference: &[u8]) -> Option<&[u8]> {
    ["http://", "https://", "//"].iter().find_map(|start| {
        let (scheme, rest) = reference.split_at_checked(start.len())?;
        is(scheme, start).then_some(rest)
    })
}

fn has_scheme(reference: &[u8]) -> bool {
    let end = reference.iter().position(|byte| matches!(byte, b':' | b'/' | b'?'));
    end.is_some_and(|at| reference.get(at) == Some(&b':'))
}

/// Compares two authorities without case and without a default port.
fn same_host(one: &[u8], other: &[u8]) -> bool {
    let bare = |host: &[u8]| {
        let host = host.strip_suffix(b":80").or_else(|| host.strip_suffix(b":443")).unwrap_or(host);
        host.to_ascii_lowercase()
    };
    bare(one) == bare(other)
}

/// Returns a path and query that begins with `/`, without the segments `.` and `..`.
fn rooted(reference: &[u8]) -> Vec<u8> {
    let (path, query) = split(reference, b'?');
    let mut out: Vec<u8> = Vec::with_capacity(reference.len() + 1);
    let segments = path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/');
    let mut ends_in_folder = false;
    for segment in segments {
        ends_in_folder = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => out.truncate(out.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if ends_in_folder || out.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(query);
    out
}

/// Splits before the first `mark`.
fn split(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let at = text.iter().position(|&byte| byte == mark).unwrap_or(text.len());
    text.split_at_checked(at).unwrap_or((text, b""))
}
