//! What the role that we are may do.

use tokio_postgres::{Error, Row};

use super::PostgresStore;
use super::connect::Conn;
use crate::{MissingRights, StoreError};

/// Tables, and what a writer needs of each. A right on some columns counts: which ones a statement
/// needs is for the server to say.
const MISSING: &str = "\
    SELECT name, array_agg(wanted ORDER BY wanted) \
    FROM unnest(ARRAY['mds_migrations', 'bars', 'options_snap', 'fundamentals', 'news', 'tenants', \
        'mds_meta', 'ingested_files']) WITH ORDINALITY AS tables (name, place), \
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS rights (wanted) \
    WHERE NOT has_any_column_privilege(to_regclass(name), wanted) \
        AND NOT (name = 'mds_migrations' AND wanted <> 'SELECT') \
        AND NOT (name = 'mds_meta' AND wanted = 'INSERT') \
        AND NOT (name = 'tenants' AND wanted <> 'INSERT') \
    GROUP BY name, place ORDER BY place";

/// What the role of a connection lacks.
pub(super) async fn missing(conn: Conn) -> (Option<Conn>, Result<Vec<MissingRights>, Error>) {
    conn.expects_answers();
    let result = conn.client.query_typed(MISSING, &[]).await;
    let back = super::at_rest(conn, result.as_ref().err());
    let of_row = |row: &Row| {
        Ok(MissingRights {
            table: row.try_get(0)?,
            rights: row.try_get(1)?,
        })
    };
    (
        back,
        result.and_then(|rows| rows.iter().map(of_row).collect()),
    )
}

impl PostgresStore {
    /// See [`crate::Store::missing_rights`].
    pub(crate) async fn missing_rights(&self) -> Result<Vec<MissingRights>, StoreError> {
        self.with("read the rights of the role", missing).await
    }
}
