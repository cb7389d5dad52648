//! One segment file: its name, its header, and how it comes to be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tidings_ports::{Disk, DiskFile, LogError};
use tidings_record::{SEGMENT_HEADER_BYTES, SegmentHeader};
use tidings_types::Place;

use super::LOG_DIRECTORY;

const SUFFIX: &str = ".seg";
/// The name of a file that is still being filled with zeros.
const UNFINISHED: &str = "unfinished.new";
/// Zeros are written and synced in steps of this size, so that a commit beside it waits for little.
const FILL_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Segment<F> {
    /// For error messages.
    pub(super) file_name: String,
    pub(super) file: F,
    pub(super) base: Place,
    pub(super) len: u64,
    /// Where its records end; set when the next segment begins.
    sealed: OnceLock<Place>,
}

impl<F: DiskFile> Segment<F> {
    const fn new(file_name: String, file: F, base: Place, len: u64) -> Self {
        Self { file_name, file, base, len, sealed: OnceLock::new() }
    }

    /// Opens a segment file and checks its header; answers the log's id with it.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &D,
        name: &str,
        base: Place,
    ) -> Result<(Self, u64), LogError> {
        let file_name = format!("{LOG_DIRECTORY}/{name}");
        let corrupt = |reason| LogError::Corrupt { file: file_name.clone(), offset: 0, reason };
        let file = disk.open(Path::new(&file_name))?;
        let len = file.len()?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        if len < bytes.len() as u64 {
            return Err(corrupt("the file is too short for its header"));
        }
        file.read_exact_at(&mut bytes, 0)?;
        let header = SegmentHeader::parse(&bytes).map_err(|error| corrupt(error.reason()))?;
        if header.base != base {
            return Err(corrupt("the file has the name of another one"));
        }
        Ok((Self::new(file_name, file, base, len), header.log_id))
    }

    /// The place of the first record.
    pub(super) const fn first(&self) -> Place {
        Place(self.base.0 + SEGMENT_HEADER_BYTES as u64)
    }

    /// The place behind the file's last byte, where the next segment begins.
    pub(super) const fn limit(&self) -> Place {
        Place(self.base.0 + self.len)
    }

    pub(super) const fn offset(&self, place: Place) -> u64 {
        place.0 - self.base.0
    }

    pub(super) fn sealed(&self) -> Option<Place> {
        self.sealed.get().copied()
    }

    /// Its records end here. Said once; saying it again changes nothing.
    pub(super) fn seal(&self, end: Place) {
        self.sealed.get_or_init(|| end);
    }

    pub(super) fn corrupt(&self, place: Place, reason: &'static str) -> LogError {
        LogError::Corrupt { file: self.file_name.clone(), offset: self.offset(place), reason }
    }

    /// Overwrites everything from `from` on with zeros and syncs.
    pub(super) fn clear_from(&self, from: Place) -> io::Result<()> {
        fill_with_zeros(&self.file, self.offset(from), self.len)?;
        self.file.sync_data()
    }
}

/// A segment that should be made. Making it takes a while and needs no other part of the log, so any thread may do it.
#[derive(Debug)]
pub struct SegmentPlan<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) log_id: u64,
    pub(super) base: Place,
    pub(super) len: u64,
    pub(super) reserve_bytes: u64,
}

/// A segment that was made ahead.
#[derive(Debug)]
pub struct Prepared<F>(pub(super) Segment<F>);

#[derive(Debug, Error)]
pub enum PrepareError {
    /// The disk would have less room than its reserve.
    #[error("there is no room for another segment")]
    Full,
    #[error("a segment cannot be made")]
    Io(#[from] io::Error),
}

impl<D: Disk> SegmentPlan<D> {
    /// Makes the file. It gets its name only when all of it is on the disk, so a crash leaves either the whole segment
    /// or none.
    pub fn prepare(&self) -> Result<Prepared<D::File>, PrepareError> {
        if self.disk.available_bytes()? < self.reserve_bytes.saturating_add(self.len) {
            return Err(PrepareError::Full);
        }
        remove_unfinished(self.disk.as_ref())?;
        let unfinished = path(UNFINISHED);
        let file = self.disk.create(&unfinished)?;
        // A directory may keep the renaming below and lose this creation; the name would then be that of a file which
        // an earlier attempt left half made.
        self.disk.sync_dir(Path::new(LOG_DIRECTORY))?;
        if let Err(error) = self.fill(&file) {
            // The room is worth more than the half-made file; if this fails too, the next attempt removes it.
            let _ = self.disk.remove(&unfinished);
            return Err(error.into());
        }
        let name = segment_name(self.base);
        self.disk.rename(&unfinished, &path(&name))?;
        self.disk.sync_dir(Path::new(LOG_DIRECTORY))?;
        Ok(Prepared(Segment::new(format!("{LOG_DIRECTORY}/{name}"), file, self.base, self.len)))
    }

    /// Zeros, and not a hole: a later write must not have to look for room, and its sync not for a new file size.
    fn fill(&self, file: &D::File) -> io::Result<()> {
        fill_with_zeros(file, 0, self.len)?;
        file.write_all_at(&SegmentHeader { log_id: self.log_id, base: self.base }.encode(), 0)?;
        file.sync_data()
    }
}

/// The segment files of the log by their places, ascending.
pub(super) fn list_segments<D: Disk>(disk: &D) -> io::Result<Vec<(Place, String)>> {
    let names = disk.list(Path::new(LOG_DIRECTORY))?;
    let mut segments: Vec<_> = names.into_iter().filter_map(|name| Some((base_of(&name)?, name))).collect();
    segments.sort_unstable();
    Ok(segments)
}

pub(super) fn remove_unfinished<D: Disk>(disk: &D) -> io::Result<()> {
    match disk.remove(&path(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a segment file for good. Synced one by one, so that a crash never leaves a gap between the others.
pub(super) fn remove_segment<D: Disk>(disk: &D, segment: &Segment<D::File>) -> io::Result<()> {
    disk.remove(Path::new(&segment.file_name))?;
    disk.sync_dir(Path::new(LOG_DIRECTORY))
}

fn fill_with_zeros<F: DiskFile>(file: &F, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    while from < to {
        let len = usize::try_from(to - from).map_or(FILL_BYTES, |rest| rest.min(FILL_BYTES));
        file.write_all_at(&zeros[..len], from)?;
        file.sync_data()?;
        from += len as u64;
    }
    Ok(())
}

fn segment_name(base: Place) -> String {
    format!("{:020}{SUFFIX}", base.0)
}

fn base_of(name: &str) -> Option<Place> {
    let digits = name.strip_suffix(SUFFIX)?;
    let base = digits.parse().ok().map(Place)?;
    (segment_name(base) == name).then_some(base)
}

fn path(name: &str) -> PathBuf {
    Path::new(LOG_DIRECTORY).join(name)
}
