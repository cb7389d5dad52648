//! A disk in memory that can lose power, lie about a sync, run full and flip bits.
//!
//! It keeps what programs see apart from what is durable, by sectors of 512 bytes and by changes of names. A crash
//! keeps any subset of both that was not synced.
//! A failed sync behaves like Linux: the pages stay readable, are taken for clean, and reach the disk only if they are
//! written again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::SeededRng;
use crate::{Disk, DiskFile};

const SECTOR: usize = 512;
const SECTORS_PER_BLOCK: usize = 8;

/// Clones share the disk. After a crash they can no longer use it, like the process that they stand for; only
/// [`MemoryDisk::restarted`] can. The controls work on any of them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
    life: u64,
}

/// An open file. Dead after a crash, like the process that held it.
#[derive(Debug)]
pub struct MemoryFile {
    shared: Arc<Shared>,
    inode: usize,
    life: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    syncs_released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Counts crashes; files opened in an earlier life are dead.
    life: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    capacity: Option<u64>,
    steps_left: Option<u64>,
    power_is_off: bool,
    fail_next_sync: bool,
    fail_next_write: bool,
    syncs_held: bool,
    syncs: u64,
    refused_for_room: u64,
}

#[derive(Debug, Default)]
struct Inode {
    visible: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `visible` that a sync would make durable.
    dirty: BTreeSet<usize>,
    len_is_dirty: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl MemoryDisk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same disk for the process that starts after a crash.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), life: self.lock().life }
    }

    /// The machine loses power and starts again: any subset of what was not synced is kept, some of it as garbage.
    pub fn crash(&self, seed: u64) {
        let rng = SeededRng::new(seed);
        self.lock().crash(&mut Survivors::Random(&rng));
        self.shared.syncs_released.notify_all();
    }

    /// The machine loses power and starts again: nothing is kept that was not synced.
    pub fn crash_keeping_nothing(&self) {
        self.lock().crash(&mut Survivors::None);
        self.shared.syncs_released.notify_all();
    }

    /// The process dies, the machine goes on: everything written is still there, synced or not.
    pub fn kill_process(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.steps_left = None;
        state.syncs_held = false;
        drop(state);
        self.shared.syncs_released.notify_all();
    }

    /// After `steps` more changes every call fails, until [`MemoryDisk::crash`].
    pub fn cut_power_after(&self, steps: u64) {
        self.lock().steps_left = Some(steps);
    }

    #[must_use]
    pub fn power_is_off(&self) -> bool {
        self.lock().power_is_off
    }

    /// The next sync of a file fails, and what it should have made durable is never written.
    pub fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    pub fn fail_next_write(&self) {
        self.lock().fail_next_write = true;
    }

    /// Syncs wait until [`MemoryDisk::release_syncs`] or a crash.
    pub fn hold_syncs(&self) {
        self.lock().syncs_held = true;
    }

    pub fn release_syncs(&self) {
        self.lock().syncs_held = false;
        self.shared.syncs_released.notify_all();
    }

    /// Syncs of files that were begun.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The size of the disk. `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How often a store met a full disk.
    #[must_use]
    pub fn refused_for_room(&self) -> u64 {
        self.lock().refused_for_room
    }

    /// Damages one durable bit of a file.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.named(path)?;
        let at = index(offset)?;
        for bytes in [&mut inode.visible, &mut inode.durable] {
            *bytes.get_mut(at).ok_or(ErrorKind::UnexpectedEof)? ^= 1 << bit;
        }
        Ok(())
    }

    /// What programs see of a file now.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.lock().named(path).map(|inode| inode.visible.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    fn file(&self, inode: usize) -> MemoryFile {
        MemoryFile { shared: Arc::clone(&self.shared), inode, life: self.life }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn create(&self, path: &Path) -> io::Result<MemoryFile> {
        let mut state = self.shared.lock_in(self.life)?;
        state.step()?;
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change_names(NameChange::Create(path.to_owned(), inode));
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        let state = self.shared.lock_in(self.life)?;
        state.check_power()?;
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(inode))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.shared.lock_in(self.life)?;
        state.check_power()?;
        let here = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    /// Directories need no making here.
    fn create_dir_all(&self, _directory: &Path) -> io::Result<()> {
        self.shared.lock_in(self.life)?.check_power()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.lock_in(self.life)?;
        state.step()?;
        if !state.names.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock_in(self.life)?;
        state.step()?;
        if !state.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    /// Names of all directories share one journal, so this makes all of them durable.
    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.shared.lock_in(self.life)?;
        state.step()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let state = self.shared.lock_in(self.life)?;
        state.check_power()?;
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes())))
    }
}

impl DiskFile for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        state.check_power()?;
        let start = index(offset)?;
        let bytes = &state.inode(self.inode).visible;
        let end = start.checked_add(buffer.len()).filter(|end| *end <= bytes.len());
        buffer.copy_from_slice(&bytes[start..end.ok_or(ErrorKind::UnexpectedEof)?]);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        state.check_power()?;
        if std::mem::take(&mut state.fail_next_write) {
            return Err(io::Error::other("a write that was told to fail"));
        }
        let start = index(offset)?;
        state.take_room(self.inode, start + bytes.len())?;
        // The write that meets the power cut may still have reached the disk in part.
        state.inode(self.inode).write(bytes, start);
        state.step()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock()?;
        state.syncs += 1;
        while state.syncs_held && state.life == self.life {
            state = self.shared.syncs_released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.life != self.life {
            return Err(dead());
        }
        state.step()?;
        let fails = std::mem::take(&mut state.fail_next_sync);
        let inode = state.inode(self.inode);
        if fails {
            inode.dirty.clear();
            inode.len_is_dirty = false;
            return Err(io::Error::other("a sync that was told to fail"));
        }
        inode.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.lock()?;
        state.check_power()?;
        Ok(state.inode(self.inode).visible.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        let len = index(len)?;
        state.take_room(self.inode, len)?;
        let inode = state.inode(self.inode);
        inode.visible.resize(len, 0);
        inode.len_is_dirty = true;
        state.step()
    }
}

impl MemoryFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        self.shared.lock_in(self.life)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_in(&self, life: u64) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.life == life { Ok(state) } else { Err(dead()) }
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.power_is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts one change.
    fn step(&mut self) -> io::Result<()> {
        if self.steps_left == Some(0) {
            self.power_is_off = true;
        }
        self.steps_left = self.steps_left.map(|steps| steps.saturating_sub(1));
        self.check_power()
    }

    fn inode(&mut self, inode: usize) -> &mut Inode {
        &mut self.inodes[inode]
    }

    fn named(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let inode = *self.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.inode(inode))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].visible.len() as u64).sum()
    }

    fn take_room(&mut self, inode: usize, len: usize) -> io::Result<()> {
        let more = len.saturating_sub(self.inodes[inode].visible.len()) as u64;
        if more > 0 && self.capacity.is_some_and(|capacity| self.used_bytes() + more > capacity) {
            self.refused_for_room += 1;
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn crash(&mut self, survivors: &mut Survivors<'_>) {
        for change in std::mem::take(&mut self.name_changes) {
            if survivors.survives() {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for inode in &mut self.inodes {
            inode.crash(survivors);
        }
        self.life += 1;
        self.steps_left = None;
        self.power_is_off = false;
        self.fail_next_sync = false;
        self.fail_next_write = false;
        self.syncs_held = false;
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], start: usize) {
        let end = start + bytes.len();
        if end > self.visible.len() {
            self.visible.resize(end, 0);
            self.len_is_dirty = true;
        }
        self.visible[start..end].copy_from_slice(bytes);
        self.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.len_is_dirty) {
            self.durable.resize(self.visible.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }

    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.visible.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.visible[start..end]);
        }
    }

    fn crash(&mut self, survivors: &mut Survivors<'_>) {
        if std::mem::take(&mut self.len_is_dirty) && survivors.survives() {
            self.durable.resize(self.visible.len(), 0);
        }
        let dirty: Vec<usize> = std::mem::take(&mut self.dirty).into_iter().collect();
        for block in dirty.chunk_by(|a, b| a / SECTORS_PER_BLOCK == b / SECTORS_PER_BLOCK) {
            for sector in survivors.sectors_of(block) {
                let changed = self.changed(sector);
                self.keep(sector);
                if let Some(noise) = survivors.noise().filter(|_| !changed.is_empty()) {
                    self.durable[changed[noise % changed.len()]] ^= 1 << (noise % 8);
                }
            }
        }
        self.visible = self.durable.clone();
    }

    /// The bytes of a sector that the crash is about to change. Only these can end up as noise: what was durable before
    /// in the same sector has the same value in the old and in the new one.
    fn changed(&self, sector: usize) -> Vec<usize> {
        let end = ((sector + 1) * SECTOR).min(self.visible.len()).min(self.durable.len());
        (sector * SECTOR..end).filter(|at| self.visible[*at] != self.durable[*at]).collect()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

/// What of the unsynced outlives a crash.
enum Survivors<'a> {
    None,
    Random(&'a SeededRng),
}

impl Survivors<'_> {
    fn survives(&self) -> bool {
        match self {
            Self::None => false,
            Self::Random(rng) => rng.one_in(2),
        }
    }

    /// All of a block, nothing of it, or some of its sectors.
    fn sectors_of(&self, block: &[usize]) -> Vec<usize> {
        match self {
            Self::None => Vec::new(),
            Self::Random(rng) => match rng.below(3) {
                0 => Vec::new(),
                1 => block.to_vec(),
                _ => block.iter().copied().filter(|_| rng.one_in(2)).collect(),
            },
        }
    }

    fn noise(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Random(rng) => rng.one_in(16).then(|| usize::try_from(rng.below(1 << 20)).unwrap_or(0)),
        }
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput.into())
}

fn dead() -> io::Error {
    io::Error::other("the process that used this disk is gone")
}

#[cfg(test)]
mod tests;
