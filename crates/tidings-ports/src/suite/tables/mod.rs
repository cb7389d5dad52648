//! What tables must do. Each check starts with empty tables.

mod samples;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tidings_record::encode_entry;
use tidings_types::{
    Body, ConversationKey, Entry, Head, IdRecord, LogPosition, Member, PersonalFact, PersonalState,
    PersonalSubject, Role, Seq, ShardId, SpaceId, Timestamp,
};

use self::samples::{
    SHARD, conversation_subject, device_subject, head, history, key, member, message_id, position,
    projection, user,
};
use crate::memory::SeededRng;
use crate::{EntryRange, Projection, Tables};

/// Shards of the tables that a harness makes.
pub const SHARDS: u16 = 2;

/// How the suite gets tables to test.
pub trait TablesHarness {
    type Tables: Tables;

    /// Empty tables with [`SHARDS`] shards.
    fn create(&self) -> impl Future<Output = Self::Tables>;

    /// The machine stops without warning and starts again: what is durable is there, anything else may be gone.
    fn crash(&self, tables: Self::Tables) -> impl Future<Output = Self::Tables>;
}

/// Runs every check; panics at the first that fails.
pub async fn all<H: TablesHarness>(harness: &H) {
    empty_tables_have_nothing(&harness.create().await).await;
    rows_come_back_as_projected(&harness.create().await).await;
    a_later_value_replaces_an_earlier_one(&harness.create().await).await;
    entries_are_read_by_every_shape_of_range(&harness.create().await).await;
    a_missing_seq_ends_the_answer(&harness.create().await).await;
    an_older_projection_changes_nothing(&harness.create().await).await;
    a_message_id_is_found_from_its_moment_on(&harness.create().await).await;
    members_and_personal_facts_come_in_pages(&harness.create().await).await;
    conversations_and_spaces_do_not_meet(&harness.create().await).await;
    shards_have_separate_positions(&harness.create().await).await;
    a_checkpoint_survives_a_crash(harness).await;
    what_was_not_durable_is_projected_again(harness).await;
    for seed in 0..REPLAY_SEEDS {
        replays_with_other_boundaries_read_as_one_history(harness, seed).await;
    }
}

const REPLAY_SEEDS: u64 = 6;

async fn empty_tables_have_nothing(tables: &impl Tables) {
    for shard in [ShardId(0), ShardId(1)] {
        assert_eq!(tables.position(shard), LogPosition::default());
        assert_eq!(tables.durable_position(shard), LogPosition::default());
        assert_eq!(tables.latest_at(shard), Timestamp::default());
    }
    assert_eq!(tables.head(key(1)).await.expect("a read"), None);
    assert_eq!(tables.member(key(1), user(1)).await.expect("a read"), None);
    assert_eq!(tables.members(key(1), None, 10).await.expect("a read"), []);
    assert_eq!(tables.personal(key(1), conversation_subject(2)).await.expect("a read"), None);
    assert_eq!(tables.personal_facts(key(1), None, 10).await.expect("a read"), []);
    assert_eq!(tables.id_record(key(1), message_id(1), Timestamp::default()).await.expect("a read"), None);
    for newest in [false, true] {
        assert_eq!(read(tables, EntryRange { newest, ..EVERYTHING }).await, []);
    }
    tables.checkpoint().await.expect("a checkpoint of nothing");
}

async fn rows_come_back_as_projected(tables: &impl Tables) {
    let titled = Head { title: Some(Arc::from("Ünïcode 🎉")), ..head(7) };
    let left = Member { role: Role::Owner, left: Some(Seq(9)), ..member(3) };
    let joined = PersonalFact { state: PersonalState::Joined, cause: Seq(4) };
    let gone = PersonalFact { state: PersonalState::Left, cause: Seq(9) };
    let removed = PersonalFact { state: PersonalState::DeviceRemoved, cause: Seq::ZERO };
    let run = history(key(1), 5);
    let projection = Projection {
        heads: vec![(key(1), titled.clone()), (key(2), head(1))],
        members: vec![(key(1), user(1), member(1)), (key(1), user(2), left)],
        personal: vec![
            (key(3), conversation_subject(1), joined),
            (key(3), conversation_subject(2), gone),
            (key(3), device_subject(3), removed),
        ],
        runs: vec![run.clone()],
        latest_at: Timestamp::from_ms(77),
        ..projection(10)
    };
    tables.project(projection).await.expect("a projection");

    assert_eq!(tables.position(SHARD), position(10));
    assert_eq!(tables.durable_position(SHARD), LogPosition::default());
    assert_eq!(tables.latest_at(SHARD), Timestamp::from_ms(77));
    assert_eq!(tables.head(key(1)).await.expect("a read"), Some(titled));
    assert_eq!(tables.head(key(2)).await.expect("a read"), Some(head(1)));
    assert_eq!(tables.member(key(1), user(1)).await.expect("a read"), Some(member(1)));
    assert_eq!(tables.member(key(1), user(2)).await.expect("a read"), Some(left));
    assert_eq!(tables.member(key(1), user(3)).await.expect("a read"), None);
    assert_eq!(tables.personal(key(3), conversation_subject(1)).await.expect("a read"), Some(joined));
    assert_eq!(tables.personal(key(3), conversation_subject(2)).await.expect("a read"), Some(gone));
    assert_eq!(tables.personal(key(3), device_subject(3)).await.expect("a read"), Some(removed));
    assert_eq!(read(tables, EVERYTHING).await, run);
}

async fn a_later_value_replaces_an_earlier_one(tables: &impl Tables) {
    for place in 1..=3 {
        let fact = PersonalFact { state: PersonalState::Joined, cause: Seq(place) };
        let projection = Projection {
            heads: vec![(key(1), head(place))],
            members: vec![(key(1), user(1), member(place))],
            personal: vec![(key(1), conversation_subject(1), fact)],
            latest_at: Timestamp::from_ms(100 - place),
            ..projection(place)
        };
        tables.project(projection).await.expect("a projection");
        tables.checkpoint().await.expect("a checkpoint");
        assert_eq!(tables.head(key(1)).await.expect("a read"), Some(head(place)));
        assert_eq!(tables.member(key(1), user(1)).await.expect("a read"), Some(member(place)));
        assert_eq!(tables.personal(key(1), conversation_subject(1)).await.expect("a read"), Some(fact));
        assert_eq!(tables.latest_at(SHARD), Timestamp::from_ms(99), "the maximum stays");
    }
    assert_eq!(tables.members(key(1), None, 10).await.expect("a read"), [(user(1), member(3))]);
}

async fn entries_are_read_by_every_shape_of_range(tables: &impl Tables) {
    const ENTRIES: u64 = 200;
    let entries = history(key(1), ENTRIES);
    let runs = vec![
        entries[..1].to_vec(),
        entries[1..70].to_vec(),
        entries[70..71].to_vec(),
        entries[71..].to_vec(),
    ];
    tables.project(Projection { runs, ..projection(1) }).await.expect("a projection");

    let model = model_of(&entries);
    let bounds = [0, 1, 2, 63, 64, 65, 70, 71, 128, 199, 200, 201, 5000];
    for after in bounds {
        for before in bounds.into_iter().chain([Seq::MAX.0]) {
            for newest in [false, true] {
                for entries_max in [0, 1, 50, 64, 1000] {
                    let range = EntryRange {
                        after: Seq(after),
                        before: Seq(before),
                        newest,
                        entries_max,
                        ..EVERYTHING
                    };
                    assert_eq!(read(tables, range).await, expected(&model, range), "{range:?}");
                }
                for bytes_max in [0, 1, 300, 5_000, 30_000] {
                    let range = EntryRange {
                        after: Seq(after),
                        before: Seq(before),
                        newest,
                        bytes_max,
                        ..EVERYTHING
                    };
                    check_bytes(&read(tables, range).await, &model, range);
                }
            }
        }
    }
}

async fn a_missing_seq_ends_the_answer(tables: &impl Tables) {
    let entries = history(key(1), 200);
    // 1 to 10 and 51 are missing.
    let there = [entries[10..50].to_vec(), entries[51..].to_vec()];
    let model = model_of(&there.concat());
    tables.project(Projection { runs: there.to_vec(), ..projection(1) }).await.expect("a projection");
    for (after, before) in
        [(0, Seq::MAX.0), (10, 60), (20, 60), (50, 60), (51, 300), (0, 11), (0, 40), (49, 52)]
    {
        for newest in [false, true] {
            let range = EntryRange { after: Seq(after), before: Seq(before), newest, ..EVERYTHING };
            assert_eq!(read(tables, range).await, expected(&model, range), "{range:?}");
        }
    }
    let first = read(tables, EVERYTHING).await;
    assert_eq!((first[0].seq, first[first.len() - 1].seq), (Seq(11), Seq(50)));
    let last = read(tables, EntryRange { newest: true, ..EVERYTHING }).await;
    assert_eq!((last[0].seq, last[last.len() - 1].seq), (Seq(52), Seq(200)));
}

async fn an_older_projection_changes_nothing(tables: &impl Tables) {
    let newer =
        Projection { heads: vec![(key(1), head(5))], latest_at: Timestamp::from_ms(50), ..projection(5) };
    tables.project(newer.clone()).await.expect("a projection");
    let older = Projection {
        heads: vec![(key(1), head(4)), (key(2), head(1))],
        latest_at: Timestamp::from_ms(60),
        runs: vec![history(key(1), 3)],
        ..projection(4)
    };
    tables.project(older).await.expect("an older projection is no error");
    assert_eq!(tables.position(SHARD), position(5));
    assert_eq!(tables.latest_at(SHARD), Timestamp::from_ms(50));
    assert_eq!(tables.head(key(1)).await.expect("a read"), Some(head(5)));
    assert_eq!(tables.head(key(2)).await.expect("a read"), None);
    assert_eq!(read(tables, EVERYTHING).await, []);

    tables.project(newer).await.expect("the same projection twice");
    assert_eq!(
        (tables.position(SHARD), tables.head(key(1)).await.expect("a read")),
        (position(5), Some(head(5)))
    );
}

async fn a_message_id_is_found_from_its_moment_on(tables: &impl Tables) {
    let entries = history(key(1), 300);
    let other = history(key(2), 10);
    // Small, large and overlapping runs.
    let runs = vec![
        entries[..100].to_vec(),
        entries[30..40].to_vec(),
        entries[100..101].to_vec(),
        entries[101..].to_vec(),
        entries[250..260].to_vec(),
        other.clone(),
    ];
    tables.project(Projection { runs, ..projection(1) }).await.expect("a projection");

    for entry in &entries {
        let Body::Message { message_id, hash, .. } = &entry.body else { continue };
        let record =
            IdRecord { seq: entry.seq, sender: entry.sender, hash: *hash, created_at: entry.created_at };
        let at = entry.created_at;
        for (since, found) in
            [(Timestamp::default(), true), (at.minus_ms(1), true), (at, true), (at.plus_ms(1), false)]
        {
            let answer = tables.id_record(key(1), *message_id, since).await.expect("a read");
            assert_eq!(answer, found.then_some(record), "seq {} since {since}", entry.seq);
        }
        let elsewhere = tables.id_record(key(3), *message_id, Timestamp::default()).await.expect("a read");
        assert_eq!(elsewhere, None, "another conversation does not have it");
    }
    let unknown =
        tables.id_record(key(1), message_id(9_999_999), Timestamp::default()).await.expect("a read");
    assert_eq!(unknown, None);
}

async fn members_and_personal_facts_come_in_pages(tables: &impl Tables) {
    let fact = |n: u8| PersonalFact { state: PersonalState::Joined, cause: Seq(n.into()) };
    let projection = Projection {
        members: (0..=250).rev().step_by(10).map(|n| (key(1), user(n), member(n.into()))).collect(),
        personal: (0..=250).rev().step_by(10).map(|n| (key(1), conversation_subject(n), fact(n))).collect(),
        ..projection(1)
    };
    tables.project(projection).await.expect("a projection");

    for rows_max in [1, 7, 26, 100] {
        let (mut members, mut facts) = (Vec::new(), Vec::new());
        loop {
            let after = members.last().map(|(user, _)| *user);
            let page = tables.members(key(1), after, rows_max).await.expect("a page");
            assert!(page.len() <= rows_max);
            if page.is_empty() {
                break;
            }
            members.extend(page);
        }
        loop {
            let after = facts.last().map(|(subject, _): &(PersonalSubject, _)| *subject.as_bytes());
            let page = tables.personal_facts(key(1), after, rows_max).await.expect("a page");
            assert!(page.len() <= rows_max);
            if page.is_empty() {
                break;
            }
            facts.extend(page);
        }
        let numbers: Vec<u8> = (0..=250).step_by(10).collect();
        let expected: Vec<_> = numbers.iter().map(|n| (user(*n), member((*n).into()))).collect();
        assert_eq!(members, expected, "{rows_max} rows a page");
        let expected: Vec<_> = numbers.iter().map(|n| (conversation_subject(*n), fact(*n))).collect();
        assert_eq!(facts, expected, "{rows_max} rows a page");
    }
    let between = tables.members(key(1), Some(user(15)), 1).await.expect("a page");
    assert_eq!(between, [(user(20), member(20))], "the bound need not exist");
    assert_eq!(tables.members(key(1), None, 0).await.expect("a page"), []);
}

async fn conversations_and_spaces_do_not_meet(tables: &impl Tables) {
    let other_space = ConversationKey { space: SpaceId::from_bytes([1; 16]), ..key(2) };
    let keys = [key(1), key(2), key(3), other_space];
    let projection = Projection {
        heads: keys.into_iter().zip(1..).map(|(key, n)| (key, head(n))).collect(),
        members: keys.into_iter().zip(1..).map(|(key, n)| (key, user(1), member(n))).collect(),
        runs: keys.into_iter().zip(3..).map(|(key, n)| history(key, n)).collect(),
        ..projection(1)
    };
    tables.project(projection).await.expect("a projection");
    for (key, n) in keys.into_iter().zip(1..) {
        assert_eq!(tables.head(key).await.expect("a read"), Some(head(n)));
        assert_eq!(tables.members(key, None, 10).await.expect("a read"), [(user(1), member(n))]);
        for newest in [false, true] {
            let range = EntryRange { newest, ..EVERYTHING };
            assert_eq!(tables.entries(key, range).await.expect("a read"), history(key, n + 2));
        }
    }
}

async fn shards_have_separate_positions(tables: &impl Tables) {
    let other = ShardId(1);
    let first = Projection { latest_at: Timestamp::from_ms(5), ..projection(10) };
    let second = Projection { shard: other, latest_at: Timestamp::from_ms(3), ..projection(4) };
    tables.project(first).await.expect("a projection");
    tables.checkpoint().await.expect("a checkpoint");
    tables.project(second).await.expect("a projection");
    assert_eq!((tables.position(SHARD), tables.position(other)), (position(10), position(4)));
    assert_eq!(
        (tables.durable_position(SHARD), tables.durable_position(other)),
        (position(10), LogPosition::default())
    );
    assert_eq!(
        (tables.latest_at(SHARD), tables.latest_at(other)),
        (Timestamp::from_ms(5), Timestamp::from_ms(3))
    );
    tables.checkpoint().await.expect("a checkpoint");
    assert_eq!(tables.durable_position(other), position(4));
}

async fn a_checkpoint_survives_a_crash<H: TablesHarness>(harness: &H) {
    let entries = history(key(1), 150);
    let tables = harness.create().await;
    for place in 1..=30 {
        tables.project(one_member(place)).await.expect("a projection");
    }
    let projection = Projection {
        heads: vec![(key(1), head(150))],
        members: vec![(key(1), user(1), member(42))],
        personal: vec![(
            key(9),
            device_subject(1),
            PersonalFact { state: PersonalState::DeviceRemoved, cause: Seq::ZERO },
        )],
        runs: vec![entries.clone()],
        latest_at: Timestamp::from_ms(1_234),
        ..projection(42)
    };
    tables.project(projection.clone()).await.expect("a projection");
    tables.checkpoint().await.expect("a checkpoint");
    assert_eq!(tables.durable_position(SHARD), position(42));

    let tables = harness.crash(tables).await;
    assert_eq!((tables.position(SHARD), tables.durable_position(SHARD)), (position(42), position(42)));
    assert_eq!(tables.latest_at(SHARD), Timestamp::from_ms(1_234));
    assert_eq!(tables.head(key(1)).await.expect("a read"), Some(head(150)));
    assert_eq!(tables.members(key(1), None, 10).await.expect("a read"), [(user(1), member(42))]);
    assert_eq!(tables.personal_facts(key(9), None, 10).await.expect("a read").len(), 1);
    assert_eq!(read(&tables, EVERYTHING).await, entries);
    let Body::Message { message_id, .. } = &entries[148].body else { panic!("entry 149 is a message") };
    assert!(tables.id_record(key(1), *message_id, Timestamp::default()).await.expect("a read").is_some());

    // Values written after a crash win over those from before it, however they are read and before and after a
    // checkpoint.
    let tables = later_values_win(tables, 43).await;
    let tables = later_values_win(harness.crash(tables).await, 44).await;
    let tables = harness.crash(tables).await;
    assert_eq!(tables.members(key(1), None, 10).await.expect("a read"), [(user(1), member(44))]);
}

async fn later_values_win<T: Tables>(tables: T, place: u64) -> T {
    tables.project(one_member(place)).await.expect("a projection");
    assert_eq!(tables.members(key(1), None, 10).await.expect("a read"), [(user(1), member(place))]);
    tables.checkpoint().await.expect("a checkpoint");
    assert_eq!(tables.members(key(1), None, 10).await.expect("a read"), [(user(1), member(place))]);
    assert_eq!(tables.member(key(1), user(1)).await.expect("a read"), Some(member(place)));
    tables
}

fn one_member(place: u64) -> Projection {
    Projection { members: vec![(key(1), user(1), member(place))], ..projection(place) }
}

async fn what_was_not_durable_is_projected_again<H: TablesHarness>(harness: &H) {
    let entries = history(key(1), 150);
    let until = |seq: usize, from: usize| Projection {
        heads: vec![(key(1), head(seq as u64))],
        members: vec![(key(1), user(1), member(seq as u64))],
        runs: vec![entries[from..seq].to_vec()],
        latest_at: Timestamp::from_ms(seq as u64),
        ..projection(seq as u64)
    };
    let tables = harness.create().await;
    tables.project(until(60, 0)).await.expect("a projection");
    tables.checkpoint().await.expect("a checkpoint");
    tables.project(until(100, 60)).await.expect("a projection");
    tables.project(until(150, 100)).await.expect("a projection");
    assert_eq!((tables.position(SHARD), tables.durable_position(SHARD)), (position(150), position(60)));

    let tables = harness.crash(tables).await;
    assert_eq!((tables.position(SHARD), tables.durable_position(SHARD)), (position(60), position(60)));
    assert_eq!(tables.latest_at(SHARD), Timestamp::from_ms(60));
    let durable = EntryRange { before: Seq(61), ..EVERYTHING };
    assert_eq!(read(&tables, durable).await, entries[..60]);

    tables.project(until(80, 60)).await.expect("a projection");
    assert_eq!(tables.head(key(1)).await.expect("a read"), Some(head(80)));
    tables.project(until(150, 80)).await.expect("a projection");
    assert_eq!(read(&tables, EVERYTHING).await, entries);
    assert_eq!(tables.head(key(1)).await.expect("a read"), Some(head(150)));
    assert_eq!(tables.member(key(1), user(1)).await.expect("a read"), Some(member(150)));
}

/// Random stretches of two conversations' history in random runs; crashes after which it goes on from the durable
/// position with other boundaries; longer stretches that contain what is there already.
async fn replays_with_other_boundaries_read_as_one_history<H: TablesHarness>(harness: &H, seed: u64) {
    const ENTRIES: usize = 400;
    let rng = SeededRng::new(seed);
    let below = |bound: usize| usize::try_from(rng.below(bound as u64)).expect("it was a usize before");
    let histories = [history(key(1), ENTRIES as u64), history(key(2), ENTRIES as u64)];
    let mut tables = harness.create().await;
    let mut steps = 0;
    while place(&tables) < ENTRIES {
        steps += 1;
        let reached = place(&tables);
        let (from, upto) = (below(reached + 1), (reached + below(60)).min(ENTRIES));
        let from = if rng.one_in(3) { from } else { reached };
        let runs = histories.iter().flat_map(|all| random_runs(&all[from..upto], &rng)).collect();
        let projection = Projection { runs, ..projection(upto as u64) };
        tables.project(projection).await.expect("a projection");
        if rng.one_in(3) {
            tables.checkpoint().await.expect("a checkpoint");
        }
        // Crashes get rare, so that the end is reached.
        if rng.one_in(4 + steps / 20) {
            tables = harness.crash(tables).await;
        }
        for (key, all) in [(key(1), &histories[0]), (key(2), &histories[1])] {
            check_reads(&tables, key, &all[..place(&tables)], &rng, seed).await;
        }
    }
    for (key, all) in [(key(1), &histories[0]), (key(2), &histories[1])] {
        assert_eq!(tables.entries(key, EVERYTHING).await.expect("a read"), *all, "seed {seed}");
    }
}

/// The history below the tables' position reads as the model does; what a crash left above it stays out of the range.
async fn check_reads(
    tables: &impl Tables,
    key: ConversationKey,
    there: &[Arc<Entry>],
    rng: &SeededRng,
    seed: u64,
) {
    let model = model_of(there);
    let end = there.len() as u64 + 1;
    for _ in 0..6 {
        let range = EntryRange {
            after: Seq(rng.below(end)),
            before: Seq(rng.below(end + 1)),
            newest: rng.one_in(2),
            entries_max: usize::try_from(rng.below(130)).expect("a small number"),
            bytes_max: usize::MAX,
        };
        let answer = tables.entries(key, range).await.expect("a read");
        assert_eq!(answer, expected(&model, range), "seed {seed}, {range:?}");
    }
    let Some(Body::Message { message_id, .. }) = there.last().map(|entry| &entry.body) else { return };
    let last = &there[there.len() - 1];
    let found = tables.id_record(key, *message_id, last.created_at).await.expect("a read");
    assert_eq!(found.map(|record| record.seq), Some(last.seq), "seed {seed}");
}

fn random_runs(mut entries: &[Arc<Entry>], rng: &SeededRng) -> Vec<Vec<Arc<Entry>>> {
    let mut runs = Vec::new();
    while !entries.is_empty() {
        let at = 1 + usize::try_from(rng.below(entries.len() as u64)).expect("it was a usize before");
        let (run, rest) = entries.split_at(at);
        runs.push(run.to_vec());
        entries = rest;
    }
    runs
}

fn place(tables: &impl Tables) -> usize {
    usize::try_from(tables.position(SHARD).place.0).expect("a small number")
}

const EVERYTHING: EntryRange = EntryRange {
    after: Seq::ZERO,
    before: Seq::MAX,
    newest: false,
    entries_max: usize::MAX,
    bytes_max: usize::MAX,
};

async fn read(tables: &impl Tables, range: EntryRange) -> Vec<Arc<Entry>> {
    tables.entries(key(1), range).await.expect("a read")
}

/// What the port promises for a range, whatever `bytes_max` is.
fn expected(model: &BTreeMap<Seq, Arc<Entry>>, range: EntryRange) -> Vec<Arc<Entry>> {
    let inside = |entry: &&Arc<Entry>| entry.seq > range.after && entry.seq < range.before;
    let mut seqs: Vec<&Arc<Entry>> = model.values().filter(inside).collect();
    if range.newest {
        seqs.reverse();
    }
    let gap = seqs.windows(2).position(|pair| pair[0].seq.0.abs_diff(pair[1].seq.0) != 1);
    seqs.truncate(gap.map_or(seqs.len(), |at| at + 1).min(range.entries_max));
    if range.newest {
        seqs.reverse();
    }
    seqs.into_iter().map(Arc::clone).collect()
}

/// An answer bounded in bytes is one end of the unbounded one, not longer than it may be, and never empty for nothing.
fn check_bytes(answer: &[Arc<Entry>], model: &BTreeMap<Seq, Arc<Entry>>, range: EntryRange) {
    let whole = expected(model, range);
    let end = if range.newest { &whole[whole.len() - answer.len()..] } else { &whole[..answer.len()] };
    assert_eq!(answer, end, "{range:?}");
    assert_eq!(answer.is_empty(), whole.is_empty(), "{range:?}");
    let bytes: usize = answer.iter().map(|entry| stored_bytes(entry)).sum();
    assert!(answer.len() <= 1 || bytes <= range.bytes_max, "{range:?}: {bytes} bytes");
}

fn stored_bytes(entry: &Entry) -> usize {
    let mut stored = Vec::new();
    encode_entry(entry, &mut stored);
    stored.len()
}

fn model_of(entries: &[Arc<Entry>]) -> BTreeMap<Seq, Arc<Entry>> {
    entries.iter().map(|entry| (entry.seq, Arc::clone(entry))).collect()
}
