//! How many connections and tunnels each client address has, and how often it came lately.
//!
//! The one table that workers share. Its locks are taken once a connection and once a tunnel, and only
//! where a limit by address is set; what ends touches an atomic number and no lock. An entry leaves
//! when nothing of its address is open and its allowances are whole again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
#[expect(clippy::disallowed_types, reason = "an address comes to every worker; see above")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Parts of the table with a lock each, so that workers seldom meet.
const PARTS: usize = 64;

/// Entries that one call of [`Addresses::tidy`] looks at, give or take a part: below a tenth of a
/// millisecond.
const TIDIED_PER_CALL: usize = 4096;

/// Between two looks for entries to remove in a part that is full: each walks through all of it.
const FULL_PAUSE_NANOS: u64 = 100_000_000;

/// So many at once, and then so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub per_second: u32,
    /// At least 1.
    pub burst: u32,
}

impl Rate {
    /// What one costs, in nanoseconds.
    fn cost(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }

    /// How far ahead of the time the debt of an address may be for one more, in nanoseconds.
    fn credit(self) -> u64 {
        self.cost() * u64::from(self.burst.saturating_sub(1))
    }
}

/// What one address may have. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections open, tunnels included; at least 1.
    pub connections_max: Option<usize>,
    /// Tunnels open; at least 1.
    pub tunnels_max: Option<usize>,
    /// Connections accepted.
    pub accepts: Option<Rate>,
    /// Upgrades asked for.
    pub upgrades: Option<Rate>,
    /// Addresses that are told apart at the same time; at least 1.
    pub tracked_max: usize,
}

impl AddressLimits {
    /// Whether there is a limit on anything.
    pub const fn any(&self) -> bool {
        self.limits_connections() || self.limits_tunnels()
    }

    const fn limits_connections(&self) -> bool {
        self.connections_max.is_some() || self.accepts.is_some()
    }

    const fn limits_tunnels(&self) -> bool {
        self.tunnels_max.is_some() || self.upgrades.is_some()
    }
}

/// Why an address gets no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It has as many as it may have.
    Count,
    /// It came too often.
    Rate,
}

/// What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which is what a
/// site has at least (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Key {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// What an address has open.
#[derive(Debug, Default)]
struct Open {
    connections: AtomicUsize,
    tunnels: AtomicUsize,
}

/// A place of an address among its connections, until it is dropped.
#[derive(Debug)]
pub struct ConnectionPlace(Arc<Open>);

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place of an address among its tunnels, until it is dropped.
#[derive(Debug)]
pub struct TunnelPlace(Arc<Open>);

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A token bucket as one number: the instant, in nanoseconds since the table began, at which it will
/// be full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(u64);

impl Bucket {
    /// Takes one token; `false` if there is none.
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        let full_at = self.0.max(now);
        let is_there = full_at - now <= rate.credit();
        if is_there {
            self.0 = full_at + rate.cost();
        }
        is_there
    }

    fn is_full(self, now: u64) -> bool {
        self.0 <= now
    }
}

/// What is known of one address.
#[derive(Debug, Default)]
struct Entry {
    open: Arc<Open>,
    accepts: Bucket,
    upgrades: Bucket,
}

impl Entry {
    /// Whether it says no more than its absence would. Places are only given out under the lock under
    /// which this is asked.
    fn is_at_rest(&self, now: u64) -> bool {
        Arc::strong_count(&self.open) == 1
            && self.accepts.is_full(now)
            && self.upgrades.is_full(now)
    }
}

/// The entries under one lock.
#[derive(Debug, Default)]
struct Part {
    entries: HashMap<Key, Entry, RandomState>,
    /// When it was looked through last because it was full.
    full_at: Option<u64>,
}

impl Part {
    fn tidy(&mut self, now: u64) -> usize {
        let seen = self.entries.len();
        self.entries.retain(|_, entry| !entry.is_at_rest(now));
        // What a crowd has left behind is given back.
        if self.entries.capacity() > 64 + 4 * self.entries.len() {
            self.entries.shrink_to(2 * self.entries.len());
        }
        seen
    }

    /// Whether there is no room for one more entry.
    fn is_full(&mut self, max: usize, now: u64) -> bool {
        if self.entries.len() < max {
            return false;
        }
        if self.full_at.is_none_or(|last| now.saturating_sub(last) >= FULL_PAUSE_NANOS) {
            self.full_at = Some(now);
            self.tidy(now);
        }
        self.entries.len() >= max
    }
}

/// A part beside the others without sharing their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
#[expect(clippy::disallowed_types, reason = "an address comes to every worker")]
struct Locked(Mutex<Part>);

impl Locked {
    fn with<T>(&self, use_it: impl FnOnce(&mut Part) -> T) -> T {
        // A panic in here leaves numbers, and no number is relied upon for more than a limit.
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The table of all client addresses that have something open or came lately, and the limits that
/// they are held to.
#[derive(Debug)]
pub struct Addresses {
    limits: AddressLimits,
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    part_max: AtomicUsize,
    parts: Box<[Locked]>,
    hasher: RandomState,
    began: Instant,
    /// The part that is tidied next.
    next: AtomicUsize,
    untracked: AtomicU64,
}

impl Addresses {
    /// An empty table, if there is anything to limit.
    pub fn new(limits: AddressLimits, now: Instant) -> Option<Arc<Self>> {
        limits.any().then(|| {
            let table = Table {
                part_max: AtomicUsize::new(part_max(limits)),
                parts: (0..PARTS).map(|_| Locked::default()).collect(),
                hasher: RandomState::new(),
                began: now,
                next: AtomicUsize::new(0),
                untracked: AtomicU64::new(0),
            };
            Arc::new(Self { limits, table: Arc::new(table) })
        })
    }

    /// The same addresses, held to other limits from now on; `None` if nothing is limited any more. What
    /// they have open counts as long as there was a limit on its number when it came.
    pub fn under(&self, limits: AddressLimits) -> Option<Arc<Self>> {
        limits.any().then(|| {
            self.table.part_max.store(part_max(limits), Ordering::Relaxed);
            Arc::new(Self { limits, table: Arc::clone(&self.table) })
        })
    }

    /// Counts a connection of `address` that was accepted at `now`; `None` where only its rate is
    /// limited, or where the table is full.
    ///
    /// # Errors
    ///
    /// The address gets no more: turn the connection away.
    pub fn connect(
        &self,
        address: IpAddr,
        now: Instant,
    ) -> Result<Option<ConnectionPlace>, Excess> {
        let AddressLimits { connections_max, accepts, .. } = self.limits;
        if !self.limits.limits_connections() {
            return Ok(None);
        }
        let now = self.table.nanos(now);
        let admitted = self.table.with_entry(address, now, |entry| {
            let count = &entry.open.connections;
            let wanted = Wanted { count, max: connections_max, rate: accepts };
            wanted.take(&mut entry.accepts, now)?;
            Ok(connections_max.map(|_| ConnectionPlace(Arc::clone(&entry.open))))
        });
        admitted.unwrap_or(Ok(None))
    }

    /// Counts an upgrade that `address` asked for at `now`, and the tunnel that it may become; `None` as
    /// for [`Addresses::connect`].
    ///
    /// # Errors
    ///
    /// The address gets no more: refuse the upgrade.
    pub fn upgrade(&self, address: IpAddr, now: Instant) -> Result<Option<TunnelPlace>, Excess> {
        let AddressLimits { tunnels_max, upgrades, .. } = self.limits;
        if !self.limits.limits_tunnels() {
            return Ok(None);
        }
        let now = self.table.nanos(now);
        let admitted = self.table.with_entry(address, now, |entry| {
            let wanted = Wanted { count: &entry.open.tunnels, max: tunnels_max, rate: upgrades };
            wanted.take(&mut entry.upgrades, now)?;
            Ok(tunnels_max.map(|_| TunnelPlace(Arc::clone(&entry.open))))
        });
        admitted.unwrap_or(Ok(None))
    }

    /// Looks through some of the entries and removes those that say nothing any more. Call it about
    /// once a second.
    pub fn tidy(&self, now: Instant) {
        let (table, now) = (&self.table, self.table.nanos(now));
        let mut seen = 0;
        for _ in 0..PARTS {
            let next = table.next.fetch_add(1, Ordering::Relaxed) % PARTS;
            if let Some(part) = table.parts.get(next) {
                seen += part.with(|part| part.tidy(now));
            }
            if seen >= TIDIED_PER_CALL {
                break;
            }
        }
    }

    /// How many addresses are known now.
    pub fn tracked(&self) -> u64 {
        self.table.parts.iter().map(|part| part.with(|part| part.entries.len() as u64)).sum()
    }

    /// How often something was let through uncounted because the table was full.
    pub fn untracked(&self) -> u64 {
        self.table.untracked.load(Ordering::Relaxed)
    }
}

/// How many addresses a part may hold.
fn part_max(limits: AddressLimits) -> usize {
    limits.tracked_max.div_ceil(PARTS).max(1)
}

impl Table {
    /// Calls `with` with the entry of an address, a new one if need be; `None` if there is no room.
    fn with_entry<T>(
        &self,
        address: IpAddr,
        now: u64,
        with: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let key = Key::of(address);
        // The maps use the low bits and the top ones of hashes of their own.
        let at = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0) % PARTS;
        let found = self.parts.get(at)?.with(|part| {
            let max = self.part_max.load(Ordering::Relaxed);
            if !part.entries.contains_key(&key) && part.is_full(max, now) {
                return None;
            }
            Some(with(part.entries.entry(key).or_default()))
        });
        if found.is_none() {
            // Open rather than closed: otherwise whoever can fill the table locks everybody out. The
            // limits of the process still hold.
            self.untracked.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// One more of something that an address has.
struct Wanted<'a> {
    count: &'a AtomicUsize,
    max: Option<usize>,
    rate: Option<Rate>,
}

impl Wanted<'_> {
    /// Counts it, or nothing. The caller holds the lock, under which alone the number grows.
    fn take(&self, bucket: &mut Bucket, now: u64) -> Result<(), Excess> {
        if self.max.is_some_and(|max| self.count.load(Ordering::Relaxed) >= max) {
            return Err(Excess::Count);
        }
        if self.rate.is_some_and(|rate| !bucket.take(rate, now)) {
            return Err(Excess::Rate);
        }
        if self.max.is_some() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NONE: AddressLimits = AddressLimits {
        connections_max: None,
        tunnels_max: None,
        accepts: None,
        upgrades: None,
        tracked_max: 65536,
    };

    #[expect(clippy::disallowed_methods, reason = "where the time of these tests begins")]
    fn table(limits: AddressLimits) -> (Arc<Addresses>, Instant) {
        let now = Instant::now();
        (Addresses::new(limits, now).unwrap(), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_limit_there_is_no_table() {
        let (_, now) = table(AddressLimits { tunnels_max: Some(1), ..NONE });
        assert!(Addresses::new(NONE, now).is_none());
    }

    #[test]
    fn an_address_has_its_connections_and_another_its_own() {
        let (table, now) = table(AddressLimits { connections_max: Some(2), ..NONE });
        let connect = |text| table.connect(ip(text), now).map(Option::unwrap);
        let first = connect("192.0.2.1").unwrap();
        let _second = connect("192.0.2.1").unwrap();
        assert_eq!(connect("192.0.2.1").unwrap_err(), Excess::Count);
        // The same host through an IPv6 socket.
        assert_eq!(connect("::ffff:192.0.2.1").unwrap_err(), Excess::Count);
        let _other = connect("192.0.2.2").unwrap();
        drop(first);
        let _third = connect("192.0.2.1").unwrap();
        assert_eq!(connect("192.0.2.1").unwrap_err(), Excess::Count);
        assert!(table.upgrade(ip("192.0.2.1"), now).unwrap().is_none(), "tunnels have no limit");
    }

    #[test]
    fn tunnels_are_counted_apart_from_connections() {
        let limits = AddressLimits { connections_max: Some(1), tunnels_max: Some(1), ..NONE };
        let (table, now) = table(limits);
        let address = ip("192.0.2.1");
        let _connection = table.connect(address, now).unwrap().unwrap();
        let tunnel = table.upgrade(address, now).unwrap().unwrap();
        assert_eq!(table.upgrade(address, now).unwrap_err(), Excess::Count);
        drop(tunnel);
        assert!(table.upgrade(address, now).is_ok());
    }

    #[test]
    fn a_site_of_ipv6_is_one_address() {
        let (table, now) = table(AddressLimits { connections_max: Some(1), ..NONE });
        let _first = table.connect(ip("2001:db8:0:1::1"), now).unwrap();
        assert!(table.connect(ip("2001:db8:0:1:ffff:ffff:ffff:ffff"), now).is_err());
        assert!(table.connect(ip("2001:db8:0:2::1"), now).is_ok());
        assert!(table.connect(ip("2001:db8:0:0:ffff::1"), now).is_ok());
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let (table, now) = table(AddressLimits { accepts: Some(rate), ..NONE });
        let after = |millis| now + Duration::from_millis(millis);
        let passes = |millis| table.connect(ip("192.0.2.1"), after(millis)).is_ok();
        assert_eq!([0, 0, 0, 0, 0].map(passes), [true, true, true, false, false]);
        // One every 100 ms; what was refused has cost nothing.
        assert_eq!([99, 100, 101, 199, 200].map(passes), [false, true, false, false, true]);
        // After a long pause the burst is whole again, and no larger.
        assert_eq!([10_000; 4].map(passes), [true, true, true, false]);
        assert!(table.connect(ip("192.0.2.2"), after(10_000)).is_ok());
    }

    #[test]
    fn the_fastest_rate_and_the_largest_burst_do_not_overflow() {
        for rate in [
            Rate { per_second: u32::MAX, burst: u32::MAX },
            Rate { per_second: 1, burst: u32::MAX },
            Rate { per_second: 1, burst: 1 },
        ] {
            let (table, now) = table(AddressLimits { upgrades: Some(rate), ..NONE });
            assert!(table.upgrade(ip("192.0.2.1"), now).is_ok(), "{rate:?}");
        }
    }

    #[test]
    fn what_is_over_the_count_does_not_use_up_the_rate() {
        let rate = Rate { per_second: 1, burst: 2 };
        let limits = AddressLimits { tunnels_max: Some(1), upgrades: Some(rate), ..NONE };
        let (table, now) = table(limits);
        let first = table.upgrade(ip("192.0.2.1"), now).unwrap();
        for _ in 0..5 {
            assert_eq!(table.upgrade(ip("192.0.2.1"), now).unwrap_err(), Excess::Count);
        }
        drop(first);
        assert!(table.upgrade(ip("192.0.2.1"), now).is_ok());
        assert_eq!(table.upgrade(ip("192.0.2.1"), now).unwrap_err(), Excess::Rate);
    }

    #[test]
    fn an_entry_leaves_when_nothing_is_open_and_the_allowance_is_whole() {
        let rate = Rate { per_second: 1, burst: 4 };
        let limits = AddressLimits { connections_max: Some(9), accepts: Some(rate), ..NONE };
        let (table, now) = table(limits);
        let place = table.connect(ip("192.0.2.1"), now).unwrap();
        let (nearly, later) = (now + Duration::from_millis(999), now + Duration::from_secs(1));
        table.tidy(later);
        assert_eq!(table.tracked(), 1, "a connection is open");
        drop(place);
        table.tidy(nearly);
        assert_eq!(table.tracked(), 1, "a token is missing");
        table.tidy(later);
        assert_eq!(table.tracked(), 0);
    }

    #[test]
    fn a_full_table_makes_room_by_itself_and_else_lets_through() {
        let limits = AddressLimits { connections_max: Some(1), tracked_max: PARTS, ..NONE };
        let (table, now) = table(limits);
        let addresses: Vec<_> = (0..4096_u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        let connect = |now| -> Vec<_> {
            addresses.iter().map(|address| table.connect(*address, now).unwrap()).collect()
        };
        let places = connect(now);
        assert_eq!(places.iter().flatten().count(), PARTS, "one a part");
        assert_eq!(table.tracked(), PARTS as u64);
        assert_eq!(table.untracked(), 4096 - PARTS as u64);
        // Those that are known are held to their limit all the same.
        let refused = addresses.iter().filter(|address| table.connect(**address, now).is_err());
        assert_eq!(refused.count(), PARTS);
        drop(places);
        let places = connect(now + Duration::from_nanos(FULL_PAUSE_NANOS));
        assert_eq!(places.iter().flatten().count(), PARTS);
    }

    #[test]
    fn other_limits_hold_for_those_that_are_there() {
        let limits = AddressLimits { connections_max: Some(3), ..NONE };
        let (table, now) = table(limits);
        let address = ip("192.0.2.1");
        let places: Vec<_> = (0..3).map(|_| table.connect(address, now).unwrap()).collect();
        let fewer = table.under(AddressLimits { connections_max: Some(2), ..NONE }).unwrap();
        assert_eq!(fewer.connect(address, now).unwrap_err(), Excess::Count);
        drop(places);
        let _two = [0, 1].map(|_| fewer.connect(address, now).unwrap().unwrap());
        assert_eq!(fewer.connect(address, now).unwrap_err(), Excess::Count);
        assert!(fewer.under(NONE).is_none());
    }

    #[test]
    fn no_thread_gets_in_over_the_limit_and_nothing_is_left_behind() {
        let (table, now) = table(AddressLimits { tunnels_max: Some(3), ..NONE });
        let open = AtomicUsize::new(0);
        let come_and_go = |_| {
            if let Ok(place) = table.upgrade(ip("192.0.2.1"), now) {
                assert!(open.fetch_add(1, Ordering::SeqCst) < 3);
                open.fetch_sub(1, Ordering::SeqCst);
                drop(place);
                table.tidy(now);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2000).for_each(come_and_go));
            }
        });
        table.tidy(now);
        assert_eq!(table.tracked(), 0);
    }
}
