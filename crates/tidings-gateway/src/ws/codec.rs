//! What a client sends by RFC 6455, as events, without any I/O.
//!
//! The decoder is fed whatever a read returned. A message that lies whole in those bytes is unmasked in place and lent
//! to the caller; only what is incomplete is copied, and given back as soon as its message is delivered. So a
//! connection between two messages keeps nothing. In between it keeps at most the fragments of one message and one
//! frame, and memory grows with what has arrived, never with what a header merely claims.

use std::{borrow::Cow, mem, ops::Range};

use super::frame::{Control, Data, HEADER_BYTES_MAX, Header, Opcode, unmask};

/// Close codes that the connection itself uses; those of the protocol above are its own business.
pub mod close_code {
    pub const NORMAL: u16 = 1000;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const UNSUPPORTED_DATA: u16 = 1003;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_LARGE: u16 = 1009;
}

/// Fragments a message of the given bound may have. Honest senders make pieces of 64 bytes and more; without a bound
/// a peer could send empty fragments for ever.
const fn fragments_max(message_bytes_max: usize) -> usize {
    64 + message_bytes_max / 64
}

/// Why the other side is told that the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: Cow<'static, str>,
}

impl Close {
    #[must_use]
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The last event of a connection. The code is one a peer may send; `None` if the frame carried none.
    Close {
        code: Option<u16>,
        reason: &'a str,
    },
}

/// The client broke the protocol; the connection must be closed with [`Violation::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a reserved bit is set and no extension was agreed on")]
    ReservedBits,
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    #[error("a client's frame must be masked")]
    NotMasked,
    #[error("a control frame must not be fragmented")]
    ControlFragmented,
    #[error("a control frame carries at most 125 bytes")]
    ControlTooLong,
    #[error("the length of a frame must be below 2^63")]
    LengthTopBit,
    #[error("a continuation without a message to continue")]
    NothingToContinue,
    #[error("a new message before the last fragment of the one before")]
    MessageInterrupted,
    #[error("a close frame carries no payload or at least two bytes")]
    CloseTooShort,
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("a message is longer than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("a message has more than {fragments_max} fragments")]
    TooManyFragments { fragments_max: usize },
}

impl Violation {
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::NotUtf8 => close_code::NOT_UTF8,
            Self::TooLarge { .. } => close_code::TOO_LARGE,
            Self::TooManyFragments { .. } => close_code::POLICY,
            _ => close_code::PROTOCOL_ERROR,
        }
    }
}

/// Received bytes and how far they have been decoded.
#[derive(Debug)]
pub struct Chunk<'b> {
    bytes: &'b mut [u8],
    taken: usize,
}

impl<'b> Chunk<'b> {
    pub const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// How many bytes have been decoded or copied into the decoder.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Takes up to `count` bytes and answers where they are.
    fn take(&mut self, count: usize) -> Range<usize> {
        let start = self.taken;
        self.taken = start.saturating_add(count).min(self.bytes.len());
        start..self.taken
    }
}

/// Turns bytes of one connection into events.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// The frame that is not whole yet, as it was received: header and masked payload.
    partial: Vec<u8>,
    /// The fragments so far of a message that is not whole yet, unmasked.
    message: Vec<u8>,
    /// What the last event borrows, if it did not lie whole in the chunk.
    lent: Vec<u8>,
    /// What the fragments are of; `None` between messages.
    fragments_of: Option<Data>,
    fragments: usize,
    /// After a close frame or a violation nothing more is decoded.
    over: bool,
}

impl Decoder {
    #[must_use]
    pub const fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            partial: Vec::new(),
            message: Vec::new(),
            lent: Vec::new(),
            fragments_of: None,
            fragments: 0,
            over: false,
        }
    }

    /// The next event in `chunk`. `None`: the chunk is used up and the decoder has kept what it needs of it.
    pub fn next<'a>(&'a mut self, chunk: &'a mut Chunk<'_>) -> Result<Option<Event<'a>>, Violation> {
        self.release();
        let (kind, place) = match self.find(chunk) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(violation) => {
                self.over = true;
                return Err(violation);
            }
        };
        let event = event(kind, place.of(chunk.bytes, &self.lent));
        self.over = matches!(event, Err(_) | Ok(Event::Close { .. }));
        event.map(Some)
    }

    /// Gives back the memory of the event that was delivered last, as the next call of `next` would.
    pub fn release(&mut self) {
        self.lent = Vec::new();
    }

    /// Bytes of memory held right now.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.partial.capacity() + self.message.capacity() + self.lent.capacity()
    }

    fn find(&mut self, chunk: &mut Chunk<'_>) -> Result<Option<(Kind, Place)>, Violation> {
        if self.over {
            chunk.take(usize::MAX);
            return Ok(None);
        }
        while let Some((header, place)) = self.frame(chunk)? {
            if let Some(found) = self.assemble(header, place, chunk)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The next whole frame, unmasked.
    fn frame(&mut self, chunk: &mut Chunk<'_>) -> Result<Option<(Header, Place)>, Violation> {
        if !self.partial.is_empty() {
            return self.rest_of_frame(chunk);
        }
        let header = self.header(chunk.rest())?;
        let Some(header) = header.filter(|header| header.frame_bytes() <= chunk.rest().len()) else {
            let bytes_max = header.map_or(HEADER_BYTES_MAX, |header| header.frame_bytes());
            let kept = chunk.take(usize::MAX);
            append(&mut self.partial, &chunk.bytes[kept], bytes_max);
            return Ok(None);
        };
        let frame = chunk.take(header.frame_bytes());
        let payload = frame.start + header.bytes..frame.end;
        unmask(&mut chunk.bytes[payload.clone()], header.mask);
        Ok(Some((header, Place::Chunk(payload))))
    }

    /// Completes the frame that began in an earlier chunk: first its header, which says how much more it needs.
    fn rest_of_frame(&mut self, chunk: &mut Chunk<'_>) -> Result<Option<(Header, Place)>, Violation> {
        loop {
            let header = self.header(&self.partial)?;
            let wanted =
                header.map_or_else(|| Header::bytes_of(&self.partial), |header| header.frame_bytes());
            if let Some(header) = header.filter(|_| self.partial.len() == wanted) {
                self.lent = mem::take(&mut self.partial);
                unmask(&mut self.lent[header.bytes..], header.mask);
                return Ok(Some((header, Place::Lent(header.bytes..wanted))));
            }
            let more = chunk.take(wanted - self.partial.len());
            if more.is_empty() {
                return Ok(None);
            }
            append(&mut self.partial, &chunk.bytes[more], wanted);
        }
    }

    /// The header at the start of `bytes`, once it is there and if it is allowed now.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Violation> {
        let Some(header) = Header::parse(bytes)? else { return Ok(None) };
        let message_bytes = match (header.opcode, self.fragments_of) {
            (Opcode::Control(_), _) => return Ok(Some(header)),
            (Opcode::Continuation, None) => return Err(Violation::NothingToContinue),
            (Opcode::Data(_), Some(_)) => return Err(Violation::MessageInterrupted),
            (Opcode::Continuation, Some(_)) | (Opcode::Data(_), None) => {
                self.message.len().saturating_add(header.payload_bytes)
            }
        };
        if message_bytes > self.message_bytes_max {
            return Err(Violation::TooLarge { bytes_max: self.message_bytes_max });
        }
        Ok(Some(header))
    }

    /// Puts fragments together. Control frames may come between them and are never fragments.
    fn assemble(
        &mut self,
        header: Header,
        place: Place,
        chunk: &Chunk<'_>,
    ) -> Result<Option<(Kind, Place)>, Violation> {
        let data = match (header.opcode, self.fragments_of) {
            (Opcode::Control(control), _) => return Ok(Some((Kind::Control(control), place))),
            (Opcode::Data(data), _) if header.last => return Ok(Some((Kind::Data(data), place))),
            (Opcode::Data(data), _) | (Opcode::Continuation, Some(data)) => data,
            (Opcode::Continuation, None) => return Err(Violation::NothingToContinue),
        };
        self.fragments += 1;
        let fragments_max = fragments_max(self.message_bytes_max);
        if self.fragments > fragments_max {
            return Err(Violation::TooManyFragments { fragments_max });
        }
        append(&mut self.message, place.of(chunk.bytes, &self.lent), self.message_bytes_max);
        if !header.last {
            self.release();
            self.fragments_of = Some(data);
            return Ok(None);
        }
        self.fragments_of = None;
        self.fragments = 0;
        self.lent = mem::take(&mut self.message);
        Ok(Some((Kind::Data(data), Place::Lent(0..self.lent.len()))))
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Data(Data),
    Control(Control),
}

/// Where a payload lies.
#[derive(Debug)]
enum Place {
    Chunk(Range<usize>),
    Lent(Range<usize>),
}

impl Place {
    fn of<'a>(self, chunk: &'a [u8], lent: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Chunk(range) => &chunk[range],
            Self::Lent(range) => &lent[range],
        }
    }
}

fn event(kind: Kind, payload: &[u8]) -> Result<Event<'_>, Violation> {
    Ok(match kind {
        Kind::Data(Data::Text) => Event::Text(text(payload)?),
        Kind::Data(Data::Binary) => Event::Binary(payload),
        Kind::Control(Control::Ping) => Event::Ping(payload),
        Kind::Control(Control::Pong) => Event::Pong(payload),
        Kind::Control(Control::Close) => close_event(payload)?,
    })
}

fn close_event(payload: &[u8]) -> Result<Event<'_>, Violation> {
    if payload.is_empty() {
        return Ok(Event::Close { code: None, reason: "" });
    }
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(Violation::CloseTooShort)?;
    let code = u16::from_be_bytes(*code);
    // 1004 has no meaning; 1005, 1006 and 1015 only exist in APIs; 1016-2999 are reserved, 0-999 never used.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode(code));
    }
    Ok(Event::Close { code: Some(code), reason: text(reason)? })
}

fn text(bytes: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(bytes).map_err(|_| Violation::NotUtf8)
}

/// Grows by doubling, so that many small pieces do not copy each other, but not beyond what there can ever be.
fn append(to: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let needed = to.len() + bytes.len();
    if needed > to.capacity() {
        let capacity = needed.next_power_of_two().min(bytes_max).max(needed);
        to.reserve_exact(capacity - to.len());
    }
    to.extend_from_slice(bytes);
}
