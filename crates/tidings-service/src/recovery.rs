//! Reading a shard's log from a position, by the reader's rule, and bringing the tables up to its end.

use std::sync::Arc;

use tidings_core::{ReaderRule, Verdict};
use tidings_ports::{RecordKind, ShardLog, Stored};
use tidings_types::{Entry, Epoch, LogPosition, ShardId};

use crate::StartError;
use crate::projector::project;
use crate::service::Ports;

/// Payload bytes read from the log at once.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Projects what the log has beyond the tables, tells `projected` of it page by page and answers the position of the
/// log's end. What the log says was durable before the crash, so no reader ever sees it undone.
pub(crate) async fn recover(
    ports: &Ports,
    shard: ShardId,
    incarnation: Epoch,
    projected: impl Fn(&[Arc<Entry>]),
) -> Result<LogPosition, StartError> {
    let mut reader = LogReader::new(shard, ports.tables.position(shard));
    loop {
        let records = reader.next_page(&*ports.log, PAGE_BYTES).await?;
        if records.is_empty() {
            return Ok(reader.position());
        }
        let mut entries = Vec::new();
        for record in records {
            entries.extend(decode(&record)?.into_iter().map(Arc::new));
        }
        project(&*ports.tables, shard, &entries, reader.position(), incarnation).await?;
        projected(&entries);
    }
}

pub(crate) fn decode(record: &Stored) -> Result<Vec<Entry>, StartError> {
    tidings_record::decode_entries(&record.payload)
        .map_err(|source| StartError::Record { place: record.place.0, source })
}

/// Reads accepted records of one shard in order.
pub(crate) struct LogReader {
    shard: ShardId,
    position: LogPosition,
}

impl LogReader {
    pub(crate) fn new(shard: ShardId, position: LogPosition) -> Self {
        Self { shard, position }
    }

    /// Where a reader goes on that has everything handed out so far.
    pub(crate) fn position(&self) -> LogPosition {
        self.position
    }

    /// The next records with entries that count, empty at the log's end.
    pub(crate) async fn next_page(
        &mut self,
        log: &dyn ShardLog,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, StartError> {
        loop {
            // A log that was never trimmed may begin above place 0.
            let from = self.position.place.max(if self.position == LogPosition::default() {
                log.floor(self.shard)
            } else {
                self.position.place
            });
            let page = log.read(self.shard, from, bytes_max).await?;
            if page.next == from {
                self.position.place = from;
                return Ok(Vec::new());
            }
            let accepted: Vec<Stored> =
                page.records.into_iter().filter(|record| self.accept(record) == Verdict::Accepted).collect();
            self.position.place = page.next;
            if !accepted.is_empty() {
                return Ok(accepted);
            }
        }
    }

    /// `writer changed` records carry no entries: they change the rule and are not handed out.
    fn accept(&mut self, record: &Stored) -> Verdict {
        let mut rule = ReaderRule { fence: self.position.fence, number: self.position.number };
        let verdict = match record.kind {
            RecordKind::WriterChanged => {
                rule.on_writer_changed(record.place);
                Verdict::Void
            }
            RecordKind::Entries => rule.on_entries(record.fence, record.number),
        };
        self.position.fence = rule.fence;
        self.position.number = rule.number;
        verdict
    }
}
