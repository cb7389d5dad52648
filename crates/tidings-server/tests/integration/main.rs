//! The whole server in process, on a free port, with a directory of its own; clients over real sockets.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod delivery;
mod frames;
mod lifecycle;
mod resume;
mod sessions;
mod slow_reader;
mod support;
