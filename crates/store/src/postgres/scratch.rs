//! Behind [`crate::bench::Scratch`]: statements on the server that is measured.

use mds_core::{Bar, Record};
use tokio_postgres::Error;

use super::connect::Endpoint;
use super::pool::Pool;
use super::sql::names;
use super::{failed, pool_of, run};
use crate::bench::{Contents, ServerFacts};
use crate::{Dsn, OpenOptions, StoreError};

/// One session on a server, kept from one statement to the next.
pub(crate) struct Session {
    dsn: String,
    pool: Pool<Endpoint>,
}

impl Session {
    pub(crate) fn new(dsn: &Dsn, options: &OpenOptions) -> Result<Self, StoreError> {
        Ok(Self {
            dsn: dsn.to_string(),
            pool: pool_of(dsn, options)?,
        })
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }

    /// Runs statements that answer nothing.
    pub(crate) async fn execute(
        &self,
        operation: &'static str,
        sql: String,
    ) -> Result<(), StoreError> {
        run(&self.pool, &self.dsn, operation, |conn| async move {
            let result = conn.client.batch_execute(&sql).await;
            (Some(conn), result)
        })
        .await?
        .map_err(|error| failed(&self.dsn, operation, error))
    }

    /// The first row that a query answers, as texts.
    async fn row(&self, operation: &'static str, sql: String) -> Result<Vec<String>, StoreError> {
        run(&self.pool, &self.dsn, operation, |conn| async move {
            let result = async {
                let row = conn.client.query_one(&sql, &[]).await?;
                let texts: Result<Vec<String>, Error> =
                    (0..row.len()).map(|column| row.try_get(column)).collect();
                texts
            }
            .await;
            (Some(conn), result)
        })
        .await?
        .map_err(|error| failed(&self.dsn, operation, error))
    }

    pub(crate) async fn facts(&self) -> Result<ServerFacts, StoreError> {
        let sql = "SELECT current_setting('server_version'), current_setting('fsync'), \
                   current_setting('synchronous_commit'), pg_backend_pid()::text, \
                   coalesce(inet_server_addr() <<= inet '127.0.0.0/8' \
                   OR inet_server_addr() = inet '::1', true)::text";
        let row = self.row("ask the server", sql.to_owned()).await?;
        let mut row = row.into_iter();
        let mut next = || row.next().unwrap_or_default();
        Ok(ServerFacts {
            version: next(),
            fsync: next(),
            synchronous_commit: next(),
            backend: next().parse().unwrap_or_default(),
            is_local: next() == "true",
        })
    }

    pub(crate) async fn wal_bytes(&self) -> Result<u64, StoreError> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::text";
        let row = self.row("read the position of the log", sql.to_owned());
        let row = row.await?;
        Ok(row
            .first()
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or_default())
    }

    pub(crate) async fn bars(&self) -> Result<Contents, StoreError> {
        let sql = format!(
            "SELECT count(*)::text, coalesce(sum(hashtextextended(ROW({})::text, 0)), 0)::text \
             FROM {}",
            names::<Bar>().join(", "),
            Bar::KIND.table()
        );
        let row = self.row("sum up the bars", sql).await?;
        let mut row = row.into_iter();
        Ok(Contents {
            rows: row.next().and_then(|n| n.parse().ok()).unwrap_or_default(),
            checksum: row.next().unwrap_or_default(),
        })
    }
}
