//! A drain's goodbye: a close frame where one may stand, and time for the peers to answer it.

use std::os::fd::AsFd;

use rustix::net::{SendFlags, Shutdown};

use super::engine::{Engine, Tunnel};
use super::pair::Millis;
use crate::net::Fired;
use crate::net::sweeper::Pick;
use crate::tunnel::frames::{GOING_AWAY, close_frame, mask};

/// How long a peer may take to end after a close frame. Bytes that nobody reads would make our close a
/// reset, and that can destroy the frame.
const PATIENCE: Millis = 1000;

const SEND_NOW: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl<T> Engine<T> {
    /// Tunnels that no drain has ended yet.
    pub(super) fn running(&self) -> usize {
        self.tunnels.iter().filter(|(_, tunnel)| tunnel.pair.is_running()).count()
    }

    /// Ends `due` of the tunnels, picked by `random`, which returns numbers below 2^32. Those in the middle
    /// of a frame are left for another time.
    pub(super) fn drain_some(&mut self, due: usize, code: u16, mut random: impl FnMut() -> u64) {
        let mut pick = Pick::new(due, self.running());
        let mut chosen = Vec::with_capacity(due);
        for (index, tunnel) in &self.tunnels {
            if tunnel.pair.is_running() && pick.next(random()) {
                chosen.push(index);
            }
        }
        for index in chosen {
            self.dismiss(index, code, false);
        }
    }

    /// Ends every tunnel.
    pub(super) fn drain(&mut self, code: u16) {
        let all: Vec<usize> = self.tunnels.iter().map(|(index, _)| index).collect();
        for index in all {
            self.dismiss(index, code, true);
        }
    }

    /// Ends one tunnel with a goodbye, or, if there is no time for one or it knows no frames, without.
    fn dismiss(&mut self, index: usize, code: u16, is_last_call: bool) {
        let until = self.now.saturating_add(PATIENCE);
        let Some(tunnel) = self.tunnels.get_mut(index).filter(|one| one.pair.is_running()) else {
            return;
        };
        if !is_last_call && tunnel.pair.is_inside_a_frame() {
            return;
        }
        if say_goodbye(tunnel, code) {
            tunnel.pair.leave(until);
        } else {
            tunnel.pair.break_off(crate::tunnel::settle::Broken::Fired(Fired::Drain));
        }
        self.advance(index);
    }
}

/// Sends the close frames; `false` if none may be sent.
fn say_goodbye<T>(tunnel: &Tunnel<T>, code: u16) -> bool {
    let pair = &tunnel.pair;
    if pair.has_ended() {
        return false;
    }
    let to_client = pair.down.is_between_frames() && send(&tunnel.client, close_frame(code, None));
    let to_backend =
        pair.up.is_between_frames() && send(&tunnel.backend, close_frame(GOING_AWAY, Some(mask())));
    to_client || to_backend
}

/// Sends the last that this peer hears; `false` if its socket is full.
fn send(to: &impl AsFd, (frame, len): ([u8; 8], usize)) -> bool {
    let is_sent = rustix::net::send(to, frame.get(..len).unwrap_or_default(), SEND_NOW).is_ok();
    if is_sent {
        rustix::net::shutdown(to, Shutdown::Write).ok();
    }
    is_sent
}
