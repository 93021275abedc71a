//! Bodies in a file, for `cache_storage_mode = "filesystem"`: one file without a name a worker.
//!
//! Nothing of it survives the process, and two processes cannot meet in it. Bodies lie in blocks of
//! 4 KiB that are used again when freed.
//!
//! That is why bodies are read and sent, not passed on by `sendfile(2)`: a socket keeps references to
//! the file's pages until the client has acknowledged them, and a body that was laid into those
//! blocks meanwhile would be sent to that client instead. A test shows it. Making a hole of freed
//! blocks first is no way out: on ext4, whose pages are large, the new bytes still went out.

mod directory;
mod space;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, send};

use space::{Run, Space};

/// Bytes of a block: a page, the least that file systems give and take back.
const BLOCK_BYTES: u32 = 4096;

/// Bytes that one call sends at most. Arbitrary; sixteen pages hide the cost of two system calls.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// Bytes to be freed before the file system gets any back. Arbitrary: giving back costs a system
/// call for each run, and a full cache uses its blocks again at once.
const RECLAIM_BYTES: u64 = 64 << 20;

/// Bytes of the shortest run that is given back. Arbitrary.
const HOLE_BYTES_MIN: u32 = 1 << 20;

/// The mode of the file: for our user alone.
const PRIVATE: u32 = 0o600;

/// One worker's file of bodies.
///
/// Belongs to one thread. Its calls wait for the file system, which mostly means for a copy into
/// memory; on a slow disk under load it means more.
#[derive(Debug)]
pub struct Disk {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    space: RefCell<Space>,
    /// Blocks freed since the file system got some back.
    freed_blocks: RefCell<u64>,
    /// Where a piece of a body lies on its way to a socket.
    scratch: RefCell<Box<[u8]>>,
}

impl Disk {
    /// Makes a file of at most `bytes_max` bytes in `directory`, or in one of our own below the
    /// temporary directory.
    ///
    /// A directory that does not exist is made, with the mode 0700.
    ///
    /// # Errors
    ///
    /// The directory is not ours alone, or cannot be used. The text says what to change.
    pub fn open(directory: Option<&Path>, bytes_max: u64) -> io::Result<Self> {
        let directory = directory::prepare(directory)?;
        let file = nameless(&directory).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
        })?;
        let blocks_max = u32::try_from(bytes_max / u64::from(BLOCK_BYTES)).unwrap_or(u32::MAX);
        let shared = Shared {
            file,
            space: RefCell::new(Space::new(blocks_max)),
            freed_blocks: RefCell::new(0),
            scratch: RefCell::new(vec![0; SEND_BYTES_MAX].into()),
        };
        Ok(Self { shared: Rc::new(shared) })
    }

    /// Writes a body.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StorageFull`], of the file's limit or of the disk: evict something and try again, or
    /// do not store the body. Whatever the error, nothing of the body remains.
    pub fn store(&self, body: &[Bytes]) -> io::Result<Extent> {
        let len = body.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let blocks = u32::try_from(len.div_ceil(u64::from(BLOCK_BYTES))).ok();
        let runs = blocks.and_then(|blocks| self.shared.space.borrow_mut().take(blocks));
        let runs = runs.ok_or(ErrorKind::StorageFull)?.into();
        // Made first: dropped by an error, it gives its blocks back.
        let extent = Extent { shared: Rc::clone(&self.shared), runs, len };
        extent.write(body)?;
        Ok(extent)
    }

    /// Bytes that bodies take, in whole blocks.
    pub fn bytes(&self) -> u64 {
        bytes_of(self.shared.space.borrow().used())
    }
}

/// One body in the file; its blocks are free when it is dropped.
#[derive(Debug)]
pub struct Extent {
    shared: Rc<Shared>,
    runs: Box<[Run]>,
    /// Bytes of the body; the blocks have room for them.
    len: u64,
}

impl Extent {
    /// Bytes of the body.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the body has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads the body from `offset` on into `buffer`, and returns how many bytes were there: all that
    /// fit, unless the body ends.
    ///
    /// # Errors
    ///
    /// The disk fails: forget the body, and end a response that has begun with it.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some((place, left)) = self.place(offset + read as u64) {
            let rest = buffer.get_mut(read..).unwrap_or_default();
            let fits = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let Some(part) = rest.get_mut(..fits).filter(|part| !part.is_empty()) else { break };
            self.shared.file.read_exact_at(part, place)?;
            read += fits;
        }
        Ok(read)
    }

    /// Sends at most `count` bytes of the body from `offset` on to a socket that does not block, and
    /// returns how many it took: fewer than `count` when it is full, or when they are many.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`]: wait until the socket is writable. Otherwise the client is gone, or the
    /// disk fails: close the connection.
    pub fn send_to(&self, socket: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<usize> {
        let mut scratch = self.shared.scratch.borrow_mut();
        let fits = count.min(scratch.len());
        let part = scratch.get_mut(..fits).unwrap_or_default();
        let read = self.read_at(offset, part)?;
        if read == 0 {
            return Ok(0);
        }
        let part = part.get(..read).unwrap_or_default();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(retry_on_intr(|| send(socket, part, flags))?)
    }

    /// Returns where in the file a byte of the body lies, and how many of the body follow in the same
    /// run, itself included. `None` past the end.
    fn place(&self, offset: u64) -> Option<(u64, u64)> {
        let left = self.len.checked_sub(offset).filter(|left| *left > 0)?;
        let mut skipped = 0;
        for run in &self.runs {
            let bytes = bytes_of(run.blocks);
            let within = offset - skipped;
            if within < bytes {
                return Some((bytes_of(run.start) + within, left.min(bytes - within)));
            }
            skipped += bytes;
        }
        None
    }

    fn write(&self, body: &[Bytes]) -> io::Result<()> {
        let mut offset = 0;
        for piece in body {
            let mut rest = &piece[..];
            while let Some((place, left)) = self.place(offset).filter(|_| !rest.is_empty()) {
                let fits = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let (part, later) = rest.split_at(fits);
                self.shared.file.write_all_at(part, place)?;
                offset += fits as u64;
                rest = later;
            }
        }
        Ok(())
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.shared.give_back(&self.runs);
    }
}

impl Shared {
    fn give_back(&self, runs: &[Run]) {
        let mut space = self.space.borrow_mut();
        let mut freed = self.freed_blocks.borrow_mut();
        for run in runs {
            space.give_back(*run);
            *freed += u64::from(run.blocks);
        }
        let is_empty = space.used() == 0 && space.end() >= HOLE_BYTES_MIN / BLOCK_BYTES;
        if is_empty || *freed >= RECLAIM_BYTES / u64::from(BLOCK_BYTES) {
            *freed = 0;
            self.reclaim(&mut space);
        }
    }

    /// Gives free runs back to the file system.
    fn reclaim(&self, space: &mut Space) {
        // Refused, the blocks stay ours, free to be used again; there is nothing to undo.
        self.file.set_len(bytes_of(space.trim())).ok();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for run in space.free_runs(HOLE_BYTES_MIN / BLOCK_BYTES) {
            let (start, bytes) = (bytes_of(run.start), bytes_of(run.blocks));
            retry_on_intr(|| fallocate(&self.file, hole, start, bytes)).ok();
        }
    }
}

fn nameless(directory: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(directory)?;
    // It has the mode that the umask leaves, and a name in /proc.
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(file)
}

fn bytes_of(blocks: u32) -> u64 {
    u64::from(blocks) * u64::from(BLOCK_BYTES)
}
