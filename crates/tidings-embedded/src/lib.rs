mod data_dir;
mod directory;
mod disk;
mod durable_file;
pub mod log;
mod manifest;
mod tables;

pub use data_dir::{DataDir, DataDirError, Format};
pub use directory::SqliteDirectory;
pub use disk::{FsDisk, FsFile};
pub use log::{EmbeddedLog, LogConfig};
pub use tables::EmbeddedTables;
