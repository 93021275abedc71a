//! All tunnels of one ring: carries out what their state machines ask for, and tells them what has
//! completed.
//!
//! The order inside a round matters. Sends report only failures, so first every failure is noted,
//! then every send of the last round is settled, and only then new bytes are looked at.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use slab::Slab;

use super::chain::Links;
use super::lane::Lane;
use super::pair::{Limits, Millis, Pair};
use super::port::{Event, INDEX_MAX, Key, Port};
use crate::net::stream::is_lost;
use crate::net::{Fired, failpoint};
use crate::tunnel::frames::Frames;
use crate::tunnel::settle::Broken;
use crate::tunnel::splice::Pipes;
use crate::tunnel::{Side, Summary};

/// Rounds of one turn; then the other tasks of the worker have theirs.
const ROUNDS_PER_TURN: usize = 8;

/// Directions that starve at once for want of lent buffers, from which on it is a burst of many and
/// not one fast sender: more buffers are lent.
const BURST: usize = 8;

/// Directions that may be on the list of the stuck before their buffers are freed in any case.
const STUCK_MAX: usize = 256;

/// Entries that the lists of a quiet ring keep.
const KEPT_MAX: usize = 1024;

/// One tunnel.
#[derive(Debug)]
pub(super) struct Tunnel<T> {
    pub(super) client: OwnedFd,
    pub(super) backend: OwnedFd,
    pub(super) pair: Pair,
    pub(super) generation: u32,
    token: T,
}

impl<T> Tunnel<T> {
    pub(super) fn socket(&self, side: Side) -> &OwnedFd {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }

    /// A socket, and the direction of `sender`.
    pub(super) fn socket_and_lane(&mut self, side: Side, sender: Side) -> (&OwnedFd, &mut Lane) {
        let socket = match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        };
        (socket, self.pair.lane(sender))
    }

    /// What a send in the direction of `sender` means to the whole tunnel.
    pub(super) fn sent(
        &mut self,
        sender: Side,
        has_moved: bool,
        error: Option<Errno>,
        now: Millis,
    ) {
        if has_moved {
            self.pair.moved(now);
        }
        if let Some(error) = error {
            self.failed(sender.other(), error);
        }
    }

    /// An operation on the socket of `side` has failed.
    pub(super) fn failed(&mut self, side: Side, error: Errno) {
        if !is_passing(error) {
            self.pair.break_off(Broken::At(side, error.into()));
        }
    }
}

/// A send that was queued in this round.
#[derive(Debug)]
pub(super) struct Queued {
    pub key: Key,
    pub bytes: u32,
    /// What was reported, if not everything was sent.
    pub short: Option<i32>,
}

/// What a tunnel starts with.
#[derive(Debug)]
pub(super) struct Start<T> {
    pub client: OwnedFd,
    pub backend: OwnedFd,
    pub limits: Limits,
    pub token: T,
    /// By sender: bytes that its receiver took already, and bytes that come first.
    pub early: [(Side, usize, Vec<u8>); 2],
    /// Where those of the client end, and those of the backend.
    pub frames: [Frames; 2],
}

/// All tunnels of one ring.
pub(super) struct Engine<T> {
    pub(super) port: Port,
    pub(super) links: Links,
    pub(super) tunnels: Slab<Tunnel<T>>,
    /// Directions without a buffer, in the order in which they get one.
    starved: VecDeque<Key>,
    /// Directions whose receive the kernel had no memory for; they try again at the next sweep.
    pub(super) refused: Vec<Key>,
    /// Directions that hold buffers and whose receiver takes nothing; each is listed once.
    pub(super) stuck: Vec<Key>,
    /// The sends of this round; those of the last one while they are settled.
    pub(super) sends: Vec<Queued>,
    settling: Vec<Queued>,
    events: Vec<Event>,
    ended: VecDeque<(T, Summary)>,
    pub(super) pipes: Pipes,
    generation: u32,
    pub(super) now: Millis,
}

impl<T> Engine<T> {
    pub(super) fn new(port: Port) -> Self {
        Self {
            links: Links::new(port.buffers.count()),
            port,
            tunnels: Slab::new(),
            starved: VecDeque::new(),
            refused: Vec::new(),
            stuck: Vec::new(),
            sends: Vec::new(),
            settling: Vec::new(),
            events: Vec::new(),
            ended: VecDeque::new(),
            pipes: Pipes::default(),
            generation: 0,
            now: 0,
        }
    }

    /// Tunnels whose end was not taken yet.
    pub(super) fn len(&self) -> usize {
        self.tunnels.len() + self.ended.len()
    }

    /// Whether another tunnel can be named.
    pub(super) fn has_place(&self) -> bool {
        self.tunnels.len() < INDEX_MAX
    }

    /// Buffers that hold bytes.
    #[cfg(test)]
    pub(super) fn held_buffers(&self) -> usize {
        self.port.buffers.held()
    }

    /// Takes over two sockets. The turn that must follow starts to carry.
    pub(super) fn adopt(&mut self, start: Start<T>, now: Millis) {
        self.now = now;
        self.generation = self.generation.wrapping_add(1);
        let Start { client, backend, limits, token, early, frames: [up, down] } = start;
        let mut pair = Pair::new(limits, now);
        (pair.up.frames, pair.down.frames) = (up, down);
        for (sender, sent, waiting) in early {
            let lane = pair.lane(sender);
            lane.sent_early(sent);
            if !waiting.is_empty() {
                lane.queue_spill(&waiting);
            }
        }
        let generation = self.generation;
        let index = self.tunnels.insert(Tunnel { client, backend, pair, generation, token });
        self.advance(index);
    }

    /// One tunnel that has ended, and how.
    pub(super) fn take_ended(&mut self) -> Option<(T, Summary)> {
        self.ended.pop_front()
    }

    /// Does what there is to do; returns whether more was left for another turn.
    ///
    /// # Errors
    ///
    /// The ring is broken, and with it every tunnel.
    pub(super) fn turn(&mut self, now: Millis) -> io::Result<bool> {
        self.now = now;
        for _ in 0..ROUNDS_PER_TURN {
            if !self.port.has_work() && !self.port.rearm() {
                return Ok(false);
            }
            self.round()?;
        }
        Ok(true)
    }

    fn round(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        let entered = self.port.enter(&mut events);
        for event in &events {
            match event {
                Event::Short { batch, result } => self.note_short(*batch, *result),
                // A socket tells its error once: whoever asked next was told no more than EPIPE.
                Event::Received { key, result, .. } => self.note_failure(*key, *result),
                Event::Room { .. } => {}
            }
        }
        if entered.is_ok() {
            self.settle_sends();
        }
        for event in events.drain(..) {
            match event {
                Event::Received { key, result, buffer, more } => {
                    self.received(key, result, buffer, more);
                }
                Event::Room { key } => self.room(key),
                Event::Short { .. } => {}
            }
        }
        self.events = events;
        self.relieve();
        self.feed();
        entered
    }

    /// Every send of the last round has come to its end.
    fn settle_sends(&mut self) {
        let mut settling = std::mem::take(&mut self.settling);
        std::mem::swap(&mut settling, &mut self.sends);
        for send in settling.drain(..) {
            let outcome = match send.short {
                None => Ok(send.bytes),
                Some(result) => u32::try_from(result).map_err(|_| errno(result)),
            };
            self.account(send.key, outcome, send.bytes);
            self.advance(send.key.index as usize);
        }
        self.settling = settling;
    }

    /// A send of `asked` bytes from the chain of `key` has ended.
    pub(super) fn account(&mut self, key: Key, outcome: Result<u32, Errno>, asked: u32) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let lane = tunnel.pair.lane(key.sender);
        let taken = outcome.unwrap_or(0).min(asked);
        let mut left = taken;
        while left > 0
            && let Some(piece) = self.links.front(lane.chain)
        {
            let bytes = left.min(piece.range.end - piece.range.start);
            left -= bytes;
            if let Some(id) = self.links.consume(&mut lane.chain, bytes) {
                self.port.buffers.give(id);
            }
        }
        lane.sent(taken, taken == asked);
        list_if_stuck(lane, key, &mut self.stuck);
        tunnel.sent(key.sender, taken > 0, outcome.err(), self.now);
    }

    fn received(&mut self, key: Key, result: i32, buffer: Option<u16>, more: bool) {
        let buffer = buffer.filter(|id| self.port.buffers.take(*id));
        let Some(tunnel) = lookup(&mut self.tunnels, key) else {
            if let Some(id) = buffer {
                self.port.buffers.give(id);
            }
            return;
        };
        let closing = tunnel.pair.drops();
        let lane = tunnel.pair.lane(key.sender);
        match (u32::try_from(result), buffer) {
            (Ok(_), None) if lane.pipe.is_some() => self.bytes_arrived(key),
            (Ok(bytes @ 1..), Some(id)) if !closing => {
                self.links.push(&mut lane.chain, id, bytes);
                lane.frames.follow(self.port.buffers.bytes(id, 0..bytes));
                lane.received(bytes, bytes == self.port.buffers.bytes_each());
                if failpoint::is_asked("splice") {
                    lane.stream();
                }
                if !more {
                    lane.halted();
                }
                list_if_stuck(lane, key, &mut self.stuck);
            }
            (outcome, unused) => {
                if let Some(id) = unused {
                    self.port.buffers.give(id);
                }
                match outcome {
                    Ok(0) => lane.ended(),
                    Ok(_) if more => {}
                    Ok(_) => lane.halted(),
                    Err(_) => self.receive_failed(key, errno(result)),
                }
            }
        }
        self.advance(key.index as usize);
    }

    /// The receive of `key` is out no more, and not because the sender has ended.
    pub(super) fn receive_failed(&mut self, key: Key, error: Errno) {
        let Some(tunnel) = lookup(&mut self.tunnels, key) else { return };
        let lane = tunnel.pair.lane(key.sender);
        match error {
            Errno::NOBUFS => {
                if lane.starved() {
                    self.starved.push_back(key);
                }
            }
            Errno::NOMEM => {
                if lane.starved() {
                    self.refused.push(key);
                }
            }
            Errno::CANCELED => lane.halted(),
            error => {
                lane.halted();
                tunnel.failed(key.sender, error);
            }
        }
    }

    /// A send of this round was not done whole.
    fn note_short(&mut self, batch: u32, result: i32) {
        if let Some(send) = self.sends.get_mut(batch as usize) {
            send.short = Some(result);
        }
    }

    /// A receive has completed so; if its sender is gone for good, that is the cause of what follows.
    fn note_failure(&mut self, key: Key, result: i32) {
        if result >= 0 {
            return;
        }
        let error = errno(result);
        // Any other waits for its turn: bytes may have come before it.
        if is_lost(&error.into())
            && let Some(tunnel) = lookup(&mut self.tunnels, key)
        {
            tunnel.failed(key.sender, error);
        }
    }

    fn room(&mut self, key: Key) {
        if let Some(tunnel) = lookup(&mut self.tunnels, key) {
            tunnel.pair.lane(key.sender).room();
            self.advance(key.index as usize);
        }
    }

    /// Carries out what the tunnel asks for until it waits for an event, or is over.
    pub(super) fn advance(&mut self, index: usize) {
        while let Some(tunnel) = self.tunnels.get_mut(index) {
            match tunnel.pair.step() {
                Some((sender, step)) => self.carry_out(index, sender, step),
                None if tunnel.pair.is_over() => return self.remove(index),
                None => return,
            }
        }
    }

    /// Frees the buffers of those whose receiver takes nothing, before they are all taken.
    fn relieve(&mut self) {
        let scarce = self.port.buffers.held() > usize::from(self.port.buffers.count() / 2);
        if !scarce && self.stuck.len() < STUCK_MAX {
            return;
        }
        while let Some(key) = self.stuck.pop() {
            let Some(tunnel) = lookup(&mut self.tunnels, key) else { continue };
            let lane = tunnel.pair.lane(key.sender);
            lane.is_listed = false;
            if !lane.is_stuck() {
                continue;
            }
            while let Some(piece) = self.links.front(lane.chain) {
                let spill = lane.spill.get_or_insert_default();
                spill.append(self.port.buffers.bytes(piece.id, piece.range));
                self.links.pop(&mut lane.chain);
                self.port.buffers.give(piece.id);
            }
        }
    }

    /// Lets those receive that found no buffer, in their order and no more than there are buffers.
    fn feed(&mut self) {
        if self.starved.len() >= BURST {
            self.port.buffers.lend_more();
        }
        for _ in 0..self.port.buffers.available() {
            let Some(key) = self.starved.pop_front() else { return };
            if let Some(tunnel) = lookup(&mut self.tunnels, key) {
                tunnel.pair.lane(key.sender).fed();
                self.advance(key.index as usize);
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(mut tunnel) = self.tunnels.try_remove(index) else { return };
        for sender in [Side::Client, Side::Backend] {
            let lane = tunnel.pair.lane(sender);
            while let Some(id) = self.links.pop(&mut lane.chain) {
                self.port.buffers.give(id);
            }
        }
        for sender in [Side::Client, Side::Backend] {
            if let Some(pipe) = tunnel.pair.lane(sender).pipe.take() {
                self.pipes.give_back(*pipe);
            }
        }
        let (summary, aborts) = tunnel.pair.summary();
        if aborts {
            for socket in [&tunnel.client, &tunnel.backend] {
                // Without the option the close is an ordinary one, which the peer also notices.
                sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO)).ok();
            }
        }
        self.ended.push_back((tunnel.token, summary));
    }

    /// Closes the tunnels that were silent for too long, and frees what a burst has left behind.
    pub(super) fn sweep(&mut self, now: Millis) {
        self.now = now;
        self.break_off(Fired::Deadline, |pair| pair.is_overdue(now));
        self.starved.extend(self.refused.drain(..));
        self.feed();
        self.tire_pipes();
        self.port.buffers.trim();
        self.events.shrink_to(KEPT_MAX);
        self.sends.shrink_to(KEPT_MAX);
        self.settling.shrink_to(KEPT_MAX);
        self.starved.shrink_to(KEPT_MAX);
        self.refused.shrink_to(KEPT_MAX);
        self.stuck.shrink_to(KEPT_MAX);
        self.ended.shrink_to(KEPT_MAX);
        if self.tunnels.len() < self.tunnels.capacity() / 4 {
            self.tunnels.shrink_to_fit();
        }
    }

    /// Lets directions that do not stream any more go back to buffers.
    fn tire_pipes(&mut self) {
        self.pipes.trim();
        if self.pipes.out() == 0 {
            return;
        }
        let mut streaming = Vec::new();
        for (index, tunnel) in &mut self.tunnels {
            let mut pipes = tunnel.pair.up.pipe.iter_mut().chain(&mut tunnel.pair.down.pipe);
            let count = pipes.by_ref().map(|pipe| pipe.grow_tired()).count();
            streaming.extend((count > 0).then_some(index));
        }
        for index in streaming {
            self.advance(index);
        }
    }

    pub(super) fn break_off(&mut self, cause: Fired, chosen: impl Fn(&Pair) -> bool) {
        let over: Vec<usize> = self
            .tunnels
            .iter()
            .filter(|(_, tunnel)| chosen(&tunnel.pair))
            .map(|(index, _)| index)
            .collect();
        for index in over {
            if let Some(tunnel) = self.tunnels.get_mut(index) {
                tunnel.pair.break_off(Broken::Fired(cause));
            }
            self.advance(index);
        }
    }

    /// Drops every tunnel without another word: nothing can be asked of the ring any more.
    pub(super) fn abandon(&mut self) {
        for (_, tunnel) in &self.tunnels {
            for socket in [&tunnel.client, &tunnel.backend] {
                // Said here, because operations that are out keep a socket open behind its close.
                rustix::net::shutdown(socket, rustix::net::Shutdown::Both).ok();
            }
        }
        self.tunnels.clear();
        self.ended.clear();
    }
}

pub(super) fn lookup<T>(tunnels: &mut Slab<Tunnel<T>>, key: Key) -> Option<&mut Tunnel<T>> {
    tunnels.get_mut(key.index as usize).filter(|tunnel| tunnel.generation == key.generation)
}

/// Puts a direction that holds buffers and cannot send on the list, once.
pub(super) fn list_if_stuck(lane: &mut Lane, key: Key, stuck: &mut Vec<Key>) {
    if lane.is_stuck() && !lane.is_listed && !lane.chain.is_empty() {
        lane.is_listed = true;
        stuck.push(key);
    }
}

/// The error in the negative result of an operation.
fn errno(result: i32) -> Errno {
    Errno::from_raw_os_error(result.saturating_neg())
}

/// Whether the operation may simply be repeated.
fn is_passing(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::INTR)
}
