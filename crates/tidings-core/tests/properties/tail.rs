//! The tail against a plain vector.

use std::sync::Arc;

use proptest::prelude::*;
use tidings_core::{BatchNumber, Tail, TailRange, advance};
use tidings_types::{
    Body, CommandHash, Content, ConversationKey, ConversationKind, Entry, Head, Role, Seq, SpaceId,
};

use crate::harness::INCARNATION;
use crate::harness::names::{START, key, message, user};

#[derive(Clone, Debug)]
enum Op {
    Push { conversation: usize },
    NextBatch,
    Drop { batches: u64 },
    Range { conversation: usize, after: u64, before: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3_usize).prop_map(|conversation| Op::Push { conversation }),
        3 => Just(Op::NextBatch),
        2 => (0..4_u64).prop_map(|batches| Op::Drop { batches }),
        6 => (0..3_usize, 0..30_u64, 0..30_u64)
            .prop_map(|(conversation, after, before)| Op::Range { conversation, after, before }),
        1 => (0..3_usize).prop_map(|conversation| Op::Range { conversation, after: 0, before: Seq::MAX.0 }),
    ]
}

#[test]
fn tail_is_a_vector() {
    crate::check("tail_is_a_vector", 256, &prop::collection::vec(op(), 1..80), |ops| play(&ops));
}

fn next_entry(key: ConversationKey, head: Option<&Head>) -> Entry {
    let seq = head.map_or(Seq(1), |head| head.seq.next());
    let body = if head.is_none() {
        let members = vec![(user("alice"), Role::Owner)];
        Body::Created { kind: ConversationKind::Group, title: None, members, hash: CommandHash([0; 16]) }
    } else {
        let message_id = message(&format!("m{seq}"));
        let content = Content::Text("text".into());
        Body::Message { message_id, content, reply_to: None, hash: CommandHash([0; 16]) }
    };
    Entry {
        space: SpaceId::DEFAULT,
        conversation: key.conversation,
        seq,
        version: seq.0,
        sender: user("alice"),
        created_at: START.plus_ms(seq.0),
        messages: seq.0 - 1,
        body,
    }
}

fn play(ops: &[Op]) {
    let keys = [key("g"), key("h"), key("i")];
    let mut heads: [Option<Arc<Head>>; 3] = [None, None, None];
    let mut tail = Tail::new(7);
    let mut model: Vec<(u64, Arc<Entry>)> = Vec::new();
    let (mut batch, mut dropped) = (1, 0);
    for op in ops {
        match *op {
            Op::Push { conversation } => {
                let entry = Arc::new(next_entry(keys[conversation], heads[conversation].as_deref()));
                let head = Arc::new(advance(heads[conversation].as_deref(), &entry, INCARNATION));
                heads[conversation] = Some(head.clone());
                tail.push(BatchNumber(batch), entry.clone(), head);
                model.push((batch, entry));
            }
            Op::NextBatch => batch += 1,
            Op::Drop { batches } => {
                dropped = (dropped + batches).min(batch);
                tail.drop_upto(BatchNumber(dropped));
                model.retain(|(batch, _)| *batch > dropped);
                // What comes later belongs to a later batch.
                batch = batch.max(dropped + 1);
            }
            Op::Range { conversation, after, before } => {
                let (key, head) = (keys[conversation], &heads[conversation]);
                compare(&tail, &model, key, head.as_ref(), Seq(after), Seq(before));
            }
        }
        assert_eq!(tail.is_empty(), model.is_empty());
        assert_eq!(tail.is_empty(), tail.bytes() == 0);
        let all: Vec<Arc<Entry>> = model.iter().map(|(_, entry)| entry.clone()).collect();
        assert_eq!(tail.snapshot(), (model.last().map(|(batch, _)| BatchNumber(*batch)), all));
    }
}

fn compare(
    tail: &Tail,
    model: &[(u64, Arc<Entry>)],
    key: ConversationKey,
    head: Option<&Arc<Head>>,
    after: Seq,
    before: Seq,
) {
    let all: Vec<Arc<Entry>> =
        model.iter().map(|(_, entry)| entry.clone()).filter(|entry| entry.key() == key).collect();
    let expected = all.first().map(|first| {
        let inside = |entry: &&Arc<Entry>| after < entry.seq && entry.seq < before;
        (first.seq, all.iter().filter(inside).cloned().collect::<Vec<_>>())
    });
    for entries_max in [0, 1, 3, usize::MAX] {
        for newest in [false, true] {
            let cut = expected.as_ref().map(|(floor, inside)| {
                let len = inside.len().min(entries_max);
                let from = if newest { inside.len() - len } else { 0 };
                (*floor, inside[from..from + len].to_vec())
            });
            let range = TailRange { after, before, newest, entries_max };
            assert_eq!(tail.range(key, range), cut, "{range:?}");
        }
    }
    assert_eq!(tail.head(key), head.filter(|_| !all.is_empty()).cloned());
}
