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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_made_once_for_the_servers_eyes_only() {
        let (directory, disk) = fresh();
        disk.create_dir_all(Path::new("a/b")).unwrap();
        disk.create(Path::new("a/b/two")).unwrap();
        disk.create(Path::new("a/b/one")).unwrap();
        let again = disk.create(Path::new("a/b/one")).map(|_| ());
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(disk.list(Path::new("a/b")).unwrap(), ["one", "two"]);
        let mode = fs::metadata(directory.path().join("a/b/one")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(disk.open(Path::new("a/none")).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn bytes_are_where_they_were_written() {
        let (_directory, disk) = fresh();
        let file = disk.create(Path::new("file")).unwrap();
        file.set_len(100).unwrap();
        file.write_all_at(b"here", 40).unwrap();
        file.sync_data().unwrap();
        let file = disk.open(Path::new("file")).unwrap();
        let mut bytes = [1; 6];
        file.read_exact_at(&mut bytes, 39).unwrap();
        assert_eq!(&bytes, b"\0here\0");
        let beyond = file.read_exact_at(&mut bytes, 95);
        assert_eq!(beyond.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.len().unwrap(), 100);
        file.write_all_at(b"more", 98).unwrap();
        assert_eq!(file.len().unwrap(), 102);
    }

    #[test]
    fn names_change_in_one_step() {
        let (_directory, disk) = fresh();
        disk.create(Path::new("new")).unwrap().write_all_at(b"new", 0).unwrap();
        disk.create(Path::new("old")).unwrap();
        disk.rename(Path::new("new"), Path::new("old")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        assert_eq!(disk.list(Path::new("")).unwrap(), ["old"]);
        assert_eq!(disk.open(Path::new("old")).unwrap().len().unwrap(), 3);
        disk.remove(Path::new("old")).unwrap();
        assert!(disk.list(Path::new("")).unwrap().is_empty());
    }

    #[test]
    fn the_room_is_that_of_the_file_system() {
        let (_directory, disk) = fresh();
        let available = disk.available_bytes().unwrap();
        let stat = rustix::fs::statvfs(&disk.root).unwrap();
        assert!(available > 0 && available <= stat.f_blocks * stat.f_frsize, "{available}");
    }

    fn fresh() -> (tempfile::TempDir, FsDisk) {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = FsDisk::new(directory.path().to_owned());
        (directory, disk)
    }
}
