//! Carrying out a tunnel's next step: on the ring what waits in the kernel, by direct call what has
//! its outcome at once.
//!
//! A single buffer is sent through the ring, together with those of all other tunnels in one system
//! call. Several are sent by a call of their own: as several entries of the ring, one that was sent
//! short would be overtaken by the next.

use std::io::IoSlice;
use std::os::fd::AsFd;

use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};

use super::chain::Piece;
use super::engine::{Engine, Queued, list_if_stuck, lookup};
use super::lane::Step;
use super::port::Key;
use crate::tunnel::Side;

/// Pieces that one direct send gathers.
const PIECES_MAX: usize = 16;

const SEND_NOW: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl<T> Engine<T> {
    /// Does what the tunnel in `index` asked for.
    pub(super) fn carry_out(&mut self, index: usize, sender: Side, step: Step) {
        let Some(tunnel) = self.tunnels.get_mut(index) else { return };
        let key = Key {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation: tunnel.generation,
            sender,
        };
        match step {
            Step::Receive => self.port.receive(tunnel.socket(sender), key),
            Step::AwaitBytes => self.port.await_bytes(tunnel.socket(sender), key),
            Step::FillPipe => self.fill_pipe(key),
            Step::OpenPipe => tunnel.pair.lane(sender).pipe = self.pipes.take(),
            Step::ClosePipe => {
                if let Some(pipe) = tunnel.pair.lane(sender).pipe.take() {
                    self.pipes.give_back(*pipe);
                }
            }
            Step::StopReceiving => self.port.stop_receiving(key),
            Step::Send => self.send(key),
            Step::AwaitRoom => self.port.await_room(tunnel.socket(sender.other()), key),
            Step::StopAwaiting => self.port.stop_awaiting(key),
            Step::PassEnd => {
                tunnel.pair.ended(sender, self.now);
                // The last end is said by the close that follows.
                if !tunnel.pair.is_last(sender) {
                    // A receiver that is gone needs no FIN.
                    rustix::net::shutdown(tunnel.socket(sender.other()), Shutdown::Write).ok();
                }
            }
        }
    }

    /// Sends what waits longest: one buffer with the other sends of this round, more at once.
    fn send(&mut self, key: Key) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let lane = tunnel.pair.lane(key.sender);
        if lane.pipe.is_some() {
            return self.empty_pipe(key);
        }
        if lane.spill.is_some() {
            return self.send_spill(key);
        }
        let Some(piece) = self.links.front(lane.chain) else { return };
        if self.links.after(piece.id).is_some() {
            return self.send_chain(key, &piece);
        }
        let bytes = piece.range.end - piece.range.start;
        let number = u32::try_from(self.sends.len()).unwrap_or(u32::MAX);
        self.port.send(tunnel.socket(key.sender.other()), &piece, number);
        self.sends.push(Queued { key, bytes, short: None });
    }

    /// Sends several buffers by one call.
    fn send_chain(&mut self, key: Key, front: &Piece) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut total = 0;
        let mut next = Some(front.clone());
        for slice in &mut slices {
            let Some(piece) = next else { break };
            total += piece.range.end - piece.range.start;
            *slice = IoSlice::new(self.port.buffers.bytes(piece.id, piece.range));
            next = self.links.after(piece.id);
        }
        let mut control = SendAncillaryBuffer::default();
        let socket = tunnel.socket(key.sender.other());
        let outcome = rustix::net::sendmsg(socket, &slices, &mut control, SEND_NOW);
        self.account(key, outcome.map(|bytes| u32::try_from(bytes).unwrap_or(total)), total);
    }

    fn send_spill(&mut self, key: Key) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let (socket, lane) = tunnel.socket_and_lane(key.sender.other(), key.sender);
        let Some(spill) = &mut lane.spill else { return };
        let asked = spill.waiting().len();
        let outcome = rustix::net::send(socket, spill.waiting(), SEND_NOW);
        let taken = outcome.unwrap_or(0).min(asked);
        if spill.consume(taken) {
            lane.spill = None;
        }
        lane.sent(u32::try_from(taken).unwrap_or(u32::MAX), taken == asked);
        list_if_stuck(lane, key, &mut self.stuck);
        tunnel.sent(key.sender, taken > 0, outcome.err(), self.now);
    }

    /// Bytes have arrived, or the end, or the wait was stopped: no wait is out any more.
    pub(super) fn bytes_arrived(&mut self, key: Key) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let lane = tunnel.pair.lane(key.sender);
        lane.halted();
        if let Some(pipe) = &mut lane.pipe {
            pipe.begin_turn();
        }
    }

    fn fill_pipe(&mut self, key: Key) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let (from, lane) = tunnel.socket_and_lane(key.sender, key.sender);
        let Some(pipe) = &mut lane.pipe else { return };
        match pipe.fill(from.as_fd()) {
            Ok(0) => lane.ended(),
            Ok(bytes) => lane.filled(bytes),
            Err(error) => tunnel.failed(key.sender, error),
        }
    }

    fn empty_pipe(&mut self, key: Key) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let (to, lane) = tunnel.socket_and_lane(key.sender.other(), key.sender);
        let Some(pipe) = &mut lane.pipe else { return };
        let outcome = pipe.empty(to.as_fd());
        let taken = outcome.unwrap_or(0);
        let all = pipe.filled() == 0;
        lane.sent(taken, all);
        tunnel.sent(key.sender, taken > 0, outcome.err(), self.now);
    }
}
