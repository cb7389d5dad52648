//! Idempotency records: many message ids in one value, as they lie beside a block of history.

use tidings_types::{CommandHash, IdRecord, MessageId, Seq, Timestamp, UserId};

use crate::RecordError;
use crate::fields::{FieldWriter, Fields, required};

/// Repeated: nested fields of one row.
const ROW: u64 = 1;

// One row. The id is written first, so that a search reads one field per row.
const ROW_ID: u64 = 1;
const ROW_SEQ: u64 = 2;
const ROW_SENDER: u64 = 3;
const ROW_HASH: u64 = 4;
const ROW_CREATED_AT: u64 = 5;

/// Appends id rows, in the given order, to `out`.
pub fn encode_id_rows(rows: &[(MessageId, IdRecord)], out: &mut Vec<u8>) {
    let mut value = FieldWriter::value(out);
    let mut row_bytes = Vec::with_capacity(80);
    for (id, record) in rows {
        row_bytes.clear();
        let mut row = FieldWriter::nested(&mut row_bytes);
        row.sixteen(ROW_ID, id.as_bytes());
        row.number(ROW_SEQ, record.seq.0);
        row.sixteen(ROW_SENDER, record.sender.as_bytes());
        row.sixteen(ROW_HASH, &record.hash.0);
        row.number(ROW_CREATED_AT, record.created_at.as_ms());
        value.bytes(ROW, &row_bytes);
    }
}

/// All id rows of a value, in the order they were written.
pub fn decode_id_rows(bytes: &[u8]) -> Result<Vec<(MessageId, IdRecord)>, RecordError> {
    let mut rows = Vec::new();
    for row in row_fields(bytes)? {
        rows.push(decode_row(row?)?);
    }
    Ok(rows)
}

/// The record of one id, without decoding the others.
pub fn find_id(bytes: &[u8], wanted: MessageId) -> Result<Option<IdRecord>, RecordError> {
    for row in row_fields(bytes)? {
        let row = row?;
        if row_id(row)? == wanted {
            return decode_row(row).map(|(_, record)| Some(record));
        }
    }
    Ok(None)
}

fn row_fields(bytes: &[u8]) -> Result<impl Iterator<Item = Result<Fields<'_>, RecordError>>, RecordError> {
    let fields = Fields::of_value(bytes)?;
    Ok(fields.filter_map(|field| match field {
        Ok((ROW, value)) => Some(value.bytes("id row").map(Fields::nested)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }))
}

fn row_id(row: Fields<'_>) -> Result<MessageId, RecordError> {
    for field in row {
        if let (ROW_ID, value) = field? {
            return value.sixteen("message_id").map(MessageId::from_bytes);
        }
    }
    Err(RecordError::Missing("message_id"))
}

fn decode_row(row: Fields<'_>) -> Result<(MessageId, IdRecord), RecordError> {
    let (mut id, mut seq, mut sender, mut hash, mut created_at) = (None, None, None, None, None);
    for field in row {
        let (number, value) = field?;
        match number {
            ROW_ID => id = Some(MessageId::from_bytes(value.sixteen("message_id")?)),
            ROW_SEQ => seq = Some(Seq(value.number("seq")?)),
            ROW_SENDER => sender = Some(UserId::from_bytes(value.sixteen("sender")?)),
            ROW_HASH => hash = Some(CommandHash(value.sixteen("hash")?)),
            ROW_CREATED_AT => created_at = Some(Timestamp::from_ms(value.number("created_at")?)),
            _ => {}
        }
    }
    let record = IdRecord {
        seq: required(seq, "seq")?,
        sender: required(sender, "sender")?,
        hash: required(hash, "hash")?,
        created_at: required(created_at, "created_at")?,
    };
    Ok((required(id, "message_id")?, record))
}
