//! Devices and sessions: signed in, refreshed, ended, removed.

use sqlx::{Sqlite, Transaction};
use tidings_ports::{Device, DeviceRemoval, DirectoryError, NewSession, RefreshOutcome, Session};
use tidings_types::{DeviceId, SessionId, Timestamp, UserId};

use super::{SqliteDirectory, database, rows};

type Writing = Transaction<'static, Sqlite>;

impl SqliteDirectory {
    pub(super) async fn insert_session(&self, new: &NewSession) -> Result<Option<SessionId>, DirectoryError> {
        let mut writing = self.begin().await?;
        match owner_of(&mut writing, new.device).await? {
            Some(owner) if owner == (new.user, false) => {
                see(&mut writing, new.device, new.created_at).await?;
            }
            Some(_) => return Err(DirectoryError::Conflict),
            None => add_device(&mut writing, new).await?,
        }
        let older = end_session_of(&mut writing, new.device).await?;
        sqlx::query(
            "INSERT INTO sessions (session, device, refresh_hash, rotated_at_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(&new.session.as_bytes()[..])
        .bind(&new.device.as_bytes()[..])
        .bind(&new.refresh_hash[..])
        .bind(rows::stored(new.created_at))
        .execute(&mut *writing)
        .await
        .map_err(database)?;
        writing.commit().await.map_err(database)?;
        Ok(older)
    }

    pub(super) async fn update_refresh(
        &self,
        presented: [u8; 32],
        successor: [u8; 32],
        now: Timestamp,
        grace_ms: u64,
    ) -> Result<RefreshOutcome, DirectoryError> {
        let mut writing = self.begin().await?;
        let Some(family) = family_of(&mut writing, presented).await? else {
            return Ok(RefreshOutcome::Unknown);
        };
        let session = family.session;
        if !family.is_current && now.ms_since(family.rotated_at) > grace_ms {
            delete(&mut writing, session.session).await?;
            writing.commit().await.map_err(database)?;
            return Ok(RefreshOutcome::Reused(session));
        }
        let rotated_at = if family.is_current { now } else { family.rotated_at };
        sqlx::query(
            "UPDATE sessions SET previous_hash = $2, refresh_hash = $3, rotated_at_ms = $4 WHERE session = $1",
        )
        .bind(&session.session.as_bytes()[..])
        .bind(&presented[..])
        .bind(&successor[..])
        .bind(rows::stored(rotated_at))
        .execute(&mut *writing)
        .await
        .map_err(database)?;
        see(&mut writing, session.device, now).await?;
        writing.commit().await.map_err(database)?;
        Ok(RefreshOutcome::Rotated(session))
    }

    pub(super) async fn select_live_sessions(
        &self,
        sessions: &[SessionId],
    ) -> Result<Vec<SessionId>, DirectoryError> {
        let found = sqlx::query(
            "SELECT session FROM sessions WHERE session IN (SELECT unhex(value) FROM json_each($1))",
        )
        .bind(rows::id_list(sessions.iter().map(SessionId::as_bytes)))
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows::all(&found, rows::session_id).map_err(database)
    }

    pub(super) async fn delete_session(&self, session: SessionId) -> Result<(), DirectoryError> {
        let mut writing = self.begin().await?;
        delete(&mut writing, session).await?;
        writing.commit().await.map_err(database)
    }

    pub(super) async fn select_devices(&self, user: UserId) -> Result<Vec<Device>, DirectoryError> {
        let found = sqlx::query(
            "SELECT device, name, created_at_ms, last_seen_at_ms
             FROM devices WHERE user = $1 AND removal IS NULL ORDER BY created_at_ms, device",
        )
        .bind(&user.as_bytes()[..])
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows::all(&found, rows::device).map_err(database)
    }

    pub(super) async fn update_device_removed(
        &self,
        user: UserId,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Option<SessionId>, DirectoryError> {
        let mut writing = self.begin().await?;
        let removed = sqlx::query(
            "UPDATE devices
             SET removed_at_ms = $3, removal = (SELECT coalesce(max(removal), 0) + 1 FROM devices)
             WHERE device = $1 AND user = $2 AND removal IS NULL",
        )
        .bind(&device.as_bytes()[..])
        .bind(&user.as_bytes()[..])
        .bind(rows::stored(now))
        .execute(&mut *writing)
        .await
        .map_err(database)?;
        if removed.rows_affected() == 0 {
            return Ok(None);
        }
        let ended = end_session_of(&mut writing, device).await?;
        writing.commit().await.map_err(database)?;
        Ok(ended)
    }

    pub(super) async fn select_device_removals(
        &self,
        after: u64,
        rows_max: usize,
    ) -> Result<Vec<DeviceRemoval>, DirectoryError> {
        let found = sqlx::query(
            "SELECT removal, devices.user, space, device
             FROM devices JOIN accounts ON accounts.user = devices.user
             WHERE removal > $1 ORDER BY removal LIMIT $2",
        )
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(rows::limit(rows_max))
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows::all(&found, rows::device_removal).map_err(database)
    }
}

/// The session that a refresh token belongs to.
struct Family {
    session: Session,
    /// The token is the session's current one, not the one before.
    is_current: bool,
    rotated_at: Timestamp,
}

async fn family_of(writing: &mut Writing, presented: [u8; 32]) -> Result<Option<Family>, DirectoryError> {
    let row = sqlx::query(
        "SELECT session, sessions.device, devices.user, space, refresh_hash = $1 AS is_current, rotated_at_ms
         FROM sessions
             JOIN devices ON devices.device = sessions.device
             JOIN accounts ON accounts.user = devices.user
         WHERE refresh_hash = $1 OR previous_hash = $1",
    )
    .bind(&presented[..])
    .fetch_optional(&mut **writing)
    .await
    .map_err(database)?;
    let family = |row| -> rows::Decoded<Family> {
        Ok(Family {
            session: rows::session(row)?,
            is_current: rows::number(row, "is_current")? == 1,
            rotated_at: rows::time(row, "rotated_at_ms")?,
        })
    };
    row.as_ref().map(family).transpose().map_err(database)
}

/// Whose the device is, and whether it was removed.
async fn owner_of(writing: &mut Writing, device: DeviceId) -> Result<Option<(UserId, bool)>, DirectoryError> {
    let row = sqlx::query("SELECT user, removal IS NOT NULL AS removed FROM devices WHERE device = $1")
        .bind(&device.as_bytes()[..])
        .fetch_optional(&mut **writing)
        .await
        .map_err(database)?;
    let owner = |row| -> rows::Decoded<(UserId, bool)> {
        Ok((UserId::from_bytes(rows::id(row, "user")?), rows::number(row, "removed")? == 1))
    };
    row.as_ref().map(owner).transpose().map_err(database)
}

async fn see(writing: &mut Writing, device: DeviceId, now: Timestamp) -> Result<(), DirectoryError> {
    sqlx::query("UPDATE devices SET last_seen_at_ms = $2 WHERE device = $1")
        .bind(&device.as_bytes()[..])
        .bind(rows::stored(now))
        .execute(&mut **writing)
        .await
        .map_err(database)?;
    Ok(())
}

async fn add_device(writing: &mut Writing, new: &NewSession) -> Result<(), DirectoryError> {
    let added = sqlx::query(
        "INSERT INTO devices (device, user, name, created_at_ms, last_seen_at_ms)
         SELECT $1, $2, $3, $4, $4
         WHERE (SELECT count(*) FROM devices WHERE user = $2 AND removal IS NULL) < $5",
    )
    .bind(&new.device.as_bytes()[..])
    .bind(&new.user.as_bytes()[..])
    .bind(&new.device_name)
    .bind(rows::stored(new.created_at))
    .bind(rows::limit(new.devices_max))
    .execute(&mut **writing)
    .await
    .map_err(database)?;
    if added.rows_affected() == 0 { Err(DirectoryError::TooManyDevices) } else { Ok(()) }
}

async fn end_session_of(
    writing: &mut Writing,
    device: DeviceId,
) -> Result<Option<SessionId>, DirectoryError> {
    let row = sqlx::query("DELETE FROM sessions WHERE device = $1 RETURNING session")
        .bind(&device.as_bytes()[..])
        .fetch_optional(&mut **writing)
        .await
        .map_err(database)?;
    row.as_ref().map(rows::session_id).transpose().map_err(database)
}

async fn delete(writing: &mut Writing, session: SessionId) -> Result<(), DirectoryError> {
    sqlx::query("DELETE FROM sessions WHERE session = $1")
        .bind(&session.as_bytes()[..])
        .execute(&mut **writing)
        .await
        .map_err(database)?;
    Ok(())
}
