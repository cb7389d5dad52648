//! Tells users' personal logs which conversations they joined and left. Reads a shard's log from its own durable
//! position, at least once; the personal log's writer makes it exactly once (by conversation and cause).

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidings_core::{Answer, Command, CommandKind, MemberChange, changed_members, personal_id};
use tidings_ports::Stored;
use tidings_record::{EntryKind, RecordError};
use tidings_types::{
    Body, Code, ConversationKey, ConversationKind, Entry, LogPosition, PersonalState, PersonalSubject, Seq,
    ShardId, UserId,
};

use crate::StartError;
use crate::recovery::LogReader;
use crate::service::Service;

const PAGE_BYTES: usize = 1024 * 1024;
/// Notes that wait for their answer at once.
const NOTES_IN_FLIGHT_MAX: usize = 256;
const RETRY_AFTER_MS: u64 = 200;
/// After the log or the directory failed.
const TROUBLE_RETRY_AFTER_MS: u64 = 5_000;
/// A position without notes behind it is committed when this much was read since the last one.
const COMMIT_EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// The follower's name in the directory.
pub(crate) fn name(shard: ShardId) -> String {
    format!("personal-{shard}")
}

pub(crate) struct PersonalFollower {
    service: Arc<Service>,
    shard: ShardId,
}

struct Note {
    user: UserId,
    entry: ConversationKey,
    state: PersonalState,
    cause: Seq,
}

impl PersonalFollower {
    pub(crate) fn new(service: Arc<Service>, shard: ShardId) -> Self {
        Self { service, shard }
    }

    /// Runs for ever; after a trouble it begins again at its last committed position.
    pub(crate) async fn run(self) {
        while let Err(error) = self.follow().await {
            // Never skipped: it stays behind, and says so, until the cause is gone.
            tracing::error!(
                shard = self.shard.0,
                error = &error as &dyn std::error::Error,
                "the follower of personal logs waits"
            );
            self.service.ports().clock.sleep_ms(TROUBLE_RETRY_AFTER_MS).await;
        }
    }

    async fn follow(&self) -> Result<(), StartError> {
        let ports = self.service.ports();
        let mut committed = ports.directory.follower_position(&name(self.shard)).await?.unwrap_or_default();
        let mut reader = LogReader::new(self.shard, committed);
        loop {
            let records = reader.next_page(&*ports.log, PAGE_BYTES).await?;
            let mut noted = false;
            for record in &records {
                noted |= self.follow_record(record).await?;
            }
            let position = reader.position();
            if noted || position.place.0 - committed.place.0 >= COMMIT_EVERY_BYTES {
                self.commit(position).await?;
                committed = position;
            }
            if records.is_empty() {
                ports.log.wait_beyond(self.shard, position.place).await;
            }
        }
    }

    async fn commit(&self, position: LogPosition) -> Result<(), StartError> {
        Ok(self.service.ports().directory.set_follower_position(&name(self.shard), position).await?)
    }

    /// Writes the notes of one record; answers whether there were any.
    async fn follow_record(&self, record: &Stored) -> Result<bool, StartError> {
        let damaged = |source: RecordError| StartError::Record { place: record.place.0, source };
        let mut noted = false;
        for bytes in tidings_record::entries(&record.payload) {
            let bytes = bytes.map_err(damaged)?;
            // Messages are most of a log and change no membership: they are not decoded.
            if tidings_record::peek_kind(bytes).map_err(damaged)? == EntryKind::Message {
                continue;
            }
            let entry = tidings_record::decode_entry(bytes).map_err(damaged)?;
            let notes = notes_of(&entry);
            noted |= !notes.is_empty();
            self.write(notes).await;
        }
        Ok(noted)
    }

    async fn write(&self, notes: Vec<Note>) {
        let mut in_flight = FuturesUnordered::new();
        for note in notes {
            if in_flight.len() >= NOTES_IN_FLIGHT_MAX {
                in_flight.next().await;
            }
            in_flight.push(self.service.write_note(
                note.entry,
                note.user,
                PersonalSubject::Conversation(note.entry.conversation),
                note.state,
                note.cause,
            ));
        }
        while in_flight.next().await.is_some() {}
    }
}

fn notes_of(entry: &Entry) -> Vec<Note> {
    let mut notes = Vec::new();
    if matches!(entry.body, Body::Created { kind: ConversationKind::Personal, .. }) {
        return notes;
    }
    changed_members(entry, |user, change| {
        let state = match change {
            MemberChange::Joined(_) => PersonalState::Joined,
            MemberChange::Left(_) => PersonalState::Left,
        };
        notes.push(Note { user, entry: entry.key(), state, cause: entry.seq });
    });
    notes
}

impl Service {
    /// Writes into a user's personal log and returns when it is durable. Tries again for as long as it takes: the
    /// follower's position must not pass it before.
    pub(crate) async fn write_note(
        &self,
        key: ConversationKey,
        user: UserId,
        subject: PersonalSubject,
        state: PersonalState,
        cause: Seq,
    ) {
        let key = ConversationKey { space: key.space, conversation: personal_id(key.space, user) };
        let kind = CommandKind::Note { subject, state, cause };
        loop {
            match self.ask(Command { key, actor: user, kind: kind.clone() }).await {
                Answer::Refused(refusal) => {
                    if !matches!(refusal.code, Code::Overloaded | Code::Unavailable | Code::StorageFull) {
                        tracing::error!(%user, code = %refusal.code, "a personal log refuses a note");
                    }
                    self.ports().clock.sleep_ms(refusal.retry_after_ms.unwrap_or(RETRY_AFTER_MS)).await;
                }
                _ => return,
            }
        }
    }
}
