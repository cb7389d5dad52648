//! The segment log on a disk that can be broken.

mod crash;
mod damage;
mod shell;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tidings_ports::memory::{MemoryDisk, SeededRng};
use tidings_ports::{Disk, Draft, LogError, RecordKind, Stored};
use tidings_record::SEGMENT_HEADER_BYTES;
use tidings_types::{Fence, Place, RecordNumber, ShardId};

use super::{LogConfig, SegmentLog};

const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);
const FIRST: Place = Place(SEGMENT_HEADER_BYTES as u64);
const FIRST_FILE: &str = "log/00000000000000000000.seg";
const SECOND_FILE: &str = "log/00000000000000008192.seg";

/// Small segments, so that a test fills many.
const fn small() -> LogConfig {
    LogConfig {
        shards: 2,
        segment_bytes: 8_192,
        reserve_bytes: 0,
        room_check_bytes: 1,
        batch_bytes_max: 4_096,
        mark_idle_ms: 3_600_000,
    }
}

fn open(disk: &MemoryDisk) -> Result<SegmentLog<MemoryDisk>, LogError> {
    SegmentLog::open(Arc::new(disk.restarted()), small(), &SeededRng::new(7))
}

fn draft(number: u64, payload_bytes: usize) -> Draft {
    let byte = number.to_le_bytes()[0];
    let (fence, number) = (Fence(1), RecordNumber(number));
    Draft { kind: RecordKind::Entries, fence, number, payload: vec![byte; payload_bytes] }
}

/// Writes one record as a batch of its own and syncs it.
fn commit(log: &mut SegmentLog<MemoryDisk>, shard: ShardId, draft: Draft) -> Place {
    let places = log.write_batch(&[(shard, draft)]).expect("a write");
    log.sync().expect("a sync");
    places[0]
}

fn read_all<D: Disk>(log: &SegmentLog<D>, shard: ShardId) -> Result<Vec<Stored>, LogError> {
    let mut records = Vec::new();
    let mut from = log.view().floor();
    loop {
        let page = log.view().read(shard, from, 1_000)?;
        if page.next == from {
            return Ok(records);
        }
        from = page.next;
        records.extend(page.records);
    }
}

fn numbers(log: &SegmentLog<MemoryDisk>, shard: ShardId) -> Vec<u64> {
    read_all(log, shard).expect("durable records").iter().map(|record| record.number.0).collect()
}

fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.restarted().list(Path::new("log")).expect("a list of files")
}
