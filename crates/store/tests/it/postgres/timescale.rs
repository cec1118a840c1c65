//! Hypertables, compression and retention, where the server offers TimescaleDB.

use mds_core::{Bar, ErrorKind, OptionSnap, RowOutcome, TenantId, Timestamp};
use mds_store::{MigrationReport, OpenOptions, Query, Store, StoreError, StoreUrl};
use mds_store::{TimescaleMode, TimescaleOptions};
use tokio_postgres::Client;

use super::original::{NARROW, ROWS, WIDE, database, everything, plan, problems, text};
use super::{Server, connect};
use crate::support::{MINUTE, START, all, bar, write, write_new};
use RowOutcome::{NotTried, Same, Superseded, Written};

/// A server that offers the extension, and has loaded what it needs.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn server() -> Option<Server> {
    let server = Server::find()?;
    let offered = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') \
         AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'";
    let admin = connect(&server.url).await;
    let is_offered: bool = admin.query_one(offered, &[]).await.unwrap().get(0);
    if !is_offered {
        eprintln!("skipped: the server offers no TimescaleDB");
    }
    is_offered.then_some(server)
}

/// A store whose bars and options are hypertables, in which most rows of tests are late; `None`
/// where the server offers no TimescaleDB.
pub(crate) async fn store() -> Option<Store> {
    let url = server().await?.database().await;
    Some(Store::open(&url, on(None, Some(30), None)).await.unwrap())
}

/// Options with TimescaleDB, days of chunks, until compression and until deletion.
fn on(chunk: Option<u32>, compress: Option<u32>, retention: Option<u32>) -> OpenOptions {
    OpenOptions {
        timescale: TimescaleOptions {
            mode: TimescaleMode::On,
            chunk_days: chunk,
            compress_after_days: compress,
            retention_days: retention,
        },
        ..OpenOptions::default()
    }
}

async fn migrate(url: &StoreUrl, options: OpenOptions) -> MigrationReport {
    Store::migrate(url, options, false).await.unwrap()
}

/// Compresses every chunk of bars and options; answers how many.
async fn compress(admin: &Client) -> i64 {
    let sql = "SELECT count(compress_chunk(c)) FROM (SELECT show_chunks('bars') \
         UNION ALL SELECT show_chunks('options_snap')) AS chunks (c)";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

const SETTINGS: &str = "SELECT string_agg(line, ' ' ORDER BY line) FROM ( \
     SELECT hypertable_name || ' ' || time_interval AS line FROM timescaledb_information.dimensions \
     UNION ALL SELECT hypertable_name || ' ' || coalesce('compress ' || (config ->> 'compress_after'), \
     'drop ' || (config ->> 'drop_after')) FROM timescaledb_information.jobs \
     WHERE hypertable_name IS NOT NULL) AS lines";

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_the_database_once() {
    let Some(server) = server().await else { return };
    let (url, admin) = database(&server, &[]).await;
    let planned = Store::migrate(&url, on(Some(3), Some(30), Some(3_650)), true)
        .await
        .unwrap();
    assert_eq!(
        planned.actions,
        [
            "make the extension timescaledb in the database",
            "bars: becomes a hypertable with chunks of 3 days",
            "bars: take row security off, with which TimescaleDB cannot compress; nobody but the \
             owner has rights on the table",
            "bars: may be compressed, by tenant_id, vendor, symbol, timeframe in the order of ts",
            "bars: chunks are compressed when they are 30 days old",
            "bars: chunks are deleted when they are 3650 days old",
            "options_snap: becomes a hypertable with chunks of 3 days",
            "options_snap: take row security off, with which TimescaleDB cannot compress; nobody \
             but the owner has rights on the table",
            "options_snap: may be compressed, by tenant_id, vendor, symbol in the order of ts, \
             expiry, option_type, strike",
            "options_snap: chunks are compressed when they are 30 days old",
            "options_snap: chunks are deleted when they are 3650 days old",
        ]
    );
    let extensions = "SELECT count(*)::text FROM pg_extension WHERE extname = 'timescaledb'";
    assert_eq!(text(&admin, extensions).await, "0", "a plan makes nothing");

    let done = migrate(&url, on(Some(3), Some(30), Some(3_650))).await;
    assert_eq!(done.actions, planned.actions);
    // Of a session that does not know of the extension yet.
    let admin = connect(&url.to_string()).await;
    let set = "bars 3 days bars compress 30 days bars drop 3650 days options_snap 3 days \
         options_snap compress 30 days options_snap drop 3650 days";
    assert_eq!(text(&admin, SETTINGS).await, set);
    let again = migrate(&url, on(Some(3), Some(30), Some(3_650))).await;
    assert_eq!(again.actions, [""; 0]);
    // What is not set stays as it is.
    assert_eq!(migrate(&url, OpenOptions::default()).await.actions, [""; 0]);
    assert_eq!(text(&admin, SETTINGS).await, set);

    let changed = migrate(&url, on(Some(1), Some(0), Some(9_999))).await;
    assert_eq!(
        changed.actions[..3],
        [
            "bars: new chunks are of 1 day",
            "bars: chunks are no longer compressed",
            "bars: chunks are deleted when they are 9999 days old",
        ]
    );
    assert_eq!(
        text(&admin, SETTINGS).await,
        "bars 1 day bars drop 9999 days options_snap 1 day options_snap drop 9999 days"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_extension_tables_are_plain_and_the_settings_say_so() {
    let Some(server) = Server::find() else { return };
    let url = server.database().await;
    let mut options = on(None, Some(30), None);
    options.timescale.mode = TimescaleMode::Auto;
    let done = migrate(&url, options).await;
    assert_eq!(done.actions, [""; 0]);
    assert_eq!(
        done.notes,
        [
            "the settings of TimescaleDB have no effect, since the database has no extension \
          timescaledb; set timescale to on to make it"
        ]
    );
    assert_eq!(plan(&url).await.notes, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_in_use_become_hypertables() {
    let Some(server) = server().await else { return };
    let (url, admin) = database(&server, &["CREATE EXTENSION timescaledb"]).await;
    let mut options = OpenOptions::default();
    options.timescale.mode = TimescaleMode::Off;
    let store = Store::open(&url, options).await.unwrap();
    // In four chunks, at the same places of each.
    let rows = |revision| {
        let minute = |i: i64| (i / 500) * 20_000 + i % 500;
        (0..2_000)
            .map(|i| bar(minute(i), 1.0, revision))
            .collect::<Vec<_>>()
    };
    write_new(&store, rows(1)).await;
    let same = write(&store, rows(1)).await;
    assert!(same.outcomes.iter().all(|o| *o == Same), "{:?}", same.error);

    // Opening does not convert what is there; migrating does.
    let other = Store::open(&url, OpenOptions::default()).await.unwrap();
    other.close().await;
    let is_hyper = "SELECT count(*)::text FROM timescaledb_information.hypertables";
    assert_eq!(text(&admin, is_hyper).await, "0");
    let done = migrate(&url, OpenOptions::default()).await;
    assert_eq!(
        done.actions,
        [
            "bars: becomes a hypertable with chunks of 7 days; its rows are moved, and nobody else \
             can use it meanwhile",
            "options_snap: becomes a hypertable with chunks of 7 days",
        ]
    );
    let chunks = "SELECT count(*)::text FROM show_chunks('bars')";
    assert_eq!(text(&admin, chunks).await, "4");
    // The store that was open all the time replaces the right rows.
    write_new(&store, rows(2)).await;
    assert_eq!(all::<Bar>(&store).await, rows(2));
    let query = Query {
        end: Some(Timestamp::from_micros(START + 20_100 * MINUTE)),
        ..Query::default()
    };
    assert_eq!(store.delete::<Bar>(query).await.unwrap(), 600);
    assert_eq!(all::<Bar>(&store).await, rows(2)[600..]);
    let bytes = store.stats().await.unwrap().file_bytes;
    assert!(bytes > 100_000, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_others_are_not_exposed_by_compression() {
    let Some(server) = server().await else { return };
    let (url, admin) = database(&server, &[]).await;
    migrate(&url, on(None, None, None)).await;
    let role = format!("watcher_{}", std::process::id());
    admin
        .batch_execute(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role}; GRANT SELECT ON bars TO {role}"
        ))
        .await
        .unwrap();
    let told = format!(
        "bars cannot be compressed: TimescaleDB cannot do so with row security, and without it \
         these roles would reach the rows of every tenant: {role}; revoke their rights on bars, or \
         leave timescale_compress_after_days out"
    );
    let options = on(None, Some(30), None);
    let planned = Store::migrate(&url, options.clone(), true).await.unwrap();
    assert_eq!(planned.problems, [told.as_str()]);
    let error = Store::migrate(&url, options.clone(), false)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Unfit { problems, .. } if *problems == [told.as_str()]),
        "{error}"
    );
    let secured = "SELECT relrowsecurity::text FROM pg_class WHERE oid = 'bars'::regclass";
    assert_eq!(text(&admin, secured).await, "true");
    admin
        .batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
    migrate(&url, options).await;
    assert_eq!(text(&admin, secured).await, "false");
}

/// Bars of 100 symbols at 50 minutes of 2024.
fn old_bars(revision: i64) -> Vec<Bar> {
    (0..5_000)
        .map(|i| Bar {
            symbol: format!("S{}", i % 100).as_str().into(),
            close_price: Some(f64::from(i) + 0.25),
            ..bar(i64::from(i / 100), 0.0, revision)
        })
        .collect()
}

fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_of_compressed_chunks_are_merged_like_others() {
    let Some(server) = server().await else { return };
    let url = server.database().await;
    let store = Store::open(&url, on(None, Some(30), None)).await.unwrap();
    let admin = connect(&url.to_string()).await;
    write_new(&store, old_bars(10)).await;
    assert_eq!(compress(&admin).await, 1);

    let again = write(&store, old_bars(10)).await;
    assert!(
        again.outcomes.iter().all(|o| *o == Same),
        "{:?}",
        again.error
    );
    let older = write(&store, old_bars(9)).await;
    assert!(older.outcomes.iter().all(|o| *o == Superseded));
    let packed = "SELECT count(*)::text FROM _timescaledb_internal.compressed_chunk_stats \
         WHERE compression_status = 'Compressed'";
    let untouched = "SELECT count(*)::text FROM ONLY _timescaledb_internal._hyper_1_1_chunk";
    assert_eq!(text(&admin, packed).await, "1");
    assert_eq!(
        text(&admin, untouched).await,
        "0",
        "a replay takes nothing apart"
    );

    // A few rows, and enough of them that other ways are taken: newer, older, new, fresh.
    for count in [3, 300] {
        let mut rows = old_bars(20 + i64::from(count));
        rows.truncate(4 * usize::try_from(count).unwrap());
        for (i, row) in rows.iter_mut().enumerate() {
            match i % 4 {
                0 => row.close_price = Some(0.5),
                1 => row.revision = 1,
                2 => row.vendor = format!("w{count}").as_str().into(),
                _ => {
                    row.ts = Timestamp::from_micros(now() + i64::from(count) * MINUTE);
                }
            }
        }
        let report = write(&store, rows.clone()).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        let wanted = [Written, Superseded, Written, Written];
        assert!(
            report
                .outcomes
                .iter()
                .eq(wanted.iter().cycle().take(rows.len())),
            "{:?}",
            report.outcomes
        );
        let stored = all::<Bar>(&store).await;
        for row in rows.iter().filter(|row| row.revision != 1) {
            assert!(stored.contains(row), "{row:?}");
        }
    }
    let stored = all::<Bar>(&store).await;
    assert_eq!(stored.len(), 5_000 + 2 * 303);
    let mut keys: Vec<_> = stored
        .iter()
        .map(|row| (row.ts, row.vendor.clone(), row.symbol.clone()))
        .collect();
    keys.dedup();
    assert_eq!(keys.len(), stored.len(), "each key once");

    // All of them, newer: more than TimescaleDB takes apart in one transaction by itself.
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 1000",
            text(&admin, "SELECT current_database()").await
        ))
        .await
        .unwrap();
    compress(&admin).await;
    let fresh = Store::open(&url, OpenOptions::default()).await.unwrap();
    write_new(&fresh, old_bars(999)).await;
    compress(&admin).await;
    let query = Query {
        vendor: Some("v".into()),
        symbols: vec!["S7".into()],
        end: Some(Timestamp::from_micros(START + 60 * MINUTE)),
        ..Query::default()
    };
    assert_eq!(fresh.delete::<Bar>(query.clone()).await.unwrap(), 50);
    assert_eq!(fresh.count::<Bar>(query).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_options_are_merged_like_others() {
    let Some(server) = server().await else { return };
    let url = server.database().await;
    let store = Store::open(&url, on(Some(1), Some(7), None)).await.unwrap();
    let admin = connect(&url.to_string()).await;
    let chain = |revision| {
        (1..=400)
            .map(|strike| OptionSnap {
                vendor: "cboe".into(),
                symbol: "SPXW".into(),
                expiry: "2024-12-20".parse().unwrap(),
                strike: f64::from(strike) * 2.5,
                ts: Timestamp::from_micros(START),
                iv: Some(0.25),
                revision,
                ..OptionSnap::default()
            })
            .collect::<Vec<_>>()
    };
    write_new(&store, chain(1)).await;
    assert_eq!(compress(&admin).await, 1);
    let same = write(&store, chain(1)).await;
    assert!(same.outcomes.iter().all(|o| *o == Same), "{:?}", same.error);
    write_new(&store, chain(2)).await;
    assert_eq!(all::<OptionSnap>(&store).await, chain(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_old_chunk_holds_up_no_fresh_rows() {
    let Some(server) = server().await else { return };
    let url = server.database().await;
    let mut options = on(None, Some(30), None);
    options.statement_timeout = std::time::Duration::from_secs(2);
    let store = Store::open(&url, options).await.unwrap();
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let locker = connect(&url.to_string()).await;
    locker
        .batch_execute("BEGIN; LOCK TABLE _timescaledb_internal._hyper_1_1_chunk IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let fresh = |tenant, i: i64| Bar {
        tenant_id: TenantId::from_u128(tenant),
        ts: Timestamp::from_micros(now() + i * MINUTE),
        ..bar(0, 5.0, 1)
    };
    // The late one belongs to the tenant that comes first.
    let rows = vec![bar(1, 2.0, 1), fresh(9, 0), fresh(1, 1)];
    let report = write(&store, rows.clone()).await;
    assert_eq!(report.outcomes, [NotTried, Written, Written]);
    let error = report.error.unwrap();
    // Not of the environment: the circuit stays closed for the others.
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Transient, "55P03")
    );
    assert!(error.to_string().contains("late rows"), "{error}");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let report = write(&store, rows).await;
    assert_eq!(report.outcomes, [Written, Same, Same]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_chunks_are_deleted_where_that_is_asked_for() {
    let Some(server) = server().await else { return };
    let url = server.database().await;
    let store = Store::open(&url, on(Some(1), None, Some(30)))
        .await
        .unwrap();
    let admin = connect(&url.to_string()).await;
    let young = Bar {
        ts: Timestamp::from_micros(now() / MINUTE * MINUTE),
        ..bar(0, 1.0, 1)
    };
    write_new(&store, vec![bar(0, 1.0, 1), young.clone()]).await;
    let job = "SELECT job_id FROM timescaledb_information.jobs \
         WHERE proc_name = 'policy_retention' AND hypertable_name = 'bars'";
    let job: i32 = admin.query_one(job, &[]).await.unwrap().get(0);
    admin
        .batch_execute(&format!("CALL run_job({job})"))
        .await
        .unwrap();
    assert_eq!(all::<Bar>(&store).await, [young]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hypertables_of_the_original_are_adopted() {
    let Some(server) = server().await else { return };
    let hyper = "CREATE EXTENSION timescaledb;
        SELECT create_hypertable('bars', 'ts', chunk_time_interval => INTERVAL '7 days');
        SELECT create_hypertable('fundamentals', 'asof', chunk_time_interval => INTERVAL '90 days');
        SELECT create_hypertable('news', 'published_at', chunk_time_interval => INTERVAL '30 days');
        SELECT create_hypertable('options_snap', 'ts', chunk_time_interval => INTERVAL '7 days')";
    let (url, admin) = database(&server, &[WIDE, hyper, ROWS]).await;
    let before = everything(&admin).await;
    let planned = plan(&url).await;
    assert_eq!(planned.problems, [""; 0]);
    assert_eq!(everything(&admin).await, before);
    migrate(&url, OpenOptions::default()).await;
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    super::adopt::has_our_rows(&store).await;
    super::adopt::takes_records(&store).await;
    let chunks = "SELECT count(*)::text FROM timescaledb_information.chunks \
         WHERE hypertable_name IN ('bars', 'news', 'fundamentals', 'options_snap')";
    // Two of bars and of news, one of the others.
    assert_eq!(text(&admin, chunks).await, "6");
    // Row security binds the owner, as before.
    let options = on(None, Some(30), None);
    let planned = Store::migrate(&url, options, true).await.unwrap();
    assert!(
        planned.problems[0].starts_with("bars cannot be compressed while row security binds its"),
        "{:?}",
        planned.problems
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_tables_of_the_original_become_hypertables() {
    let Some(server) = server().await else { return };
    let (url, admin) = database(&server, &["CREATE EXTENSION timescaledb", NARROW, ROWS]).await;
    let planned = plan(&url).await;
    assert!(
        planned.actions.iter().any(
            |a| a.starts_with("bars: becomes a hypertable with chunks of 7 days; its rows are")
        ),
        "{:#?}",
        planned.actions
    );
    let done = migrate(&url, OpenOptions::default()).await;
    assert_eq!(done.actions, planned.actions);
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    super::adopt::has_our_rows(&store).await;
    super::adopt::takes_records(&store).await;
    let names = "SELECT string_agg(hypertable_name, ' ' ORDER BY hypertable_name) \
         FROM timescaledb_information.hypertables";
    assert_eq!(text(&admin, names).await, "bars options_snap");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_tables_of_the_original_are_told() {
    let Some(server) = server().await else { return };
    let hyper = "CREATE EXTENSION timescaledb;
        SELECT create_hypertable('bars', 'ts');
        DROP POLICY tenant_isolation_bars ON bars;
        ALTER TABLE bars NO FORCE ROW LEVEL SECURITY; ALTER TABLE bars DISABLE ROW LEVEL SECURITY;
        ALTER TABLE bars SET (timescaledb.compress)";
    let (url, _admin) = database(&server, &[WIDE, hyper, ROWS]).await;
    assert_eq!(
        problems(&url).await,
        [
            "bars is a hypertable with compression; decompress it and take compression off first, and \
          ask for it by the setting afterwards"
        ]
    );
}
