//! From a node to the value its key asks for.
//!
//! What the file says literally must have the key's type; what comes from the environment is text
//! and is coerced to it. Text from the environment is never repeated in a complaint.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::backend_url::{BackendUrl, parse_host_field};
use super::fault::Complaint;
use super::raw::{Node, Raw, quote};
use super::route::{HostHeader, Mount, UpgradeProtocols, parse_mount};
use super::schema::Kind;
use super::{Cores, duration, env, size};

/// CPU ids and numbers of cores stay below this, the size of the kernel's CPU set.
const CORES_MAX: usize = 1024;

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    /// Of [`Kind::Number`] and [`Kind::Bytes`], within its range.
    Number(u64),
    Span(Duration),
    Text(String),
    Choice(&'static str),
    Texts(Vec<String>),
    Addresses(Vec<IpAddr>),
    Networks(Vec<IpNet>),
    Cores(Cores),
    Backend(BackendUrl),
    Mount(Mount),
    Protocols(UpgradeProtocols),
    Host(HostHeader),
    /// A table, read by rows of its own; the number of tables of an array.
    Nested(usize),
}

/// A complaint about a value, or about one element of it.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// The element, when one is to blame.
    pub(super) index: Option<usize>,
    /// The line of the element.
    pub(super) line: Option<usize>,
    pub(super) complaint: Complaint,
}

impl From<Complaint> for Vec<Problem> {
    fn from(complaint: Complaint) -> Self {
        vec![Problem { index: None, line: None, complaint }]
    }
}

/// Reads `node` as a value of `kind`, or tells everything that is wrong with it.
pub(super) fn read(kind: Kind, node: &Node) -> Result<Value, Vec<Problem>> {
    if let Raw::Unset { variable } = &node.raw {
        return Err(unset(variable).into());
    }
    match kind {
        Kind::Flag => Ok(Value::Flag(flag(kind, node)?)),
        Kind::Number { min, max } => Ok(Value::Number(number(kind, node, min, max)?)),
        Kind::Bytes { min, max } => Ok(Value::Number(bytes(kind, node, min, max)?)),
        Kind::Span { zero } => Ok(Value::Span(span(kind, node, zero.is_some())?)),
        Kind::Text => Ok(Value::Text(full_text(kind, node)?.to_owned())),
        Kind::Choice(names) => Ok(Value::Choice(choice(kind, node, names)?)),
        Kind::Texts => Ok(Value::Texts(each(kind, node, |text| Ok(text.to_owned()))?)),
        Kind::FlagOrText => Ok(flag_or_text(kind, node)?),
        Kind::Addresses => Ok(Value::Addresses(addresses(kind, node)?)),
        Kind::Networks => Ok(Value::Networks(each(kind, node, network)?)),
        Kind::Cores => Ok(Value::Cores(cores(kind, node)?)),
        Kind::Backend => Ok(Value::Backend(BackendUrl::parse(full_text(kind, node)?)?)),
        Kind::Mount => Ok(Value::Mount(discreet(kind, node, parse_mount(text(kind, node)?))?)),
        Kind::Protocols => Ok(Value::Protocols(protocols(kind, node)?)),
        Kind::Host => Ok(Value::Host(host(full_text(kind, node)?)?)),
        Kind::Url => Ok(Value::Text(url(full_text(kind, node)?)?)),
        Kind::Table => Ok(Value::Nested(table(kind, node)?)),
        Kind::Tables => Ok(Value::Nested(tables(kind, node)?)),
    }
}

fn unset(variable: &str) -> Complaint {
    if variable.is_empty() {
        return Complaint::new("`$env:` names no variable")
            .with_remedy("try `\"$env:NAME\"` or `\"$env:NAME:-default\"`");
    }
    let variable = variable.escape_debug();
    Complaint::new(format!("the environment variable `{variable}` is not set"))
        .with_remedy(format!("set it, or give a default: `\"$env:{variable}:-default\"`"))
}

fn mismatch(kind: Kind, node: &Node) -> Complaint {
    Complaint::new(format!("expected {kind}, found {}", node.describe()))
}

/// Replaces a complaint that repeats its text when that text came from the environment.
fn discreet<T>(kind: Kind, node: &Node, read: Result<T, Complaint>) -> Result<T, Complaint> {
    if matches!(node.raw, Raw::Variable { .. }) {
        read.map_err(|_| mismatch(kind, node))
    } else {
        read
    }
}

fn text(kind: Kind, node: &Node) -> Result<&str, Complaint> {
    if let Raw::Text(text) | Raw::Variable { text, .. } = &node.raw {
        Ok(text)
    } else {
        Err(mismatch(kind, node))
    }
}

fn full_text(kind: Kind, node: &Node) -> Result<&str, Complaint> {
    let text = text(kind, node)?;
    if !text.is_empty() {
        return Ok(text);
    }
    Err(if matches!(node.raw, Raw::Variable { .. }) {
        mismatch(kind, node).with_remedy("the variable is set but empty: give it a value")
    } else {
        Complaint::new(format!("expected {kind}, found an empty string"))
            .with_remedy("remove the key to leave it unset")
    })
}

fn flag(kind: Kind, node: &Node) -> Result<bool, Complaint> {
    if let Raw::Flag(flag) = node.raw {
        return Ok(flag);
    }
    if let Raw::Variable { text, .. } = &node.raw {
        match text.trim() {
            "true" | "1" => return Ok(true),
            "false" | "0" => return Ok(false),
            _ => {}
        }
    }
    let quoted = matches!(&node.raw, Raw::Text(text) if matches!(text.as_str(), "true" | "false"));
    Err(unquoted(mismatch(kind, node), quoted, node))
}

/// Adds a remedy when the value would fit if it were not `quoted`.
fn unquoted(complaint: Complaint, quoted: bool, node: &Node) -> Complaint {
    if let Raw::Text(text) = &node.raw
        && quoted
    {
        return complaint.with_remedy(format!("try `{text}` without quotes"));
    }
    complaint
}

/// The integer at `node`; `None` when another type stands there.
fn integer(node: &Node) -> Option<i128> {
    if let Raw::Integer(number) = node.raw {
        // What needs more bits is out of range whatever the range is.
        return Some(number.unwrap_or(i128::MAX));
    }
    if let Raw::Variable { text, .. } = &node.raw { text.trim().parse().ok() } else { None }
}

fn number(kind: Kind, node: &Node, min: u64, max: u64) -> Result<u64, Complaint> {
    let number = integer(node).ok_or_else(|| {
        let quoted = matches!(&node.raw, Raw::Text(text) if text.parse::<u64>().is_ok());
        unquoted(mismatch(kind, node), quoted, node)
    })?;
    in_range(u64::try_from(number).ok(), min, max).ok_or_else(|| mismatch(kind, node))
}

fn in_range(number: Option<u64>, min: u64, max: u64) -> Option<u64> {
    number.filter(|number| (min..=max).contains(number))
}

fn bytes(kind: Kind, node: &Node, min: u64, max: u64) -> Result<u64, Complaint> {
    let number = match integer(node) {
        Some(number) => u64::try_from(number).ok(),
        None => Some(discreet(kind, node, size::parse(text(kind, node)?.trim()))?),
    };
    in_range(number, min, max).ok_or_else(|| mismatch(kind, node))
}

fn span(kind: Kind, node: &Node, zero: bool) -> Result<Duration, Complaint> {
    let read = match integer(node) {
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) => duration::from_secs(seconds),
            Err(_) => Err(mismatch(kind, node)),
        },
        None => duration::parse(text(kind, node)?.trim()),
    };
    let span = discreet(kind, node, read)?;
    if span.is_zero() && !zero {
        return Err(Complaint::new("0 would let nothing through")
            .with_remedy("give a duration of at least `\"1ms\"`"));
    }
    Ok(span)
}

fn choice(
    kind: Kind,
    node: &Node,
    names: &'static [&'static str],
) -> Result<&'static str, Complaint> {
    let text = text(kind, node)?;
    if let Some(name) = names.iter().find(|name| **name == text) {
        return Ok(name);
    }
    let complaint = mismatch(kind, node);
    Err(match nearest(text, names.iter().copied()) {
        Some(name) => complaint.with_remedy(format!("did you mean `\"{name}\"`?")),
        None => complaint,
    })
}

/// The name that `text` was probably meant to be: a few typing errors away, or a longer form of it.
pub(super) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    /// No name is as long; it bounds the work on a key of megabytes.
    const BYTES_MAX: usize = 64;
    let length = text.len();
    if length > BYTES_MAX {
        return None;
    }
    // A third of the letters, and two in short names (`prot` for `port`). Arbitrary.
    let distance_max = (length / 3).max(2);
    names
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| {
            let close = *distance <= distance_max && *distance < name.len();
            close || (length >= 4 && name.contains(text))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn flag_or_text(kind: Kind, node: &Node) -> Result<Value, Complaint> {
    if let Raw::Flag(flag) = node.raw {
        return Ok(Value::Flag(flag));
    }
    let path = full_text(kind, node)?;
    if path.starts_with(env::PREFIX) {
        return Err(Complaint::new("this key is read before variables are replaced")
            .with_remedy("write the path itself"));
    }
    Ok(Value::Text(path.to_owned()))
}

/// The elements of a list; the text of a variable is split at its commas.
fn elements(kind: Kind, node: &Node) -> Result<Vec<Node>, Complaint> {
    if let Raw::List(nodes) = &node.raw {
        return Ok(nodes.clone());
    }
    let Raw::Variable { variable, text } = &node.raw else { return Err(mismatch(kind, node)) };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let element = |part: &str| Node {
        line: node.line,
        raw: Raw::Variable { variable: variable.clone(), text: part.to_owned() },
    };
    Ok(parts.map(element).collect())
}

/// Reads every element of a list of strings.
fn each<T>(
    kind: Kind,
    node: &Node,
    read: impl Fn(&str) -> Result<T, Complaint>,
) -> Result<Vec<T>, Vec<Problem>> {
    let read_one = |element: &Node| {
        if let Raw::Unset { variable } = &element.raw {
            return Err(unset(variable));
        }
        discreet(Kind::Text, element, read(full_text(Kind::Text, element)?))
    };
    gather(&elements(kind, node)?, read_one)
}

fn gather<T>(
    nodes: &[Node],
    read: impl Fn(&Node) -> Result<T, Complaint>,
) -> Result<Vec<T>, Vec<Problem>> {
    let mut values = Vec::new();
    let mut problems = Vec::new();
    for (index, element) in nodes.iter().enumerate() {
        match read(element) {
            Ok(value) => values.push(value),
            Err(complaint) => {
                problems.push(Problem { index: Some(index), line: element.line, complaint });
            }
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

/// A value that stands in the list more than once.
fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    let mut rest = values;
    while let Some((last, before)) = rest.split_last() {
        if before.contains(last) {
            return Some(last);
        }
        rest = before;
    }
    None
}

fn addresses(kind: Kind, node: &Node) -> Result<Vec<IpAddr>, Vec<Problem>> {
    if let Raw::Text(text) = &node.raw {
        return Ok(vec![address(text)?]);
    }
    let addresses = each(kind, node, address)?;
    if let Some(address) = repeated(&addresses) {
        return Err(Complaint::new(format!("the address {address} stands there twice")).into());
    }
    if addresses.is_empty() {
        let nowhere = Complaint::new("an empty list: there would be nothing to listen on");
        return Err(nowhere.with_remedy("try `\"0.0.0.0\"` for every IPv4 address").into());
    }
    Ok(addresses)
}

fn address(text: &str) -> Result<IpAddr, Complaint> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse(),
    };
    address.map_err(|_| {
        let complaint = Complaint::new(format!("{} is not an IP address", quote(text)));
        if text.parse::<std::net::SocketAddr>().is_ok() {
            complaint.with_remedy("leave the port out: it is the key `http_port`")
        } else if text == "localhost" {
            complaint.with_remedy("try `\"127.0.0.1\"` or `[\"127.0.0.1\", \"::1\"]`")
        } else {
            complaint.with_remedy("try `\"0.0.0.0\"`, `\"127.0.0.1\"` or `\"::\"`")
        }
    })
}

fn network(text: &str) -> Result<IpNet, Complaint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse::<IpNet>().map(|network| network.trunc()).map_err(|_| {
        Complaint::new(format!("{} is neither an IP address nor a network", quote(text)))
            .with_remedy("try `\"10.0.0.0/8\"` or `\"::1\"`")
    })
}

fn cores(kind: Kind, node: &Node) -> Result<Cores, Vec<Problem>> {
    if let Raw::Text(text) | Raw::Variable { text, .. } = &node.raw
        && text.trim() == "all"
    {
        return Ok(Cores::All);
    }
    if let Some(count) = integer(node) {
        let count = usize::try_from(count).ok().filter(|count| (1..=CORES_MAX).contains(count));
        let count = count
            .ok_or_else(|| Complaint::new(format!("a number of cores is from 1 to {CORES_MAX}")))?;
        return Ok(Cores::Count(count));
    }
    let ids = gather(&elements(kind, node)?, |element| {
        let id = integer(element).and_then(|id| usize::try_from(id).ok());
        id.filter(|id| *id < CORES_MAX).ok_or_else(|| {
            let max = CORES_MAX - 1;
            Complaint::new(format!("expected a CPU id up to {max}, found {}", element.describe()))
        })
    })?;
    if let Some(id) = repeated(&ids) {
        return Err(Complaint::new(format!("the CPU {id} stands there twice")).into());
    }
    if ids.is_empty() {
        let none = Complaint::new("an empty list: there would be no worker");
        return Err(none.with_remedy("try `\"all\"`").into());
    }
    Ok(Cores::Ids(ids))
}

fn protocols(kind: Kind, node: &Node) -> Result<UpgradeProtocols, Vec<Problem>> {
    if let Raw::Text(text) | Raw::Variable { text, .. } = &node.raw
        && text.trim() == "any"
    {
        return Ok(UpgradeProtocols::Any);
    }
    if let Raw::Text(text) = &node.raw {
        let try_this = format!("try `\"any\"` or `[{}]`", quote(text));
        return Err(mismatch(kind, node).with_remedy(try_this).into());
    }
    let mut names = each(kind, node, protocol)?;
    if names.is_empty() {
        let none = Complaint::new("an empty list: no request could upgrade");
        return Err(none.with_remedy("try `enable_websocket = false`").into());
    }
    names.sort_unstable();
    names.dedup();
    Ok(UpgradeProtocols::Only(names))
}

/// `protocol-name [ "/" protocol-version ]` (RFC 9110 §7.8), in lower case.
fn protocol(text: &str) -> Result<String, Complaint> {
    let token = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed)
    };
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    if token(name) && token(version) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Complaint::new(format!("{} is not the name of a protocol", quote(text)))
            .with_remedy("try `\"websocket\"`"))
    }
}

fn host(text: &str) -> Result<HostHeader, Complaint> {
    match text {
        "preserve" => Ok(HostHeader::Preserve),
        "backend" => Ok(HostHeader::Backend),
        literal => parse_host_field(literal).map(HostHeader::Literal).map_err(|complaint| {
            complaint.with_remedy("try `\"preserve\"`, `\"backend\"` or `\"example.com:8080\"`")
        }),
    }
}

/// The URL of a webhook: only what a later call relies on is checked.
fn url(text: &str) -> Result<String, Complaint> {
    let rest = text.split_once("://").filter(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    let host = rest.and_then(|(_, rest)| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !printable {
        return Err(Complaint::new("not an `http://` or `https://` URL")
            .with_remedy("try `\"http://localhost:9000/hook\"`"));
    }
    Ok(text.to_owned())
}

/// How many tables an array of tables holds.
fn tables(kind: Kind, node: &Node) -> Result<usize, Complaint> {
    let Raw::List(nodes) = &node.raw else { return Err(mismatch(kind, node)) };
    match nodes.iter().find(|element| element.as_table().is_none()) {
        Some(element) => Err(mismatch(Kind::Table, element)),
        None => Ok(nodes.len()),
    }
}

/// How many entries a table holds.
fn table(kind: Kind, node: &Node) -> Result<usize, Complaint> {
    let table = node.as_table().ok_or_else(|| mismatch(kind, node))?;
    Ok(table.entries.len())
}
