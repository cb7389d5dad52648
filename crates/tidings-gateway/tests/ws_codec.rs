//! The decoder against RFC 6455, case by case in the manner of the Autobahn suite (its numbers stand at each test),
//! each with the bytes arriving whole and in pieces; and against arbitrary bytes.

#![allow(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use proptest::prelude::*;
use tidings_gateway::ws::{
    codec::{Chunk, Decoder, Event},
    frame,
};

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const LAST: u8 = 0x80;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// Nothing may follow but the close with this code.
    Refused(u16),
}

use Got::{Close, Ping, Pong, Refused};

fn got_text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

impl From<Event<'_>> for Got {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A frame as a client sends it, written from the RFC and not with the code under test.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=65535 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    client_frame(LAST | TEXT, payload.as_ref())
}

fn control(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    client_frame(LAST | opcode, payload.as_ref())
}

fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    control(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, message_bytes_max: usize) -> Vec<Got> {
    let mut decoder = Decoder::new(message_bytes_max);
    let mut all = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let length = piece.len();
        let mut chunk = Chunk::new(&mut piece);
        loop {
            match decoder.next(&mut chunk) {
                Ok(Some(event)) => all.push(event.into()),
                Ok(None) => break,
                Err(violation) => all.push(Refused(violation.close_code())),
            }
        }
        assert_eq!(chunk.taken(), length);
        let frame_bytes_max = message_bytes_max.max(frame::CONTROL_BYTES_MAX) + 14;
        let kept_bytes = decoder.kept_bytes();
        assert!(kept_bytes <= message_bytes_max + frame_bytes_max, "{kept_bytes} bytes kept");
    }
    all
}

/// Whatever way the bytes arrive, the events are the expected ones.
#[track_caller]
fn check(frames: &[Vec<u8>], expected: &[Got]) {
    let bytes = frames.concat();
    assert_eq!(decode([&bytes[..]], MESSAGE_BYTES_MAX), expected, "all at once");
    for size in [1, 2, 3, 5, 7, 13, 997] {
        assert_eq!(decode(bytes.chunks(size), MESSAGE_BYTES_MAX), expected, "in pieces of {size}");
    }
    if bytes.len() < 400 {
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(decode([first, second], MESSAGE_BYTES_MAX), expected, "split at {at}");
        }
    }
}

#[test]
fn messages_of_every_length_encoding_1() {
    for length in [0, 1, 125, 126, 127, 128, 65535, 65536] {
        let payload = "*".repeat(length);
        check(&[text(&payload)], &[got_text(&payload)]);
        let binary = vec![0xFE; length];
        check(&[client_frame(LAST | BINARY, &binary)], &[Got::Binary(binary)]);
    }
}

#[test]
fn unmasking_is_right_at_every_alignment() {
    for length in 0..40 {
        let payload: String = ('!'..='~').cycle().take(length).collect();
        for before in 0..9 {
            let lead = "x".repeat(before);
            check(&[text(&lead), text(&payload)], &[got_text(&lead), got_text(&payload)]);
        }
    }
}

#[test]
fn lengths_longer_than_necessary_are_read() {
    let in_two = [&[0x81, 0xFE, 0, 2, 0, 0, 0, 0][..], b"hi"].concat();
    let in_eight = [&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0][..], b"hi"].concat();
    check(&[in_two, in_eight], &[got_text("hi"), got_text("hi")]);
}

#[test]
fn pings_and_pongs_2() {
    let ping = |payload: &[u8]| control(PING, payload);
    let binary = [0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF];
    check(&[ping(b"")], &[Ping(vec![])]);
    check(&[ping(b"Hello, world!")], &[Ping(b"Hello, world!".to_vec())]);
    check(&[ping(&binary)], &[Ping(binary.to_vec())]);
    check(&[ping(&[0xFE; 125])], &[Ping(vec![0xFE; 125])]);
    check(&[ping(&[0xFE; 126])], &[Refused(1002)]);
    check(&[control(PONG, b"")], &[Pong(vec![])]);
    check(
        &[control(PONG, b"unsolicited"), ping(b"ping")],
        &[Pong(b"unsolicited".to_vec()), Ping(b"ping".to_vec())],
    );
    check(&[control(PONG, [0; 126])], &[Refused(1002)]);
    let ten: Vec<_> = (0..10).map(|n| ping(format!("payload-{n}").as_bytes())).collect();
    let answers: Vec<_> = (0..10).map(|n| Ping(format!("payload-{n}").into_bytes())).collect();
    check(&ten, &answers);
}

#[test]
fn reserved_bits_3() {
    for bits in 1..8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION] {
            let bad = client_frame(LAST | bits << 4 | opcode, b"Hello");
            check(&[text("before"), bad, control(PING, b"never seen")], &[got_text("before"), Refused(1002)]);
        }
    }
}

#[test]
fn reserved_opcodes_4() {
    for opcode in (3..=7).chain(11..=15) {
        for payload in [&b""[..], b"reserved opcode payload"] {
            let bad = client_frame(LAST | opcode, payload);
            check(&[text("before"), bad, control(PING, b"")], &[got_text("before"), Refused(1002)]);
        }
    }
}

#[test]
fn control_frames_are_not_fragmented_5_1_and_5_2() {
    for opcode in [PING, PONG, CLOSE] {
        let rest = client_frame(LAST | CONTINUATION, b"fragment2");
        check(&[client_frame(opcode, b"fragment1"), rest], &[Refused(1002)]);
    }
}

#[test]
fn fragments_with_pings_between_5_3_to_5_8_and_5_19_5_20() {
    let first = client_frame(TEXT, b"fragment1");
    let middle = client_frame(CONTINUATION, b"fragment2");
    let last = client_frame(LAST | CONTINUATION, b"fragment3");
    let ping = control(PING, b"ping payload");
    let pinged = Ping(b"ping payload".to_vec());
    let whole = got_text("fragment1fragment2fragment3");
    check(&[first.clone(), last.clone()], &[got_text("fragment1fragment3")]);
    check(&[first.clone(), ping.clone(), last.clone()], &[pinged.clone(), got_text("fragment1fragment3")]);
    check(
        &[first.clone(), middle.clone(), ping.clone(), last.clone(), first, ping, middle, last],
        &[pinged.clone(), whole.clone(), pinged, whole],
    );
}

#[test]
fn nothing_to_continue_5_9_to_5_17() {
    for first in [CONTINUATION, LAST | CONTINUATION] {
        let stray = client_frame(first, b"non-continuation payload");
        check(&[stray.clone(), text("Hello, world!")], &[Refused(1002)]);
        let begin = client_frame(TEXT, b"fragment1");
        let end = client_frame(LAST | CONTINUATION, b"fragment2");
        check(&[begin, end, stray, text("never seen")], &[got_text("fragment1fragment2"), Refused(1002)]);
    }
}

#[test]
fn a_message_does_not_begin_inside_another_5_18() {
    for first in [TEXT, LAST | TEXT, BINARY, LAST | BINARY] {
        check(&[client_frame(TEXT, b"fragment1"), client_frame(first, b"fragment2")], &[Refused(1002)]);
    }
}

#[test]
fn a_close_may_come_between_fragments() {
    let begin = client_frame(TEXT, b"never finished");
    check(&[begin, close(1000, "bye")], &[Close(Some(1000), "bye".into())]);
}

#[test]
fn empty_fragments_6_1() {
    let (begin, middle) = (client_frame(TEXT, b""), client_frame(CONTINUATION, b""));
    let end = client_frame(LAST | CONTINUATION, b"");
    check(&[text("")], &[got_text("")]);
    check(&[begin.clone(), middle, end.clone()], &[got_text("")]);
    let middle = client_frame(CONTINUATION, "middle frame payload".as_bytes());
    check(&[begin, middle, end], &[got_text("middle frame payload")]);
}

#[test]
fn text_split_inside_a_code_point_6_2() {
    let whole = "Hello-µ@ßöäüàá-UTF-8!! κόσμε 𝄞";
    check(&[text(whole)], &[got_text(whole)]);
    for at in 1..whole.len() {
        let (first, second) = whole.as_bytes().split_at(at);
        let frames = [client_frame(TEXT, first), client_frame(LAST | CONTINUATION, second)];
        check(&frames, &[got_text(whole)]);
    }
    let each_byte: Vec<u8> = whole
        .bytes()
        .enumerate()
        .flat_map(|(at, byte)| client_frame(if at == 0 { TEXT } else { CONTINUATION }, &[byte]))
        .collect();
    check(&[each_byte, client_frame(LAST | CONTINUATION, b"")], &[got_text(whole)]);
}

#[test]
fn text_that_is_not_utf8_is_refused_6_3_and_6_4() {
    let before = "κόσμε".as_bytes();
    let bad = b"\xed\xa0\x80";
    let after = b"edited";
    check(&[text([before, bad, after].concat())], &[Refused(1007)]);
    check(
        &[
            client_frame(TEXT, before),
            client_frame(CONTINUATION, bad),
            client_frame(LAST | CONTINUATION, after),
        ],
        &[Refused(1007)],
    );
    let cut = &before[..before.len() - 1];
    check(&[client_frame(TEXT, cut), client_frame(LAST | CONTINUATION, b"")], &[Refused(1007)]);
    let begin = client_frame(BINARY, bad);
    check(&[begin, client_frame(LAST | CONTINUATION, after)], &[Got::Binary([&bad[..], after].concat())]);
}

/// Markus Kuhn's sequences, as Autobahn has them in 6.5 to 6.23.
#[test]
fn utf8_sequences_6_5_to_6_23() {
    let valid: &[&[u8]] = &[
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
        b"\x00",
        b"\xc2\x80",
        b"\xe0\xa0\x80",
        b"\xf0\x90\x80\x80",
        b"\x7f",
        b"\xdf\xbf",
        b"\xef\xbf\xbf",
        b"\xf4\x8f\xbf\xbf",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xef\xbf\xbd",
        b"\xef\xbf\xbe",
        b"\xef\xb7\x90",
        b"\xf0\x9f\xbf\xbe",
        b"\xf3\xbf\xbf\xbf",
        b"\xf4\x8f\xbf\xbe",
    ];
    let invalid: &[&[u8]] = &[
        b"\xce",
        b"\xce\xba\xe1",
        b"\xce\xba\xe1\xbd",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80\xbf\x80",
        b"\xc0 \xc1 ",
        b"\xe0 \xe1 ",
        b"\xf0 \xf1 ",
        b"\xf8 \xfc ",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xed\xaf\xbf\xed\xbf\xbf",
    ];
    for sequence in valid {
        let expected = Got::Text(String::from_utf8(sequence.to_vec()).unwrap());
        check(&[text(sequence)], &[expected]);
    }
    for sequence in invalid {
        check(&[text(sequence)], &[Refused(1007)]);
    }
}

#[test]
fn nothing_is_decoded_after_a_close_7_1() {
    let closed = Close(Some(1000), String::new());
    check(&[close(1000, ""), close(1000, ""), text("late"), control(PING, b"")], &[closed]);
}

#[test]
fn close_payloads_7_3_and_7_5() {
    check(&[control(CLOSE, b"")], &[Close(None, String::new())]);
    check(&[control(CLOSE, b"a")], &[Refused(1002)]);
    check(&[close(1000, "")], &[Close(Some(1000), String::new())]);
    check(&[close(1000, "Hello World!")], &[Close(Some(1000), "Hello World!".into())]);
    let longest = "*".repeat(123);
    check(&[close(1000, &longest)], &[Close(Some(1000), longest)]);
    check(&[close(1000, "*".repeat(124))], &[Refused(1002)]);
    check(&[close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\xed\xa0\x80")], &[Refused(1007)]);
}

#[test]
fn close_codes_7_7_7_9_and_7_13() {
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        check(&[close(code, "")], &[Close(Some(code), String::new())]);
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check(&[close(code, "")], &[Refused(1002)]);
    }
}

#[test]
fn an_unmasked_frame_is_refused() {
    check(&[vec![0x81, 0x02, b'h', b'i']], &[Refused(1002)]);
    check(&[vec![0x89, 0x00]], &[Refused(1002)]);
}

#[test]
fn a_length_of_2_to_the_63_is_refused_and_one_below_is_too_large() {
    let claim = |first: u8, second: u8| [&[first, 0xFF, second][..], &[0xFF; 7], &[0; 4]].concat();
    check(&[claim(0x82, 0x80)], &[Refused(1002)]);
    check(&[claim(0x82, 0x7F)], &[Refused(1009)]);
}

#[test]
fn a_message_too_large_is_refused_by_its_header_alone() {
    let long = text("x".repeat(MESSAGE_BYTES_MAX + 1));
    check(&[long[..14].to_vec()], &[Refused(1009)]);
    let begin = client_frame(TEXT, &[b'x'; 40_000]);
    let more = client_frame(CONTINUATION, &[b'x'; 25_537]);
    check(&[begin.clone(), more[..8].to_vec()], &[Refused(1009)]);
    let fits = client_frame(LAST | CONTINUATION, &[b'x'; 25_536]);
    check(&[begin, fits], &[got_text(&"x".repeat(65_536))]);
}

#[test]
fn a_header_reserves_nothing_and_a_delivered_message_leaves_nothing() {
    let mut decoder = Decoder::new(1 << 30);
    let mut claim = [&[0x82, 0xFF][..], &(1_u64 << 29).to_be_bytes(), &[0; 4], b"abc"].concat();
    assert_eq!(decoder.next(&mut Chunk::new(&mut claim)), Ok(None));
    assert!(decoder.kept_bytes() <= 64, "{} bytes for a claim", decoder.kept_bytes());

    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let mut large = text("x".repeat(60_000));
    let (first, second) = large.split_at_mut(30_000);
    assert_eq!(decoder.next(&mut Chunk::new(first)), Ok(None));
    let mut chunk = Chunk::new(second);
    assert!(matches!(decoder.next(&mut chunk), Ok(Some(Event::Text(text))) if text.len() == 60_000));
    assert_eq!(decoder.next(&mut chunk), Ok(None));
    assert_eq!(decoder.kept_bytes(), 0);
}

#[test]
fn fragments_without_end_are_refused() {
    let bytes = [client_frame(TEXT, b""), client_frame(CONTINUATION, b"").repeat(10_000)].concat();
    assert_eq!(decode([&bytes[..]], MESSAGE_BYTES_MAX), [Refused(1008)]);
    // Pieces of 64 bytes are honest.
    let pieces: Vec<u8> =
        (0..1024).flat_map(|n| client_frame(if n == 0 { TEXT } else { 0 }, &[b'x'; 64])).collect();
    let bytes = [pieces, client_frame(LAST | CONTINUATION, b"")].concat();
    assert_eq!(decode(bytes.chunks(997), MESSAGE_BYTES_MAX), [got_text(&"x".repeat(65_536))]);
}

#[test]
fn what_the_server_sends() {
    assert_eq!(&frame::text_frame(b"Hello")[..], b"\x81\x05Hello");
    assert_eq!(&frame::ping_frame(b"Hello")[..], b"\x89\x05Hello");
    assert_eq!(&frame::pong_frame(b"Hello")[..], b"\x8a\x05Hello");
    assert_eq!(&frame::pong_frame(&[7; 200])[..2], [0x8A, 125]);
    assert_eq!(&frame::close_frame(None, "ignored")[..], b"\x88\x00");
    assert_eq!(&frame::close_frame(Some(1000), "bye")[..], b"\x88\x05\x03\xe8bye");
    for (length, header) in [
        (125, &[0x81, 125][..]),
        (126, &[0x81, 126, 0, 126]),
        (65_535, &[0x81, 126, 0xFF, 0xFF]),
        (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let frame = frame::text_frame(&vec![b'x'; length]);
        assert_eq!((&frame[..header.len()], frame.len()), (header, header.len() + length));
    }
    // A reason is cut at a character: 122 bytes of two-byte characters fit into 123.
    let cut = frame::close_frame(Some(4000), &"é".repeat(100));
    assert_eq!((cut[1], cut.len()), (124, 126));
}

/// Frames a client may and may not send, so that arbitrary bytes get past the first header.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![TEXT, CONTINUATION, BINARY, LAST | TEXT, LAST | CONTINUATION, LAST | PING, LAST | PONG]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => "\\PC{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    (first, payload).prop_map(|(first, payload)| client_frame(first, &payload))
}

/// The bytes cut at the given places, which wrap around.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn events_do_not_depend_on_how_bytes_arrive(
        frames in prop::collection::vec(any_frame(), 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let bytes = [frames.concat(), tail].concat();
        for message_bytes_max in [100, MESSAGE_BYTES_MAX] {
            let whole = decode([&bytes[..]], message_bytes_max);
            prop_assert_eq!(&decode(cut(&bytes, &cuts), message_bytes_max), &whole);
            prop_assert_eq!(&decode(bytes.chunks(1), message_bytes_max), &whole);
        }
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_pile_up(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        prop_assert_eq!(decode(cut(&bytes, &cuts), 500), decode([&bytes[..]], 500));
    }

    #[test]
    fn messages_come_out_as_they_went_in(
        messages in prop::collection::vec(("\\PC{0,200}", prop::collection::vec(any::<usize>(), 0..5)), 1..10),
    ) {
        let mut bytes = Vec::new();
        for (message, cuts) in &messages {
            let pieces = cut(message.as_bytes(), cuts);
            for (at, piece) in pieces.iter().enumerate() {
                let opcode = if at == 0 { TEXT } else { CONTINUATION };
                let last = if at + 1 == pieces.len() { LAST } else { 0 };
                bytes.extend(client_frame(last | opcode, piece));
            }
        }
        let expected: Vec<_> = messages.into_iter().map(|(message, _)| Got::Text(message)).collect();
        prop_assert_eq!(decode(bytes.chunks(11), MESSAGE_BYTES_MAX), expected);
    }
}
