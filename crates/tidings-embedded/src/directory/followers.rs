//! Followers' positions.

use tidings_ports::DirectoryError;
use tidings_types::{Fence, LogPosition, Place, RecordNumber};

use super::{SqliteDirectory, database, rows};

impl SqliteDirectory {
    pub(super) async fn select_follower_position(
        &self,
        follower: &str,
    ) -> Result<Option<LogPosition>, DirectoryError> {
        let row = sqlx::query("SELECT place, fence, number FROM followers WHERE follower = $1")
            .bind(follower)
            .fetch_optional(&self.readers)
            .await
            .map_err(database)?;
        let position = |row| -> rows::Decoded<LogPosition> {
            Ok(LogPosition {
                place: Place(rows::number(row, "place")?),
                fence: Fence(rows::number(row, "fence")?),
                number: RecordNumber(rows::number(row, "number")?),
            })
        };
        row.as_ref().map(position).transpose().map_err(database)
    }

    pub(super) async fn upsert_follower_position(
        &self,
        follower: &str,
        position: LogPosition,
    ) -> Result<(), DirectoryError> {
        sqlx::query(
            "INSERT INTO followers (follower, place, fence, number) VALUES ($1, $2, $3, $4)
             ON CONFLICT (follower) DO UPDATE
             SET place = excluded.place, fence = excluded.fence, number = excluded.number",
        )
        .bind(follower)
        .bind(position.place.0.cast_signed())
        .bind(position.fence.0.cast_signed())
        .bind(position.number.0.cast_signed())
        .execute(&self.writer)
        .await
        .map_err(database)?;
        Ok(())
    }
}
