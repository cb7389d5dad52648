//! Accounts: made, looked up, searched.

use tidings_ports::{Account, AccountSecret, DirectoryError, NewAccount};
use tidings_types::{SpaceId, UserId};

use super::{SqliteDirectory, database, rows};

impl SqliteDirectory {
    pub(super) async fn insert_account(&self, new: NewAccount) -> Result<Account, DirectoryError> {
        // RETURNING answers before an implicit transaction commits, and sqlx would swallow that commit's failure.
        let mut writing = self.begin().await?;
        let row = sqlx::query(
            "INSERT INTO accounts
                 (user, space, username, display_name, display_name_folded, admin, password_hash, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, NOT EXISTS (SELECT 1 FROM accounts), $6, $7)
             RETURNING user, space, username, display_name, admin, created_at_ms",
        )
        .bind(&new.user.as_bytes()[..])
        .bind(&new.space.as_bytes()[..])
        .bind(&new.username)
        .bind(&new.display_name)
        .bind(new.display_name.to_lowercase())
        .bind(&new.password_hash)
        .bind(rows::stored(new.created_at))
        .fetch_one(&mut *writing)
        .await
        .map_err(database)?;
        writing.commit().await.map_err(database)?;
        rows::account(&row).map_err(database)
    }

    pub(super) async fn select_account_by_name(
        &self,
        space: SpaceId,
        username: &str,
    ) -> Result<Option<AccountSecret>, DirectoryError> {
        let row = sqlx::query(
            "SELECT user, space, username, display_name, admin, created_at_ms, password_hash
             FROM accounts WHERE space = $1 AND username = $2",
        )
        .bind(&space.as_bytes()[..])
        .bind(username)
        .fetch_optional(&self.readers)
        .await
        .map_err(database)?;
        row.as_ref().map(rows::account_secret).transpose().map_err(database)
    }

    pub(super) async fn select_accounts(
        &self,
        space: SpaceId,
        users: &[UserId],
    ) -> Result<Vec<Account>, DirectoryError> {
        let found = sqlx::query(
            "SELECT user, space, username, display_name, admin, created_at_ms
             FROM accounts WHERE space = $1 AND user IN (SELECT unhex(value) FROM json_each($2))",
        )
        .bind(&space.as_bytes()[..])
        .bind(rows::id_list(users.iter().map(UserId::as_bytes)))
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows::all(&found, rows::account).map_err(database)
    }

    pub(super) async fn select_accounts_by_prefix(
        &self,
        space: SpaceId,
        query: &str,
        after: Option<&str>,
        rows_max: usize,
    ) -> Result<Vec<Account>, DirectoryError> {
        // A range instead of LIKE: no wildcards, and both indexes serve it. The last code point, which is no
        // character, ends the range of a prefix.
        let found = sqlx::query(
            "SELECT user, space, username, display_name, admin, created_at_ms
             FROM accounts
             WHERE space = $1 AND username > $2
                 AND ((username >= $3 AND username < $4)
                     OR (display_name_folded >= $3 AND display_name_folded < $4))
             ORDER BY username LIMIT $5",
        )
        .bind(&space.as_bytes()[..])
        .bind(after.unwrap_or_default())
        .bind(query)
        .bind(format!("{query}\u{10ffff}"))
        .bind(rows::limit(rows_max))
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows::all(&found, rows::account).map_err(database)
    }

    pub(super) async fn select_account_count(&self) -> Result<u64, DirectoryError> {
        let row = sqlx::query("SELECT count(*) AS accounts FROM accounts")
            .fetch_one(&self.readers)
            .await
            .map_err(database)?;
        rows::number(&row, "accounts").map_err(database)
    }
}
