//! Which driver the proxy runs on and what carries its tunnels, and the macros that run a test on each.
//!
//! Containers often refuse `io_uring`. There that half of a test is skipped, and says so.

use std::sync::OnceLock;

/// A driver of the runtime, as `[runtime] driver` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `driver = "io_uring"`.
    IoUring,
    /// `driver = "epoll"`.
    Epoll,
}

impl Driver {
    /// Returns the value of the configuration key.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// Reports whether the kernel refuses this driver; asked of the kernel once.
    pub fn refused(self) -> bool {
        static IO_URING_REFUSED: OnceLock<bool> = OnceLock::new();
        self == Self::IoUring && *IO_URING_REFUSED.get_or_init(is_io_uring_refused)
    }

    /// Runs a test on this driver, or prints that it is skipped.
    pub fn run(self, test: fn(Self)) {
        if self.refused() {
            println!("skipped: {} is refused here", self.name());
        } else {
            test(self);
        }
    }
}

/// What carries tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The ring of `io_uring`, as it comes.
    Ring,
    /// The ring, where every direction streams through a pipe from its first byte on.
    Splice,
    /// The pump on `io_uring`.
    Pump,
    /// The pump on epoll.
    Epoll,
}

impl Carrier {
    /// Returns the keys of `[runtime]` for it.
    pub fn keys(self) -> String {
        let tunnel = if self == Self::Pump { "tunnel = \"pump\"\n" } else { "" };
        format!("driver = \"{}\"\n{tunnel}", self.driver().name())
    }

    /// Returns the value of `PHANTOM_FRAME_FAIL`, if it needs one.
    pub fn failpoint(self) -> Option<&'static str> {
        (self == Self::Splice).then_some("splice")
    }

    /// Runs a test on it, or prints that it is skipped.
    pub fn run(self, test: fn(Self)) {
        if self.driver().refused() {
            println!("skipped: {} is refused here", self.driver().name());
        } else {
            test(self);
        }
    }

    fn driver(self) -> Driver {
        if self == Self::Epoll { Driver::Epoll } else { Driver::IoUring }
    }
}

impl From<Driver> for Carrier {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::IoUring => Self::Ring,
            Driver::Epoll => Self::Epoll,
        }
    }
}

fn is_io_uring_refused() -> bool {
    // The kernel takes a ring down after it was closed, and interrupts the thread that made it: a
    // test's thread would find its next blocking read interrupted.
    let asking = std::thread::spawn(|| io_uring::IoUring::new(8).is_err());
    asking.join().expect("asking does not panic")
}

/// Declares tests that run once on each driver.
///
/// `fn a_sentence(driver) { ... }` becomes `a_sentence::io_uring` and `a_sentence::epoll`;
/// `driver` is a [`Driver`].
macro_rules! on_both_drivers {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident) $body:block)+) => {$(
        $(#[$meta])*
        fn $name($driver: $crate::support::Driver) $body

        mod $name {
            #[test]
            fn io_uring() {
                $crate::support::Driver::IoUring.run(super::$name);
            }

            #[test]
            fn epoll() {
                $crate::support::Driver::Epoll.run(super::$name);
            }
        }
    )+};
}

/// Declares tests that run once on everything that carries tunnels.
///
/// `fn a_sentence(carrier) { ... }` becomes `a_sentence::ring`, `splice`, `pump` and `epoll`; `carrier` is a
/// [`Carrier`].
macro_rules! on_every_carrier {
    ($($(#[$meta:meta])* fn $name:ident($carrier:ident) $body:block)+) => {$(
        $(#[$meta])*
        fn $name($carrier: $crate::support::Carrier) $body

        mod $name {
            use $crate::support::Carrier;

            #[test]
            fn ring() {
                Carrier::Ring.run(super::$name);
            }

            #[test]
            fn splice() {
                Carrier::Splice.run(super::$name);
            }

            #[test]
            fn pump() {
                Carrier::Pump.run(super::$name);
            }

            #[test]
            fn epoll() {
                Carrier::Epoll.run(super::$name);
            }
        }
    )+};
}
