//! From rows to values, and lists of ids into one parameter.

use std::fmt::Write;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tidings_ports::{Account, AccountSecret, Device, DeviceRemoval, Session};
use tidings_types::{DeviceId, SessionId, SpaceId, Timestamp, UserId};

pub(super) type Decoded<T> = Result<T, sqlx::Error>;

pub(super) fn account(row: &SqliteRow) -> Decoded<Account> {
    Ok(Account {
        user: UserId::from_bytes(id(row, "user")?),
        space: SpaceId::from_bytes(id(row, "space")?),
        username: row.try_get("username")?,
        display_name: row.try_get("display_name")?,
        admin: row.try_get("admin")?,
        created_at: time(row, "created_at_ms")?,
    })
}

pub(super) fn account_secret(row: &SqliteRow) -> Decoded<AccountSecret> {
    Ok(AccountSecret { account: account(row)?, password_hash: row.try_get("password_hash")? })
}

pub(super) fn device(row: &SqliteRow) -> Decoded<Device> {
    Ok(Device {
        device: DeviceId::from_bytes(id(row, "device")?),
        name: row.try_get("name")?,
        created_at: time(row, "created_at_ms")?,
        last_seen_at: time(row, "last_seen_at_ms")?,
    })
}

pub(super) fn session(row: &SqliteRow) -> Decoded<Session> {
    Ok(Session {
        session: session_id(row)?,
        user: UserId::from_bytes(id(row, "user")?),
        space: SpaceId::from_bytes(id(row, "space")?),
        device: DeviceId::from_bytes(id(row, "device")?),
    })
}

pub(super) fn session_id(row: &SqliteRow) -> Decoded<SessionId> {
    id(row, "session").map(SessionId::from_bytes)
}

pub(super) fn device_removal(row: &SqliteRow) -> Decoded<DeviceRemoval> {
    Ok(DeviceRemoval {
        number: number(row, "removal")?,
        user: UserId::from_bytes(id(row, "user")?),
        space: SpaceId::from_bytes(id(row, "space")?),
        device: DeviceId::from_bytes(id(row, "device")?),
    })
}

pub(super) fn all<T>(rows: &[SqliteRow], decode: impl Fn(&SqliteRow) -> Decoded<T>) -> Decoded<Vec<T>> {
    rows.iter().map(decode).collect()
}

pub(super) fn id(row: &SqliteRow, column: &str) -> Decoded<[u8; 16]> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes
        .try_into()
        .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) })
}

/// The column is signed and the value is not: the same bits, so that every value has a place.
pub(super) fn number(row: &SqliteRow, column: &str) -> Decoded<u64> {
    row.try_get(column).map(i64::cast_unsigned)
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Decoded<Timestamp> {
    number(row, column).map(Timestamp::from_ms)
}

pub(super) fn stored(time: Timestamp) -> i64 {
    time.as_ms().cast_signed()
}

/// Ids as one JSON text of hex strings for `json_each`, so that a statement is the same whatever the number of ids.
pub(super) fn id_list<'a>(ids: impl ExactSizeIterator<Item = &'a [u8; 16]>) -> String {
    let mut list = String::with_capacity(2 + ids.len() * 35);
    list.push('[');
    for (index, id) in ids.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(list, "{comma}\"{:032x}\"", u128::from_be_bytes(*id));
    }
    list.push(']');
    list
}

/// `LIMIT` as SQLite takes it: signed, and negative means no limit.
pub(super) fn limit(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX)
}
