//! What holds for every value, and for bytes that are no value at all.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidings_record::{
    EntryKind, HEADER_BYTES, HeaderError, KeyId, PAYLOAD_BYTES_MAX, RecordError, RecordHeader, RecordType,
    SegmentHeader, decode_entries, decode_entry, decode_head, decode_id_rows, decode_member,
    decode_personal_fact, encode_entries, encode_entry, encode_head, encode_id_rows, encode_member,
    encode_personal_fact, encode_record, entries, find_id, peek_kind, record_bytes,
};
use tidings_types::{
    Body, CommandHash, Content, ConversationId, ConversationKind, DeviceId, Entry, Epoch, Fence, Head,
    IdRecord, Member, MessageId, PersonalFact, PersonalState, PersonalSubject, Place, RecordNumber, Role,
    Seq, ShardId, SpaceId, Timestamp, UserId,
};

proptest! {
    #[test]
    fn entries_round_trip(entry in entry()) {
        let bytes = encoded(&entry, encode_entry);
        prop_assert_eq!(peek_kind(&bytes), Ok(EntryKind::of(&entry.body)));
        prop_assert_eq!(decode_entry(&bytes), Ok(entry));
    }

    #[test]
    fn sequences_round_trip(list in vec(entry(), 0..8)) {
        let payload = encode_entries(&list);
        for (bytes, entry) in entries(&payload).zip(&list) {
            prop_assert_eq!(bytes.map(<[u8]>::to_vec), Ok(encoded(entry, encode_entry)));
        }
        prop_assert_eq!(decode_entries(&payload), Ok(list));
    }

    #[test]
    fn heads_round_trip(head in head()) {
        prop_assert_eq!(decode_head(&encoded(&head, encode_head)), Ok(head));
    }

    #[test]
    fn members_round_trip(role in role(), joined in any::<u64>(), from in any::<u64>(), left in option::of(any::<u64>())) {
        let joined_at = Timestamp::from_ms(joined);
        let member = Member { role, joined_at, visible_from: Seq(from), left: left.map(Seq) };
        prop_assert_eq!(decode_member(&encoded(&member, encode_member)), Ok(member));
    }

    #[test]
    fn personal_facts_round_trip(device in any::<bool>(), key in any::<[u8; 16]>(), state in 0..3_u8, cause in any::<u64>()) {
        let subject = if device {
            PersonalSubject::Device(DeviceId::from_bytes(key))
        } else {
            PersonalSubject::Conversation(ConversationId::from_bytes(key))
        };
        let states = [PersonalState::Joined, PersonalState::Left, PersonalState::DeviceRemoved];
        let fact = PersonalFact { state: states[usize::from(state)], cause: Seq(cause) };
        let mut bytes = Vec::new();
        encode_personal_fact(&subject, &fact, &mut bytes);
        prop_assert_eq!(decode_personal_fact(key, &bytes), Ok((subject, fact)));
    }

    #[test]
    fn id_rows_round_trip_and_are_found(rows in vec(id_row(), 0..20), absent in any::<[u8; 16]>()) {
        let mut bytes = Vec::new();
        encode_id_rows(&rows, &mut bytes);
        for (id, _) in &rows {
            let first = rows.iter().find(|(other, _)| other == id).map(|(_, record)| *record);
            prop_assert_eq!(find_id(&bytes, *id), Ok(first));
        }
        let absent = MessageId::from_bytes(absent);
        let expected = rows.iter().find(|(id, _)| *id == absent).map(|(_, record)| *record);
        prop_assert_eq!(find_id(&bytes, absent), Ok(expected));
        prop_assert_eq!(decode_id_rows(&bytes), Ok(rows));
    }

    #[test]
    fn records_round_trip_and_every_flipped_bit_is_seen(
        header in header(),
        payload in vec(any::<u8>(), 0..300),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = Vec::new();
        encode_record(header, &payload, &mut bytes).unwrap();
        prop_assert_eq!(bytes.len(), record_bytes(payload.len()));
        prop_assert_eq!(bytes.len() % 8, 0);
        let parsed = RecordHeader::parse(&bytes).unwrap();
        prop_assert_eq!(parsed.record_bytes(), bytes.len());
        let RecordHeader { payload_bytes, payload_checksum, .. } = parsed;
        prop_assert_eq!(payload_bytes as usize, payload.len());
        prop_assert_eq!(parsed, RecordHeader { payload_bytes, payload_checksum, ..header });
        prop_assert_eq!(parsed.verify(&payload), Ok(()));

        let at = flip.index(HEADER_BYTES + payload.len());
        bytes[at] ^= 1 << bit;
        let intact = RecordHeader::parse(&bytes)
            .and_then(|header| header.verify(&bytes[HEADER_BYTES..HEADER_BYTES + payload.len()]));
        prop_assert!(intact.is_err(), "a flipped bit {bit} of byte {at} was not seen");
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        decode_everything(&bytes);
    }

    #[test]
    fn damaged_values_never_panic(
        entry in entry(),
        head in head(),
        rows in vec(id_row(), 0..4),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let values = [
            encoded(&entry, encode_entry),
            encode_entries([&entry]),
            encoded(&head, encode_head),
            encoded(&rows, |rows, out| encode_id_rows(rows, out)),
        ];
        for mut bytes in values {
            decode_everything(&bytes[..cut.index(bytes.len())]);
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            decode_everything(&bytes);
        }
    }

    #[test]
    fn a_shortened_entry_is_never_taken_for_a_whole_one(entry in entry(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&entry, encode_entry);
        let shorter = &bytes[..cut.index(bytes.len())];
        prop_assert_ne!(decode_entry(shorter), Ok(entry));
    }

    #[test]
    fn unknown_fields_are_passed_over(entry in entry(), number in 100..10_000_u64, text in vec(any::<u8>(), 0..50)) {
        let mut bytes = encoded(&entry, encode_entry);
        for wire in [0, 1, 2] {
            varint(&mut bytes, number << 2 | wire);
            match wire {
                0 => varint(&mut bytes, number * number),
                1 => bytes.extend_from_slice(&[0xee; 16]),
                _ => {
                    varint(&mut bytes, text.len() as u64);
                    bytes.extend_from_slice(&text);
                }
            }
        }
        prop_assert_eq!(decode_entry(&bytes), Ok(entry));
    }
}

#[test]
fn a_newer_version_is_refused() {
    let bytes = [2, 4, 2];
    assert_eq!(decode_entry(&bytes), Err(RecordError::UnknownVersion(2)));
    assert_eq!(peek_kind(&bytes), Err(RecordError::UnknownVersion(2)));
    assert_eq!(decode_head(&bytes), Err(RecordError::UnknownVersion(2)));
    assert_eq!(decode_entry(&[]), Err(RecordError::Truncated));
}

#[test]
fn a_missing_field_is_named() {
    // `MemberLeft` with nothing else.
    assert_eq!(decode_entry(&[1, 4, 5]), Err(RecordError::Missing("conversation")));
    assert_eq!(decode_entry(&[1]), Err(RecordError::Missing("kind")));
    assert_eq!(decode_member(&[1]), Err(RecordError::Missing("joined_at")));
    assert_eq!(decode_head(&[1]), Err(RecordError::Missing("conversation kind")));
}

#[test]
fn a_field_of_another_type_is_refused() {
    // Field 3, the conversation, as a number.
    assert_eq!(decode_entry(&[1, 4, 5, 3 << 2, 1]), Err(RecordError::Invalid("conversation")));
    assert_eq!(decode_entry(&[1, 4, 5, 3 << 2 | 3]), Err(RecordError::UnknownWireType(3)));
}

#[test]
fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
    // One entry that claims 2^62 bytes.
    let mut payload = Vec::new();
    varint(&mut payload, 1 << 62);
    payload.extend_from_slice(&[1, 4, 5]);
    assert_eq!(decode_entries(&payload), Err(RecordError::Truncated));
    assert_eq!(entries(&payload).collect::<Vec<_>>(), [Err(RecordError::Truncated)]);
}

#[test]
fn a_payload_beyond_the_bound_is_neither_written_nor_believed() {
    let too_long = vec![0; PAYLOAD_BYTES_MAX + 1];
    let mut bytes = Vec::new();
    let refused = Err(HeaderError::PayloadTooLong(524_289));
    assert_eq!(encode_record(some_header(), &too_long, &mut bytes), refused);
    assert!(bytes.is_empty());
    encode_record(some_header(), &too_long[1..], &mut bytes).unwrap();
    // A header with a good checksum that claims more.
    let header = RecordHeader { payload_bytes: 524_289, ..some_header() };
    assert_eq!(RecordHeader::parse(&header.encode()).map(|_| ()), refused);
}

#[test]
fn zeros_are_no_header() {
    assert_eq!(RecordHeader::parse(&[0; HEADER_BYTES]), Err(HeaderError::NotAHeader));
    assert_eq!(SegmentHeader::parse(&[0; HEADER_BYTES]), Err(HeaderError::NotAHeader));
    assert_eq!(RecordHeader::parse(&[0; HEADER_BYTES - 1]), Err(HeaderError::Truncated));
}

/// Whatever the bytes are: an answer, and what it holds is in proportion to the input. The smallest member of a
/// `Created` takes 19 bytes, the smallest id row and entry more.
fn decode_everything(bytes: &[u8]) {
    let _ = decode_entry(bytes);
    let _ = peek_kind(bytes);
    let _ = decode_head(bytes);
    let _ = decode_member(bytes);
    let _ = decode_personal_fact([1; 16], bytes);
    let _ = find_id(bytes, MessageId::from_bytes([1; 16]));
    let _ = RecordHeader::parse(bytes);
    let _ = SegmentHeader::parse(bytes);
    let raw = entries(bytes).filter_map(Result::ok).map(<[u8]>::len).sum::<usize>();
    assert!(raw <= bytes.len());
    assert!(decode_entries(bytes).unwrap_or_default().len() * 40 <= bytes.len());
    assert!(decode_id_rows(bytes).unwrap_or_default().len() * 40 <= bytes.len());
    if let Ok(Entry { body: Body::Created { members, .. }, .. }) = decode_entry(bytes) {
        assert!(members.len() * 19 <= bytes.len());
    }
}

fn encoded<T>(value: &T, encode: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn some_header() -> RecordHeader {
    RecordHeader {
        kind: RecordType::Entries,
        key_id: KeyId::PLAIN,
        log_id: 1,
        shard: ShardId(0),
        fence: Fence(32),
        number: RecordNumber(1),
        place: Place(112),
        durable: Place(112),
        payload_bytes: 0,
        payload_checksum: 0,
    }
}

fn header() -> impl Strategy<Value = RecordHeader> {
    let kind = prop_oneof![
        Just(RecordType::WriterChanged),
        Just(RecordType::Entries),
        Just(RecordType::DurableMark)
    ];
    (kind, any::<u32>(), any::<u16>(), any::<[u64; 5]>()).prop_map(|(kind, key, shard, numbers)| {
        let [log_id, fence, number, place, durable] = numbers;
        RecordHeader {
            kind,
            key_id: KeyId(key),
            log_id,
            shard: ShardId(shard),
            fence: Fence(fence),
            number: RecordNumber(number),
            place: Place(place),
            durable: Place(durable),
            payload_bytes: 0,
            payload_checksum: 0,
        }
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (space(), any::<([u8; 16], [u8; 16])>(), any::<[u64; 4]>(), body()).prop_map(
        |(space, ids, numbers, body)| {
            let [seq, version, created_at, messages] = numbers;
            Entry {
                space,
                conversation: ConversationId::from_bytes(ids.0),
                seq: Seq(seq),
                version,
                sender: UserId::from_bytes(ids.1),
                created_at: Timestamp::from_ms(created_at),
                messages,
                body,
            }
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let members = vec((user(), role()), 0..6);
    prop_oneof![
        (kind(), option::of(".{0,40}"), members, hash()).prop_map(|(kind, title, members, hash)| {
            Body::Created { kind, title: title.map(Arc::from), members, hash }
        }),
        (message_id(), ".{0,200}", option::of(message_id()), hash()).prop_map(
            |(message_id, text, reply_to, hash)| {
                Body::Message { message_id, content: Content::Text(Arc::from(text)), reply_to, hash }
            }
        ),
        vec(user(), 1..6).prop_map(|users| Body::MembersAdded { users }),
        user().prop_map(|user| Body::MemberRemoved { user }),
        Just(Body::MemberLeft),
        subject().prop_map(|(conversation, seq)| Body::Joined { conversation, seq }),
        subject().prop_map(|(conversation, seq)| Body::Left { conversation, seq }),
        any::<[u8; 16]>().prop_map(|id| Body::DeviceRemoved { device: DeviceId::from_bytes(id) }),
    ]
}

fn head() -> impl Strategy<Value = Head> {
    let numbers = any::<[u64; 7]>();
    let small = any::<[u32; 2]>();
    (space(), kind(), option::of(".{0,40}"), user(), hash(), numbers, small).prop_map(
        |(space, kind, title, creator, created_hash, numbers, [epoch, member_count])| {
            let [created_at, seq, version, floor, messages, last_message, last_at] = numbers;
            Head {
                space,
                kind,
                title: title.map(Arc::from),
                creator,
                created_hash,
                created_at: Timestamp::from_ms(created_at),
                seq: Seq(seq),
                version,
                floor: Seq(floor),
                epoch: Epoch(epoch),
                messages,
                last_message: Seq(last_message),
                last_at: Timestamp::from_ms(last_at),
                member_count,
            }
        },
    )
}

fn id_row() -> impl Strategy<Value = (MessageId, IdRecord)> {
    (message_id(), any::<u64>(), user(), hash(), any::<u64>()).prop_map(
        |(id, seq, sender, hash, created_at)| {
            (id, IdRecord { seq: Seq(seq), sender, hash, created_at: Timestamp::from_ms(created_at) })
        },
    )
}

fn space() -> impl Strategy<Value = SpaceId> {
    prop_oneof![Just(SpaceId::DEFAULT), any::<[u8; 16]>().prop_map(SpaceId::from_bytes)]
}

fn subject() -> impl Strategy<Value = (ConversationId, Seq)> {
    any::<([u8; 16], u64)>().prop_map(|(id, seq)| (ConversationId::from_bytes(id), Seq(seq)))
}

fn kind() -> impl Strategy<Value = ConversationKind> {
    prop_oneof![
        Just(ConversationKind::Direct),
        Just(ConversationKind::Group),
        Just(ConversationKind::Personal)
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn user() -> impl Strategy<Value = UserId> {
    any::<[u8; 16]>().prop_map(UserId::from_bytes)
}

fn message_id() -> impl Strategy<Value = MessageId> {
    any::<[u8; 16]>().prop_map(MessageId::from_bytes)
}

fn hash() -> impl Strategy<Value = CommandHash> {
    any::<[u8; 16]>().prop_map(CommandHash)
}
