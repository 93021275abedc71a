//! The integration tests: the built binary over loopback, between peers that share no code with it.
//!
//! One binary, so that it links once. Tests block on sockets with a guard timeout, never on a sleep.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "peers are blocking std sockets on threads of their own, so that they share no code \
              with the proxy; no worker runs in this process"
)]

// `cfg(test)` tells clippy that these modules are test code; it always holds here.
#[cfg(test)]
#[macro_use]
#[expect(unreachable_pub, reason = "`pub` marks what tests may call; a binary exports nothing")]
mod support;

#[cfg(test)]
mod balance;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod process;
#[cfg(test)]
mod warm;
// What makes an upgrade, and what the backend receives.
#[cfg(test)]
mod upgrade;
