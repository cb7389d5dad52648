//! One frame of RFC 6455: the header a client sends, and whole frames as a server sends them.

use bytes::Bytes;

use super::codec::Violation;

/// The longest payload of a ping, pong or close frame.
pub const CONTROL_BYTES_MAX: usize = 125;

/// A text message as one frame, ready for any number of sockets: a clone shares the bytes.
#[must_use]
pub fn text_frame(payload: &[u8]) -> Bytes {
    frame(TEXT, payload)
}

/// A ping; `payload` is cut to what a control frame may carry.
#[must_use]
pub fn ping_frame(payload: &[u8]) -> Bytes {
    frame(PING, &payload[..payload.len().min(CONTROL_BYTES_MAX)])
}

/// The answer to a ping with this payload.
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(PONG, &payload[..payload.len().min(CONTROL_BYTES_MAX)])
}

/// A close frame; `None` says no more than that the connection ends. The reason is cut, at a character, to what fits.
#[must_use]
pub fn close_frame(code: Option<u16>, reason: &str) -> Bytes {
    let Some(code) = code else { return frame(CLOSE, &[]) };
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut payload = Vec::with_capacity(CONTROL_BYTES_MAX);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    frame(CLOSE, &payload)
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Control {
    Close,
    Ping,
    Pong,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Opcode {
    Continuation,
    Data(Data),
    Control(Control),
}

impl Opcode {
    pub(super) const fn parse(byte: u8) -> Result<Self, Violation> {
        Ok(match byte & OPCODE_BITS {
            CONTINUATION => Self::Continuation,
            TEXT => Self::Data(Data::Text),
            BINARY => Self::Data(Data::Binary),
            CLOSE => Self::Control(Control::Close),
            PING => Self::Control(Control::Ping),
            PONG => Self::Control(Control::Pong),
            reserved => return Err(Violation::ReservedOpcode(reserved)),
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) last: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// Of the header itself.
    pub(super) bytes: usize,
    pub(super) payload_bytes: usize,
}

impl Header {
    /// Judges the first two bytes as soon as they are there; the rest follows when it is whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        if first & RESERVED_BITS != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::parse(first)?;
        let last = first & LAST_BIT != 0;
        let length = second & !MASK_BIT;
        if matches!(opcode, Opcode::Control(_)) {
            if !last {
                return Err(Violation::ControlFragmented);
            }
            if usize::from(length) > CONTROL_BYTES_MAX {
                return Err(Violation::ControlTooLong);
            }
        }
        if second & MASK_BIT == 0 {
            return Err(Violation::NotMasked);
        }
        let Some((length_bytes, mask)) =
            bytes.get(2..Self::bytes_of(bytes)).and_then(<[u8]>::split_last_chunk::<4>)
        else {
            return Ok(None);
        };
        let payload_bytes = Self::payload_bytes(length, length_bytes)?;
        Ok(Some(Self { last, opcode, mask: *mask, bytes: 2 + length_bytes.len() + 4, payload_bytes }))
    }

    /// Lengths longer than necessary are not refused: receivers are not asked to.
    fn payload_bytes(length: u8, length_bytes: &[u8]) -> Result<usize, Violation> {
        if length_bytes.is_empty() {
            return Ok(usize::from(length));
        }
        let length = length_bytes.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        if length >> 63 != 0 {
            return Err(Violation::LengthTopBit);
        }
        // What this machine cannot even address is beyond every bound.
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The bytes a header takes that begins with `bytes`, as far as they say.
    pub(super) const fn bytes_of(bytes: &[u8]) -> usize {
        let &[_, second, ..] = bytes else { return 2 };
        match second & !MASK_BIT {
            LENGTH_IN_2 => 8,
            LENGTH_IN_8 => HEADER_BYTES_MAX,
            _ => 6,
        }
    }

    pub(super) const fn frame_bytes(&self) -> usize {
        self.bytes.saturating_add(self.payload_bytes)
    }
}

/// Masking is an exclusive or with the mask, over and over; eight bytes at a time it costs next to nothing.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(LAST_BIT | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < LENGTH_IN_2 => frame.push(length),
        (_, Ok(length)) => {
            frame.push(LENGTH_IN_2);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(LENGTH_IN_8);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const LAST_BIT: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0F;
const MASK_BIT: u8 = 0x80;
/// In the second byte: the length follows in two bytes, or in eight.
const LENGTH_IN_2: u8 = 126;
const LENGTH_IN_8: u8 = 127;

pub(super) const HEADER_BYTES_MAX: usize = 14;
