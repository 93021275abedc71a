//! Networks of a test's own: a second host on a wire that can be cut, and a loopback with few ports.
//!
//! Needs root and `ip`. Without them the tests that use it say so and pass, unless
//! `PHANTOM_FRAME_NETNS=1` insists, as CI does where it can make one.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of its own; gone when dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    number: usize,
}

impl Network {
    /// Makes a network that has only a loopback; `None` where that is not allowed.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let network = Self { name: format!("pf{}-{number}", std::process::id()), number };
        let made = ip(&["netns", "add", &network.name]) && network.ip(&["link", "set", "lo", "up"]);
        let insists = std::env::var_os("PHANTOM_FRAME_NETNS").is_some_and(|value| value == "1");
        assert!(made || !insists, "no network can be made, and PHANTOM_FRAME_NETNS=1 insists");
        if !made {
            println!("skipped: needs root and iproute2");
        }
        made.then_some(network)
    }

    /// Lays a wire between the network of this thread and this one; returns the address of either end, ours first.
    pub fn wire(&self) -> [String; 2] {
        let (near, far) = self.ends();
        let net = format!("10.{}.{}", 100 + std::process::id() % 100, self.number);
        let addresses = [format!("{net}.1"), format!("{net}.2")];
        let added =
            ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &self.name]);
        assert!(added, "a pair of interfaces");
        assert!(ip(&["addr", "add", &format!("{}/30", addresses[0]), "dev", &near]));
        assert!(ip(&["link", "set", &near, "up"]));
        assert!(self.ip(&["addr", "add", &format!("{}/30", addresses[1]), "dev", &far]));
        assert!(self.ip(&["link", "set", &far, "up"]));
        addresses
    }

    /// Cuts the wire: nobody is told, nothing arrives any more.
    pub fn cut(&self) {
        assert!(self.ip(&["link", "set", &self.ends().1, "down"]));
    }

    /// Mends the wire.
    pub fn mend(&self) {
        assert!(self.ip(&["link", "set", &self.ends().1, "up"]));
    }

    fn ends(&self) -> (String, String) {
        let tag = format!("{}n{}", std::process::id() % 1_000_000, self.number);
        (format!("pa{tag}"), format!("pb{tag}"))
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }

    /// Runs `body` on a thread inside the network: what it opens, and the processes and threads that it
    /// starts, are there.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.name)).expect("the network");
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("entering the network");
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Takes the wire with it.
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}
