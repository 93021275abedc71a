//! Bodies against a model that keeps them in memory, and what remains outside of the process.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};
use socket2::{Domain, Socket, Type};

use super::*;

fn disk(bytes_max: u64) -> (Disk, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (Disk::open(Some(directory.path()), bytes_max).expect("it is ours"), directory)
}

/// A body of its own for each seed, in pieces.
fn body(seed: u8, bytes: usize) -> Vec<Bytes> {
    // A prime, so that no two blocks are the same.
    let period: Vec<u8> = (0..251).map(|at| seed.wrapping_add(at)).collect();
    let mut whole = period.repeat(bytes / period.len() + 1);
    whole.truncate(bytes);
    let whole = Bytes::from(whole);
    let mut pieces = vec![Bytes::new()];
    for from in (0..bytes).step_by(1_500) {
        pieces.push(whole.slice(from..bytes.min(from + 1_500)));
    }
    pieces
}

fn read(extent: &Extent) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(extent.len()).expect("small") + 10];
    let count = extent.read_at(0, &mut bytes).expect("the disk works");
    assert_eq!(count as u64, extent.len(), "all of it and no more");
    bytes.truncate(count);
    bytes
}

fn blocks(count: u64) -> u64 {
    count * u64::from(BLOCK_BYTES)
}

#[test]
fn a_body_is_read_back_whole_and_in_parts() {
    let (disk, _directory) = disk(1 << 20);
    for bytes in [0, 1, 4_095, 4_096, 4_097, 100_000] {
        let extent = disk.store(&body(7, bytes)).expect("it fits");
        assert_eq!((extent.len(), extent.is_empty()), (bytes as u64, bytes == 0));
        let whole = body(7, bytes).concat();
        assert_eq!(read(&extent), whole);
        for (from, count) in [(0, 1), (1, 4_096), (4_000, 200), (bytes, 5), (bytes + 9, 5)] {
            let mut part = vec![0; count];
            let count = extent.read_at(from as u64, &mut part).expect("the disk works");
            let expected = whole.get(from..).unwrap_or_default();
            assert_eq!(part[..count], expected[..count.min(expected.len())]);
            assert_eq!(count, part.len().min(expected.len()), "{bytes} from {from}");
        }
        assert_eq!(extent.read_at(u64::MAX, &mut [0]).expect("past the end"), 0);
    }
}

#[test]
fn a_full_file_refuses_and_freed_blocks_are_used_again() {
    let (disk, _directory) = disk(blocks(10) + 1);
    let first = disk.store(&body(1, 5 * 4_096)).expect("it fits");
    let second = disk.store(&body(2, 4 * 4_096 + 1)).expect("it fits exactly");
    assert_eq!(disk.bytes(), blocks(10));
    assert_eq!(disk.store(&body(3, 1)).expect_err("it is full").kind(), ErrorKind::StorageFull);
    let empty = disk.store(&[]).expect("nothing always fits");
    drop(first);
    let third = disk.store(&body(3, 5 * 4_096)).expect("it fits again");
    assert_eq!(
        (read(&second), read(&third)),
        (body(2, 4 * 4_096 + 1).concat(), body(3, 5 * 4_096).concat())
    );
    drop((second, third, empty));
    assert_eq!(disk.bytes(), 0);
}

#[test]
fn a_body_outlives_the_handle_of_its_file() {
    let (disk, _directory) = disk(1 << 20);
    let extent = disk.store(&body(1, 9_000)).expect("it fits");
    drop(disk);
    assert_eq!(read(&extent), body(1, 9_000).concat());
}

#[test]
fn nothing_stands_in_the_directory() {
    let (disk, directory) = disk(1 << 20);
    let _extent = disk.store(&body(1, 9_000)).expect("it fits");
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
    let metadata = disk.shared.file.metadata().expect("open");
    assert_eq!((metadata.nlink(), metadata.mode() & 0o077), (0, 0));
}

#[test]
fn two_files_in_one_directory_do_not_meet() {
    let (first, directory) = disk(1 << 20);
    let second = Disk::open(Some(directory.path()), 1 << 20).expect("it is ours");
    let bodies = [first.store(&body(1, 9_000)), second.store(&body(2, 9_000))];
    let read = bodies.map(|extent| read(&extent.expect("it fits")));
    assert_eq!(read, [body(1, 9_000).concat(), body(2, 9_000).concat()]);
}

#[test]
fn a_file_that_is_empty_gives_its_space_back() {
    let (disk, _directory) = disk(64 << 20);
    let length = || disk.shared.file.metadata().expect("open").len();
    let extents = [3_usize << 20, 5 << 20].map(|bytes| disk.store(&body(1, bytes)));
    assert_eq!(length(), 8 << 20);
    drop(extents);
    assert_eq!(length(), 0);
    assert!(disk.store(&body(1, 64 << 20)).is_ok());
}

#[test]
fn much_freed_space_goes_back_and_what_is_kept_stays() {
    let (disk, _directory) = disk(1 << 30);
    let mut freed = Vec::new();
    let mut kept = Vec::new();
    for seed in 0..12 {
        freed.push(disk.store(&body(seed, 6 << 20)).expect("it fits"));
        kept.push((seed, disk.store(&body(seed, 5_000)).expect("it fits")));
    }
    let used = || disk.shared.file.metadata().expect("open").blocks() * 512;
    let before = used();
    drop(freed);
    // Not every file system can make holes; those that cannot keep the blocks.
    assert!(used() <= before);
    assert!(*disk.shared.freed_blocks.borrow() < RECLAIM_BYTES / u64::from(BLOCK_BYTES));
    for (seed, extent) in &kept {
        assert_eq!(read(extent), body(*seed, 5_000).concat());
    }
}

/// Reads until `whole` has come, while `extent` is sent.
fn received(extent: &Extent, from: u64, count: usize) -> Vec<u8> {
    let (sender, mut receiver) = UnixStream::pair().expect("a pair");
    sender.set_nonblocking(true).expect("a socket");
    let mut bytes = Vec::new();
    let mut sent = 0;
    while sent < count {
        match extent.send_to(sender.as_fd(), from + sent as u64, count - sent) {
            Ok(0) => break,
            Ok(taken) => sent += taken,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                let mut part = vec![0; 50_000];
                let count = receiver.read(&mut part).expect("what was sent");
                bytes.extend_from_slice(&part[..count]);
            }
        }
    }
    drop(sender);
    receiver.read_to_end(&mut bytes).expect("the rest");
    assert_eq!(bytes.len(), sent);
    bytes
}

#[test]
fn a_body_is_sent_until_the_socket_is_full_and_then_goes_on() {
    let (disk, _directory) = disk(16 << 20);
    let extent = disk.store(&body(9, 3_000_000)).expect("it fits");
    let whole = body(9, 3_000_000).concat();
    assert_eq!(received(&extent, 0, whole.len()), whole);
    assert_eq!(received(&extent, 5_000, 700), whole[5_000..5_700]);
    assert_eq!(received(&extent, 2_999_000, usize::MAX), whole[2_999_000..]);
    assert!(received(&extent, 3_000_000, 1).is_empty());
    assert!(received(&extent, 0, 0).is_empty());
}

#[test]
fn a_client_that_is_gone_is_an_error_and_no_signal() {
    let (disk, _directory) = disk(1 << 20);
    let extent = disk.store(&body(9, 1_000)).expect("it fits");
    let (sender, receiver) = UnixStream::pair().expect("a pair");
    drop(receiver);
    let error = extent.send_to(sender.as_fd(), 0, 1_000).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

/// A connection over loopback, whose sender does not block.
fn connection() -> (Socket, Socket) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).expect("a free port");
    listener.listen(1).expect("it is bound");
    let sender = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    sender.connect(&listener.local_addr().expect("bound")).expect("it listens");
    let (receiver, _) = listener.accept().expect("it is connected");
    (sender, receiver)
}

/// Reads `count` bytes, and returns which values they have.
fn values(mut receiver: &Socket, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    receiver.read_exact(&mut bytes).expect("what was sent");
    bytes.dedup();
    bytes
}

#[test]
fn what_was_sent_is_not_changed_by_a_body_in_the_same_blocks() {
    let bytes = 32 * 1024;
    let (sender, receiver) = connection();
    let (disk, _directory) = disk(bytes as u64);
    let first = disk.store(&[vec![b'A'; bytes].into()]).expect("it fits");
    assert_eq!(first.send_to(sender.as_fd(), 0, bytes).expect("there is room"), bytes);
    drop(first);
    let _second = disk.store(&[vec![b'B'; bytes].into()]).expect("it fits again");
    assert_eq!(values(&receiver, bytes), b"A");
}

#[test]
fn sendfile_would_send_whatever_is_in_the_blocks_later() {
    let bytes = 32 * 1024;
    let (sender, receiver) = connection();
    // In memory, so that it is the same whatever the file system of this machine is.
    let file = memfd_create("bodies", MemfdFlags::CLOEXEC).expect("a file");
    let file = File::from(file);
    file.write_all_at(&vec![b'A'; bytes], 0).expect("there is room");
    let sent = rustix::fs::sendfile(&sender, &file, Some(&mut 0), bytes).expect("there is room");
    file.write_all_at(&vec![b'B'; bytes], 0).expect("there is room");
    assert_eq!(values(&receiver, sent), b"B", "the reason why bodies are read and sent");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bodies_come_back_whatever_is_freed_between(
        calls in prop::collection::vec((any::<u8>(), 0usize..60_000, any::<bool>()), 1..120),
    ) {
        let (disk, _directory) = disk(blocks(60));
        let mut kept: Vec<(u8, usize, Extent)> = Vec::new();
        for (seed, bytes, frees) in calls {
            if frees && !kept.is_empty() {
                kept.swap_remove(usize::from(seed) % kept.len());
            }
            let used: u64 = kept.iter().map(|(_, bytes, _)| bytes.div_ceil(4_096) as u64).sum();
            prop_assert_eq!(disk.bytes(), blocks(used));
            match disk.store(&body(seed, bytes)) {
                Ok(extent) => kept.push((seed, bytes, extent)),
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::StorageFull);
                    prop_assert!(used + bytes.div_ceil(4_096) as u64 > 60);
                }
            }
            for (seed, bytes, extent) in &kept {
                prop_assert_eq!(read(extent), body(*seed, *bytes).concat());
            }
        }
    }
}
