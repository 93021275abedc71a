//! The fills of one worker, found by key.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Flight;
use crate::cache::Demand;
use crate::cache::entry::Entry;
use crate::http1::field::Fields;

/// All fills of each key.
type ByKey = HashMap<Box<[u8]>, Vec<Rc<Flight>>>;

/// The fills of one worker.
#[derive(Debug, Default)]
pub struct Flights {
    by_key: RefCell<ByKey>,
}

impl Flights {
    /// A fill under `key` whose answer may suit a request with these fields.
    pub(in crate::proxy) fn join(
        &self,
        key: &[u8],
        request: Fields<'_>,
        (known, demand): (Option<&Entry>, &Demand),
    ) -> Option<Rc<Flight>> {
        let flights = self.by_key.borrow();
        let of_key = flights.get(key)?;
        let joinable = |flight: &&Rc<Flight>| {
            flight.is_joinable()
                && flight.may_suit(request, (known, demand))
                // What was sent before the request is no answer to one that wants it confirmed.
                && (flight.is_asked() || !demand.no_cache())
        };
        of_key.iter().find(joinable).cloned()
    }

    /// Whether a fill under `key` runs that others may join.
    pub(in crate::proxy) fn has(&self, key: &[u8]) -> bool {
        let flights = self.by_key.borrow();
        flights.get(key).is_some_and(|of_key| of_key.iter().any(|flight| flight.is_joinable()))
    }

    pub(in crate::proxy) fn add(&self, flight: &Rc<Flight>) {
        let mut flights = self.by_key.borrow_mut();
        flights.entry(flight.wish.key.clone()).or_default().push(Rc::clone(flight));
    }

    pub(in crate::proxy) fn remove(&self, flight: &Rc<Flight>) {
        let mut flights = self.by_key.borrow_mut();
        if let Some(of_key) = flights.get_mut(&flight.wish.key) {
            of_key.retain(|other| !Rc::ptr_eq(other, flight));
            if of_key.is_empty() {
                flights.remove(&flight.wish.key);
            }
        }
    }

    /// Dooms the fills whose key is accepted: nobody joins them any more, nothing of them is stored.
    pub(in crate::proxy) fn doom(&self, doomed: impl Fn(&[u8]) -> bool) {
        let flights = self.by_key.borrow();
        let of_doomed = flights.iter().filter(|(key, _)| doomed(key)).flat_map(|(_, all)| all);
        of_doomed.for_each(|flight| flight.doom());
    }
}
