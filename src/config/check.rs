//! Reading the tables of a file against the rows of the key table.
//!
//! Nothing stops at a fault: a key that is wrong takes its default, so that everything after it is
//! judged as well, and the faults together refuse the file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::fault::{Complaint, Fault, Faults};
use super::raw::{self, Entry, Table, join};
use super::route::{HostHeader, Mount, UpgradeProtocols};
use super::schema::{Key, Kind, Place, rows};
use super::value::{self, Value, nearest};
use super::{BackendUrl, Cores};

/// Collects what is wrong.
#[derive(Debug)]
pub(super) struct Checker {
    strict: bool,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

/// A table of the file after reading.
#[derive(Debug)]
pub(super) struct Section {
    /// `server.api`; empty at the root.
    path: String,
    /// The line of the table's own key.
    line: Option<usize>,
    settings: BTreeMap<&'static str, Setting>,
}

#[derive(Debug)]
struct Setting {
    /// What the file says, or the default, or nothing.
    value: Option<Value>,
    origin: Origin,
    line: Option<usize>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    File,
    /// The default, because what the file says is wrong.
    Faulty,
}

impl Checker {
    /// `strict` turns unknown keys into faults.
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, faults: Vec::new(), warnings: Vec::new() }
    }

    /// Adds a fault.
    pub(super) fn refuse(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Returns the warnings, or every fault in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Fault>, Faults> {
        // What has no line is about the file as a whole and stands at the end.
        let by_line = |fault: &Fault| fault.line.unwrap_or(usize::MAX);
        if !self.faults.is_empty() {
            self.faults.sort_by_key(by_line);
            return Err(Faults(self.faults));
        }
        self.warnings.sort_by_key(by_line);
        Ok(self.warnings)
    }

    /// Reads `table`, which stands at `path`, against the rows of `place`.
    pub(super) fn section(
        &mut self,
        place: Place,
        path: &str,
        line: Option<usize>,
        table: &Table,
    ) -> Section {
        let mut settings = BTreeMap::new();
        // The old form describes a route with fewer keys; the others keep their defaults.
        let route = rows(Place::Route).filter(|_| place == Place::OldServer);
        for key in route.chain(rows(place)) {
            settings.insert(key.name, Setting::default_of(key));
        }
        for entry in &table.entries {
            match rows(place).find(|key| key.name == entry.key) {
                Some(key) => {
                    let setting = self.setting(key, path, entry);
                    settings.insert(key.name, setting);
                }
                None => self.unknown(place, path, entry),
            }
        }
        Section { path: path.to_owned(), line, settings }
    }

    fn setting(&mut self, key: &Key, path: &str, entry: &Entry) -> Setting {
        let path = join(path, key.name);
        let line = entry.node.line;
        match value::read(key.kind, &entry.node) {
            Ok(value) => {
                self.warn_inactive(key, &path, line, &value);
                Setting { value: Some(value), origin: Origin::File, line }
            }
            Err(problems) => {
                for problem in problems {
                    let path = match problem.index {
                        Some(index) => format!("{path}[{index}]"),
                        None => path.clone(),
                    };
                    self.refuse(problem.complaint.at(path, problem.line.or(line)));
                }
                Setting { origin: Origin::Faulty, line, ..Setting::default_of(key) }
            }
        }
    }

    fn warn_inactive(&mut self, key: &Key, path: &str, line: Option<usize>, value: &Value) {
        let Some(inactive) = key.inactive else { return };
        // An empty array of tables asks for nothing, like every harmless value.
        let harmless = *value == Value::Nested(0)
            || read_text(key.kind, inactive.harmless).is_some_and(|harmless| harmless == *value);
        if !harmless {
            let message = format!("has no effect: {}", inactive.instead);
            self.warnings.push(Complaint::new(message).at(path, line));
        }
    }

    fn unknown(&mut self, place: Place, path: &str, entry: &Entry) {
        let complaint =
            Complaint::new("unknown key").with_remedy(unknown_remedy(place, &entry.key));
        let fault = complaint.at(join(path, &entry.key), entry.node.line);
        if self.strict {
            self.faults.push(fault);
        } else {
            self.warnings.push(fault);
        }
    }
}

fn unknown_remedy(place: Place, name: &str) -> String {
    let elsewhere = [
        Place::Root,
        Place::Runtime,
        Place::Timeouts,
        Place::Limits,
        Place::Cache,
        Place::Route,
        Place::OldServer,
    ]
    .into_iter()
    .find(|other| rows(*other).any(|key| key.name == name));
    match elsewhere {
        Some(Place::Route) if place == Place::OldServer => {
            return "the old form does not have it: turn `[server]` into `[server.default]`"
                .to_owned();
        }
        Some(Place::OldServer) => {
            return "its name is `http_port`, at the root of the file".to_owned();
        }
        Some(other) => return format!("it belongs to {}", other.header()),
        None => {}
    }
    if let Some(name) = nearest(name, rows(place).map(|key| key.name)) {
        return format!("did you mean `{name}`?");
    }
    let names: Vec<_> = rows(place).map(|key| format!("`{}`", key.name)).collect();
    format!("the keys of {} are {}", place.header(), names.join(", "))
}

impl Setting {
    fn default_of(key: &Key) -> Self {
        Self { value: read_text(key.kind, key.default), origin: Origin::Default, line: None }
    }
}

/// A value of the key table; a test reads them all.
fn read_text(kind: Kind, text: &str) -> Option<Value> {
    if text.is_empty() { None } else { value::read(kind, &raw::parse_value(text)?).ok() }
}

impl Section {
    /// The value of a key that has a default.
    pub(super) fn required<T: FromValue>(&self, name: &str) -> T {
        self.optional(name).expect("the row of this key has a default of this type")
    }

    /// The value of a key without a default, if the file sets it.
    pub(super) fn optional<T: FromValue>(&self, name: &str) -> Option<T> {
        let value = self.settings.get(name)?.value.as_ref()?;
        T::from_value(value)
    }

    /// Whether the file sets the key, and sets it well.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|setting| setting.origin == Origin::File)
    }

    /// Whether what the file says about the key is wrong, so that its value means nothing.
    pub(super) fn is_faulty(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|setting| setting.origin == Origin::Faulty)
    }

    /// The path of one of its keys.
    pub(super) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// A complaint about one of its keys, at the line of that key or else of the table.
    pub(super) fn fault(&self, name: &str, complaint: Complaint) -> Fault {
        complaint.at(self.path_of(name), self.line_of(name))
    }

    /// The line of a key, or else of the table.
    pub(super) fn line_of(&self, name: &str) -> Option<usize> {
        self.settings.get(name).and_then(|setting| setting.line).or(self.line)
    }
}

/// What a [`Value`] is read as; `None` when it is of another type.
pub(super) trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

/// One variant, one type.
macro_rules! from_value {
    ($($variant:ident => $type:ty,)*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                if let Value::$variant(value) = value { Some(value.clone()) } else { None }
            }
        }
    )*};
}

from_value! {
    Flag => bool,
    Span => Duration,
    Number => u64,
    Text => String,
    Choice => &'static str,
    Texts => Vec<String>,
    Addresses => Vec<IpAddr>,
    Networks => Vec<IpNet>,
    Cores => Cores,
    Backend => BackendUrl,
    Mount => Mount,
    Protocols => UpgradeProtocols,
    Host => HostHeader,
}

/// Numbers that the range of their row keeps within the smaller type.
macro_rules! from_number {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                u64::from_value(value).and_then(|number| number.try_into().ok())
            }
        }
    )*};
}

from_number!(u16, u32, usize);
