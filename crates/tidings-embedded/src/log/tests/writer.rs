//! Segments, room, trimming, failure: the writer on a disk that keeps its word or says that it cannot.

use std::path::Path;
use std::sync::Arc;

use tidings_ports::memory::{MemoryDisk, SeededRng};
use tidings_ports::{Disk, DiskFile, LogError};
use tidings_types::Place;

use super::{A, B, FIRST, FIRST_FILE, SECOND_FILE, commit, draft, files, numbers, open, small};
use crate::log::{LogConfig, PrepareError, SegmentLog, WriteError};

#[test]
fn segments_are_full_of_zeros_and_on_the_disk_before_they_are_used() {
    let disk = MemoryDisk::new();
    let log = open(&disk).expect("a new log");
    drop(log);
    disk.crash_keeping_nothing();
    let bytes = disk.contents(Path::new(FIRST_FILE)).expect("a durable file with a durable name");
    assert_eq!(bytes.len() as u64, small().segment_bytes);
    assert!(bytes[usize::try_from(FIRST.0).unwrap()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_batch_that_does_not_fit_begins_the_next_segment() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let places: Vec<Place> = (1..=4).map(|number| commit(&mut log, A, draft(number, 2_000))).collect();
    assert_eq!(places[3], Place(8_192 + FIRST.0));
    assert_eq!(files(&disk), [FIRST_FILE.trim_start_matches("log/"), SECOND_FILE.trim_start_matches("log/")]);
    assert_eq!(numbers(&log, A), [1, 2, 3, 4]);
    drop(log);
    assert_eq!(numbers(&open(&disk).expect("the log"), A), [1, 2, 3, 4]);
}

#[test]
fn a_segment_made_ahead_is_used_and_survives_a_start_unused() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let prepared = log.plan_next().expect("no next segment yet").prepare().expect("a segment");
    log.install(prepared);
    assert!(log.plan_next().is_none());
    commit(&mut log, A, draft(1, 2_000));
    disk.kill_process();
    let mut log = open(&disk).expect("the log");
    assert!(log.plan_next().is_none(), "the segment made ahead is still there");
    let syncs = disk.syncs();
    for number in 2..=4 {
        commit(&mut log, A, draft(number, 2_000));
    }
    assert_eq!(disk.syncs(), syncs + 3, "beginning a segment that was made ahead costs no sync");
    assert_eq!(log.segment_base(), Place(8_192));
}

/// A directory keeps its changes in no particular order, and the file of an earlier attempt may still be there.
#[test]
fn a_crash_while_a_segment_is_made_leaves_all_of_it_or_none() {
    let mut made = 0;
    for seed in 0..2_000 {
        let rng = SeededRng::new(seed);
        let disk = MemoryDisk::new();
        drop(open(&disk).expect("a new log"));
        for _ in 0..3 {
            let log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            disk.cut_power_after(rng.below(12));
            made += log.plan_next().map_or(0, |plan| u64::from(plan.prepare().is_ok()));
            disk.crash(rng.next_u64());
        }
        let log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_eq!(log.view().durable(), FIRST, "seed {seed}");
    }
    assert!(made > 100, "only {made} segments were made");
}

#[test]
fn nobody_sees_what_is_not_synced() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let end = log.view().end(A);
    log.write_batch(&[(A, draft(1, 10))]).unwrap();
    assert_eq!((numbers(&log, A), log.view().end(A)), (vec![], end));
    log.sync().unwrap();
    assert_eq!(numbers(&log, A), [1]);
    assert!(log.view().end(A) > end);
}

#[test]
fn an_idle_shard_moves_on_with_the_segments_and_holds_no_trimming_back() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let start = log.view().end(B);
    commit(&mut log, A, draft(1, 2_000));
    assert_eq!(log.view().end(B), start, "a record of A is no news for readers of B");
    for number in 2..=8 {
        commit(&mut log, A, draft(number, 2_000));
    }
    let page = log.view().read(B, start, 1_000).expect("a page");
    assert!(page.records.is_empty() && page.next >= log.segment_base(), "{page:?}");
    log.view().trim(B, page.next).expect("a trim");
    log.view().trim(A, log.view().end(A)).expect("a trim");
    assert_eq!(log.view().floor(), log.segment_base());
    assert_eq!(files(&disk).len(), 1);
}

#[test]
fn trimming_needs_the_word_of_every_shard() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    for number in 1..=12 {
        commit(&mut log, A, draft(number, 2_000));
    }
    log.view().trim(A, log.view().end(A)).expect("a trim");
    assert_eq!(log.view().floor(), Place::ZERO, "B has not spoken");
    log.view().trim(B, Place(16_383)).expect("a trim");
    assert_eq!(log.view().floor(), Place(8_192), "the second segment is not wholly below");
    let below = log.view().read(A, FIRST, 1_000);
    assert!(matches!(below, Err(LogError::Trimmed { floor: Place(8_192), .. })), "{below:?}");
    drop(log);
    let log = open(&disk).expect("the log");
    assert_eq!(log.view().floor(), Place(8_192), "the floor is in the names of the files");
    assert_eq!(numbers(&log, A), (4..=12).collect::<Vec<_>>());
}

#[test]
fn a_disk_at_its_reserve_refuses_before_it_is_full() {
    let disk = MemoryDisk::new();
    let config = LogConfig { reserve_bytes: 10_000, ..small() };
    let mut log = SegmentLog::open(Arc::new(disk.clone()), config, &SeededRng::new(1)).expect("a new log");
    commit(&mut log, A, draft(1, 100));
    // Another store takes the room.
    let tables = disk.create(Path::new("tables")).unwrap();
    tables.set_len(50_000).unwrap();
    disk.set_capacity(Some(50_000 + 8_192 + 9_999));
    assert!(matches!(log.write_batch(&[(A, draft(2, 100))]), Err(WriteError::Full)));
    tables.set_len(49_999).unwrap();
    commit(&mut log, A, draft(3, 100));
    assert_eq!(numbers(&log, A), [1, 3]);
    assert_eq!(disk.refused_for_room(), 0);
}

#[test]
fn a_segment_is_not_made_into_the_reserve() {
    let disk = MemoryDisk::new();
    let config = LogConfig { reserve_bytes: 10_000, ..small() };
    let mut log = SegmentLog::open(Arc::new(disk.clone()), config, &SeededRng::new(1)).expect("a new log");
    disk.set_capacity(Some(2 * 8_192 + 9_999));
    let plan = log.plan_next().expect("no next segment yet");
    assert!(matches!(plan.prepare(), Err(PrepareError::Full)));
    for number in 1..=3 {
        commit(&mut log, A, draft(number, 2_000));
    }
    assert!(matches!(log.write_batch(&[(A, draft(4, 2_000))]), Err(WriteError::Full)));
    assert!(matches!(log.write_batch(&[(A, draft(5, 2_000))]), Err(WriteError::Full)));
    log.mark().expect("a mark still fits the segment");
    disk.set_capacity(Some(2 * 8_192 + 10_000));
    commit(&mut log, A, draft(6, 2_000));
    assert_eq!(numbers(&log, A), [1, 2, 3, 6]);
    assert_eq!((disk.refused_for_room(), files(&disk).len()), (0, 2));
}

#[test]
fn a_failed_sync_is_never_repeated_and_opening_settles_what_is_there() {
    for seed in 0..50 {
        let disk = MemoryDisk::new();
        let mut log = open(&disk).expect("a new log");
        commit(&mut log, A, draft(1, 100));
        log.write_batch(&[(A, draft(2, 100))]).unwrap();
        disk.fail_next_sync();
        assert!(matches!(log.sync(), Err(WriteError::Failed(_))));
        let syncs = disk.syncs();
        assert!(matches!(log.sync(), Err(WriteError::Closed)));
        assert!(matches!(log.write_batch(&[(A, draft(3, 100))]), Err(WriteError::Closed)));
        assert!(log.mark().is_ok() && !log.needs_mark(), "there is nothing left to mark");
        assert_eq!(disk.syncs(), syncs);
        assert_eq!(numbers(&log, A), [1], "what was durable can still be read");

        // The kernel shows the second record, but has dropped it from what it will ever write.
        disk.kill_process();
        let found = numbers(&open(&disk).expect("the log"), A);
        assert_eq!(found, [1, 2], "seed {seed}");
        disk.crash(seed);
        let again = numbers(&open(&disk).expect("the log"), A);
        assert_eq!(again, found, "seed {seed}: what an opened log showed is gone");
    }
}

#[test]
fn a_failed_write_closes_the_log() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    commit(&mut log, A, draft(1, 100));
    disk.fail_next_write();
    assert!(matches!(log.write_batch(&[(A, draft(2, 100))]), Err(WriteError::Failed(_))));
    assert!(matches!(log.write_batch(&[(A, draft(3, 100))]), Err(WriteError::Closed)));
    drop(log);
    assert_eq!(numbers(&open(&disk).expect("the log"), A), [1]);
}
