//! In-memory adapters, for tests and the simulator. They keep every promise of their port and add the faults that a
//! real machine would have to be broken for.

mod directory;
mod disk;
mod log;
mod rng;
mod tables;

pub use directory::MemoryDirectory;
pub use disk::{MemoryDisk, MemoryFile};
pub use log::MemoryLog;
pub use rng::SeededRng;
pub use tables::MemoryTables;
