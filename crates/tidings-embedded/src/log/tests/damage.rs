//! Bits that rot: a torn end is cut, everything else is refused by name.

use std::path::Path;

use tidings_ports::memory::{MemoryDisk, SeededRng};
use tidings_ports::{Disk, DiskFile, Draft, LogError};
use tidings_record::{HEADER_BYTES, RecordHeader, record_bytes};
use tidings_types::Place;

use super::{A, B, FIRST, FIRST_FILE, SECOND_FILE, commit, draft, files, numbers, open, read_all, small};
use crate::log::{LogConfig, SegmentLog};

#[test]
fn damage_in_a_durable_record_names_its_file_and_offset() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let places: Vec<Place> = (1..=5).map(|number| commit(&mut log, A, draft(number, 104))).collect();
    drop(log);
    // The last record calls everything before it durable, so any bit of the first four must be missed.
    let record = record_bytes(104) as u64;
    let rng = SeededRng::new(1);
    for _ in 0..2_000 {
        let offset = FIRST.0 + rng.below(4 * record);
        let bit = u8::try_from(rng.below(8)).unwrap();
        disk.flip_bit(Path::new(FIRST_FILE), offset, bit).unwrap();
        let hit = places.iter().rfind(|place| place.0 <= offset).expect("a record");
        match open(&disk) {
            Err(LogError::Corrupt { file, offset: named, .. }) => {
                assert_eq!((file.as_str(), named), (FIRST_FILE, hit.0), "bit {bit} at {offset}");
            }
            other => panic!("bit {bit} at {offset}: {other:?}"),
        }
        disk.flip_bit(Path::new(FIRST_FILE), offset, bit).unwrap();
    }
    let log = open(&disk).expect("refusing changed nothing");
    assert_eq!(numbers(&log, A), [1, 2, 3, 4, 5]);
}

#[test]
fn damage_in_the_last_batch_is_cut_and_the_log_goes_on() {
    let rng = SeededRng::new(2);
    for round in 0..200 {
        let disk = MemoryDisk::new();
        let mut log = open(&disk).expect("a new log");
        commit(&mut log, A, draft(1, 96));
        let last = commit(&mut log, B, draft(2, 96));
        disk.kill_process();
        let offset = last.0 + rng.below(record_bytes(96) as u64);
        disk.flip_bit(Path::new(FIRST_FILE), offset, 3).unwrap();

        let mut log = open(&disk).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!((numbers(&log, A), numbers(&log, B)), (vec![1], vec![]), "round {round}");
        assert_eq!(commit(&mut log, B, draft(3, 40)), last, "round {round}: the cut place is used again");
        disk.crash(round);
        let log = open(&disk).expect("a sound log");
        assert_eq!((numbers(&log, A), numbers(&log, B)), (vec![1], vec![3]), "round {round}");
    }
}

#[test]
fn a_torn_batch_leaves_nothing_that_could_come_back() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    // Three records of one batch; the first is damaged, the others are whole.
    log.write_batch(&[(A, draft(1, 96)), (A, draft(2, 96)), (A, draft(3, 96))]).unwrap();
    log.sync().unwrap();
    disk.flip_bit(Path::new(FIRST_FILE), FIRST.0 + 90, 0).unwrap();
    disk.kill_process();
    let mut log = open(&disk).expect("a torn end");
    assert_eq!(numbers(&log, A), [0; 0]);
    // The new record ends exactly where the second old one began.
    commit(&mut log, A, draft(9, 96));
    disk.crash_keeping_nothing();
    let log = open(&disk).expect("a sound log");
    assert_eq!(numbers(&log, A), [9]);
}

/// The search for a proof reads 1 MiB at a time; the only header that proves anything lies across the border.
#[test]
fn a_proof_is_found_across_the_border_of_two_reads() {
    let config = LogConfig { segment_bytes: 3 << 20, batch_bytes_max: 2 << 20, ..small() };
    for before in (0..=HEADER_BYTES + 8).step_by(8) {
        let disk = MemoryDisk::new();
        let mut log =
            SegmentLog::open(disk.clone().into(), config.clone(), &SeededRng::new(1)).expect("a new log");
        let rest = (1 << 20) - before - 2 * record_bytes(400_000) - HEADER_BYTES;
        log.write_batch(&[(A, draft(1, 400_000)), (A, draft(2, 400_000)), (A, draft(3, rest))])
            .expect("a write");
        log.sync().expect("a sync");
        let proof = commit(&mut log, A, draft(4, 10));
        assert_eq!(proof.0, FIRST.0 + (1 << 20) - before as u64);
        disk.kill_process();
        disk.flip_bit(Path::new(FIRST_FILE), FIRST.0 + 1_000, 0).unwrap();
        let opened = SegmentLog::open(disk.restarted().into(), config.clone(), &SeededRng::new(1));
        assert_corrupt(opened, FIRST_FILE, FIRST.0);
    }
}

#[test]
fn a_torn_batch_that_began_a_segment_leaves_nothing_either() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    for number in 1..=3 {
        commit(&mut log, A, draft(number, 2_000));
    }
    // The second segment begins with a batch of two; the first of them is damaged.
    log.write_batch(&[(A, draft(4, 1_936)), (A, draft(5, 96))]).expect("a write");
    log.sync().expect("a sync");
    disk.flip_bit(Path::new(SECOND_FILE), FIRST.0 + 100, 0).unwrap();
    disk.kill_process();
    let mut log = open(&disk).expect("a torn end");
    assert_eq!(numbers(&log, A), [1, 2, 3]);
    // The new record ends exactly where the fifth began.
    commit(&mut log, A, draft(9, 1_936));
    assert_eq!(log.segment_base(), Place(8_192));
    disk.crash_keeping_nothing();
    assert_eq!(numbers(&open(&disk).expect("a sound log"), A), [1, 2, 3, 9]);
}

#[test]
fn a_copy_of_a_record_at_another_place_is_not_a_record() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let place = commit(&mut log, A, draft(1, 96));
    let end = log.view().durable();
    disk.kill_process();
    let file = disk.restarted().open(Path::new(FIRST_FILE)).unwrap();
    let mut record = vec![0; record_bytes(96)];
    file.read_exact_at(&mut record, place.0).unwrap();
    file.write_all_at(&record, end.0).unwrap();
    let log = open(&disk).expect("a torn end");
    assert_eq!((numbers(&log, A), log.view().durable()), (vec![1], end));
}

#[test]
fn a_record_inside_a_payload_proves_nothing() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    commit(&mut log, A, draft(1, 96));
    let copied = commit(&mut log, A, draft(2, 96));
    let bytes = disk.contents(Path::new(FIRST_FILE)).unwrap();
    let start = usize::try_from(copied.0).unwrap();
    // Whoever could write such a payload must not be able to stop the server from starting.
    let mut header = RecordHeader::parse(&bytes[start..]).expect("a header");
    header.durable = Place(5_000);
    let payload = header.encode().to_vec();
    let last = commit(&mut log, A, Draft { payload, ..draft(3, 0) });
    disk.kill_process();
    disk.flip_bit(Path::new(FIRST_FILE), last.0 + 20, 0).unwrap();
    assert_eq!(numbers(&open(&disk).expect("a torn end"), A), [1, 2]);
}

#[test]
fn a_mark_protects_the_last_batch() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    let place = commit(&mut log, A, draft(1, 96));
    assert!(log.needs_mark());
    log.mark().expect("a mark");
    assert!(!log.needs_mark());
    disk.kill_process();
    disk.flip_bit(Path::new(FIRST_FILE), place.0 + 100, 0).unwrap();
    assert_corrupt(open(&disk), FIRST_FILE, place.0);
}

#[test]
fn damage_to_the_mark_itself_costs_nothing() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    commit(&mut log, A, draft(1, 96));
    let mark = log.view().durable();
    log.mark().expect("a mark");
    disk.kill_process();
    disk.flip_bit(Path::new(FIRST_FILE), mark.0 + 10, 0).unwrap();
    let log = open(&disk).expect("an empty mark is no loss");
    assert_eq!(numbers(&log, A), [1]);
    assert!(log.needs_mark(), "the record is unprotected again");
}

#[test]
fn damage_at_the_border_of_two_segments_names_the_right_one() {
    for (damaged, file) in [(3, FIRST_FILE), (4, SECOND_FILE)] {
        let disk = MemoryDisk::new();
        let mut log = open(&disk).expect("a new log");
        let places: Vec<Place> = (1..=6).map(|number| commit(&mut log, A, draft(number, 2_000))).collect();
        assert_eq!(files(&disk).len(), 2);
        disk.kill_process();
        let base = if file == FIRST_FILE { 0 } else { 8_192 };
        let offset = places[damaged - 1].0 - base;
        disk.flip_bit(Path::new(file), offset + HEADER_BYTES as u64 + 9, 5).unwrap();
        if damaged == 4 {
            assert_corrupt(open(&disk), SECOND_FILE, FIRST.0);
        } else {
            assert_corrupt(open(&disk), file, offset);
        }
    }
}

#[test]
fn a_damaged_file_header_is_refused() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    commit(&mut log, A, draft(1, 10));
    disk.kill_process();
    disk.flip_bit(Path::new(FIRST_FILE), 9, 1).unwrap();
    assert_corrupt(open(&disk), FIRST_FILE, 0);
}

#[test]
fn a_missing_file_is_refused() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    for number in 1..=9 {
        commit(&mut log, A, draft(number, 2_000));
    }
    disk.kill_process();
    disk.restarted().remove(Path::new(SECOND_FILE)).unwrap();
    assert_corrupt(open(&disk), "log/00000000000000016384.seg", 0);
}

#[test]
fn a_file_of_another_log_is_refused() {
    let (disk, other) = (MemoryDisk::new(), MemoryDisk::new());
    let mut log = open(&disk).expect("a new log");
    let mut foreign = SegmentLog::open(other.clone().into(), small(), &SeededRng::new(8)).expect("a log");
    for number in 1..=5 {
        commit(&mut log, A, draft(number, 2_000));
        commit(&mut foreign, A, draft(number, 2_000));
    }
    disk.kill_process();
    let bytes = other.contents(Path::new(SECOND_FILE)).unwrap();
    disk.restarted().open(Path::new(SECOND_FILE)).unwrap().write_all_at(&bytes, 0).unwrap();
    assert_corrupt(open(&disk), SECOND_FILE, 0);
}

#[test]
fn a_newer_record_is_refused_and_not_cut() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    commit(&mut log, A, draft(1, 16));
    let last = commit(&mut log, A, draft(2, 16));
    disk.kill_process();
    // The same header with another format number and the checksum that belongs to it.
    let file = disk.restarted().open(Path::new(FIRST_FILE)).unwrap();
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, last.0).unwrap();
    header[4] = 2;
    let checksum = xxhash_rust::xxh3::xxh3_64(&header[..HEADER_BYTES - 8]);
    header[HEADER_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&header, last.0).unwrap();
    assert_corrupt(open(&disk), FIRST_FILE, last.0);
}

#[test]
fn a_reader_of_damaged_durable_bytes_is_told_where() {
    let disk = MemoryDisk::new();
    let mut log = open(&disk).expect("a new log");
    commit(&mut log, A, draft(1, 400));
    let of_b = commit(&mut log, B, draft(2, 400));
    commit(&mut log, A, draft(3, 400));
    disk.flip_bit(Path::new(FIRST_FILE), of_b.0 + 200, 0).unwrap();
    assert_corrupt(read_all(&log, B), FIRST_FILE, of_b.0);
    assert_eq!(numbers(&log, A), [1, 3], "a reader passes over what is not its own without reading it");
    disk.flip_bit(Path::new(FIRST_FILE), of_b.0 + 56, 0).unwrap();
    assert_corrupt(read_all(&log, A), FIRST_FILE, of_b.0);
}

fn assert_corrupt<T: std::fmt::Debug>(result: Result<T, LogError>, wanted_file: &str, wanted_offset: u64) {
    match result {
        Err(LogError::Corrupt { file, offset, .. }) => {
            assert_eq!((file.as_str(), offset), (wanted_file, wanted_offset));
        }
        other => panic!("{other:?} instead of damage in {wanted_file} at {wanted_offset}"),
    }
}
