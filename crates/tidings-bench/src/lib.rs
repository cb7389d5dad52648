//! Measuring and checking a server from outside, through the routes and frames that every client uses.
//!
//! [`verify`] kills and restarts a server under load and checks that nothing acknowledged was lost, doubled or
//! reordered.

pub mod verify;
