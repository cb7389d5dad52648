//! The machine dies at any step, again and again. Every failure names its seed.

use tidings_ports::memory::{MemoryDisk, SeededRng};
use tidings_ports::{Draft, LogError, RecordKind};
use tidings_types::{Fence, Place, RecordNumber, ShardId};

use super::{A, B, open, read_all, small};
use crate::log::{SegmentLog, WriteError};

const SEEDS: u64 = 400;
const LIVES: u64 = 8;

type Log = SegmentLog<MemoryDisk>;

/// One disk's history, and what must be true of it.
struct Story {
    seed: u64,
    rng: SeededRng,
    disk: MemoryDisk,
    /// Every record that may be in the log, in order, with its place. The first `durable` of them must be.
    written: Vec<(Place, ShardId, Draft)>,
    durable: usize,
    numbers: u64,
    cuts: u64,
}

#[test]
fn what_was_synced_survives_and_the_rest_is_whole_or_gone() {
    let (mut cut_records, mut trimmed, mut segments) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut story = Story::new(seed);
        for _ in 0..LIVES {
            story.live();
            story.die();
        }
        let log = story.open_and_check().expect("nothing is broken any more");
        cut_records += story.cuts;
        trimmed += u64::from(log.view().floor() > Place::ZERO);
        segments = segments.max(log.segment_base().0 / small().segment_bytes);
    }
    // The faults must have done something, or the checks above have shown nothing.
    assert!(cut_records > SEEDS, "only {cut_records} records were torn off");
    assert!(trimmed > 20, "only {trimmed} logs were trimmed");
    assert!(segments > 3, "only {segments} segments");
}

impl Story {
    fn new(seed: u64) -> Self {
        let (rng, disk) = (SeededRng::new(seed), MemoryDisk::new());
        Self { seed, rng, disk, written: Vec::new(), durable: 0, numbers: 0, cuts: 0 }
    }

    /// Works until the power goes, or the process has had enough.
    fn live(&mut self) {
        if !self.rng.one_in(8) {
            self.disk.cut_power_after(self.rng.below(120));
        }
        let Some(mut log) = self.open_and_check() else { return };
        for _ in 0..self.rng.below(60) {
            if self.act(&mut log).is_none() {
                assert!(self.disk.power_is_off(), "seed {}: the log failed on a sound disk", self.seed);
                return;
            }
        }
    }

    fn die(&mut self) {
        match self.rng.below(4) {
            // With the power off, only a crash brings the machine back.
            0 if !self.disk.power_is_off() => self.disk.kill_process(),
            1 => self.disk.crash_keeping_nothing(),
            _ => self.disk.crash(self.rng.next_u64()),
        }
    }

    /// One step of a log's life; `None` if it failed.
    fn act(&mut self, log: &mut Log) -> Option<()> {
        match self.rng.below(12) {
            0 => log.mark().ok().map(|()| self.durable = self.written.len()),
            1 => self.prepare(log),
            2 => self.trim(log),
            3..=7 => self.write(log),
            _ => log.sync().ok().map(|()| self.durable = self.written.len()),
        }
    }

    fn write(&mut self, log: &mut Log) -> Option<()> {
        let batch: Vec<_> = (0..=self.rng.below(3)).map(|_| self.next_record()).collect();
        // Known before the outcome is: a write that fails may still have reached the disk.
        let (start, count) = (self.written.len(), batch.len());
        self.written.extend(batch.iter().map(|(shard, draft)| (Place::ZERO, *shard, draft.clone())));
        let places = match log.write_batch(&batch) {
            Ok(places) => places,
            Err(WriteError::Failed(_)) => return None,
            Err(error) => panic!("seed {}: {error}", self.seed),
        };
        assert_eq!(places.len(), count);
        for (written, place) in self.written[start..].iter_mut().zip(places) {
            written.0 = place;
        }
        Some(())
    }

    fn next_record(&mut self) -> (ShardId, Draft) {
        self.numbers += 1;
        let shard = if self.rng.one_in(2) { A } else { B };
        let payload = vec![self.numbers.to_le_bytes()[0]; usize::try_from(self.rng.below(900)).unwrap()];
        let (fence, number) = (Fence(1), RecordNumber(self.numbers));
        (shard, Draft { kind: RecordKind::Entries, fence, number, payload })
    }

    fn prepare(&self, log: &mut Log) -> Option<()> {
        if let Some(plan) = log.plan_next() {
            log.install(plan.prepare().ok()?);
        }
        Some(())
    }

    /// Trims to some durable record, for both shards.
    fn trim(&self, log: &Log) -> Option<()> {
        let upto = usize::try_from(self.rng.below(self.durable as u64 + 1)).unwrap();
        let below = self.written.get(upto).map_or(Place::ZERO, |(place, ..)| *place);
        log.view().trim(A, below).ok()?;
        log.view().trim(B, below).ok()
    }

    /// Opens the log and compares it with the story; `None` if the power went meanwhile.
    fn open_and_check(&mut self) -> Option<Log> {
        let seed = self.seed;
        let log = match open(&self.disk) {
            Ok(log) => log,
            Err(LogError::Io(_)) if self.disk.power_is_off() => return None,
            Err(error) => panic!("seed {seed}: {error:?}"),
        };
        let mut found = Vec::new();
        for shard in [A, B] {
            match read_all(&log, shard) {
                Ok(records) => found.extend(records.into_iter().map(|record| (shard, record))),
                Err(LogError::Io(_)) if self.disk.power_is_off() => return None,
                Err(error) => panic!("seed {seed}: {error:?}"),
            }
        }
        found.sort_by_key(|(_, record)| record.place);
        self.check(&log, &found);
        Some(log)
    }

    fn check(&mut self, log: &Log, found: &[(ShardId, tidings_ports::Stored)]) {
        let seed = self.seed;
        let floor = log.view().floor();
        let is_kept = |(place, ..): &&(Place, ShardId, Draft)| *place >= floor || *place == Place::ZERO;
        let trimmed = self.written.iter().take_while(|written| !is_kept(written)).count();
        let expected = &self.written[trimmed..];
        assert!(found.len() <= expected.len(), "seed {seed}: records that nobody wrote");
        for ((shard, record), (place, wrote_shard, draft)) in found.iter().zip(expected) {
            assert_eq!((shard, record.number), (wrote_shard, draft.number), "seed {seed}: another order");
            assert_eq!(record.payload, draft.payload, "seed {seed}: other bytes");
            assert!(*place == record.place || *place == Place::ZERO, "seed {seed}: another place");
        }
        let kept = trimmed + found.len();
        assert!(kept >= self.durable, "seed {seed}: {} synced records are gone", self.durable - kept);
        self.cuts += (self.written.len() - kept) as u64;
        self.written.truncate(kept);
        for (written, (_, record)) in self.written[trimmed..].iter_mut().zip(found) {
            written.0 = record.place;
        }
        // What an opened log shows has been shown for ever.
        self.durable = kept;
    }
}
