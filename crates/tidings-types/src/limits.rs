//! Every bound has a name here, and a test of what happens when it is reached.

/// Bounds of queues, pages, batches and payloads. `connected` shows the ones a client needs, by these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// UTF-8 bytes of a message's text. Beyond: `too_large`.
    pub content_bytes_max: usize,
    /// Bytes of one frame from a client, and of one REST body. Beyond: `too_large`, and the socket closes.
    pub frame_bytes_max: usize,
    /// Characters of a group's title. Beyond: `too_large`.
    pub title_chars_max: usize,
    /// Users added by one call, creation included. Beyond: `too_large`.
    pub members_per_call_max: usize,
    /// Members of one group. Beyond: `too_large`.
    pub group_members_max: u32,
    /// Conversations of one user. Beyond: `too_large` for the one who adds.
    pub conversations_per_user_max: usize,
    /// Devices of one user. Beyond: the sign-in is refused with `too_large`.
    pub devices_per_user_max: usize,
    /// Cursors in one `connect`. Beyond: `too_large`.
    pub cursors_per_connect_max: usize,
    /// Sends of one link that are not answered yet. Beyond: `overloaded`.
    pub in_flight_sends_max: usize,
    /// Bytes waiting for one socket. Beyond: the link lags and reads on from the log.
    pub output_bytes_max: usize,
    /// Entries one link is sent per conversation to catch up. Beyond: a `gap` names the older part.
    pub replay_entries_max: u64,
    /// Live entries waiting for one link's task. Beyond: only the heads are kept, the log has the rest.
    pub inbox_entries_max: usize,
    /// Items of one REST page.
    pub page_items_max: usize,
    /// Bytes of entries in one page read from log or tables.
    pub page_bytes_max: usize,
    /// Commands waiting for one shard's writer. Beyond: `overloaded`.
    pub mailbox_commands_max: usize,
    /// Payload bytes of one record (a batch of entries).
    pub record_bytes_max: usize,
    /// Records of one shard that are on their way to the disk. Beyond: entries gather in the next batch.
    pub appends_in_flight_max: usize,
    /// Bytes of entries that are in the log but not yet in the tables, per shard. Beyond: `overloaded`.
    pub tail_bytes_max: usize,
    /// Facts one writer keeps in memory beyond those that it must keep.
    pub facts_cached_max: usize,
    /// Idempotency records one writer keeps in memory beyond those that it must keep.
    pub ids_cached_max: usize,
    /// A client-made id may be this far ahead of the server's clock. Beyond: `invalid`, with the server's time.
    pub id_ahead_ms_max: u64,
    /// An unknown message id older than this is refused with `id_expired`.
    pub id_age_ms_max: u64,
    /// The client pings this often; nothing heard for twice as long closes the socket.
    pub heartbeat_ms: u64,
    /// A socket that takes no byte for this long while bytes wait for it is closed.
    pub stalled_ms_max: u64,
    /// From the upgrade to the `connect` frame.
    pub connect_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            content_bytes_max: 16 * 1024,
            frame_bytes_max: 64 * 1024,
            title_chars_max: 128,
            members_per_call_max: 1_000,
            group_members_max: 100_000,
            conversations_per_user_max: 10_000,
            devices_per_user_max: 20,
            cursors_per_connect_max: 1_000,
            in_flight_sends_max: 128,
            output_bytes_max: 256 * 1024,
            replay_entries_max: 1_000,
            inbox_entries_max: 512,
            page_items_max: 100,
            page_bytes_max: 64 * 1024,
            mailbox_commands_max: 8_192,
            record_bytes_max: 512 * 1024,
            appends_in_flight_max: 2,
            tail_bytes_max: 64 * 1024 * 1024,
            facts_cached_max: 200_000,
            ids_cached_max: 200_000,
            id_ahead_ms_max: 60_000,
            id_age_ms_max: 30 * 24 * 3_600_000,
            heartbeat_ms: 30_000,
            stalled_ms_max: 60_000,
            connect_ms_max: 10_000,
        }
    }
}
