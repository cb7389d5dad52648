//! The service over the adapters in memory, with the faults they can be told to have. Time is tokio's paused clock: it
//! moves on when every task waits, so nothing here waits for real.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod faults;
mod followers;
mod lives;
mod overload;
mod reading;
mod recovery;
mod sends;
mod support;
