//! What waits for one socket. Frames are shared, so a queue holds references to bytes that many queues send.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::scratch::SCRATCH_BYTES;

/// A frame at least this long is handed to the socket as it is instead of being copied next to its neighbours.
const ALONE_BYTES: usize = SCRATCH_BYTES / 2;

/// Frames of the peer in order, and at most one pong, which goes ahead of them.
///
/// `push` never refuses: the peer looks at [`OutQueue::bytes`] and stops (an entry it does not queue stays in the log).
/// An empty queue holds no memory.
#[derive(Debug)]
pub struct OutQueue {
    frames: VecDeque<Bytes>,
    /// The rest of a frame of which the socket has taken the beginning; nothing may come between.
    begun: Bytes,
    begun_is_pong: bool,
    pong: Bytes,
    bytes: usize,
    bytes_max: usize,
}

impl OutQueue {
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            begun: Bytes::new(),
            begun_is_pong: false,
            pong: Bytes::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Queues one whole encoded frame.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Bytes of pushed frames that the socket has not taken yet.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Nothing that can wait should be queued now.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Nothing waits for the socket, pongs included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.pong.is_empty() && self.frames.is_empty()
    }

    /// Answers the latest ping. An earlier answer that has not begun to leave is dropped, as RFC 6455, 5.5.3 allows:
    /// so pings cannot fill a queue.
    pub(crate) fn set_pong(&mut self, frame: Bytes) {
        self.pong = frame;
    }

    /// Drops what has not begun to leave. What is pushed next follows the frame that has.
    pub(crate) fn drop_unsent(&mut self) {
        self.frames = VecDeque::new();
        self.pong = Bytes::new();
        self.bytes = if self.begun_is_pong { 0 } else { self.begun.len() };
    }

    /// The bytes to write next: one long frame as it is, or as many as fit copied into `scratch`.
    pub(crate) fn gather<'a>(&'a self, scratch: &'a mut [u8]) -> &'a [u8] {
        let mut waiting = self.waiting();
        let Some(first) = waiting.next() else { return &[] };
        if first.len() >= ALONE_BYTES || first.len() == self.waiting_bytes() {
            return first;
        }
        let mut filled = 0;
        for frame in self.waiting() {
            let count = frame.len().min(scratch.len() - filled);
            scratch[filled..filled + count].copy_from_slice(&frame[..count]);
            filled += count;
            if filled == scratch.len() {
                break;
            }
        }
        &scratch[..filled]
    }

    /// The socket took the first `count` bytes of what was gathered; answers how many of them had been pushed.
    pub(crate) fn taken(&mut self, count: usize) -> usize {
        let mut left = count;
        let mut pushed = 0;
        while left > 0 && self.begin_next() {
            let step = left.min(self.begun.len());
            self.begun.advance(step);
            left -= step;
            pushed += if self.begun_is_pong { 0 } else { step };
        }
        if self.begun.is_empty() {
            // An empty slice of a frame would still hold all of it.
            self.begun = Bytes::new();
        }
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
        self.bytes -= pushed;
        pushed
    }

    /// Makes sure that `begun` is what leaves next; false if nothing waits.
    fn begin_next(&mut self) -> bool {
        if !self.begun.is_empty() {
            return true;
        }
        self.begun_is_pong = !self.pong.is_empty();
        let next =
            if self.begun_is_pong { Some(std::mem::take(&mut self.pong)) } else { self.frames.pop_front() };
        self.begun = next.unwrap_or_default();
        !self.begun.is_empty()
    }

    /// In the order in which it leaves.
    fn waiting(&self) -> impl Iterator<Item = &Bytes> {
        [&self.begun, &self.pong].into_iter().filter(|frame| !frame.is_empty()).chain(&self.frames)
    }

    fn waiting_bytes(&self) -> usize {
        let begun_pong = if self.begun_is_pong { self.begun.len() } else { 0 };
        self.bytes + self.pong.len() + begun_pong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    fn gathered(queue: &OutQueue) -> Vec<u8> {
        queue.gather(&mut [0; 64]).to_vec()
    }

    #[test]
    fn small_frames_leave_together() {
        let mut queue = OutQueue::new(100);
        queue.push(frame(b'a', 3));
        queue.push(frame(b'b', 2));
        assert_eq!(gathered(&queue), b"aaabb");
        assert_eq!(queue.taken(5), 5);
        assert!(queue.is_empty());
        assert_eq!((queue.bytes(), queue.frames.capacity()), (0, 0));
    }

    #[test]
    fn a_scratch_full_ends_inside_a_frame() {
        let mut queue = OutQueue::new(1000);
        queue.push(frame(b'a', 60));
        queue.push(frame(b'b', 60));
        assert_eq!(gathered(&queue), [vec![b'a'; 60], vec![b'b'; 4]].concat());
        assert_eq!(queue.taken(64), 64);
        assert_eq!(gathered(&queue), vec![b'b'; 56]);
    }

    #[test]
    fn a_pong_waits_for_the_frame_that_has_begun_and_only_the_latest_is_kept() {
        let mut queue = OutQueue::new(1000);
        queue.push(frame(b'a', 4));
        queue.push(frame(b'b', 2));
        assert_eq!(queue.taken(1), 1);
        queue.set_pong(frame(b'1', 2));
        queue.set_pong(frame(b'2', 2));
        assert_eq!(gathered(&queue), b"aaa22bb");
        assert_eq!(queue.taken(4), 3, "one byte of the pong has left");
        queue.set_pong(frame(b'3', 1));
        assert_eq!(gathered(&queue), b"23bb");
        assert_eq!(queue.taken(4), 2);
        assert!(queue.is_empty());
    }

    #[test]
    fn dropping_what_is_unsent_keeps_the_frame_that_has_begun() {
        let mut queue = OutQueue::new(1000);
        queue.push(frame(b'a', 4));
        queue.push(frame(b'b', 2));
        queue.taken(1);
        queue.drop_unsent();
        queue.push(frame(b'c', 1));
        assert_eq!(gathered(&queue), b"aaac");
        assert_eq!(queue.bytes(), 4);
    }

    #[test]
    fn a_long_frame_is_not_copied() {
        let mut queue = OutQueue::new(1000);
        let long = frame(b'a', ALONE_BYTES);
        queue.push(long.clone());
        queue.push(frame(b'b', 1));
        let mut scratch = vec![0; SCRATCH_BYTES];
        assert_eq!(queue.gather(&mut scratch).as_ptr(), long.as_ptr());
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut queue = OutQueue::new(4);
        queue.push(frame(b'a', 3));
        assert!(!queue.is_full());
        queue.push(frame(b'b', 1));
        assert!(queue.is_full());
        queue.taken(1);
        assert!(!queue.is_full());
    }
}
