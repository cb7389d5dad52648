//! One stored value of every kind, byte for byte. Data directories hold such bytes: a change here is a change of the
//! format, and old bytes must still decode. `TIDINGS_BLESS=1` writes the files anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::{Debug, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tidings_record::{
    EntryKind, KeyId, RecordError, RecordHeader, RecordType, SegmentHeader, decode_entries, decode_entry,
    decode_head, decode_id_rows, decode_member, decode_personal_fact, encode_entries, encode_entry,
    encode_head, encode_id_rows, encode_member, encode_personal_fact, encode_record,
};
use tidings_types::{
    Body, CommandHash, Content, ConversationId, ConversationKind, DeviceId, Entry, Epoch, Fence, Head,
    IdRecord, Member, MessageId, PersonalFact, PersonalState, PersonalSubject, Place, RecordNumber, Role,
    Seq, ShardId, SpaceId, Timestamp, UserId,
};

const AT: Timestamp = Timestamp::from_ms(1_790_000_000_123);
const HASH: CommandHash = CommandHash([0xcc; 16]);

#[test]
fn entries_of_every_kind() {
    let mut kinds = Vec::new();
    for (name, body) in bodies() {
        let kind = EntryKind::of(&body);
        let entry = Entry { body, ..entry_with(Body::MemberLeft) };
        golden(&format!("entry_{name}"), &entry, encode_entry, decode_entry);
        kinds.push(kind);
    }
    for kind in EntryKind::ALL {
        assert!(kinds.contains(kind), "{kind:?} has no golden file");
    }
}

#[test]
fn an_entry_outside_the_default_space() {
    let entry = Entry { space: SpaceId::from_bytes([0x99; 16]), messages: 0, ..entry_with(Body::MemberLeft) };
    golden("entry_in_a_space", &entry, encode_entry, decode_entry);
}

#[test]
fn a_payload_of_several_entries() {
    let entries: Vec<Entry> = bodies().into_iter().map(|(_, body)| entry_with(body)).collect();
    let encode = |entries: &Vec<Entry>, out: &mut Vec<u8>| out.extend(encode_entries(entries));
    golden("payload", &entries, encode, decode_entries);
}

#[test]
fn heads() {
    let group = Head {
        space: SpaceId::DEFAULT,
        kind: ConversationKind::Group,
        title: Some(Arc::from("Tea & cake ☕")),
        creator: user(1),
        created_hash: HASH,
        created_at: AT,
        seq: Seq(300),
        version: 310,
        floor: Seq(1),
        epoch: Epoch(2),
        messages: 290,
        last_message: Seq(299),
        last_at: AT.plus_ms(60_000),
        member_count: 4,
    };
    golden("head_group", &group, encode_head, decode_head);
    let direct = Head {
        space: SpaceId::from_bytes([0x99; 16]),
        kind: ConversationKind::Direct,
        title: None,
        epoch: Epoch(0),
        messages: 0,
        last_message: Seq::ZERO,
        member_count: 0,
        ..group
    };
    golden("head_direct", &direct, encode_head, decode_head);
}

#[test]
fn members() {
    let present = Member { role: Role::Member, joined_at: AT, visible_from: Seq(5), left: None };
    golden("member_present", &present, encode_member, decode_member);
    let left = Member { role: Role::Owner, left: Some(Seq(77)), ..present };
    golden("member_left", &left, encode_member, decode_member);
}

#[test]
fn personal_facts() {
    let conversation = PersonalSubject::Conversation(conversation());
    let device = PersonalSubject::Device(DeviceId::from_bytes([0xdd; 16]));
    for (name, subject, state, cause) in [
        ("personal_joined", conversation, PersonalState::Joined, Seq(3)),
        ("personal_left", conversation, PersonalState::Left, Seq(400)),
        ("personal_device_removed", device, PersonalState::DeviceRemoved, Seq::ZERO),
    ] {
        golden(
            name,
            &(subject, PersonalFact { state, cause }),
            |(subject, fact), out| encode_personal_fact(subject, fact, out),
            |bytes| decode_personal_fact(*subject.as_bytes(), bytes),
        );
    }
}

#[test]
fn id_rows() {
    let record = |seq| IdRecord { seq: Seq(seq), sender: user(2), hash: HASH, created_at: AT.plus_ms(seq) };
    let rows: Vec<_> = (7..10).map(|seq| (message_id(seq), record(seq))).collect();
    golden("id_rows", &rows, |rows, out| encode_id_rows(rows, out), decode_id_rows);
}

#[test]
fn log_records_of_every_kind() {
    let payload = encode_entries(&[entry_with(Body::MemberLeft)]);
    let records: [(&str, RecordHeader, &[u8]); 3] = [
        ("record_writer_changed", header(RecordType::WriterChanged, 4_096, 0), &[]),
        ("record_entries", header(RecordType::Entries, 4_176, 1), &payload),
        ("record_durable_mark", header(RecordType::DurableMark, 4_344, 0), &[]),
    ];
    for (name, header, payload) in records {
        let encode = |header: &RecordHeader, out: &mut Vec<u8>| encode_record(*header, payload, out).unwrap();
        let mut bytes = Vec::new();
        encode(&header, &mut bytes);
        // Length and checksum are filled in on the way.
        let written = RecordHeader::parse(&bytes).unwrap();
        let filled = RecordHeader {
            payload_bytes: written.payload_bytes,
            payload_checksum: written.payload_checksum,
            ..header
        };
        golden(name, &filled, encode, RecordHeader::parse);
        written.verify(&golden_bytes(name)[80..80 + payload.len()]).unwrap();
    }
}

#[test]
fn the_header_of_a_segment() {
    let header = SegmentHeader { log_id: 0x1122_3344_5566_7788, base: Place(64 << 20) };
    golden("segment", &header, |header, out| out.extend_from_slice(&header.encode()), SegmentHeader::parse);
}

#[test]
fn every_golden_file_has_a_test() {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap().trim_end_matches(".hex").to_owned())
        .collect();
    names.sort();
    let mut expected: Vec<String> = bodies().iter().map(|(name, _)| format!("entry_{name}")).collect();
    expected.extend(
        "entry_in_a_space payload head_group head_direct member_present member_left personal_joined personal_left \
         personal_device_removed id_rows record_writer_changed record_entries record_durable_mark segment"
            .split_whitespace()
            .map(str::to_owned),
    );
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn reserved_kinds_are_refused_by_number() {
    for kind in 9..=13_u8 {
        let bytes = [1, 1 << 2, kind];
        assert_eq!(decode_entry(&bytes), Err(RecordError::UnknownKind(u64::from(kind))));
    }
}

/// The value encodes to the file's bytes, and they decode to the value.
fn golden<T: PartialEq + Debug, E: Debug>(
    name: &str,
    value: &T,
    encode: impl Fn(&T, &mut Vec<u8>),
    decode: impl Fn(&[u8]) -> Result<T, E>,
) {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    if std::env::var_os("TIDINGS_BLESS").is_some() {
        std::fs::write(path(name), to_hex(&bytes)).unwrap();
    }
    let stored = golden_bytes(name);
    assert_eq!(to_hex(&bytes), to_hex(&stored), "{name} is encoded differently");
    assert_eq!(&decode(&stored).unwrap(), value, "{name} is decoded differently");
}

fn golden_bytes(name: &str) -> Vec<u8> {
    let hex = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        hex.push('\n');
    }
    hex
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn path(name: &str) -> PathBuf {
    directory().join(format!("{name}.hex"))
}

fn bodies() -> Vec<(&'static str, Body)> {
    vec![
        (
            "created_group",
            Body::Created {
                kind: ConversationKind::Group,
                title: Some(Arc::from("Tea & cake ☕")),
                members: vec![(user(1), Role::Owner), (user(2), Role::Admin), (user(3), Role::Member)],
                hash: HASH,
            },
        ),
        (
            "created_direct",
            Body::Created {
                kind: ConversationKind::Direct,
                title: None,
                members: vec![(user(1), Role::Member), (user(2), Role::Member)],
                hash: HASH,
            },
        ),
        (
            "created_personal",
            Body::Created { kind: ConversationKind::Personal, title: None, members: vec![], hash: HASH },
        ),
        (
            "message",
            Body::Message {
                message_id: message_id(1),
                content: Content::Text(Arc::from("Grüße aus Köln")),
                reply_to: None,
                hash: HASH,
            },
        ),
        (
            "message_reply",
            Body::Message {
                message_id: message_id(2),
                content: Content::Text(Arc::from("x".repeat(200))),
                reply_to: Some(message_id(1)),
                hash: HASH,
            },
        ),
        ("members_added", Body::MembersAdded { users: vec![user(4), user(5)] }),
        ("member_removed", Body::MemberRemoved { user: user(4) }),
        ("member_left", Body::MemberLeft),
        ("joined", Body::Joined { conversation: conversation(), seq: Seq(1) }),
        ("left", Body::Left { conversation: conversation(), seq: Seq::MAX }),
        ("device_removed", Body::DeviceRemoved { device: DeviceId::from_bytes([0xdd; 16]) }),
    ]
}

fn entry_with(body: Body) -> Entry {
    Entry {
        space: SpaceId::DEFAULT,
        conversation: conversation(),
        seq: Seq(42),
        version: 43,
        sender: user(1),
        created_at: AT,
        messages: 30,
        body,
    }
}

fn header(kind: RecordType, place: u64, number: u64) -> RecordHeader {
    RecordHeader {
        kind,
        key_id: KeyId::PLAIN,
        log_id: 0x1122_3344_5566_7788,
        shard: ShardId(3),
        fence: Fence(4_096),
        number: RecordNumber(number),
        place: Place(place),
        durable: Place(4_096),
        payload_bytes: 0,
        payload_checksum: 0,
    }
}

fn conversation() -> ConversationId {
    ConversationId::from_bytes([0xab; 16])
}

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn message_id(number: u64) -> MessageId {
    MessageId::v7(AT.plus_ms(number), [7; 10])
}
