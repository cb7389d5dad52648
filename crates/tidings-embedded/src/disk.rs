//! The real disk: files below one directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tidings_ports::{Disk, DiskFile};

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct FsDisk {
    root: PathBuf,
}

/// An open file of an [`FsDisk`].
#[derive(Debug)]
pub struct FsFile(File);

impl FsDisk {
    /// The directory must exist.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Disk for FsDisk {
    type File = FsFile;

    /// Only the server's own user may read what people wrote.
    fn create(&self, path: &Path) -> io::Result<FsFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(self.root.join(path)).map(FsFile)
    }

    fn open(&self, path: &Path) -> io::Result<FsFile> {
        OpenOptions::new().read(true).write(true).open(self.root.join(path)).map(FsFile)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(directory))? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(self.root.join(directory))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(self.root.join(directory))?.sync_all()
    }

    /// What an ordinary user may still use, so the blocks that the file system keeps for root do not count.
    fn available_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl DiskFile for FsFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
