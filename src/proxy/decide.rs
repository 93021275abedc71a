//! What is to be done with a request: a pure function of its head and the routes.
//!
//! Every gate stands here, before the actions, so that no request gets around one by looking like
//! an upgrade.

use crate::cache::rules::RouteRules;
use crate::config::{ProxyMode, Route, UpgradeProtocols, route};
use crate::http1::framing::{Framing, request_framing};
use crate::http1::head::{RequestHead, Version};
use crate::http1::target::{self, Target};
use crate::http1::upgrade::{self, Offer};

use super::outcome::Outcome;

/// What a request is, before any rule of ours applies.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Where its body ends.
    pub framing: Framing,
    /// What it asks for, and of whom.
    pub target: Target<'a>,
    /// Whether the client wants to send another request afterwards (RFC 9112 9.3).
    pub persists: bool,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the backend to switch protocols; if it does, become a tunnel.
    Tunnel,
    /// Answer from the cache, or through it.
    LookUp,
    /// Fetch from the backend and relay.
    Pass,
}

/// What the gates are set to.
#[derive(Clone, Copy, Debug)]
pub struct Gates<'r> {
    /// The routes.
    pub routes: &'r [Route],
    /// What each says about caching, in the order of the routes.
    pub rules: &'r [Option<RouteRules>],
    /// The longest body, in bytes; `None` is no limit.
    pub body_bytes_max: Option<u64>,
}

/// A request that passed every gate.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Index of the route.
    pub route: usize,
    /// The path with the route's mount prefix stripped; begins with `/`, or is `*`.
    pub path: &'a [u8],
    /// What to do.
    pub action: Action,
}

/// Reads out of a head what the message rules of RFC 9112 say about it.
///
/// # Errors
///
/// The head is ambiguous: answer, close, and parse nothing after it.
pub fn ask<B: AsRef<[u8]>>(head: &RequestHead<B>) -> Result<Asked<'_>, Outcome> {
    let framing = request_framing(head.version(), head.fields())?;
    let target = target::parse(head)?;
    Ok(Asked { framing, target, persists: persists(head) })
}

fn persists<B: AsRef<[u8]>>(head: &RequestHead<B>) -> bool {
    let fields = head.fields();
    let close = fields.has_token("connection", "close");
    match head.version() {
        Version::Http11 => !close,
        Version::Http10 => !close && fields.has_token("connection", "keep-alive"),
    }
}

/// Applies the gates of the request's route and names the action.
///
/// # Errors
///
/// The request is refused with this outcome; its connection may go on.
pub fn decide<'a, B: AsRef<[u8]>>(
    head: &RequestHead<B>,
    asked: &Asked<'a>,
    gates: Gates<'_>,
) -> Result<Decision<'a>, Outcome> {
    let Gates { routes, rules, body_bytes_max } = gates;
    let (index, path) = route::select(routes, asked.target.path).ok_or(Outcome::NoRoute)?;
    let route = routes.get(index).ok_or(Outcome::NoRoute)?;
    if route.forward_get_only && head.method() != "GET" {
        return Err(Outcome::GetOnly);
    }
    // One that does not tell its length is cut off when it gets there.
    if let (Some(max), Framing::Length(length)) = (body_bytes_max, asked.framing)
        && length > max
    {
        return Err(Outcome::BodyTooLarge);
    }
    let action = match upgrade::offer(head.version(), head.fields()) {
        None => {
            let rules = rules.get(index).and_then(Option::as_ref);
            let is_plain = asked.framing == Framing::Length(0);
            let applies = is_plain && rules.is_some_and(|rules| rules.applies(head.method(), path));
            if applies { Action::LookUp } else { Action::Pass }
        }
        Some(offer) if allows(route, offer) => Action::Tunnel,
        Some(_) => return Err(Outcome::UpgradeRefused),
    };
    Ok(Decision { route: index, path, action })
}

fn allows(route: &Route, offer: Offer<'_>) -> bool {
    let mode = match &route.proxy_mode {
        ProxyMode::Dynamic => true,
        ProxyMode::PreGenerate { fallthrough, .. } => *fallthrough,
    };
    let protocol = match &route.upgrade_protocols {
        UpgradeProtocols::Any => true,
        UpgradeProtocols::Only(allowed) => offer.is_within(allowed),
    };
    route.enable_websocket && mode && protocol
}
