//! Another configuration for a process that serves: all of it or nothing, except what needs a restart.

use std::io;
use std::sync::Arc;

use sd_notify::NotifyState;
use socket2::SockRef;

use super::run::{House, Shared, compressor, notify};
use crate::config::{Config, RouteChange};
use crate::proxy::{Purge, PurgeRoutes, PurgeWhat};
use crate::worker::{Purger, Receipt, keepalive};

impl Shared {
    /// Serves under `wanted` what begins from now on, and says in the log what that changes. Returns when
    /// every worker does.
    pub(super) fn reload(&mut self, wanted: Config, house: &mut House) {
        if house.is_draining {
            tracing::warn!("Not reloading: the process is leaving");
            return;
        }
        let mut word = vec![NotifyState::Reloading];
        word.extend(NotifyState::monotonic_usec_now());
        notify(&word);
        match self.renew(wanted, house) {
            Ok(()) => tracing::info!("Configuration reloaded"),
            Err(fault) => {
                tracing::error!("Configuration not reloaded, nothing has changed: {fault}");
            }
        }
        notify(&[NotifyState::Ready]);
    }

    fn renew(&mut self, wanted: Config, house: &mut House) -> Result<(), String> {
        let renewal = self.terms.config.renew(wanted).map_err(|fault| fault.to_string())?;
        let refused = |error: io::Error| format!("the system refuses: {error}");
        let mut terms = self.terms.clone();
        if terms.compressor.is_none() {
            terms.compressor = compressor(&renewal.config).map_err(refused)?;
        }
        house.names.follow(&renewal.config.routes).map_err(refused)?;

        for key in &renewal.needs_restart {
            tracing::warn!("{key} was changed, which needs a restart: it stays as it was");
        }
        let mut forgotten = Vec::new();
        for (index, change) in &renewal.routes {
            let route = renewal.config.routes.get(*index);
            let name = route.map_or("", |route| route.name.as_str());
            let what = match change {
                RouteChange::Added => "added",
                RouteChange::Changed { .. } => "changed",
                RouteChange::Removed => "removed",
            };
            tracing::info!("  server '{name}': {what}");
            if matches!(change, RouteChange::Removed | RouteChange::Changed { is_other: true }) {
                forgotten.push(*index);
            }
        }
        terms.config = Arc::new(renewal.config);
        let limits = &terms.config.limits;
        self.connections.set_max(limits.connections_max.unwrap_or(self.connections_default));
        self.tunnels.set_max(limits.tunnels_max.unwrap_or(usize::MAX));
        terms.by_address = self.by_address(limits.per_address);
        for counters in &house.fleet.counters {
            counters.grow(terms.config.routes.len());
        }
        if let Some(levels) = &self.levels {
            levels.set(terms.config.log_level);
        }
        let keepalive = keepalive(&terms.config.timeouts);
        for (_, listener) in &house.heirlooms {
            // Accepted sockets inherit it. One that does not listen any more accepts nobody.
            keepalive.replace(&SockRef::from(listener)).ok();
        }
        self.terms = terms;
        self.tell(house, &forgotten);
        Ok(())
    }

    /// Tells the new terms to everybody, and has what is stored for the routes in `forgotten` dropped.
    fn tell(&self, house: &House, forgotten: &[usize]) {
        let purger = Purger::new(house.senders.clone());
        let mut receipts = vec![house.names.publish(|addresses| {
            let mut terms = self.terms.clone();
            terms.addresses = addresses;
            purger.reload(&terms)
        })];
        // Behind the reload: what is fetched by then comes from where the route leads now.
        let everything = |route| Purge { routes: PurgeRoutes::One(route), what: PurgeWhat::All };
        receipts.extend(forgotten.iter().map(|route| purger.send(everything(*route))));
        receipts.into_iter().for_each(Receipt::wait_blocking);
        if let Some(control) = &house.control {
            control.renew(Arc::clone(&self.terms.config), self.terms.by_address.clone());
        }
    }
}
