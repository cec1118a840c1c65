//! TimescaleDB, where the database has it: which tables are hypertables, and what is done with
//! their old chunks.
//!
//! Everything here says what is to be done to get from what is there to what is wanted, so that
//! doing it twice does nothing the second time. Without the extension nothing is done: the tables
//! are plain ones, and behave the same.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::adopt::Change;
use crate::{TimescaleMode, TimescaleOptions};

/// Days of a chunk of a hypertable that is made here. Chunks hold a week of bars or chains, so
/// that the newest few, indexes included, fit into memory.
const CHUNK_DAYS: u32 = 7;

/// What a transaction is set to that changes compressed rows, which takes the thousand that are
/// compressed with each apart: their number is bounded otherwise.
pub(crate) const UNLIMITED: &str =
    "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0";

/// What a transaction that writes late rows is set to as well. A chunk that is being compressed is
/// locked: the rows come again later, and meanwhile the answer for the other rows of their batch
/// is not held up for long.
pub(crate) fn late(statement_timeout: Duration) -> String {
    let lock = (statement_timeout.as_millis() / 5).clamp(1, LONGEST_LOCK);
    format!("; SET LOCAL lock_timeout = {lock}; {UNLIMITED}")
}

/// Milliseconds that are waited for the lock of an old chunk, at most.
const LONGEST_LOCK: u128 = 5_000;

/// A table that becomes a hypertable: few tables have rows enough to gain by it.
struct Hyper {
    table: &'static str,
    time: &'static str,
    /// Rows that are compressed together, and their order.
    segment_by: &'static str,
    order_by: &'static str,
}

const HYPERTABLES: [Hyper; 2] = [
    Hyper {
        table: "bars",
        time: "ts",
        segment_by: "tenant_id, vendor, symbol, timeframe",
        order_by: "ts",
    },
    Hyper {
        table: "options_snap",
        time: "ts",
        segment_by: "tenant_id, vendor, symbol",
        order_by: "ts, expiry, option_type, strike",
    },
];

/// What has to be done, and what speaks against it.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) changes: Vec<Change>,
    pub(crate) notes: Vec<String>,
    pub(crate) problems: Vec<String>,
}

/// What the server offers.
struct Offer {
    /// The extension is in the database.
    is_there: bool,
    /// It could be made there.
    is_offered: bool,
    /// It may compress and delete by itself.
    is_community: bool,
}

/// A table as it is; of one that is still to be made, what it will be.
#[derive(Debug, Default)]
struct State {
    has_rows: bool,
    /// Row security binds its owner too.
    is_forced: bool,
    /// Roles other than the owner that may do something with it.
    others: Vec<String>,
    /// `None` for a plain table.
    hyper: Option<HyperState>,
}

#[derive(Debug, Default)]
struct HyperState {
    chunk_days: Option<f64>,
    /// It may have compressed chunks, and then has no row security.
    is_compressing: bool,
    /// The ages of its policies.
    compress_days: Option<f64>,
    retention_days: Option<f64>,
}

/// Says what has to be done; changes nothing. Tables that are not there are new and empty.
pub(crate) async fn examine(client: &Client, options: TimescaleOptions) -> Result<Wishes, Error> {
    let mut wishes = Wishes::default();
    if options.mode == TimescaleMode::Off {
        return Ok(wishes);
    }
    let offer = offer(client).await?;
    if wishes.are_possible(&offer, options) {
        for hyper in &HYPERTABLES {
            let mut state = state(client, hyper.table).await?;
            if offer.is_there {
                state.hyper = hyper_state(client, hyper.table).await?;
            }
            wishes.hypertable(hyper, &state, options.chunk_days);
            wishes.compression(hyper, &state, options.compress_after_days);
            wishes.retention(hyper, &state, options.retention_days);
        }
    }
    Ok(wishes)
}

async fn offer(client: &Client) -> Result<Offer, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'), \
         EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'), \
         coalesce(current_setting('timescaledb.license', true), 'timescale') = 'timescale'";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok(Offer {
        is_there: row.try_get(0)?,
        is_offered: row.try_get(1)?,
        is_community: row.try_get(2)?,
    })
}

/// What every table of PostgreSQL has.
async fn state(client: &Client, table: &str) -> Result<State, Error> {
    let sql = "SELECT c.relforcerowsecurity, \
         ARRAY(SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' \
            ELSE pg_get_userbyid(g.grantee)::text END FROM aclexplode(c.relacl) AS g \
            WHERE g.grantee <> c.relowner ORDER BY 1) \
         FROM pg_class AS c WHERE c.oid = to_regclass($1)";
    let Some(row) = client.query_typed_opt(sql, &[(&table, Type::TEXT)]).await? else {
        return Ok(State::default());
    };
    let any = format!("SELECT EXISTS (SELECT FROM {table})");
    Ok(State {
        has_rows: client.query_typed_one(&any, &[]).await?.try_get(0)?,
        is_forced: row.try_get(0)?,
        others: row.try_get(1)?,
        hyper: None,
    })
}

async fn hyper_state(client: &Client, table: &str) -> Result<Option<HyperState>, Error> {
    let sql = "SELECT h.compression_enabled, \
         (SELECT extract(epoch FROM d.time_interval)::float8 / 86400 \
            FROM timescaledb_information.dimensions AS d \
            WHERE d.hypertable_schema = h.hypertable_schema \
            AND d.hypertable_name = h.hypertable_name AND d.dimension_number = 1), \
         max(extract(epoch FROM (j.config ->> 'compress_after')::interval)::float8 / 86400), \
         max(extract(epoch FROM (j.config ->> 'drop_after')::interval)::float8 / 86400) \
         FROM timescaledb_information.hypertables AS h \
         LEFT JOIN timescaledb_information.jobs AS j \
         ON j.hypertable_schema = h.hypertable_schema AND j.hypertable_name = h.hypertable_name \
         WHERE format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass = to_regclass($1) \
         GROUP BY h.hypertable_schema, h.hypertable_name, h.compression_enabled";
    let Some(row) = client.query_typed_opt(sql, &[(&table, Type::TEXT)]).await? else {
        return Ok(None);
    };
    Ok(Some(HyperState {
        is_compressing: row.try_get(0)?,
        chunk_days: row.try_get(1)?,
        compress_days: row.try_get(2)?,
        retention_days: row.try_get(3)?,
    }))
}

impl Wishes {
    /// The steps in words.
    pub(crate) fn said(&self) -> Vec<String> {
        self.changes.iter().flat_map(|c| c.says.clone()).collect()
    }

    /// Does it.
    pub(crate) async fn apply(&self, client: &Client) -> Result<(), Error> {
        for change in &self.changes {
            client.batch_execute(&change.sql).await?;
        }
        Ok(())
    }

    fn push(&mut self, table: &str, says: &str, sql: String) {
        let says = vec![format!("{table}: {says}")];
        self.changes.push(Change { says, sql });
    }

    /// Whether there is, or will be, what the rest needs.
    fn are_possible(&mut self, offer: &Offer, options: TimescaleOptions) -> bool {
        match (offer.is_there, options.mode, offer.is_offered) {
            (true, ..) => {}
            (false, TimescaleMode::On, true) => self.changes.push(Change {
                says: vec!["make the extension timescaledb in the database".to_owned()],
                sql: "CREATE EXTENSION timescaledb".to_owned(),
            }),
            (false, TimescaleMode::On, false) => {
                let what = "TimescaleDB is asked for, but the server does not offer it; install \
                     it there, or set timescale to auto";
                self.problems.push(what.to_owned());
                return false;
            }
            (false, ..) => {
                if options.asks_for_more() {
                    let what = "the settings of TimescaleDB have no effect, since the database has \
                         no extension timescaledb; set timescale to on to make it";
                    self.notes.push(what.to_owned());
                }
                return false;
            }
        }
        if !offer.is_community && options.compresses_or_deletes() {
            let what = "compression and retention need the community edition of TimescaleDB, and \
                 the server has the other one; leave timescale_compress_after_days and \
                 timescale_retention_days out";
            self.problems.push(what.to_owned());
            return false;
        }
        true
    }

    fn hypertable(&mut self, hyper: &Hyper, state: &State, chunk_days: Option<u32>) {
        let (table, time) = (hyper.table, hyper.time);
        let chunk = chunk_days.unwrap_or(CHUNK_DAYS);
        match &state.hyper {
            None => {
                let moved = if state.has_rows {
                    "; its rows are moved, and nobody else can use it meanwhile"
                } else {
                    ""
                };
                self.push(
                    table,
                    &format!("becomes a hypertable with chunks of {}{moved}", days(chunk)),
                    format!(
                        "SELECT create_hypertable('{table}', '{time}', \
                         chunk_time_interval => make_interval(days => {chunk}), \
                         create_default_indexes => false, migrate_data => true)"
                    ),
                );
            }
            Some(hyper) if chunk_days.is_some() && hyper.chunk_days != Some(f64::from(chunk)) => {
                self.push(
                    table,
                    &format!("new chunks are of {}", days(chunk)),
                    format!(
                        "SELECT set_chunk_time_interval('{table}', \
                         make_interval(days => {chunk}))"
                    ),
                );
            }
            Some(_) => {}
        }
    }

    fn compression(&mut self, hyper: &Hyper, state: &State, after: Option<u32>) {
        let table = hyper.table;
        let current = state.hyper.as_ref().and_then(|h| h.compress_days);
        let Some(after) = after.filter(|after| Some(f64::from(*after)) != current) else {
            return;
        };
        let remove = format!("SELECT remove_compression_policy('{table}')");
        if after == 0 {
            if current.is_some() {
                self.push(table, "chunks are no longer compressed", remove);
            }
            return;
        }
        if !state.hyper.as_ref().is_some_and(|h| h.is_compressing) {
            if let Some(problem) = exposed(table, state) {
                self.problems.push(problem);
                return;
            }
            self.push(
                table,
                "take row security off, with which TimescaleDB cannot compress; nobody but the \
                 owner has rights on the table",
                format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
            );
            let (segments, order) = (hyper.segment_by, hyper.order_by);
            self.push(
                table,
                &format!("may be compressed, by {segments} in the order of {order}"),
                format!(
                    "ALTER TABLE {table} SET (timescaledb.compress, \
                     timescaledb.compress_segmentby = '{segments}', \
                     timescaledb.compress_orderby = '{order}')"
                ),
            );
        }
        let remove = current.map_or_else(String::new, |_| format!("{remove}; "));
        self.push(
            table,
            &format!("chunks are compressed when they are {} old", days(after)),
            format!(
                "{remove}SELECT add_compression_policy('{table}', \
                 compress_after => make_interval(days => {after}))"
            ),
        );
    }

    fn retention(&mut self, hyper: &Hyper, state: &State, after: Option<u32>) {
        let table = hyper.table;
        let current = state.hyper.as_ref().and_then(|h| h.retention_days);
        let Some(after) = after.filter(|after| Some(f64::from(*after)) != current) else {
            return;
        };
        let remove = format!("SELECT remove_retention_policy('{table}')");
        if after == 0 {
            if current.is_some() {
                self.push(table, "chunks are no longer deleted by age", remove);
            }
            return;
        }
        let remove = current.map_or_else(String::new, |_| format!("{remove}; "));
        self.push(
            table,
            &format!("chunks are deleted when they are {} old", days(after)),
            format!(
                "{remove}SELECT add_retention_policy('{table}', \
                 drop_after => make_interval(days => {after}))"
            ),
        );
    }
}

/// Who could see or change rows of others without row security.
fn exposed(table: &str, state: &State) -> Option<String> {
    if state.is_forced {
        return Some(format!(
            "{table} cannot be compressed while row security binds its owner, since TimescaleDB \
             cannot do both; take FORCE ROW LEVEL SECURITY off, or leave \
             timescale_compress_after_days out"
        ));
    }
    (!state.others.is_empty()).then(|| {
        format!(
            "{table} cannot be compressed: TimescaleDB cannot do so with row security, and without \
             it these roles would reach the rows of every tenant: {}; revoke their rights on \
             {table}, or leave timescale_compress_after_days out",
            state.others.join(", ")
        )
    })
}

fn days(count: u32) -> String {
    format!("{count} {}", if count == 1 { "day" } else { "days" })
}
