//! The conformance suite: what a port promises, as tests that every adapter runs. A function here panics when a
//! promise is broken.

pub mod directory;
pub mod log;
pub mod tables;
