//! Which driver the proxy runs on, and the macro that runs a test on both.
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
