//! Files as the segment log needs them: blocking, positioned, with an explicit sync.

use std::io;
use std::path::Path;

/// A file system. Paths are relative to the directory the adapter was opened on.
pub trait Disk: Send + Sync + 'static {
    type File: DiskFile;

    /// Creates a file that must not exist. It may vanish in a crash until [`Disk::sync_dir`] returns.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// File names in a directory, sorted.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    fn create_dir_all(&self, directory: &Path) -> io::Result<()>;

    /// Replaces `to` by `from` in one step: after a crash one of the two is there whole.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in `directory` durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Bytes that may still be written.
    fn available_bytes(&self) -> io::Result<u64>;
}

pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`; `UnexpectedEof` beyond the end.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. Not durable until [`DiskFile::sync_data`] returns: a crash may keep any
    /// subset of its blocks.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes every completed write of this file durable. After an error nothing is known about any of them and the
    /// call must not be repeated: the kernel may have dropped the dirty pages (<https://wiki.postgresql.org/wiki/Fsync_Errors>).
    fn sync_data(&self) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    /// True for a file without bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Extends with zeros or cuts. Durable after the next `sync_data`.
    fn set_len(&self, len: u64) -> io::Result<()>;
}
