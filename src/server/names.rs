//! The addresses behind the backends' names, as they are told to the workers.
//!
//! One lock for what is known and for telling it: a worker is told every change of a name that it uses,
//! and none of one that it does not use yet.

use std::io;
use std::net::SocketAddr;
#[expect(
    clippy::disallowed_types,
    reason = "resolvers and the control thread take it, no worker"
)]
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::resolve::{Name, Resolver};
use crate::config::{Mount, Route};
use crate::net::clock;
use crate::worker::Message;

/// How long names that are new are waited for; later they still may be resolved.
const FIRST_LOOK_UP: Duration = Duration::from_secs(2);

/// The backend of a route.
#[derive(Debug)]
struct Known {
    name: Name,
    addresses: Arc<[SocketAddr]>,
    /// Whether the workers have it as the route's backend.
    is_used: bool,
}

/// What is known of each route's backend, in the order of the routes.
#[expect(clippy::disallowed_types, reason = "see above")]
type Book = Mutex<Vec<Known>>;

/// The backends' names, and the threads that ask for them.
#[derive(Debug)]
pub(super) struct Names {
    book: Arc<Book>,
    /// By route; `None` where the backend is an address, or nobody's any more.
    resolvers: Vec<Option<Resolver>>,
    workers: Vec<flume::Sender<Message>>,
}

impl Names {
    /// No names yet; changes are told to `workers`.
    pub(super) fn new(workers: Vec<flume::Sender<Message>>) -> Self {
        Self { book: Arc::default(), resolvers: Vec::new(), workers }
    }

    /// Asks for the names of `routes` from now on, and waits for those that are new, but not long.
    ///
    /// # Errors
    ///
    /// No thread could be started; the names are those from before.
    pub(super) fn follow(&mut self, routes: &[Route]) -> io::Result<()> {
        let (first, firsts) = channel();
        let mut waiting = 0;
        let mut book = lock(&self.book);
        let mut changed = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let name = Name { host: route.backend.host.clone(), port: route.backend.port };
            if route.mount == Mount::Gone {
                changed.push((index, name, None));
            } else if !is_followed(&book, &self.resolvers, index, &name) {
                let resolver = match name.literal() {
                    Some(_) => None,
                    None => Some(self.resolver(index, &name, first.clone())?),
                };
                waiting += usize::from(resolver.is_some());
                changed.push((index, name, resolver));
            }
        }
        // Nothing can fail any more, and what was found meanwhile waits for the lock.
        self.resolvers.resize_with(routes.len(), || None);
        for (index, name, resolver) in changed {
            if let Some(slot) = self.resolvers.get_mut(index) {
                *slot = resolver;
            }
            let addresses = name.literal().into_iter().collect();
            match book.get_mut(index) {
                Some(known) if known.name == name => {}
                Some(known) => *known = Known { name, addresses, is_used: false },
                None => book.push(Known { name, addresses, is_used: false }),
            }
        }
        drop(book);
        let give_up = clock::now() + FIRST_LOOK_UP;
        while waiting > 0 {
            match firsts.recv_timeout(give_up.saturating_duration_since(clock::now())) {
                Ok(()) => waiting -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// A thread that asks for the name of a route's backend.
    fn resolver(&self, route: usize, name: &Name, first: Sender<()>) -> io::Result<Resolver> {
        let (book, workers, asked) = (Arc::clone(&self.book), self.workers.clone(), name.clone());
        Resolver::spawn(vec![(route, name.clone())], move |route, addresses| {
            let mut book = lock(&book);
            // A reload may have given the route another backend meanwhile.
            let Some(known) = book.get_mut(route).filter(|known| known.name == asked) else {
                return;
            };
            known.addresses = Arc::clone(&addresses);
            for worker in workers.iter().filter(|_| known.is_used) {
                // One that has ended needs no addresses.
                worker.send(Message::Addresses { route, addresses: Arc::clone(&addresses) }).ok();
            }
            // Only who has begun to follow the name waits for this.
            first.send(()).ok();
        })
    }

    /// Has `tell` make the workers use what is known of each route's backend; what is found later is told
    /// to them after that.
    pub(super) fn publish<T>(&self, tell: impl FnOnce(Vec<Arc<[SocketAddr]>>) -> T) -> T {
        let mut book = lock(&self.book);
        for known in &mut *book {
            known.is_used = true;
        }
        tell(book.iter().map(|known| Arc::clone(&known.addresses)).collect())
    }
}

/// Whether a route's backend has this name already, and is asked for if need be.
fn is_followed(book: &[Known], resolvers: &[Option<Resolver>], route: usize, name: &Name) -> bool {
    let is_same = book.get(route).is_some_and(|known| known.name == *name);
    let is_asked = resolvers.get(route).is_some_and(Option::is_some);
    is_same && (is_asked || name.literal().is_some())
}

fn lock(book: &Book) -> MutexGuard<'_, Vec<Known>> {
    // A list is whole whenever it can be seen.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
