//! What the role that we are may do.

use super::PostgresStore;
use crate::{MissingRights, StoreError};

/// Tables, and what a writer needs of each. A right on some columns counts: which ones a statement
/// needs is for the server to say.
const MISSING: &str = "\
    SELECT name, array_agg(wanted ORDER BY wanted) \
    FROM unnest(ARRAY['bars', 'options_snap', 'fundamentals', 'news', 'tenants', 'mds_meta', \
        'ingested_files']) WITH ORDINALITY AS tables (name, place), \
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS rights (wanted) \
    WHERE NOT has_any_column_privilege(name, wanted) \
        AND NOT (name = 'mds_meta' AND wanted = 'INSERT') \
        AND NOT (name = 'tenants' AND wanted <> 'INSERT') \
    GROUP BY name, place ORDER BY place";

impl PostgresStore {
    /// See [`crate::Store::missing_rights`].
    pub(crate) async fn missing_rights(&self) -> Result<Vec<MissingRights>, StoreError> {
        self.with("read the rights of the role", |conn| async move {
            conn.expects_answers();
            let result = conn.client.query_typed(MISSING, &[]).await;
            let back = super::at_rest(conn, result.as_ref().err());
            let rows = result.and_then(|rows| {
                let of_row = |row: &tokio_postgres::Row| {
                    Ok(MissingRights {
                        table: row.try_get(0)?,
                        rights: row.try_get(1)?,
                    })
                };
                rows.iter().map(of_row).collect()
            });
            (back, rows)
        })
        .await
    }
}
