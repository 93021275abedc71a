//! The compressor: one thread a process that makes stored bodies smaller, away from the workers.
//!
//! Nobody waits for it. Whoever stores a body offers it here and goes on with the plain bytes; when
//! there is more to do than it manages, bodies stay plain.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use tracing::error;

use super::coding::Coding;

/// Bytes of the largest body that is compressed: about a tenth of a second of work. Arbitrary.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Bodies that wait. Arbitrary; the bytes below are what bounds memory.
const JOBS_MAX: usize = 64;

/// Bytes of the bodies that wait or are being compressed. They may have left their store meanwhile,
/// so they count against no other bound. Arbitrary: a few of the largest.
const QUEUED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// Of how many parts of a body one must be saved: a twentieth, 5 %. Below that, decoding costs clients more than
/// the bytes cost the network.
const SAVED_PART: usize = 20;

/// Brotli's quality: close to its best for text at about the speed of gzip 6. As in the original.
const BROTLI_QUALITY: i32 = 5;

/// Brotli's window, 4 MiB: the default of most encoders, and every decoder takes it.
const BROTLI_WINDOW_BITS: i32 = 22;

/// gzip's and zlib's level, the default of zlib.
const DEFLATE_LEVEL: flate2::Compression = flate2::Compression::new(6);

/// How far the thread steps back behind the workers (`nice(2)`). Arbitrary.
const NICENESS: i32 = 10;

/// Receives the coded body on the compressor's thread, or `None` when the body should stay plain.
pub type Reply = Box<dyn FnOnce(Option<Bytes>) + Send>;

/// A body to compress.
pub struct Job {
    /// Into which coding.
    pub coding: Coding,
    /// The body in its pieces.
    pub body: Vec<Bytes>,
    /// Told how it went; must not block.
    pub reply: Reply,
}

/// A handle to the thread, which ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Compressor {
    jobs: SyncSender<Queued>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Compressor {
    /// Starts the thread.
    ///
    /// It runs where its caller may, so start it from a thread that is not pinned.
    ///
    /// # Errors
    ///
    /// The system gives no thread: go on without compression, or leave.
    pub fn spawn() -> io::Result<Self> {
        Self::start().map(|(compressor, _)| compressor)
    }

    fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let thread = Builder::new().name("compressor".to_owned()).spawn(move || run(&queue))?;
        Ok((Self { jobs, queued_bytes: Arc::default() }, thread))
    }

    /// Offers a body, without waiting, and returns whether it was taken.
    ///
    /// Too much is waiting, or the body is larger than [`BODY_BYTES_MAX`]: the job is dropped and its
    /// reply never called. Otherwise the reply is called once.
    pub fn offer(&self, job: Job) -> bool {
        let bytes = length(&job.body);
        if bytes > BODY_BYTES_MAX {
            return false;
        }
        let Some(room) = Room::take(&self.queued_bytes, bytes) else { return false };
        self.jobs.try_send(Queued { job, room }).is_ok()
    }
}

/// A job in the queue.
struct Queued {
    job: Job,
    room: Room,
}

/// A share of [`QUEUED_BYTES_MAX`], given back when dropped.
struct Room {
    bytes: usize,
    queued_bytes: Arc<AtomicUsize>,
}

impl Room {
    fn take(queued_bytes: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let more =
            |queued: usize| queued.checked_add(bytes).filter(|queued| *queued <= QUEUED_BYTES_MAX);
        // Only a sum: nothing is read on the strength of it.
        queued_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self { bytes, queued_bytes: Arc::clone(queued_bytes) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The thread: one job after the other until all handles are gone.
fn run(queue: &Receiver<Queued>) {
    // On Linux for this thread alone. Refused, it competes with the workers as an equal.
    rustix::process::nice(NICENESS).ok();
    while let Ok(Queued { job, room }) = queue.recv() {
        let Job { coding, body, reply } = job;
        let compress = || compress(coding, &body);
        let coded = catch_unwind(AssertUnwindSafe(compress)).unwrap_or_else(|_| {
            error!(coding = coding.token(), "a codec panicked; the body stays as it is");
            None
        });
        drop(body);
        drop(room);
        if catch_unwind(AssertUnwindSafe(|| reply(coded))).is_err() {
            error!("whoever stores compressed bodies panicked");
        }
    }
}

/// Returns the coded body, or `None` when too little would be saved.
///
/// Coding stops as soon as that is clear.
pub fn compress(coding: Coding, body: &[Bytes]) -> Option<Bytes> {
    let bytes = length(body);
    let sink = Sink { written: Vec::new(), bytes_max: bytes - bytes.div_ceil(SAVED_PART) };
    let sink = match coding {
        Coding::Brotli => {
            let params = BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW_BITS,
                size_hint: bytes,
                ..BrotliEncoderParams::default()
            };
            let mut writer = CompressorWriter::with_params(sink, 4096, &params);
            write(&mut writer, body)?;
            // Its end may fail without a word: then the sink is closed, and says so below.
            writer.into_inner()
        }
        Coding::Gzip => {
            let mut writer = GzEncoder::new(sink, DEFLATE_LEVEL);
            write(&mut writer, body)?;
            writer.finish().ok()?
        }
        Coding::Deflate => {
            let mut writer = ZlibEncoder::new(sink, DEFLATE_LEVEL);
            write(&mut writer, body)?;
            writer.finish().ok()?
        }
    };
    let mut written = sink.into_written()?;
    // It may stay for days; what the buffer has too much would not be counted.
    written.shrink_to_fit();
    Some(written.into())
}

fn write(writer: &mut impl Write, body: &[Bytes]) -> Option<()> {
    body.iter().try_for_each(|piece| writer.write_all(piece)).ok()
}

fn length(body: &[Bytes]) -> usize {
    body.iter().map(Bytes::len).sum()
}

/// A buffer that takes at most `bytes_max` bytes, and closes when offered more.
struct Sink {
    written: Vec<u8>,
    bytes_max: usize,
}

impl Sink {
    /// Returns what was written, unless the buffer was closed.
    fn into_written(self) -> Option<Vec<u8>> {
        (!self.written.is_empty()).then_some(self.written)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.written.len() {
            *self = Self { written: Vec::new(), bytes_max: 0 };
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Gzip, Coding::Deflate];

    fn text(bytes: usize) -> Vec<u8> {
        let words = b"the quick brown fox jumps over the lazy dog and so on; ";
        words.iter().copied().cycle().take(bytes).collect()
    }

    /// Bytes that do not shrink.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            state.to_be_bytes()[0]
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn pieces(body: &[u8]) -> Vec<Bytes> {
        body.chunks(1_000).map(Bytes::copy_from_slice).collect()
    }

    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let read = match coding {
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut body),
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut body),
            Coding::Deflate => flate2::read::ZlibDecoder::new(coded).read_to_end(&mut body),
        };
        read.expect("whole and valid");
        body
    }

    fn job(coding: Coding, body: Vec<Bytes>) -> (Job, Receiver<Option<Bytes>>) {
        let (sender, receiver) = channel();
        let reply = Box::new(move |coded| sender.send(coded).expect("the test waits"));
        (Job { coding, body, reply }, receiver)
    }

    #[test]
    fn a_body_comes_back_in_every_coding() {
        for coding in CODINGS {
            for bytes in [100, 1_000, 70_000, 1_000_000] {
                let body = text(bytes);
                let coded = compress(coding, &pieces(&body)).expect("it shrinks");
                assert!(coded.len() < bytes / 2 + 30, "{coding:?}: {} of {bytes}", coded.len());
                assert_eq!(decoded(coding, &coded), body);
            }
        }
    }

    #[test]
    fn a_body_that_hardly_shrinks_stays_as_it_is() {
        for coding in CODINGS {
            for bytes in [0, 1, 19, 20, 1_000, 300_000] {
                assert_eq!(compress(coding, &pieces(&noise(bytes))), None, "{coding:?} {bytes}");
            }
            // A tenth of text is more than is lost on the noise, a hundredth is not.
            for (share, shrinks) in [(10, true), (100, false)] {
                let mut body = noise(100_000);
                body.extend(text(100_000 / share));
                let coded = compress(coding, &pieces(&body));
                assert_eq!(coded.is_some(), shrinks, "{coding:?} 1/{share}");
                assert!(coded.is_none_or(|coded| coded.len() <= body.len() - body.len() / 20));
            }
        }
    }

    #[test]
    fn a_reply_comes_from_the_thread_and_the_room_is_given_back() {
        let (compressor, thread) = Compressor::start().expect("a thread");
        for coding in CODINGS {
            let (job, replies) = job(coding, pieces(&text(50_000)));
            assert!(compressor.clone().offer(job));
            let coded = replies.recv().expect("a reply").expect("it shrinks");
            assert_eq!(decoded(coding, &coded), text(50_000));
            assert_eq!(compressor.queued_bytes.load(Ordering::Relaxed), 0);
        }
        drop(compressor);
        thread.join().expect("it ends with its last handle");
    }

    #[test]
    fn a_panic_does_not_end_the_thread() {
        let (compressor, thread) = Compressor::start().expect("a thread");
        let (coding, body) = (Coding::Gzip, pieces(&text(1_000)));
        let reply = Box::new(|_| panic!("as a test wants it"));
        assert!(compressor.offer(Job { coding, body: body.clone(), reply }));
        let (job, replies) = job(coding, body);
        assert!(compressor.offer(job));
        assert!(replies.recv().expect("a reply").is_some());
        drop(compressor);
        thread.join().expect("it ends as usual");
    }

    /// A compressor that waits in a reply until the sender is dropped.
    fn busy() -> (Compressor, Sender<()>) {
        let compressor = Compressor::spawn().expect("a thread");
        let ((started, has_started), (release, released)) = (channel(), channel::<()>());
        let reply = Box::new(move |_| {
            started.send(()).expect("the test waits");
            released.recv().expect_err("dropped, not sent to");
        });
        assert!(compressor.offer(Job { coding: Coding::Gzip, body: Vec::new(), reply }));
        has_started.recv().expect("the thread runs");
        (compressor, release)
    }

    #[test]
    fn a_full_queue_drops_the_job() {
        let (compressor, _release) = busy();
        for _ in 0..JOBS_MAX {
            assert!(compressor.offer(job(Coding::Gzip, pieces(b"a")).0));
        }
        let (job, replies) = job(Coding::Gzip, pieces(b"a"));
        assert!(!compressor.offer(job));
        replies.recv().expect_err("the reply is dropped with its job");
        assert_eq!(compressor.queued_bytes.load(Ordering::Relaxed), JOBS_MAX);
    }

    #[test]
    fn bytes_that_wait_are_bounded_and_so_is_a_body() {
        let (compressor, _release) = busy();
        let large = Bytes::from(vec![0; BODY_BYTES_MAX]);
        let over = vec![large.clone(), Bytes::from_static(b"a")];
        assert!(!compressor.offer(job(Coding::Gzip, over).0));
        for _ in 0..4 {
            assert!(compressor.offer(job(Coding::Gzip, vec![large.clone()]).0));
        }
        assert!(!compressor.offer(job(Coding::Gzip, pieces(b"a")).0));
        assert!(compressor.offer(job(Coding::Gzip, Vec::new()).0));
    }
}
