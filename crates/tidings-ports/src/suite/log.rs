//! What every log must do. Each check starts with an empty log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidings_types::{Fence, Place, RecordNumber, ShardId};

use crate::{Draft, LogError, RecordKind, ShardLog, Stored};

/// Shards that a log under test must have: [`A`] and [`B`].
pub const SHARDS: u16 = 2;
const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);
const PAGE_BYTES: usize = 64 * 1024;
/// The most that a record carries.
const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// A log with what it lies on.
pub trait LogBench {
    /// The log that is running.
    fn log(&self) -> Arc<dyn ShardLog>;

    /// The process or the machine dies while it runs, and starts again: [`LogBench::log`] is then the log as it was
    /// found. Logs handed out before are of no use any more.
    fn crash(&mut self);
}

/// Runs every check; panics at the first that fails. `fresh` makes an empty log.
pub async fn all<L: LogBench>(fresh: impl Fn() -> L) {
    an_empty_log_has_nothing_to_read(fresh().log().as_ref()).await;
    records_come_back_as_they_were_in_the_order_of_the_calls(fresh().log().as_ref()).await;
    a_writers_first_record_has_its_place_as_fence(fresh().log().as_ref()).await;
    shards_never_see_each_other(fresh().log().as_ref()).await;
    pages_are_bounded_and_go_on_where_they_ended(fresh().log().as_ref()).await;
    the_longest_record_fits(fresh().log().as_ref()).await;
    two_writers_on_one_shard_are_both_accepted(fresh().log().as_ref()).await;
    waiting_ends_when_there_is_more(fresh().log().as_ref()).await;
    trimming_removes_only_what_is_below(fresh().log().as_ref()).await;
    what_was_acknowledged_survives_a_crash(&mut fresh()).await;
    places_grow_through_many_crashes(&mut fresh()).await;
}

async fn an_empty_log_has_nothing_to_read(log: &dyn ShardLog) {
    for shard in [A, B] {
        assert!(read_all(log, shard, Place::ZERO).await.is_empty());
        let end = log.end(shard);
        let page = log.read(shard, end, PAGE_BYTES).await.expect("a page at the end");
        assert_eq!((page.records, page.next), (vec![], end), "nothing more is durable");
    }
}

async fn records_come_back_as_they_were_in_the_order_of_the_calls(log: &dyn ShardLog) {
    let drafts: Vec<Draft> = (1..=40).map(|number| entries(7, number, &number.to_le_bytes())).collect();
    // The order is that of the calls, although the futures are awaited the other way round.
    let appends: Vec<_> = drafts.iter().map(|draft| log.append(A, draft.clone())).collect();
    let mut places = Vec::new();
    for append in appends.into_iter().rev() {
        places.push(append.await.expect("an append"));
    }
    places.reverse();
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");

    let records = read_all(log, A, Place::ZERO).await;
    assert_eq!(records.iter().map(|record| record.place).collect::<Vec<_>>(), places);
    assert_eq!(records.iter().map(draft_of).collect::<Vec<_>>(), drafts);
    let last = records.last().expect("forty records");
    assert!(log.end(A) >= last.next, "everything below the end is durable");
}

async fn a_writers_first_record_has_its_place_as_fence(log: &dyn ShardLog) {
    let ignored = Draft { fence: Fence(999), ..writer_changed() };
    let place = append(log, A, ignored).await;
    let records = read_all(log, A, Place::ZERO).await;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].kind, records[0].place), (RecordKind::WriterChanged, place));
    assert_eq!((records[0].fence, records[0].number), (Fence(place.0), RecordNumber(0)));
    assert!(place > Place::ZERO, "a fence of 0 would not be greater than no fence");
}

async fn shards_never_see_each_other(log: &dyn ShardLog) {
    let mut appends = Vec::new();
    for number in 1..=30 {
        appends.push(log.append(A, entries(1, number, b"of a")));
        appends.push(log.append(B, entries(2, number, b"of b")));
    }
    for append in appends {
        append.await.expect("an append");
    }
    for (shard, fence, payload) in [(A, 1, b"of a"), (B, 2, b"of b")] {
        let expected: Vec<Draft> = (1..=30).map(|number| entries(fence, number, payload)).collect();
        assert_eq!(read_drafts(log, shard).await, expected);
    }
}

async fn pages_are_bounded_and_go_on_where_they_ended(log: &dyn ShardLog) {
    for number in 1..=10 {
        append(log, A, entries(1, number, &[7; 1_000])).await;
        append(log, B, entries(1, number, &[8; 1_000])).await;
    }
    let mut numbers = Vec::new();
    let mut from = Place::ZERO;
    loop {
        let page = log.read(A, from, 2_500).await.expect("a page");
        if page.next == from {
            assert!(page.records.is_empty());
            break;
        }
        assert!(page.records.len() <= 2, "{} records of 1,000 bytes in a page of 2,500", page.records.len());
        numbers.extend(page.records.iter().map(|record| record.number.0));
        from = page.next;
    }
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    let small = log.read(A, Place::ZERO, 1).await.expect("a page");
    assert_eq!(small.records.len(), 1, "at least one record, whatever the bound says");
    assert!(small.next >= small.records[0].next);
}

async fn the_longest_record_fits(log: &dyn ShardLog) {
    let longest = entries(1, 1, &vec![0x5a; PAYLOAD_BYTES_MAX]);
    let empty = entries(1, 2, b"");
    append(log, A, longest.clone()).await;
    append(log, A, empty.clone()).await;
    assert_eq!(read_drafts(log, A).await, [longest, empty]);
}

async fn two_writers_on_one_shard_are_both_accepted(log: &dyn ShardLog) {
    let first = append(log, A, writer_changed()).await;
    let second = append(log, A, writer_changed()).await;
    let of_first = append(log, A, entries(first.0, 1, b"a zombie's")).await;
    let of_second = append(log, A, entries(second.0, 1, b"the writer's")).await;
    let places = [first, second, of_first, of_second];
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");

    let records = read_all(log, A, Place::ZERO).await;
    assert_eq!(records.iter().map(|record| record.place).collect::<Vec<_>>(), places);
    let fences: Vec<u64> = records.iter().map(|record| record.fence.0).collect();
    assert_eq!(
        fences,
        [first.0, second.0, first.0, second.0],
        "who counts is the reader's rule, not the log's"
    );
}

async fn waiting_ends_when_there_is_more(log: &dyn ShardLog) {
    append(log, A, entries(1, 1, b"there")).await;
    let end = log.end(A);
    log.wait_beyond(A, Place::ZERO).await;
    let mut more = log.wait_beyond(A, end);
    assert!(is_pending(&mut more), "nothing is beyond the end");
    append(log, A, entries(1, 2, b"more")).await;
    more.await;
    assert!(log.end(A) > end);
    let page = log.read(A, end, PAGE_BYTES).await.expect("a page");
    assert_eq!(page.records.iter().map(draft_of).collect::<Vec<_>>(), [entries(1, 2, b"more")]);
}

async fn trimming_removes_only_what_is_below(log: &dyn ShardLog) {
    let mut places = Vec::new();
    for number in 1..=24 {
        places.push(append(log, A, entries(1, number, &[1; 100_000])).await);
        append(log, B, entries(1, number, &[2; 100_000])).await;
    }
    let kept_a = places[20];
    log.trim(A, kept_a).await.expect("a trim");
    assert_eq!(
        read_all(log, B, log.floor(B)).await.len(),
        24,
        "one shard's trimming takes nothing of another"
    );
    let kept_b = read_all(log, B, log.floor(B)).await[21].place;
    log.trim(B, kept_b).await.expect("a trim");

    for (shard, kept, last) in [(A, kept_a, 4), (B, kept_b, 3)] {
        let floor = log.floor(shard);
        assert!(floor <= kept, "some may stay, none may go that is not below");
        let records = read_all(log, shard, floor).await;
        assert!(records.iter().filter(|record| record.place >= kept).count() == last);
        assert!(floor > Place::ZERO, "eighty per cent of the log are below, so something must have gone");
        let asked = Place(floor.0 - 1);
        match log.read(shard, asked, PAGE_BYTES).await {
            Err(LogError::Trimmed { asked: named, floor: begins }) => {
                assert_eq!((named, begins), (asked, floor));
            }
            other => panic!("{other:?} below the floor"),
        }
    }
    append(log, A, entries(1, 25, b"after")).await;
}

async fn what_was_acknowledged_survives_a_crash(bench: &mut impl LogBench) {
    let mut acknowledged = Vec::new();
    let mut appended = Vec::new();
    for number in 1..=20 {
        let draft = entries(1, number, &number.to_le_bytes());
        appended.push(draft.clone());
        let append = bench.log().append(A, draft.clone());
        // The last five are on their way when the crash comes.
        if number <= 15 {
            append.await.expect("an append");
            acknowledged.push(draft);
        }
    }
    bench.crash();
    let found = read_drafts(bench.log().as_ref(), A).await;
    assert!(found.starts_with(&acknowledged), "an acknowledged record is gone: {} of 15", found.len());
    assert!(appended.starts_with(&found), "what was on its way is there in order, or not at all");
    let after = entries(2, 1, b"after the crash");
    append(bench.log().as_ref(), A, after.clone()).await;
    assert_eq!(read_drafts(bench.log().as_ref(), A).await.last(), Some(&after));
}

async fn places_grow_through_many_crashes(bench: &mut impl LogBench) {
    let mut fences = Vec::new();
    for round in 0..8 {
        let log = bench.log();
        fences.push(append(log.as_ref(), A, writer_changed()).await);
        append(log.as_ref(), A, entries(fences[round].0, 1, &[9; 300])).await;
        assert!(log.end(A) > fences[round]);
        drop(log);
        bench.crash();
    }
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    let records = read_all(bench.log().as_ref(), A, Place::ZERO).await;
    let expected: Vec<u64> = fences.iter().flat_map(|fence| [fence.0, fence.0]).collect();
    assert_eq!(records.iter().map(|record| record.fence.0).collect::<Vec<_>>(), expected);
}

async fn append(log: &dyn ShardLog, shard: ShardId, draft: Draft) -> Place {
    log.append(shard, draft).await.expect("an append")
}

/// Reads page by page; checks on the way that records are whole, in order, and joined by their places.
async fn read_all(log: &dyn ShardLog, shard: ShardId, mut from: Place) -> Vec<Stored> {
    let mut records: Vec<Stored> = Vec::new();
    loop {
        let page = log.read(shard, from, PAGE_BYTES).await.expect("a page");
        for record in &page.records {
            assert!(record.place >= from && record.next > record.place, "{record:?} after {from}");
            from = record.next;
        }
        assert!(page.next >= from, "a page ends at {} before its last record's end {from}", page.next);
        if page.records.is_empty() && page.next == from {
            return records;
        }
        from = page.next;
        records.extend(page.records);
    }
}

async fn read_drafts(log: &dyn ShardLog, shard: ShardId) -> Vec<Draft> {
    read_all(log, shard, log.floor(shard)).await.iter().map(draft_of).collect()
}

fn draft_of(record: &Stored) -> Draft {
    let Stored { kind, fence, number, payload, .. } = record.clone();
    Draft { kind, fence, number, payload }
}

fn writer_changed() -> Draft {
    Draft { kind: RecordKind::WriterChanged, fence: Fence(0), number: RecordNumber(0), payload: Vec::new() }
}

fn entries(fence: u64, number: u64, payload: &[u8]) -> Draft {
    let (fence, number) = (Fence(fence), RecordNumber(number));
    Draft { kind: RecordKind::Entries, fence, number, payload: payload.to_vec() }
}

fn is_pending<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send + '_>>) -> bool {
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    matches!(polled, Poll::Pending)
}
