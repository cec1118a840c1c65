//! Row security: a role that it binds sees and changes the rows of the tenant that it speaks for,
//! and no others.

use fastrand::Rng;
use mds_core::{Bar, Fundamentals, News, OptionSnap, RowOutcome, TenantId, Timestamp};
use mds_store::{OpenOptions, Query, Store, StoreUrl};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::cluster::Cluster;
use super::{Database, Server, connect};
use crate::support::{all, bar, seed, write, write_new};

const A: TenantId = TenantId::from_u128(0xa0a0_a0a0_a0a0_4a0a_8a0a_a0a0_a0a0_a0a0);
const B: TenantId = TenantId::from_u128(0xb1b1_b1b1_b1b1_4b1b_8b1b_b1b1_b1b1_b1b1);

/// What only rows of B have in them, as it may show up in an answer.
const MARKS: [&str; 4] = ["SECRET", "b1b1b1b1", "4242.4242", "1999-12-31"];

/// Rows of both tenants in every table.
async fn fill(store: &Store) {
    for (tenant_id, symbol, price, ts) in [
        (A, "PLAIN", 1.5, "2024-11-01T00:00:00Z"),
        (B, "SECRET", 4242.4242, "1999-12-31T00:00:00Z"),
    ] {
        let start = Timestamp::parse(ts).unwrap().micros();
        let at = |i: i64| Timestamp::from_micros(start + i);
        let bars = (0..40).map(|i| Bar {
            tenant_id,
            symbol: symbol.into(),
            ts: at(i),
            ..bar(0, price, 1)
        });
        write_new(store, bars.collect()).await;
        let options = (0..10).map(|i| OptionSnap {
            tenant_id,
            vendor: "v".into(),
            symbol: symbol.into(),
            strike: price,
            ts: at(i),
            ..OptionSnap::default()
        });
        write_new(store, options.collect()).await;
        let fundamentals = (0..10).map(|i| Fundamentals {
            tenant_id,
            vendor: "v".into(),
            symbol: symbol.into(),
            asof: at(i),
            eps: Some(price),
            ..Fundamentals::default()
        });
        write_new(store, fundamentals.collect()).await;
        let news = (0..10).map(|i| News {
            tenant_id,
            vendor: "v".into(),
            published_at: at(i),
            id: "1".into(),
            title: Some(symbol.to_owned()),
            ..News::default()
        });
        write_new(store, news.collect()).await;
    }
}

/// A role of this database that may do everything with the tables of records; row security binds it.
async fn bound_role(database: &Database) -> (String, String) {
    let role = format!("{}_bound", database.name);
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON bars, options_snap, fundamentals, news, tenants, \
             mds_meta, ingested_files TO {role}; \
             GRANT SELECT ON mds_migrations, latest_prices, data_freshness TO {role}"
        ))
        .await;
    let url = database.text.replace("postgres@", &format!("{role}@"));
    (role, url)
}

/// All rows of B, in a form that shows any change.
async fn rows_of_b(admin: &Client) -> String {
    let mut sum = String::new();
    for table in ["bars", "options_snap", "fundamentals", "news", "tenants"] {
        let sql = format!(
            "SELECT count(*)::text || md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) \
             FROM {table} AS t WHERE tenant_id = '{B}'"
        );
        let text: String = admin.query_one(&sql, &[]).await.unwrap().get(0);
        sum += &text;
    }
    sum
}

/// The tenant A in one of the spellings of a UUID, or nobody.
fn setting(random: &mut Rng) -> String {
    let plain = A.to_string();
    match random.u8(..9) {
        0 => format!("SET app.tenant_id = '{}'", plain.to_uppercase()),
        1 => format!("SET app.tenant_id = '{{{plain}}}'"),
        2 => format!("SET app.tenant_id = '{}'", plain.replace('-', "")),
        3 => "RESET app.tenant_id".to_owned(),
        4 => "SET app.tenant_id = ''".to_owned(),
        5 => "SET app.tenant_id = 'nobody; or everybody'".to_owned(),
        6 => format!("SET app.tenant_id = ' {plain}'"),
        7 => "DISCARD ALL".to_owned(),
        _ => format!("SELECT set_config('app.tenant_id', '{plain}', false)"),
    }
}

const TABLES: [&str; 5] = ["bars", "options_snap", "fundamentals", "news", "tenants"];

fn time_of(table: &str) -> &str {
    match table {
        "fundamentals" => "asof",
        "news" => "published_at",
        "tenants" => "first_seen",
        _ => "ts",
    }
}

/// Something that a program may try with the tables, mean or not.
fn operation(random: &mut Rng) -> String {
    let table = TABLES[random.usize(..5)];
    let time = time_of(table);
    match random.u8(..30) {
        0 | 1 => format!("SELECT * FROM {table}"),
        2 => "SELECT * FROM latest_prices".to_owned(),
        3 => "SELECT * FROM data_freshness".to_owned(),
        4 => format!("SELECT count(*), min(t::text), max(t::text) FROM {table} AS t"),
        5 => format!(
            "SELECT x.*, y.* FROM {table} AS x JOIN {table} AS y USING (tenant_id) LIMIT 50"
        ),
        6 => format!("SELECT * FROM tenants LEFT JOIN {table} AS t USING (tenant_id)"),
        7 => format!("COPY {table} TO STDOUT"),
        8 => format!("COPY (SELECT * FROM {table} WHERE tenant_id = '{B}') TO STDOUT"),
        9 => format!("EXPLAIN (VERBOSE) SELECT * FROM {table}"),
        10 => format!("UPDATE {table} SET tenant_id = tenant_id RETURNING *"),
        11 => format!("UPDATE {table} SET tenant_id = '{B}'"),
        12 => format!("UPDATE {table} SET {time} = now() WHERE tenant_id = '{B}' RETURNING *"),
        13 => format!("DELETE FROM {table} WHERE tenant_id = '{B}' RETURNING *"),
        14 => format!("DELETE FROM {table} WHERE {time} < '2000-01-01' RETURNING *"),
        15 => format!(
            "INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts) \
             VALUES ('{B}', 'v', 'MINE', '1m', now())"
        ),
        16 => format!(
            "INSERT INTO bars SELECT '{B}', vendor, symbol, timeframe, ts FROM bars \
             ON CONFLICT (ts, tenant_id, vendor, symbol, timeframe) DO UPDATE SET volume = 13"
        ),
        17 => format!(
            "MERGE INTO bars AS t USING (SELECT '{B}'::uuid AS b) AS i ON t.tenant_id = i.b \
             WHEN MATCHED THEN UPDATE SET volume = 13 \
             WHEN NOT MATCHED THEN INSERT (tenant_id, vendor, symbol, timeframe, ts) \
             VALUES (i.b, 'v', 'MINE', '1m', now())"
        ),
        18 => format!("SELECT * FROM {table} WHERE pg_temp.tell(({table})::text)"),
        19 => "SELECT * FROM bars WHERE 1 / (close_price - 4242.4242) > 0".to_owned(),
        20 => format!("SELECT * FROM {table} WHERE {table}::text::int = 0"),
        21 => format!("SELECT * FROM {table} FOR UPDATE"),
        22 => format!("SET row_security = off; SELECT * FROM {table}"),
        23 => format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY; SELECT * FROM {table}"),
        24 => format!("SET ROLE postgres; SELECT * FROM {table}"),
        25 => format!("SET SESSION AUTHORIZATION postgres; SELECT * FROM {table}"),
        26 => format!("SELECT * FROM pg_stats WHERE tablename = '{table}'"),
        27 => format!(
            "BEGIN; SET LOCAL app.tenant_id = '{A}'; DECLARE c CURSOR FOR SELECT * FROM {table}; \
             FETCH 3 FROM c; ROLLBACK; SELECT * FROM {table}"
        ),
        28 => format!("PREPARE p AS SELECT * FROM {table}; EXECUTE p; DEALLOCATE p"),
        _ => format!("TRUNCATE {table}"),
    }
}

/// A function of the reader's own that tells what it is given, and costs next to nothing.
const TELL: &str = "CREATE OR REPLACE FUNCTION pg_temp.tell(text) RETURNS boolean COST 0.0001 \
     LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'told %', $1; END $$";

/// Runs a text as `psql` does; all that comes back, errors and notices alike.
async fn tell(client: &Client, sql: &str) -> String {
    let copied = sql.starts_with("COPY");
    if copied {
        use futures_util::TryStreamExt as _;
        let stream = match client.copy_out(sql).await {
            Ok(stream) => stream,
            Err(error) => return format!("{error:?}"),
        };
        let parts: Result<Vec<_>, _> = stream.try_collect().await;
        return match parts {
            Ok(parts) => String::from_utf8(parts.concat()).unwrap(),
            Err(error) => format!("{error:?}"),
        };
    }
    match client.simple_query(sql).await {
        Ok(messages) => {
            let cells = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => {
                    let cells = (0..row.len()).map(|i| row.get(i).unwrap_or("null"));
                    cells.collect::<Vec<_>>().join("|")
                }
                _ => String::new(),
            };
            messages.iter().map(cells).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{error:?}"),
    }
}

#[tokio::test]
async fn a_reader_sees_and_changes_no_row_of_another_tenant() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    fill(&store).await;
    let before = rows_of_b(&database.shell).await;
    let (_, url) = bound_role(&database).await;
    let mut random = Rng::with_seed(seed());
    let mut client = connect(&url).await;
    client.batch_execute(TELL).await.unwrap();
    let mut seen = 0;
    for number in 0..10_000 {
        if number % 7 == 0 {
            drop(client.batch_execute("ROLLBACK; RESET row_security").await);
            let setting = setting(&mut random);
            client.batch_execute(&setting).await.unwrap();
            drop(client.batch_execute(TELL).await);
        }
        if number % 1_000 == 999 {
            client = connect(&url).await;
            client.batch_execute(TELL).await.unwrap();
        }
        let sql = operation(&mut random);
        let told = tell(&client, &sql).await;
        // A statement that says so itself proves nothing.
        let told = told.replace(&B.to_string(), "");
        for mark in MARKS {
            assert!(!told.contains(mark), "{sql}\n{told}");
        }
        seen += usize::from(told.contains("PLAIN"));
        drop(client.batch_execute("ROLLBACK; RESET row_security").await);
    }
    assert!(seen > 500, "its own rows are seen: {seen}");
    assert_eq!(rows_of_b(&database.shell).await, before);
}

#[tokio::test]
async fn who_names_no_tenant_sees_nothing() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    fill(&database.open().await).await;
    let (_, url) = bound_role(&database).await;
    let client = connect(&url).await;
    let count = async || -> i64 {
        let sql = "SELECT count(*) FROM bars";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };
    assert_eq!(count().await, 0);
    let set = format!("SET app.tenant_id = '{A}'");
    client.batch_execute(&set).await.unwrap();
    assert_eq!(count().await, 40);
    for none in ["SET app.tenant_id = ''", "RESET app.tenant_id"] {
        client.batch_execute(none).await.unwrap();
        assert_eq!(count().await, 0, "{none}");
        client.batch_execute(&set).await.unwrap();
    }
    // Only for a transaction, and gone after it.
    client
        .batch_execute(&format!(
            "RESET app.tenant_id; BEGIN; SET LOCAL {}; COMMIT",
            &set[4..]
        ))
        .await
        .unwrap();
    assert_eq!(count().await, 0);
}

async fn open(url: &str, options: OpenOptions) -> Store {
    let url: StoreUrl = url.parse().unwrap();
    Store::open(&url, options).await.unwrap()
}

#[tokio::test]
async fn a_store_as_a_bound_reader_speaks_for_the_tenant_of_the_question() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    fill(&database.open().await).await;
    let (role, url) = bound_role(&database).await;
    let of = |tenant| Query {
        tenant,
        ..Query::default()
    };
    let store = open(&url, OpenOptions::read_only()).await;
    let symbols = async |store: &Store, tenant| -> Vec<String> {
        let rows = store.query::<Bar>(of(tenant)).collect().await.unwrap();
        let mut symbols: Vec<_> = rows.iter().map(|r| r.symbol.to_string()).collect();
        symbols.dedup();
        let count = store.count::<Bar>(of(tenant)).await.unwrap();
        assert_eq!(count, rows.len() as u64);
        assert_eq!(store.latest(of(tenant)).await.unwrap().len(), symbols.len());
        symbols
    };
    for _ in 0..3 {
        assert_eq!(symbols(&store, Some(A)).await, ["PLAIN"]);
        assert_eq!(symbols(&store, Some(B)).await, ["SECRET"]);
        assert_eq!(symbols(&store, None).await, [""; 0]);
    }
    // Whom the role itself is set to.
    database
        .run(&format!("ALTER ROLE {role} SET app.tenant_id = '{A}'"))
        .await;
    let store = open(&url, OpenOptions::read_only()).await;
    assert_eq!(symbols(&store, None).await, ["PLAIN"]);
    assert_eq!(store.stats().await.unwrap().kinds[0].rows, 40);
    let store = open(&url, OpenOptions::default()).await;
    assert_eq!(store.delete::<Bar>(of(Some(B))).await.unwrap(), 40);
    assert_eq!(store.delete::<Bar>(of(None)).await.unwrap(), 40);
    assert_eq!(all::<Bar>(&database.open().await).await, []);
}

/// Both tenants in one batch, now and then a newer revision.
fn mixed(revision: i64, rows: i64) -> Vec<Bar> {
    let row = |minute: i64| Bar {
        tenant_id: if minute % 2 == 0 { A } else { B },
        ..bar(minute, 1.0, revision)
    };
    (0..rows).map(row).collect()
}

#[tokio::test]
async fn a_bound_writer_says_in_each_transaction_whose_rows_it_is_about() {
    let Some(cluster) = Cluster::start(&[
        "log_statement = all",
        "log_parameter_max_length = 0",
        "log_line_prefix = '%u '",
    ]) else {
        return;
    };
    let admin = cluster.shell("postgres").await;
    let owner = Store::open(&cluster.url("postgres"), OpenOptions::default())
        .await
        .unwrap();
    admin
        .batch_execute(
            "CREATE ROLE writer LOGIN; \
             GRANT SELECT, INSERT, UPDATE ON bars, options_snap, fundamentals, news, tenants, \
             mds_meta, ingested_files TO writer; GRANT SELECT ON mds_migrations TO writer",
        )
        .await
        .unwrap();
    let url = cluster.url_with("writer@127.0.0.1", "postgres");
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    for (revision, rows) in [(1, 10), (1, 500), (2, 500), (2, 500), (3, 10)] {
        let report = write(&store, mixed(revision, rows)).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        assert!(!report.outcomes.contains(&RowOutcome::NotTried));
    }
    let mut expected = mixed(2, 500);
    expected[..10].clone_from_slice(&mixed(3, 10));
    assert_eq!(all::<Bar>(&owner).await, expected);
    let log = cluster.log();
    let of_writer: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with("writer "))
        .collect();
    let has = |text: &str| of_writer.iter().any(|line| line.contains(text));
    assert!(has(&format!("SET LOCAL app.tenant_id = '{A}'")));
    assert!(has(&format!("SET LOCAL app.tenant_id = '{B}'")));
    assert!(
        !has("SET app.tenant_id"),
        "a pooler would give it to others"
    );
    assert!(!has("COPY bars"), "row security has no COPY FROM");
    // The owner is not bound, and copies.
    write_new(&owner, (1_000..1_500).map(|i| bar(i, 1.0, 1)).collect()).await;
    let log = cluster.log();
    assert!(log.contains("postgres LOG:  execute") && log.contains("COPY bars"));
}

#[tokio::test]
async fn a_row_that_a_policy_of_the_user_refuses_costs_itself_alone() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    let (_, url) = bound_role(&database).await;
    database
        .run(
            "CREATE POLICY no_13 ON bars AS RESTRICTIVE FOR INSERT \
             WITH CHECK (close_price IS DISTINCT FROM 13)",
        )
        .await;
    let store = open(&url, OpenOptions::default()).await;
    let mut rows: Vec<_> = (0..100).map(|i| bar(i, 1.0, 1)).collect();
    rows[42].close_price = Some(13.0);
    let report = write(&store, rows).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    for (place, outcome) in report.outcomes.iter().enumerate() {
        if place == 42 {
            let RowOutcome::Rejected { code, reason } = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(code, "42501");
            assert!(
                reason.contains("violates row-level security policy \"no_13\""),
                "{reason}"
            );
        } else {
            assert_eq!(*outcome, RowOutcome::Written);
        }
    }
}
