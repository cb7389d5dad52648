//! Opening: scan every record, cut the torn end off or refuse, and make sure that what is kept is on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tidings_ports::{Disk, DiskFile, LogError, Rng};
use tidings_record::{HEADER_BYTES, RECORD_ALIGN, RecordHeader, RecordType};
use tidings_types::Place;

use super::cursor::{Cursor, Invalid};
use super::segment::{
    PrepareError, Prepared, Segment, SegmentPlan, list_segments, remove_segment, remove_unfinished,
};
use super::writer::Start;
use super::{LOG_DIRECTORY, LogConfig, LogView, SegmentLog};

/// Read at a time. More than any header, a multiple of the alignment.
const SCAN_BYTES: usize = 1024 * 1024;
static ZEROS: [u8; SCAN_BYTES] = [0; SCAN_BYTES];

impl<D: Disk> SegmentLog<D> {
    /// Opens the log, or makes an empty one where there is none.
    ///
    /// Everything that was ever acknowledged is there afterwards, or the answer is `Corrupt` and nothing was changed.
    /// What was written but never acknowledged is either there whole, record by record in order, or gone. What is
    /// there is durable.
    pub fn open(disk: Arc<D>, config: LogConfig, rng: &dyn Rng) -> Result<Self, LogError> {
        disk.create_dir_all(Path::new(LOG_DIRECTORY))?;
        disk.sync_dir(Path::new(""))?;
        let (segments, log_id) = open_segments(&disk, &config, rng)?;
        let scan = scan(&segments, log_id)?;
        remove_unfinished(disk.as_ref())?;
        let Repaired { kept, active, next } = repair(disk.as_ref(), segments, log_id, &scan)?;
        let view = LogView::new(disk, log_id, kept, scan.end, config.shards);
        let unmarked = scan.data_end > scan.vouched;
        Ok(Self::start(Arc::new(view), config, Start { active, next, end: scan.end, unmarked }))
    }
}

/// The segments, at least one, and the log's id.
type Found<D> = (Vec<Segment<<D as Disk>::File>>, u64);

fn open_segments<D: Disk>(disk: &Arc<D>, config: &LogConfig, rng: &dyn Rng) -> Result<Found<D>, LogError> {
    let mut segments = Vec::new();
    let mut log_id = None;
    for (base, name) in list_segments(disk.as_ref())? {
        let (segment, id) = Segment::open(disk.as_ref(), &name, base)?;
        if *log_id.get_or_insert(id) != id {
            return Err(segment.corrupt(base, "the file belongs to another log"));
        }
        let expected = segments.last().map_or(base, Segment::limit);
        if base != expected {
            return Err(segment.corrupt(base, "the file before this one is missing"));
        }
        segments.push(segment);
    }
    match log_id {
        Some(log_id) => Ok((segments, log_id)),
        None => new_log(disk, config, rng),
    }
}

fn new_log<D: Disk>(disk: &Arc<D>, config: &LogConfig, rng: &dyn Rng) -> Result<Found<D>, LogError> {
    let mut bytes = [0; 8];
    rng.fill(&mut bytes);
    let log_id = u64::from_le_bytes(bytes);
    let plan = SegmentPlan {
        disk: Arc::clone(disk),
        log_id,
        base: Place::ZERO,
        len: config.segment_bytes,
        reserve_bytes: config.reserve_bytes,
    };
    match plan.prepare() {
        Ok(Prepared(segment)) => Ok((vec![segment], log_id)),
        Err(PrepareError::Io(error)) => Err(error.into()),
        Err(error @ PrepareError::Full) => Err(io::Error::new(io::ErrorKind::StorageFull, error).into()),
    }
}

/// Where the log ends.
struct Scan {
    /// The segment that has the end.
    active: usize,
    /// Behind the last valid record.
    end: Place,
    /// Behind the last valid record that is not an empty mark.
    data_end: Place,
    /// The highest place that a valid record calls durable.
    vouched: Place,
}

/// Walks every record from the first segment on. Changes nothing on the disk.
fn scan<F: DiskFile>(segments: &[Segment<F>], log_id: u64) -> Result<Scan, LogError> {
    let mut scan = Scan { active: 0, end: Place::ZERO, data_end: Place::ZERO, vouched: Place::ZERO };
    for (index, segment) in segments.iter().enumerate() {
        scan.active = index;
        scan.end = segment.first();
        let reason = scan_segment(segment, log_id, &mut scan)?;
        let follows = match segments.get(index + 1) {
            Some(next) => begins_behind(next, log_id, scan.end)?,
            None => false,
        };
        if !follows {
            refuse_if_durable(&segments[index..], log_id, scan.end, reason)?;
            break;
        }
        segment.seal(scan.end);
    }
    Ok(scan)
}

/// Moves `scan` to the end of the segment's valid records; answers why the next one is not valid.
fn scan_segment<F: DiskFile>(
    segment: &Segment<F>,
    log_id: u64,
    scan: &mut Scan,
) -> Result<&'static str, LogError> {
    let mut cursor = Cursor::new(segment, log_id, segment.first(), segment.limit(), SCAN_BYTES);
    loop {
        match next_valid(&mut cursor) {
            Ok(Some(header)) => {
                scan.end = cursor.place();
                scan.vouched = scan.vouched.max(header.durable);
                if header.kind != RecordType::DurableMark {
                    scan.data_end = scan.end;
                }
            }
            Ok(None) => return Ok("the segment is full"),
            Err(Invalid::Io(error)) => return Err(error.into()),
            // Cutting here would throw away what a newer server wrote.
            Err(Invalid::Damaged { reason, newer_format: true }) => {
                return Err(segment.corrupt(cursor.place(), reason));
            }
            Err(Invalid::Damaged { reason, .. }) => return Ok(reason),
        }
    }
}

fn next_valid<F: DiskFile>(cursor: &mut Cursor<'_, F>) -> Result<Option<RecordHeader>, Invalid> {
    let Some(header) = cursor.header()? else {
        return Ok(None);
    };
    cursor.payload(&header)?;
    cursor.pass(&header);
    Ok(Some(header))
}

/// A segment ends where the next one says that it ended: the next one's first record is written when everything before
/// it is durable, and says so.
fn begins_behind<F: DiskFile>(next: &Segment<F>, log_id: u64, end: Place) -> Result<bool, LogError> {
    let mut cursor = Cursor::new(next, log_id, next.first(), next.limit(), HEADER_BYTES);
    match next_valid(&mut cursor) {
        Ok(first) => Ok(first.is_some_and(|first| first.durable == end)),
        Err(Invalid::Io(error)) => Err(error.into()),
        Err(Invalid::Damaged { .. }) => Ok(false),
    }
}

/// The log seems to end at `end`, in the first of `segments`. If anything behind proves that more was durable, it is
/// not the end but damage.
fn refuse_if_durable<F: DiskFile>(
    segments: &[Segment<F>],
    log_id: u64,
    end: Place,
    reason: &'static str,
) -> Result<(), LogError> {
    let here = survey(&segments[0], end, log_id)?;
    let mut proven = here.proven;
    for later in &segments[1..] {
        proven = proven.max(survey(later, later.first(), log_id)?.proven);
    }
    if proven <= end {
        return Ok(());
    }
    match segments.get(1) {
        // Nothing was ever written behind the end of this segment, so it is the next one that is damaged.
        Some(next) if here.is_zero && proven > next.first() => {
            Err(next.corrupt(next.first(), "the first record is damaged, but later ones call it durable"))
        }
        _ => Err(segments[0].corrupt(end, reason)),
    }
}

struct Survey {
    is_zero: bool,
    /// The highest place that any undamaged header here calls durable.
    proven: Place,
}

/// Looks at every place where a record could begin. A header with its checksum, this log's id and its own place was
/// written by this log at this place, whatever happened to the bytes around it.
fn survey<F: DiskFile>(segment: &Segment<F>, from: Place, log_id: u64) -> io::Result<Survey> {
    let mut survey = Survey { is_zero: true, proven: Place::ZERO };
    // Windows overlap by what could be the beginning of a header.
    each_window(segment, from, segment.limit(), HEADER_BYTES, |place, window| {
        if *window != ZEROS[..window.len()] {
            survey.is_zero = false;
            survey.proven = survey.proven.max(proven_in(window, place, log_id));
        }
        Ok(())
    })?;
    Ok(survey)
}

fn proven_in(window: &[u8], place: Place, log_id: u64) -> Place {
    let candidates = (0..window.len()).step_by(RECORD_ALIGN);
    let headers = candidates.filter_map(|at| {
        let header = RecordHeader::parse(&window[at..]).ok()?;
        (header.log_id == log_id && header.place.0 == place.0 + at as u64).then_some(header.durable)
    });
    headers.max().unwrap_or(Place::ZERO)
}

struct Repaired<D: Disk> {
    kept: Vec<Arc<Segment<D::File>>>,
    active: Arc<Segment<D::File>>,
    next: Option<Prepared<D::File>>,
}

/// Leaves nothing behind the end, and everything before it on the disk.
fn repair<D: Disk>(
    disk: &D,
    mut segments: Vec<Segment<D::File>>,
    log_id: u64,
    scan: &Scan,
) -> io::Result<Repaired<D>> {
    let mut later = segments.split_off(scan.active + 1);
    // From the back, so that a crash leaves no gap. A segment made ahead and never written stays for its turn.
    while let Some(last) = later.last() {
        if later.len() == 1 && survey(last, last.first(), log_id)?.is_zero {
            break;
        }
        remove_segment(disk, last)?;
        later.pop();
    }
    let kept: Vec<_> = segments.into_iter().map(Arc::new).collect();
    let active = Arc::clone(&kept[scan.active]);
    if !survey(&active, scan.end, log_id)?.is_zero {
        active.clear_from(scan.end)?;
    }
    rewrite(&active, scan.vouched.max(active.first()), scan.end)?;
    Ok(Repaired { kept, active, next: later.pop().map(Prepared) })
}

/// Records that no later one calls durable may be in the page cache only, and after a failed sync the kernel takes
/// such pages for clean. Writing them again is the only way to be sure that a sync reaches them.
fn rewrite<F: DiskFile>(segment: &Segment<F>, from: Place, to: Place) -> io::Result<()> {
    each_window(segment, from, to, 0, |place, window| {
        segment.file.write_all_at(window, segment.offset(place))
    })?;
    segment.file.sync_data()
}

/// Reads from `from` to `to` in windows, each of which repeats the last `overlap` bytes of the one before.
fn each_window<F: DiskFile>(
    segment: &Segment<F>,
    from: Place,
    to: Place,
    overlap: usize,
    mut visit: impl FnMut(Place, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = vec![0; SCAN_BYTES];
    let mut place = from;
    while place < to {
        let rest = usize::try_from(to.0 - place.0).unwrap_or(usize::MAX);
        let window = &mut bytes[..rest.min(SCAN_BYTES)];
        segment.file.read_exact_at(window, segment.offset(place))?;
        visit(place, window)?;
        let is_last = window.len() == rest;
        place = if is_last { to } else { Place(place.0 + (window.len() - overlap) as u64) };
    }
    Ok(())
}
