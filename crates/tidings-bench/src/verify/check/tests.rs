//! One hand-made journal per kind of violation, each the clean one with a single fault: the fault is found, and nothing
//! else is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_types::{Code, ConversationId, ConversationKind, Cursor, Epoch, MessageId, Role, Seq, UserId};
use tidings_wire::{
    Content, Created, Entry, EntryBody, Gap, Joined, Left, MemberAtCreation, MemberRemoved, MembersAdded,
    Message, Snapshot, Target,
};

use super::{Kind, check};
use crate::verify::journal::{
    Answer, DeviceJournal, Ending, Event, Journal, List, Probe, Read, Sent, SocketJournal,
};

const GROUP: ConversationId = ConversationId::from_bytes([9; 16]);
const ALICE: UserId = UserId::from_bytes([1; 16]);
const BOB: UserId = UserId::from_bytes([2; 16]);
const CAROL: UserId = UserId::from_bytes([3; 16]);
const HEAD: u64 = 7;

/// Alice and Bob write; Carol is there from the fourth entry to the sixth.
fn group_entry(seq: u64) -> Arc<Entry> {
    let (sender, messages, body) = match seq {
        1 => (ALICE, 0, created(ConversationKind::Group, &[ALICE, BOB])),
        2 => (ALICE, 1, message(2)),
        3 => (BOB, 2, message(3)),
        4 => (ALICE, 2, EntryBody::MembersAdded(MembersAdded { user_ids: vec![CAROL] })),
        5 => (ALICE, 3, message(5)),
        6 => (ALICE, 3, EntryBody::MemberRemoved(MemberRemoved { user_id: CAROL })),
        _ => (BOB, 4, message(7)),
    };
    entry(GROUP, seq, sender, messages, body)
}

fn entry(id: ConversationId, seq: u64, sender_id: UserId, messages: u64, body: EntryBody) -> Arc<Entry> {
    Arc::new(Entry {
        conversation_id: id,
        seq: Seq(seq),
        sender_id,
        created_at_ms: at_ms(seq),
        messages,
        body,
    })
}

const fn at_ms(seq: u64) -> u64 {
    1_000 + seq
}

fn created(conversation_kind: ConversationKind, users: &[UserId]) -> EntryBody {
    let members =
        users.iter().map(|user_id| MemberAtCreation { user_id: *user_id, role: Role::Member }).collect();
    EntryBody::Created(Created { conversation_kind, title: None, members })
}

fn message(seq: u8) -> EntryBody {
    let (message_id, content) = (MessageId::from_bytes([seq; 16]), Content::text(text(seq)));
    EntryBody::Message(Message { message_id, content, reply_to: None })
}

fn text(seq: u8) -> String {
    format!("text {seq}")
}

fn personal(user: UserId) -> ConversationId {
    ConversationId::from_bytes(*user.as_bytes())
}

fn personal_log(user: UserId) -> Vec<Arc<Entry>> {
    let note = |seq: u64, body| entry(personal(user), seq, user, 0, body);
    let joined = |cause| EntryBody::Joined(Joined { joined_conversation_id: GROUP, cause_seq: Seq(cause) });
    let left = |cause| EntryBody::Left(Left { left_conversation_id: GROUP, cause_seq: Seq(cause) });
    let first = note(1, created(ConversationKind::Personal, &[user]));
    if user == CAROL {
        vec![first, note(2, joined(4)), note(3, left(6))]
    } else {
        vec![first, note(2, joined(1))]
    }
}

fn clean() -> Journal {
    let lists = [(ALICE, true), (BOB, true), (CAROL, false)].map(|(user, is_member)| List {
        user,
        conversations: is_member.then_some(GROUP).into_iter().collect::<BTreeSet<_>>(),
    });
    let group_read = |user| Read {
        user,
        conversation: GROUP,
        visible_from: Seq(1),
        entries: (1..=HEAD).map(group_entry).collect(),
    };
    let personal_read =
        |user| Read { user, conversation: personal(user), visible_from: Seq(1), entries: personal_log(user) };
    let reads = vec![
        group_read(ALICE),
        group_read(BOB),
        personal_read(ALICE),
        personal_read(BOB),
        personal_read(CAROL),
    ];
    let probes = vec![Probe { user: CAROL, conversation: GROUP, was_answered: false }];
    Journal {
        devices: vec![alice(), bob(), carol()],
        ending: Some(Ending { lists: lists.into(), reads, probes }),
    }
}

/// Two sockets, the second one with a cursor.
fn alice() -> DeviceJournal {
    let mut first = vec![snapshot(GROUP, 1, 2)];
    first.extend((1..=4).map(|seq| Event::Entry(group_entry(seq))));
    first.extend(personal_events(ALICE));
    let mut second: Vec<_> = (5..=HEAD).map(|seq| Event::Entry(group_entry(seq))).collect();
    second.push(Event::Pong { claimed: 4, counted: 4 });
    let cursors = [(GROUP, cursor(4)), (personal(ALICE), cursor(2))];
    let sockets = vec![socket([], first), socket(cursors, second)];
    device(0, ALICE, sockets, vec![sent(2), sent(5)])
}

/// One socket with a gap that REST fills.
fn bob() -> DeviceJournal {
    let (conversation, from, to) = (GROUP, Seq(1), Seq(3));
    let gap = Gap { conversation_id: GROUP, epoch: Epoch(1), from_seq: from, to_seq: to };
    let fetched = Event::Fetched { conversation, from, to, entries: (1..=3).map(group_entry).collect() };
    let mut events = vec![snapshot(GROUP, 1, 7), Event::Gap(gap), fetched];
    events.extend((4..=HEAD).map(|seq| Event::Entry(group_entry(seq))));
    events.extend(personal_events(BOB));
    let mut retried = sent(3);
    retried.answers.push(retried.answers[0]);
    retried.attempts = 2;
    device(1, BOB, vec![socket([], events)], vec![retried, sent(7)])
}

fn carol() -> DeviceJournal {
    let mut events = vec![snapshot(GROUP, 4, 4)];
    events.extend((4..=6).map(|seq| Event::Entry(group_entry(seq))));
    events.extend(personal_events(CAROL));
    device(2, CAROL, vec![socket([], events)], Vec::new())
}

fn device(number: usize, user: UserId, sockets: Vec<SocketJournal>, sends: Vec<Sent>) -> DeviceJournal {
    let personal = (personal(user), Seq(personal_log(user).len() as u64));
    let end = Some(BTreeMap::from([(GROUP, Seq(HEAD)), personal]));
    DeviceJournal { number, user, sockets, sends, end }
}

fn socket<const N: usize>(cursors: [(ConversationId, Cursor); N], events: Vec<Event>) -> SocketJournal {
    SocketJournal { cursors: BTreeMap::from(cursors), events }
}

fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: Epoch(1), seq: Seq(seq) }
}

fn personal_events(user: UserId) -> Vec<Event> {
    let entries = personal_log(user).into_iter().map(Event::Entry);
    std::iter::once(snapshot(personal(user), 1, 2)).chain(entries).collect()
}

fn snapshot(conversation_id: ConversationId, visible_from: u64, head: u64) -> Event {
    Event::Snapshot(Box::new(Snapshot {
        conversation_id,
        kind: ConversationKind::Group,
        title: None,
        epoch: Epoch(1),
        floor: Seq(1),
        head: Seq(head),
        visible_from: Seq(visible_from),
        member_count: 2,
    }))
}

fn sent(seq: u8) -> Sent {
    Sent {
        message_id: MessageId::from_bytes([seq; 16]),
        target: Target::Conversation(GROUP),
        text: text(seq),
        attempts: 1,
        socket: 0,
        answers: vec![accepted(seq.into())],
    }
}

fn accepted(seq: u64) -> Answer {
    Answer::Accepted { conversation: GROUP, seq: Seq(seq), created_at_ms: at_ms(seq) }
}

/// Makes one fault and says which kinds of violation it is.
fn finds(expected: &[Kind], fault: impl FnOnce(&mut Journal)) {
    let mut journal = clean();
    fault(&mut journal);
    let findings = check(&journal);
    let kinds: Vec<Kind> = findings.counts.keys().copied().collect();
    assert_eq!(kinds, expected, "{:#?}", findings.examples().collect::<Vec<_>>());
}

fn events(journal: &mut Journal, device: usize) -> &mut Vec<Event> {
    &mut journal.devices[device].sockets[0].events
}

/// Where the group's entry is among Alice's first events.
fn at(seq: u64) -> usize {
    usize::try_from(seq).expect("small")
}

/// The entry, changed, as another copy.
fn changed(entry: &Arc<Entry>, change: impl FnOnce(&mut Entry)) -> Arc<Entry> {
    let mut copy = Entry::clone(entry);
    change(&mut copy);
    Arc::new(copy)
}

fn ending(journal: &mut Journal) -> &mut Ending {
    journal.ending.as_mut().unwrap()
}

/// Takes an entry out of every place where it was seen, as if it had never been written.
fn unwrite(journal: &mut Journal, seq: u64) {
    for event_list in
        journal.devices.iter_mut().flat_map(|device| &mut device.sockets).map(|socket| &mut socket.events)
    {
        event_list.retain(|event| !matches!(event, Event::Entry(entry) if entry.conversation_id == GROUP && entry.seq.0 == seq));
    }
    for read in ending(journal).reads.iter_mut().filter(|read| read.conversation == GROUP) {
        read.entries.retain(|entry| entry.seq.0 != seq);
    }
}

#[test]
fn clean_journal_has_no_finding() {
    finds(&[], |_| {});
}

#[test]
fn acknowledged_message_that_is_gone_is_lost() {
    finds(&[Kind::Lost], |journal| {
        unwrite(journal, 7);
        journal.devices.iter_mut().for_each(|device| {
            device.end.as_mut().unwrap().insert(GROUP, Seq(6));
        });
    });
}

#[test]
fn acknowledged_with_another_time_is_lost() {
    finds(&[Kind::Lost], |journal| {
        let (conversation, seq) = (GROUP, Seq(2));
        journal.devices[0].sends[0].answers = vec![Answer::Accepted { conversation, seq, created_at_ms: 5 }];
    });
}

#[test]
fn delivered_entry_that_is_gone_is_lost() {
    finds(&[Kind::Lost], |journal| {
        let extra = entry(GROUP, 8, BOB, 5, message(8));
        journal.devices[0].sockets[1].events.push(Event::Entry(extra));
    });
}

#[test]
fn read_with_a_hole_is_lost() {
    finds(&[Kind::Lost], |journal| {
        let reads = &mut ending(journal).reads;
        reads[1].entries.remove(2);
    });
}

#[test]
fn read_that_ends_early_is_lost() {
    finds(&[Kind::Lost], |journal| drop(ending(journal).reads[1].entries.pop()));
}

#[test]
fn seq_twice_on_one_socket_is_doubled() {
    finds(&[Kind::Doubled], |journal| {
        let again = events(journal, 0)[at(4)].clone();
        events(journal, 0).insert(at(5), again);
    });
}

#[test]
fn entry_that_the_cursor_covers_is_doubled() {
    finds(&[Kind::Doubled], |journal| {
        journal.devices[0].sockets[1].events.insert(0, Event::Entry(group_entry(4)));
    });
}

#[test]
fn seq_again_after_a_subscribe_or_a_snapshot_is_fine() {
    finds(&[], |journal| {
        let answer = Event::Subscribed { conversation: GROUP, cursor: Some(cursor(3)) };
        let again = [answer, Event::Entry(group_entry(4)), snapshot(GROUP, 1, 7)];
        events(journal, 0).extend(again.into_iter().chain((1..=4).map(|seq| Event::Entry(group_entry(seq)))));
    });
}

#[test]
fn one_message_acknowledged_at_two_seqs_is_doubled_and_a_wrong_retry() {
    finds(&[Kind::Doubled, Kind::RetryWrong], |journal| {
        let answer = Answer::Accepted { conversation: GROUP, seq: Seq(6), created_at_ms: at_ms(6) };
        journal.devices[1].sends[0].answers[1] = answer;
    });
}

#[test]
fn one_message_at_two_seqs_of_the_log_is_doubled() {
    finds(&[Kind::Doubled], |journal| {
        let copy = entry(GROUP, 8, BOB, 5, message(7));
        for read in ending(journal).reads.iter_mut().filter(|read| read.conversation == GROUP) {
            read.entries.push(Arc::clone(&copy));
        }
        for device in &mut journal.devices {
            device.end.as_mut().unwrap().insert(GROUP, Seq(8));
        }
    });
}

#[test]
fn one_seq_acknowledged_for_two_messages_is_doubled_and_one_of_them_lost() {
    finds(&[Kind::Lost, Kind::Doubled], |journal| {
        let second = Sent { message_id: MessageId::from_bytes([77; 16]), socket: 1, ..sent(7) };
        journal.devices[0].sends.push(second);
    });
}

#[test]
fn two_contents_at_one_seq_are_doubled_and_for_two_devices_reordered() {
    finds(&[Kind::Doubled, Kind::Reordered], |journal| {
        let Event::Entry(entry) = &events(journal, 0)[at(3)] else { panic!("an entry is there") };
        let other = changed(entry, |entry| entry.sender_id = ALICE);
        events(journal, 0)[at(3)] = Event::Entry(other);
    });
}

#[test]
fn seqs_running_backwards_on_a_socket_are_a_gap_and_reordered() {
    finds(&[Kind::Reordered, Kind::Gap], |journal| events(journal, 0).swap(at(3), at(4)));
}

#[test]
fn time_running_back_is_reordered() {
    finds(&[Kind::Reordered], |journal| {
        let early = changed(&group_entry(4), |entry| entry.created_at_ms = 1);
        for entries in ending(journal).reads.iter_mut().filter(|read| read.conversation == GROUP) {
            entries.entries[3] = Arc::clone(&early);
        }
        events(journal, 0)[at(4)] = Event::Entry(Arc::clone(&early));
        events(journal, 1)[3] = Event::Entry(Arc::clone(&early));
        events(journal, 2)[1] = Event::Entry(early);
    });
}

#[test]
fn messages_of_one_socket_in_another_order_are_reordered() {
    finds(&[Kind::Reordered], |journal| journal.devices[0].sends.swap(0, 1));
}

#[test]
fn skipped_seq_is_a_gap() {
    finds(&[Kind::Gap], |journal| drop(events(journal, 0).remove(at(3))));
}

#[test]
fn replay_that_does_not_go_on_after_the_cursor_is_a_gap() {
    finds(&[Kind::Gap], |journal| drop(journal.devices[0].sockets[1].events.remove(0)));
}

#[test]
fn entry_before_any_snapshot_is_a_gap() {
    finds(&[Kind::Gap], |journal| drop(events(journal, 2).remove(0)));
}

#[test]
fn gap_that_does_not_begin_at_the_next_seq_is_a_gap() {
    finds(&[Kind::Gap], |journal| {
        let Event::Gap(gap) = &mut events(journal, 1)[1] else { panic!("a gap is there") };
        gap.from_seq = Seq(2);
    });
}

#[test]
fn fetched_range_with_a_hole_or_a_missing_end_is_a_gap() {
    for index in 0..3 {
        finds(&[Kind::Gap], |journal| {
            let Event::Fetched { entries, .. } = &mut events(journal, 1)[2] else {
                panic!("a fetch is there")
            };
            entries.remove(index);
        });
    }
}

#[test]
fn device_that_is_behind_or_never_came_is_not_caught_up() {
    finds(&[Kind::NotCaughtUp], |journal| {
        journal.devices[0].end.as_mut().unwrap().insert(GROUP, Seq(6));
    });
    finds(&[Kind::NotCaughtUp], |journal| journal.devices[1].end = None);
}

#[test]
fn conversation_missing_from_a_list_or_a_user_without_one_is_not_caught_up() {
    finds(&[Kind::NotCaughtUp], |journal| ending(journal).lists[0].conversations.clear());
    finds(&[Kind::NotCaughtUp], |journal| drop(ending(journal).lists.remove(2)));
}

#[test]
fn message_without_an_answer_is_not_caught_up() {
    finds(&[Kind::NotCaughtUp], |journal| journal.devices[0].sends[1].answers.clear());
}

#[test]
fn personal_log_without_a_note_is_not_caught_up() {
    finds(&[Kind::NotCaughtUp], |journal| {
        ending(journal).reads[4].entries.pop();
        let carol = &mut journal.devices[2];
        carol.sockets[0].events.pop();
        carol.end.as_mut().unwrap().insert(personal(CAROL), Seq(2));
    });
}

#[test]
fn personal_log_is_missed_only_by_who_was_a_member_somewhere() {
    const DAVE: UserId = UserId::from_bytes([4; 16]);
    finds(&[], |journal| {
        journal.devices.push(device(3, DAVE, Vec::new(), Vec::new()));
        ending(journal).lists.push(List { user: DAVE, conversations: BTreeSet::new() });
    });
    finds(&[Kind::Lost, Kind::NotCaughtUp], |journal| drop(ending(journal).reads.remove(4)));
}

#[test]
fn personal_log_that_tells_twice_is_doubled() {
    finds(&[Kind::Doubled], |journal| {
        let again = changed(&personal_log(CAROL)[2], |entry| entry.seq = Seq(4));
        ending(journal).reads[4].entries.push(again);
        journal.devices[2].end.as_mut().unwrap().insert(personal(CAROL), Seq(4));
    });
}

#[test]
fn entry_outside_a_membership_is_leaked() {
    finds(&[Kind::Leaked], |journal| events(journal, 2).insert(4, Event::Entry(group_entry(7))));
}

#[test]
fn snapshot_from_before_the_membership_is_leaked() {
    finds(&[Kind::Leaked], |journal| {
        events(journal, 2)[0] = snapshot(GROUP, 3, 4);
        events(journal, 2).insert(1, Event::Entry(group_entry(3)));
    });
}

#[test]
fn foreign_conversation_read_or_listed_is_leaked() {
    finds(&[Kind::Leaked], |journal| ending(journal).probes[0].was_answered = true);
    finds(&[Kind::NotCaughtUp, Kind::Leaked], |journal| {
        ending(journal).lists[2].conversations.insert(GROUP);
    });
}

#[test]
fn message_that_nobody_wrote_is_invented() {
    finds(&[Kind::Invented], |journal| drop(journal.devices[0].sends.remove(0)));
}

#[test]
fn retry_refused_after_an_acknowledgement_is_wrong() {
    finds(&[Kind::RetryWrong, Kind::RefusedWrong], |journal| {
        journal.devices[1].sends[0].answers[1] = Answer::Refused(Code::NotFound);
    });
}

#[test]
fn message_refused_and_in_the_log_is_a_wrong_retry() {
    finds(&[Kind::RetryWrong, Kind::RefusedWrong], |journal| {
        journal.devices[1].sends[1].answers = vec![Answer::Refused(Code::NotFound)];
    });
}

#[test]
fn refusal_is_fine_only_for_who_was_out_at_some_time() {
    let refused = |code| Sent { answers: vec![Answer::Refused(code)], ..sent(90) };
    finds(&[], |journal| journal.devices[2].sends.push(refused(Code::NotFound)));
    finds(&[Kind::RefusedWrong], |journal| journal.devices[2].sends.push(refused(Code::IdConflict)));
    finds(&[Kind::RefusedWrong], |journal| journal.devices[0].sends.push(refused(Code::NotFound)));
}

#[test]
fn frames_and_messages_are_counted() {
    finds(&[Kind::CountWrong], |journal| events(journal, 0).push(Event::Pong { claimed: 4, counted: 5 }));
    finds(&[Kind::CountWrong], |journal| {
        let (alone, other) = (changed(&group_entry(7), |entry| entry.messages = 9), group_entry(7));
        for device in &mut journal.devices {
            for event in device.sockets.iter_mut().flat_map(|socket| &mut socket.events) {
                if matches!(event, Event::Entry(entry) if *entry == other) {
                    *event = Event::Entry(Arc::clone(&alone));
                }
            }
        }
        for read in ending(journal).reads.iter_mut().filter(|read| read.conversation == GROUP) {
            *read.entries.last_mut().unwrap() = Arc::clone(&alone);
        }
    });
}

#[test]
fn frames_outside_the_protocol_are_strange() {
    finds(&[Kind::Strange], |journal| events(journal, 0).push(Event::Strange("a frame of an unknown type")));
    finds(&[Kind::RefusedWrong], |journal| events(journal, 0).push(Event::ClosedForGood(4201)));
}

#[test]
fn without_an_ending_what_contradicts_itself_is_still_found() {
    finds(&[], |journal| journal.ending = None);
    finds(&[Kind::Gap], |journal| {
        journal.ending = None;
        events(journal, 0).remove(at(3));
    });
}
