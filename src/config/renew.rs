//! From one configuration to the next, while the process goes on.
//!
//! A route keeps its place among the routes for as long as the process lives, and so does its name:
//! connections, counters and stored responses know it by its index. A route that is gone leaves its place
//! taken, and takes no paths.

use super::Config;
use super::document::EXPOSED;
use super::fault::{Complaint, Fault};
use super::route::{Mount, Route};

/// What a configuration becomes when another one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// What is in effect from now on.
    pub config: Config,
    /// Keys that were changed and stay as they were until the process is started anew.
    pub needs_restart: Vec<&'static str>,
    /// What has become of the routes; those that are as they were are left out.
    pub routes: Vec<(usize, RouteChange)>,
}

/// What has become of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// It is new, or has come back.
    Added,
    /// It has other keys.
    Changed {
        /// Whether what is stored for it is no answer any more: it came from another backend, or by other
        /// rules.
        is_other: bool,
    },
    /// It takes no paths any more.
    Removed,
}

/// A key that a running process cannot follow.
struct Fixed {
    key: &'static str,
    is_same: fn(&Config, &Config) -> bool,
    keep: fn(&Config, &mut Config),
}

/// One row a key, by the field that it became.
macro_rules! fixed {
    ($($key:literal: $($field:ident).+;)*) => {
        &[$(Fixed {
            key: $key,
            is_same: |running, wanted| running.$($field).+ == wanted.$($field).+,
            keep: |running, wanted| wanted.$($field).+.clone_from(&running.$($field).+),
        }),*]
    };
}

/// The rows of the key table that say so; a test holds the two against each other.
static FIXED: &[Fixed] = fixed! {
    "http_port": http_port;
    "bind": binds;
    "control_port": control_port;
    "control_bind": control_binds;
    "log_format": log_format;
    "runtime.cores": runtime.cores;
    "runtime.pin": runtime.pin;
    "runtime.driver": runtime.driver;
    "runtime.accept": runtime.accept;
    "runtime.tunnel": runtime.tunnel;
    "runtime.tunnel_buffers": runtime.tunnel_buffers;
    "runtime.tunnel_buffer_bytes": runtime.tunnel_buffer_bytes;
    "runtime.ring_entries": runtime.ring_entries;
    "cache.max_file_bytes": cache.file_bytes_max;
};

impl Config {
    /// What this running configuration becomes when `wanted` takes its place.
    ///
    /// # Errors
    ///
    /// `wanted` is sound, but not together with what needs a restart: go on as before, and show the fault.
    pub fn renew(&self, mut wanted: Self) -> Result<Renewal, Fault> {
        let mut needs_restart = Vec::new();
        for fixed in FIXED {
            if !(fixed.is_same)(self, &wanted) {
                needs_restart.push(fixed.key);
                (fixed.keep)(self, &mut wanted);
            }
        }
        if wanted.exposes_control() {
            let remedy = "keep `control_auth` until a restart has moved the endpoint";
            return Err(Complaint::new(EXPOSED).with_remedy(remedy).at("control_auth", None));
        }
        let routes = arrange(&self.routes, &mut wanted.routes);
        Ok(Renewal { config: wanted, needs_restart, routes })
    }
}

/// Puts the routes of `wanted` where those of the same name are among `running`, new ones behind.
fn arrange(running: &[Route], wanted: &mut Vec<Route>) -> Vec<(usize, RouteChange)> {
    let mut changes = Vec::new();
    let mut arranged = Vec::with_capacity(running.len().max(wanted.len()));
    for (index, old) in running.iter().enumerate() {
        let at = wanted.iter().position(|new| new.name == old.name);
        let gone = || Route { mount: Mount::Gone, ..old.clone() };
        let new = at.map_or_else(gone, |at| wanted.remove(at));
        changes.extend(change(old, &new).map(|change| (index, change)));
        arranged.push(new);
    }
    for route in wanted.drain(..) {
        changes.push((arranged.len(), RouteChange::Added));
        arranged.push(route);
    }
    *wanted = arranged;
    changes
}

fn change(old: &Route, new: &Route) -> Option<RouteChange> {
    if old == new {
        return None;
    }
    if old.mount == Mount::Gone {
        return Some(RouteChange::Added);
    }
    if new.mount == Mount::Gone {
        return Some(RouteChange::Removed);
    }
    let is_other = old.backend != new.backend
        || old.host_header != new.host_header
        || old.cache.respect != new.cache.respect
        || old.cache.use_404_meta != new.cache.use_404_meta;
    Some(RouteChange::Changed { is_other })
}
