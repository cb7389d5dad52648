//! A disk that never broke anything would prove nothing.

use std::io::ErrorKind;
use std::path::Path;

use super::{MemoryDisk, MemoryFile, SECTOR};
use crate::{Disk, DiskFile};

const NAME: &str = "d/file";

#[test]
fn only_what_was_synced_outlives_a_loss_of_power() {
    let disk = MemoryDisk::new();
    let file = durable_file(&disk, b"synced");
    file.write_all_at(b"later!", 0).unwrap();
    assert_eq!(disk.contents(Path::new(NAME)).unwrap(), b"later!", "programs see it at once");
    disk.crash_keeping_nothing();
    assert_eq!(disk.contents(Path::new(NAME)).unwrap(), b"synced");
}

#[test]
fn a_killed_process_loses_its_handles_but_no_bytes() {
    let disk = MemoryDisk::new();
    let file = durable_file(&disk, b"synced");
    file.write_all_at(b"later!", 0).unwrap();
    disk.kill_process();
    assert!(file.write_all_at(b"zombie", 0).is_err());
    assert!(disk.open(Path::new(NAME)).is_err(), "the process is gone");
    assert_eq!(disk.contents(Path::new(NAME)).unwrap(), b"later!");
    assert!(disk.restarted().open(Path::new(NAME)).is_ok());
}

#[test]
fn a_crash_keeps_different_sectors_for_different_seeds() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let disk = MemoryDisk::new();
        let file = durable_file(&disk, &[1; 4 * SECTOR]);
        file.write_all_at(&[2; 4 * SECTOR], 0).unwrap();
        disk.crash(seed);
        let bytes = disk.contents(Path::new(NAME)).unwrap();
        outcomes.insert(bytes.chunks(SECTOR).map(|sector| sector == [2; SECTOR]).collect::<Vec<_>>());
    }
    assert!(outcomes.contains(&vec![true; 4]) && outcomes.contains(&vec![false; 4]));
    assert!(outcomes.len() > 5, "{outcomes:?}");
}

#[test]
fn noise_touches_only_bytes_that_were_being_changed() {
    let mut noisy = 0;
    for seed in 0..400 {
        let disk = MemoryDisk::new();
        let file = durable_file(&disk, &[1; SECTOR]);
        file.write_all_at(&[2; 10], 100).unwrap();
        disk.crash(seed);
        let bytes = disk.contents(Path::new(NAME)).unwrap();
        assert!(bytes[..100].iter().chain(&bytes[110..]).all(|byte| *byte == 1), "seed {seed}");
        noisy += usize::from(bytes[100..110].iter().any(|byte| *byte > 2));
    }
    assert!(noisy > 3, "{noisy}");
}

#[test]
fn names_are_durable_after_a_sync_of_their_directory() {
    let disk = MemoryDisk::new();
    drop(durable_file(&disk, b"bytes"));
    disk.rename(Path::new(NAME), Path::new("d/other")).unwrap();
    disk.create(Path::new("d/new")).unwrap();
    assert_eq!(disk.list(Path::new("d")).unwrap(), ["new", "other"]);
    disk.crash_keeping_nothing();
    let disk = disk.restarted();
    assert_eq!(disk.list(Path::new("d")).unwrap(), ["file"]);
    disk.remove(Path::new(NAME)).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    disk.crash_keeping_nothing();
    assert!(disk.restarted().list(Path::new("d")).unwrap().is_empty());
}

#[test]
fn a_failed_sync_drops_the_pages_but_still_shows_them() {
    let disk = MemoryDisk::new();
    let file = durable_file(&disk, b"synced");
    file.write_all_at(b"later!", 0).unwrap();
    disk.fail_next_sync();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.contents(Path::new(NAME)).unwrap(), b"later!");
    disk.crash_keeping_nothing();
    assert_eq!(disk.contents(Path::new(NAME)).unwrap(), b"synced", "the second sync had nothing to write");
}

#[test]
fn a_full_disk_refuses_to_grow_and_counts_it() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(10));
    let file = durable_file(&disk, b"eight by");
    assert_eq!(disk.available_bytes().unwrap(), 2);
    assert_eq!(file.set_len(11).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_all_at(b"more", 8).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(b"same", 0).unwrap();
    assert_eq!(disk.refused_for_room(), 2);
}

#[test]
fn after_the_power_cut_nothing_works_until_the_crash() {
    let disk = MemoryDisk::new();
    let file = durable_file(&disk, b"synced");
    disk.cut_power_after(1);
    file.write_all_at(b"later!", 0).unwrap();
    assert!(file.sync_data().is_err() && disk.power_is_off());
    assert!(file.len().is_err() && disk.list(Path::new("d")).is_err());
    disk.crash_keeping_nothing();
    assert_eq!(disk.contents(Path::new(NAME)).unwrap(), b"synced");
    assert!(!disk.power_is_off());
}

fn durable_file(disk: &MemoryDisk, bytes: &[u8]) -> MemoryFile {
    let file = disk.create(Path::new(NAME)).expect("a new name");
    file.write_all_at(bytes, 0).expect("a write");
    file.sync_data().expect("a sync");
    disk.sync_dir(Path::new("d")).expect("a sync");
    file
}
