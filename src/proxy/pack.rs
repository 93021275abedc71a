//! Stored responses in a content coding: compressed by a thread of its own, added when they are ready.
//!
//! Nobody waits for the compressor: until it is done, and if it has too much to do, clients get the
//! response as it is.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use slab::Slab;

use super::shard::{Letter, Shard};
use crate::cache::coding::Coding;
use crate::cache::compress::Job;
use crate::cache::entry::{Entry, Packed};
use crate::http1::forward;

/// Responses that are being compressed, by number.
#[derive(Debug, Default)]
pub struct Packing(RefCell<Slab<Waiting>>);

#[derive(Debug)]
struct Waiting {
    key: Box<[u8]>,
    entry: Weak<Entry>,
    coding: Coding,
}

/// Has `entry` compressed.
pub(super) fn later(shard: &Shard, key: &[u8], entry: &Rc<Entry>, coding: Coding) {
    let Some(compressor) = &shard.compressor else { return };
    if entry.pieces().is_empty() {
        return;
    }
    let waiting = Waiting { key: key.into(), entry: Rc::downgrade(entry), coding };
    let number = shard.packing.0.borrow_mut().insert(waiting);
    let (post, own) = (shard.post.clone(), shard.own);
    let reply = Box::new(move |body| {
        // A worker that has ended needs no answer.
        post.send(own, Letter::Packed { number, body });
    });
    if !compressor.offer(Job { coding, body: entry.pieces().to_vec(), reply }) {
        shard.packing.0.borrow_mut().try_remove(number);
    }
}

/// Adds what the compressor has made of a response, if that is still stored.
pub(super) fn arrived(shard: &Shard, number: usize, body: Option<Bytes>) {
    let Some(waiting) = shard.packing.0.borrow_mut().try_remove(number) else { return };
    let (Some(body), Some(entry)) = (body, waiting.entry.upgrade()) else { return };
    let mut front = Vec::with_capacity(entry.front().len() + 64);
    forward::packed(&mut front, entry.head(), waiting.coding.token().as_bytes());
    entry.pack(Packed { coding: waiting.coding, front: front.into(), body });
    shard.cache.recount(&waiting.key);
}
