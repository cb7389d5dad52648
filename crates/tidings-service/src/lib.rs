//! Async use cases: they drive the pure core through the ports. No sockets, no bytes of any wire, no SQL, and no
//! runtime: what runs beside the caller goes through [`tidings_ports::Tasks`].
//!
//! Start reading at [`Service::start`], then `shard.rs` (the task around one shard's writer) and `projector.rs` (how
//! the tables follow the log).

mod accounts;
mod checkpoint;
mod conversations;
mod devices_follower;
mod error;
mod facts;
mod personal_follower;
mod projector;
mod reading;
mod recipients;
mod recovery;
mod service;
mod shard;
mod tokens;

pub use accounts::{
    Accounts, AccountsConfig, AccountsError, AccountsHooks, AccountsKeys, AccountsPage, AccountsPorts,
    HashingCost, Registration, SignIn, SignUp, SignedIn, SigningDevice,
};
pub use conversations::{ConversationView, LinkSend, MemberView, MessagesQuery, personal_log};
pub use error::StartError;
pub use reading::PageEnd;
pub use service::{Fanout, LinkReply, LinkSink, Ports, ReplyTo, Service, ServiceConfig};
pub use tidings_ports::{Account, Device, Session};
