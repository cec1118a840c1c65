//! Queries in bounded memory, figures, deletion.

use std::fmt::Write as _;

use futures_util::future::join3;
use mds_core::{
    Bar, Column, ColumnRole, ColumnType, Date, Fundamentals, Invalid, Kind, News, OptionSnap,
    Record, Symbol, TenantId, Timeframe, Timestamp, Vendor,
};
use tokio::sync::mpsc;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::connect::Conn;
use super::encode::{EPOCH_DAYS, EPOCH_MICROS};
use super::{PostgresStore, ingested, layout, sql, timescale, transaction};
use crate::ingested::File;
use crate::{
    Chunks, FileRevision, Freshness, IngestedFile, KindStats, LatestPrice, Order, Query,
    StoreError, StoreStats,
};

/// Records in a chunk of an answer.
const CHUNK_ROWS: usize = 1_000;
/// Chunks that are read ahead.
const CHUNKS_AHEAD: usize = 2;
/// Rows deleted in one transaction.
const DELETE_ROWS: u64 = 20_000;

/// A time as the protocol has it.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(micros.saturating_add(EPOCH_MICROS)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// A date as the protocol has it.
struct Days(i32);

impl<'a> FromSql<'a> for Days {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(
            i32::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_DAYS),
        ))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::DATE
    }
}

/// A UUID as the protocol has it.
struct Uuid([u8; 16]);

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

fn timestamp(row: &Row, index: usize) -> Result<Option<Timestamp>, Error> {
    let micros: Option<Micros> = row.try_get(index)?;
    Ok(micros.map(|m| Timestamp::from_micros(m.0)))
}

/// Why a row was not read.
enum ReadError {
    Server(Error),
    /// Another program has written what no record can hold.
    Malformed {
        row: String,
        invalid: Invalid,
    },
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// Reads a record from all columns and the revision.
fn record<R: Record>(row: &Row) -> Result<R, ReadError> {
    let mut record = R::default();
    for (index, column) in R::COLUMNS.iter().enumerate() {
        if let Some(text) = text_of(row, index, *column)?
            && let Err(invalid) = record.set(index, &text)
        {
            let row = name_of::<R>(row)?;
            return Err(ReadError::Malformed { row, invalid });
        }
    }
    record.set_revision(row.try_get(R::COLUMNS.len())?);
    Ok(record)
}

/// A row by its key, as a condition of SQL that finds it.
fn name_of<R: Record>(row: &Row) -> Result<String, Error> {
    let mut name = String::new();
    for (index, column) in R::COLUMNS.iter().enumerate() {
        if column.role == ColumnRole::Key {
            let and = if name.is_empty() { "" } else { " AND " };
            let text = text_of(row, index, *column)?.unwrap_or_default();
            // Writing into memory cannot fail.
            _ = write!(name, "{and}{} = {}", column.name, quoted(&text));
        }
    }
    Ok(name)
}

fn text_of(row: &Row, index: usize, column: Column) -> Result<Option<String>, Error> {
    Ok(match column.ty {
        ColumnType::Text | ColumnType::Symbols | ColumnType::Timeframe | ColumnType::OptionType => {
            row.try_get(index)?
        }
        // `Display` of f64 is the shortest text that reads back equal.
        ColumnType::Float => row.try_get::<_, Option<f64>>(index)?.map(|v| v.to_string()),
        ColumnType::Bool => row
            .try_get::<_, Option<bool>>(index)?
            .map(|v| v.to_string()),
        ColumnType::Timestamp => timestamp(row, index)?.map(|v| v.to_string()),
        ColumnType::Date => {
            let days: Option<Days> = row.try_get(index)?;
            days.map(|d| Date::from_days(d.0).to_string())
        }
        ColumnType::Tenant => {
            let id: Option<Uuid> = row.try_get(index)?;
            id.map(|id| TenantId::from_bytes(id.0).to_string())
        }
    })
}

/// A text as an SQL literal.
fn quoted(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''"));
    if quoted.contains('\\') {
        // Means the same whatever `standard_conforming_strings` is set to.
        format!("E{}", quoted.replace('\\', "\\\\"))
    } else {
        quoted
    }
}

/// What a query selects, as the text behind WHERE.
fn condition<R: Record>(query: &Query) -> String {
    let time = sql::key_columns::<R>()[0];
    let mut parts = vec!["true".to_owned()];
    if let Some(tenant) = query.tenant {
        parts.push(format!("tenant_id = '{tenant}'"));
    }
    if !query.symbols.is_empty() {
        let list = query
            .symbols
            .iter()
            .map(|s| quoted(s.as_str()))
            .collect::<Vec<_>>()
            .join(", ");
        parts.push(if R::KIND == Kind::News {
            format!("(symbol IN ({list}) OR string_to_array(symbols, ',') && ARRAY[{list}])")
        } else {
            format!("symbol IN ({list})")
        });
    }
    if let Some(vendor) = &query.vendor {
        parts.push(format!("vendor = {}", quoted(vendor.as_str())));
    }
    if let (Kind::Bars, Some(timeframe)) = (R::KIND, query.timeframe) {
        parts.push(format!("timeframe = '{timeframe}'"));
    }
    let at = |time: Timestamp| quoted(&time.to_string());
    if let Some(start) = query.start {
        parts.push(format!("{time} >= {}", at(start)));
    }
    if let Some(end) = query.end {
        parts.push(format!("{time} < {}", at(end)));
    }
    parts.join(" AND ")
}

fn select<R: Record>(query: &Query) -> String {
    // Whoever has made a column narrower reads it all the same.
    let columns = sql::names::<R>()
        .iter()
        .zip(sql::types::<R>())
        .map(|(name, ty)| format!("{name}::{ty}"))
        .collect::<Vec<_>>()
        .join(", ");
    let direction = match query.order {
        Order::OldestFirst => "",
        Order::NewestFirst => " DESC",
    };
    let keys = R::COLUMNS.iter().filter(|c| c.role == ColumnRole::Key);
    let time = sql::key_columns::<R>()[0];
    let order = keys
        .filter(|c| c.name != time)
        .map(|c| match c.ty {
            ColumnType::Text | ColumnType::OptionType => {
                format!("{} COLLATE \"C\"{direction}", c.name)
            }
            ColumnType::Timeframe => {
                let [unit, count] = unit_and_count("timeframe");
                format!("{unit}{direction}, {count}{direction}")
            }
            _ => format!("{}{direction}", c.name),
        })
        .collect::<Vec<_>>()
        .join(", ");
    let limit = query
        .limit
        .map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
    format!(
        "SELECT {columns} FROM {} WHERE {} ORDER BY {time}{direction}, {order}{limit}",
        R::KIND.table(),
        condition::<R>(query)
    )
}

/// What spans are ordered by, as everywhere else: `90m` stands before `1h`, since minutes stand before
/// hours.
fn unit_and_count(column: &str) -> [String; 2] {
    [
        format!(
            "(CASE WHEN {column} LIKE '%mo' THEN 6 ELSE strpos('smhdw', right({column}, 1)) END)"
        ),
        format!("substring({column} FROM '^[0-9]+')::bigint"),
    ]
}

/// The seconds of a span such as `5m`.
fn span(column: &str) -> String {
    format!(
        "(CASE WHEN {column} LIKE '%mo' THEN 2592000 ELSE CASE right({column}, 1) WHEN 's' THEN 1 \
         WHEN 'm' THEN 60 WHEN 'h' THEN 3600 WHEN 'd' THEN 86400 ELSE 604800 END END \
         * substring({column} FROM '^[0-9]+')::bigint)"
    )
}

impl PostgresStore {
    pub(crate) fn query<R: Record>(&self, query: Query) -> Chunks<R> {
        let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (store, errors) = (self.clone(), chunks.clone());
        let read = async move {
            let cursor = format!(
                "{}; DECLARE rows NO SCROLL CURSOR FOR {}",
                store.reading(query.tenant),
                select::<R>(&query)
            );
            let result = store
                .with("read records", move |conn| async move {
                    let result = match stream::<R>(&conn, &cursor, &chunks).await {
                        Ok(()) => Ok(None),
                        Err(ReadError::Malformed { row, invalid }) => Ok(Some((row, invalid))),
                        Err(ReadError::Server(error)) => Err(error),
                    };
                    // Whatever happened: out of the transaction, or out of use.
                    let rolled = conn.client.batch_execute("ROLLBACK").await;
                    (rolled.is_ok().then_some(conn), result)
                })
                .await;
            let error = match result {
                Ok(None) => return,
                Ok(Some((row, invalid))) => StoreError::Malformed {
                    path: store.shared.dsn.clone().into(),
                    table: R::KIND.table(),
                    row,
                    invalid: Box::new(invalid),
                },
                Err(error) => error,
            };
            drop(errors.send(Err(error)).await);
        };
        drop(tokio::spawn(read));
        Chunks::new(receiver)
    }

    pub(crate) async fn count<R: Record>(&self, query: Query) -> Result<u64, StoreError> {
        let limit = query
            .limit
            .map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
        let sql = format!(
            "SELECT count(*) FROM (SELECT FROM {} WHERE {}{limit}) AS rows",
            R::KIND.table(),
            condition::<R>(&query)
        );
        let operation = "count records";
        let count: i64 = self
            .one(operation, query.tenant, sql, |row| row.try_get(0))
            .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    pub(crate) async fn latest(&self, query: Query) -> Result<Vec<LatestPrice>, StoreError> {
        let tenant = query.tenant;
        let only = Query {
            start: None,
            end: None,
            ..query
        };
        let sql = format!(
            "SELECT DISTINCT ON (symbol COLLATE \"C\", tenant_id, vendor COLLATE \"C\") \
             symbol, tenant_id, vendor, close_price::float8, ts FROM bars \
             WHERE close_price IS NOT NULL AND {} \
             ORDER BY symbol COLLATE \"C\", tenant_id, vendor COLLATE \"C\", ts DESC, {}",
            condition::<Bar>(&only),
            span("timeframe")
        );
        self.rows("read latest prices", tenant, sql, |row| {
            let tenant: Uuid = row.try_get(1)?;
            Ok(LatestPrice {
                symbol: Symbol::new(row.try_get(0)?),
                tenant_id: TenantId::from_bytes(tenant.0),
                vendor: Vendor::new(row.try_get(2)?),
                price: row.try_get(3)?,
                price_timestamp: timestamp(row, 4)?.unwrap_or_default(),
            })
        })
        .await
    }

    pub(crate) async fn stats(&self) -> Result<StoreStats, StoreError> {
        let mut freshness = Vec::new();
        let kinds = vec![
            self.stats_of::<Bar>(&mut freshness).await?,
            self.stats_of::<OptionSnap>(&mut freshness).await?,
            self.stats_of::<Fundamentals>(&mut freshness).await?,
            self.stats_of::<News>(&mut freshness).await?,
        ];
        let bytes = self
            .with("read figures", |conn| async move {
                conn.expects_answers();
                let result = layout::bytes(&conn.client).await;
                (super::at_rest(conn, result.as_ref().err()), result)
            })
            .await?;
        Ok(StoreStats {
            kinds,
            freshness,
            file_bytes: bytes,
            log_bytes: 0,
        })
    }

    async fn stats_of<R: Record>(
        &self,
        freshness: &mut Vec<Freshness>,
    ) -> Result<KindStats, StoreError> {
        let time = sql::key_columns::<R>()[0];
        let timeframe = if R::KIND == Kind::Bars {
            "timeframe"
        } else {
            "NULL::text"
        };
        let series = if R::KIND == Kind::News {
            "tenant_id, vendor"
        } else {
            "tenant_id, vendor, symbol"
        };
        let sql = format!(
            "SELECT tenant_id, vendor, {timeframe}, count(DISTINCT ({series})), count(*), \
             min({time}), max({time}) FROM {} GROUP BY 1, 2, 3 \
             ORDER BY tenant_id, vendor COLLATE \"C\", {}",
            R::KIND.table(),
            if R::KIND == Kind::Bars {
                span("timeframe")
            } else {
                "3".to_owned()
            },
        );
        let mut stats = KindStats {
            kind: R::KIND,
            rows: 0,
            series: 0,
            earliest: None,
            latest: None,
        };
        let opening = self.reading_all();
        let groups = self
            .rows_after(opening, "read figures", sql, |row| {
                let tenant: Uuid = row.try_get(0)?;
                let (series, rows): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
                let timeframe: Option<String> = row.try_get(2)?;
                let (first, last) = (timestamp(row, 5)?, timestamp(row, 6)?);
                let part = Freshness {
                    kind: R::KIND,
                    tenant_id: TenantId::from_bytes(tenant.0),
                    vendor: Vendor::new(row.try_get(1)?),
                    timeframe: timeframe.and_then(|t| t.parse::<Timeframe>().ok()),
                    series: u64::try_from(series).unwrap_or_default(),
                    latest: last.unwrap_or_default(),
                };
                Ok((part, u64::try_from(rows).unwrap_or_default(), first))
            })
            .await?;
        for (part, rows, first) in groups {
            stats.rows += rows;
            stats.series += part.series;
            stats.earliest = stats.earliest.into_iter().chain(first).min();
            stats.latest = stats.latest.max(Some(part.latest));
            freshness.push(part);
        }
        Ok(stats)
    }

    pub(crate) async fn delete<R: Record>(&self, query: Query) -> Result<u64, StoreError> {
        let (table, time) = (R::KIND.table(), sql::key_columns::<R>()[0]);
        let wanted = condition::<R>(&query);
        // Locked in the order in which writers take rows, so that nobody waits in a circle. Of a
        // table in parts a place names a row in each of them: there, a range of time at once.
        let by_place = format!(
            "WITH d AS MATERIALIZED (SELECT ctid AS place FROM {table} WHERE {wanted} \
             AND tableoid = '{table}'::regclass ORDER BY {} LIMIT {DELETE_ROWS} FOR UPDATE) \
             DELETE FROM {table} AS t USING d WHERE t.ctid = d.place",
            sql::key_order::<R>()
        );
        let bound = format!(
            "SELECT {time}::text FROM {table} WHERE {wanted} ORDER BY {time} \
             OFFSET {DELETE_ROWS} LIMIT 1"
        );
        let by_time = format!("DELETE FROM {table} WHERE {wanted}");
        let setting = self.speaking_for(query.tenant).unwrap_or_default();
        let opening = format!("BEGIN ISOLATION LEVEL READ COMMITTED; {setting}");
        let mut deleted = 0;
        loop {
            let (by_place, bound, by_time) = (by_place.clone(), bound.clone(), by_time.clone());
            let opening = opening.clone();
            let (part, is_last) = self
                .with("delete records", move |conn| async move {
                    let result = async {
                        // Not what was read a while ago: others may have made it a hypertable.
                        let layout = layout::read(&conn.client).await?;
                        if layout.has_places[R::KIND as usize] {
                            let part = conn.client.execute_typed(&by_place, &[]);
                            let part = within(&conn.client, &opening, part).await?;
                            return Ok((part, part == 0));
                        }
                        delete_range(&conn, &opening, [&bound, &by_time], time).await
                    };
                    let result = result.await;
                    (super::at_rest(conn, result.as_ref().err()), result)
                })
                .await?;
            deleted += part;
            if is_last {
                return Ok(deleted);
            }
        }
    }

    pub(crate) async fn file_revision(
        &self,
        file: &IngestedFile<'_>,
    ) -> Result<FileRevision, StoreError> {
        let file = File::from(file);
        let opening = transaction::opening(None, self.shared.statement_timeout);
        self.with("remember an ingested file", move |conn| async move {
            conn.expects_answers();
            let result = ingested::revision(&conn, &opening, &file).await;
            let rolled = conn.client.batch_execute("ROLLBACK").await;
            (rolled.is_ok().then_some(conn), result)
        })
        .await
    }

    pub(crate) async fn look_up_file(
        &self,
        file: &IngestedFile<'_>,
    ) -> Result<FileRevision, StoreError> {
        let file = File::from(file);
        let opening = self.reading(None);
        self.with("look up an ingested file", move |conn| async move {
            conn.expects_answers();
            let result = async {
                conn.client.batch_execute(&opening).await?;
                ingested::look_up(&conn, &file).await
            };
            let result = result.await;
            let rolled = conn.client.batch_execute("ROLLBACK").await;
            (rolled.is_ok().then_some(conn), result)
        })
        .await
    }

    pub(super) async fn kept_revision(&self) -> Result<i64, StoreError> {
        self.with("read the last revision", |conn| async move {
            conn.expects_answers();
            let sql = "SELECT last_revision FROM mds_meta";
            let result = conn.client.query_typed_one(sql, &[]).await;
            let back = super::at_rest(conn, result.as_ref().err());
            (back, result.and_then(|row| row.try_get(0)))
        })
        .await
    }

    /// The text that opens a transaction which reads; it speaks for `tenant` where row security
    /// binds the role.
    fn reading(&self, tenant: Option<TenantId>) -> String {
        match self.speaking_for(tenant) {
            Some(setting) => format!("BEGIN READ ONLY; {setting}"),
            None => "BEGIN READ ONLY".to_owned(),
        }
    }

    /// The same for all tenants that the role may see. One that row security binds and that is set
    /// to no tenant would see nothing, and so speaks for the one of the settings.
    fn reading_all(&self) -> String {
        if !self.shared.is_bound {
            return self.reading(None);
        }
        format!(
            "BEGIN READ ONLY; SELECT set_config('app.tenant_id', \
             coalesce(nullif(current_setting('app.tenant_id', true), ''), '{}'), true)",
            self.shared.tenant_id
        )
    }

    /// Without a tenant the role sees what its own settings say.
    fn speaking_for(&self, tenant: Option<TenantId>) -> Option<String> {
        let tenant = tenant.filter(|_| self.shared.is_bound)?;
        Some(format!("SET LOCAL app.tenant_id = '{tenant}'"))
    }

    async fn one<V: Send + 'static>(
        &self,
        operation: &'static str,
        tenant: Option<TenantId>,
        sql: String,
        read: impl FnOnce(&Row) -> Result<V, Error> + Send + 'static,
    ) -> Result<V, StoreError> {
        let opening = self.reading(tenant);
        self.with(operation, move |conn| async move {
            let one = conn.client.query_typed_one(&sql, &[]);
            let result = within(&conn.client, &opening, one).await;
            let back = super::at_rest(conn, result.as_ref().err());
            (back, result.and_then(|row| read(&row)))
        })
        .await
    }

    async fn rows<V: Send + 'static>(
        &self,
        operation: &'static str,
        tenant: Option<TenantId>,
        sql: String,
        read: impl Fn(&Row) -> Result<V, Error> + Send + 'static,
    ) -> Result<Vec<V>, StoreError> {
        let opening = self.reading(tenant);
        self.rows_after(opening, operation, sql, read).await
    }

    async fn rows_after<V: Send + 'static>(
        &self,
        opening: String,
        operation: &'static str,
        sql: String,
        read: impl Fn(&Row) -> Result<V, Error> + Send + 'static,
    ) -> Result<Vec<V>, StoreError> {
        self.with(operation, move |conn| async move {
            let rows = conn.client.query_typed(&sql, &[]);
            let result = within(&conn.client, &opening, rows).await;
            let back = super::at_rest(conn, result.as_ref().err());
            (
                back,
                result.and_then(|rows| rows.iter().map(&read).collect()),
            )
        })
        .await
    }
}

/// Runs a statement in a transaction of its own: sent as a whole, one way there and back.
async fn within<V>(
    client: &Client,
    opening: &str,
    statement: impl Future<Output = Result<V, Error>>,
) -> Result<V, Error> {
    let (opened, value, ended) = join3(
        client.batch_execute(opening),
        statement,
        client.batch_execute("COMMIT"),
    )
    .await;
    opened?;
    let value = value?;
    ended?;
    Ok(value)
}

/// Deletes what is at the earliest times, up to the one that `bound` answers with; says how many
/// rows went, and whether they were the last.
async fn delete_range(
    conn: &Conn,
    opening: &str,
    [bound, delete]: [&str; 2],
    time: &str,
) -> Result<(u64, bool), Error> {
    let begin = format!("{opening}; {}", timescale::UNLIMITED);
    conn.client.batch_execute(&begin).await?;
    let bound = conn.client.query_typed_opt(bound, &[]).await?;
    let bound: Option<String> = bound.map(|row| row.try_get(0)).transpose()?;
    let range = bound.as_ref().map_or_else(String::new, |bound| {
        format!(" AND {time} <= {}", quoted(bound))
    });
    let deleted = conn
        .client
        .execute_typed(&format!("{delete}{range}"), &[])
        .await?;
    conn.client.batch_execute("COMMIT").await?;
    Ok((deleted, bound.is_none()))
}

/// Sends what a cursor gives, a chunk at a time.
async fn stream<R: Record>(
    conn: &Conn,
    cursor: &str,
    chunks: &mpsc::Sender<Result<Vec<R>, StoreError>>,
) -> Result<(), ReadError> {
    conn.client.batch_execute(cursor).await?;
    let fetch = format!("FETCH {CHUNK_ROWS} FROM rows");
    loop {
        let rows = conn.client.query_typed(&fetch, &[]).await?;
        let is_last = rows.len() < CHUNK_ROWS;
        let records: Vec<R> = rows.iter().map(record).collect::<Result<_, _>>()?;
        // Nobody wants the rest: done.
        if !records.is_empty() && chunks.send(Ok(records)).await.is_err() || is_last {
            return Ok(());
        }
    }
}
