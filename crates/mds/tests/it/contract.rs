//! The same files into SQLite and into PostgreSQL: the same books, letters and exports; and what a
//! person reads when a server does not play along.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio_postgres::{Client, NoTls};

use crate::run::{Outcome, Place, skip};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A new database, and a session of its superuser.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) shell: Client,
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}

impl Database {
    pub(crate) async fn make() -> Option<Self> {
        let Ok(server) = std::env::var("MDS_TEST_POSTGRES") else {
            skip("MDS_TEST_POSTGRES names no server");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mds_contract_{}_{number}", std::process::id());
        let admin = connect(&server).await;
        let sql = format!("CREATE DATABASE {name}");
        admin.batch_execute(&sql).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let shell = connect(&url).await;
        Some(Self { url, shell })
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.shell.batch_execute(sql).await.unwrap();
    }
}

/// Lines of all four kinds with what stores get wrong: absent values, numbers at the edges, text of
/// many alphabets, revisions that meet.
fn lines(kind: &str) -> String {
    let numbers = [
        "0.1",
        "-0.0",
        "5e-324",
        "1e308",
        "4.051",
        "null",
        "123456789.12345679",
    ];
    let texts = [
        "Up, \\\"and\\\" away\\u2026",
        "",
        "\\u65e5\\u672c",
        "line\\nbreak",
        "\\ud83d\\ude80",
    ];
    let line = |i: usize| {
        let (number, text) = (numbers[i % 7], texts[i % 5]);
        let (symbol, time) = (i % 3, format!("2024-11-01T00:{:02}:00.5Z", i % 50));
        let tenant = format!("00000000-0000-0000-0000-00000000000{}", i % 2 + 1);
        let values = match kind {
            "bars" => format!(
                r#""symbol":"S{symbol}","timeframe":"1m","ts":"{time}","close_price":{number}"#
            ),
            "options" => format!(
                r#""symbol":"S{symbol}","expiry":"2024-11-15","option_type":"C","strike":0.5,"ts":"{time}","iv":{number}"#
            ),
            "fundamentals" => {
                format!(r#""symbol":"S{symbol}","asof":"{time}","period":"FY","eps":{number}"#)
            }
            _ => format!(
                r#""published_at":"{time}","id":"n{symbol}","symbols":["S{symbol}","T"],"title":"{text}""#
            ),
        };
        let revision = i % 4 + 1;
        format!(
            "{{\"tenant_id\":\"{tenant}\",\"vendor\":\"v\",\"revision\":{revision},{values}}}\n"
        )
    };
    (0..300).map(line).collect()
}

const KINDS: [&str; 4] = ["bars", "options", "fundamentals", "news"];

/// Runs a command on both stores; both say the same.
fn alike(place: &Place, database: &Database, args: &[&str]) -> String {
    let of = |store: &str| place.run(&[args, &["--store", store]].concat()).code(0);
    let (file, server) = (of("sqlite:market.db"), of(&database.url));
    assert_eq!(file.stdout, server.stdout, "{args:?}");
    file.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_end_in_the_same_exports_byte_by_byte() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    for kind in KINDS {
        let input = format!("{kind}.ndjson");
        place.write(&input, &lines(kind));
        let ingest = |store: &str| {
            let args = ["ingest", kind, &input, "--json", "--workers", "1"];
            let args = [&args[..], &["--store", store]].concat();
            place.run(&args).code(0).books()
        };
        assert_eq!(ingest("sqlite:market.db"), ingest(&database.url));
        // Once more: nothing is written.
        let again = ingest(&database.url);
        assert_eq!(again, "read 300, superseded 300");
    }
    for kind in KINDS {
        for name in ["out.ndjson", "out.csv"] {
            let export = |store: &str, file: &str| {
                let args = ["export", kind, "--with-revision", "--out", file];
                place
                    .run(&[&args[..], &["--store", store]].concat())
                    .code(0);
                fs::read(place.path(file)).unwrap()
            };
            let of_file = export("sqlite:market.db", &format!("file-{kind}-{name}"));
            let of_server = export(&database.url, &format!("server-{kind}-{name}"));
            assert!(!of_file.is_empty());
            assert!(of_file == of_server, "{kind} {name}");
            // What was exported from one comes into the other as it was: nothing new.
            let file = format!("file-{kind}-{name}");
            let args = ["ingest", kind, &file, "--json", "--store", &database.url];
            let books = place.run(&args).code(0).books();
            assert!(!books.contains("written"), "{books}");
        }
        alike(
            &place,
            &database,
            &["query", kind, "--symbol", "s1", "--output", "csv"],
        );
        alike(
            &place,
            &database,
            &["query", kind, "--symbol", "S2", "--limit", "7"],
        );
    }
    alike(&place, &database, &["latest"]);
    let deleted = alike(
        &place,
        &database,
        &["delete", "bars", "--symbol", "S1", "--yes"],
    );
    assert!(!deleted.contains("deleted 0"), "{deleted}");
    alike(&place, &database, &["latest", "S0", "S1"]);
}

/// The letters of rows of `bars.csv` that a store refused: line, code, and what is said.
fn letters(place: &Place) -> Vec<(u64, String, String)> {
    let text = fs::read_to_string(place.path(".dlq/bars.ndjson")).unwrap_or_default();
    let told = |line: &str| {
        let letter: Value = serde_json::from_str(line).unwrap();
        let metadata = &letter["metadata"];
        assert_eq!(metadata["reason"], "rejected_row");
        assert_eq!(metadata["path"], "bars.csv");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let line = metadata["line"].as_u64().unwrap();
        (line, text(&metadata["code"]), text(&letter["error"]))
    };
    text.lines().map(told).collect()
}

/// Ingests bars of a vendor.
fn ingest(place: &Place, database: &Database, csv: &str, more: &[&str]) -> Outcome {
    place.write("bars.csv", csv);
    let args = [
        "ingest",
        "bars",
        "bars.csv",
        "--vendor",
        "v",
        "--timeframe",
        "1m",
        "--json",
    ];
    place.run(&[&args[..], &["--store", &database.url], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn k_bad_rows_are_k_letters_with_code_constraint_file_and_line() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    place.run(&["migrate", "--store", &database.url]).code(0);
    database
        .run(
            "ALTER TABLE bars ADD CONSTRAINT no_13 CHECK (close_price <> 13); \
             ALTER TABLE bars ALTER volume TYPE numeric(8, 2)",
        )
        .await;
    let line = |i: usize| {
        let (day, hour, minute) = (i / 1_440 + 1, i / 60 % 24, i % 60);
        let close = if i % 5_000 == 77 { 13 } else { 12 };
        let volume = if i % 4_000 == 33 { "1e9" } else { "10" };
        format!("S,2024-11-{day:02}T{hour:02}:{minute:02}:00Z,{close},{volume}\n")
    };
    let rows: String = (0..20_000).map(line).collect();
    let csv = format!("symbol,ts,close_price,volume\n{rows}");
    let outcome = ingest(&place, &database, &csv, &[]).code(3);
    assert_eq!(
        outcome.books(),
        "read 20000, written 19991, dead_lettered 9"
    );
    let mut told = letters(&place);
    told.sort();
    let lines: Vec<(u64, &str)> = told
        .iter()
        .map(|(l, code, _)| (*l, code.as_str()))
        .collect();
    // The header is line 1.
    assert_eq!(
        lines,
        [
            (35, "22003"),
            (79, "23514"),
            (4_035, "22003"),
            (5_079, "23514"),
            (8_035, "22003"),
            (10_079, "23514"),
            (12_035, "22003"),
            (15_079, "23514"),
            (16_035, "22003"),
        ]
    );
    let range = "numeric field overflow; A field with precision 8, scale 2 must round to";
    assert!(told[0].2.contains(range), "{}", told[0].2);
    let constraint = "violates check constraint \"no_13\" (constraint no_13, table bars)";
    assert!(told[1].2.contains(constraint), "{}", told[1].2);
    // Once the table takes them, so does a replay.
    database
        .run(
            "ALTER TABLE bars DROP CONSTRAINT no_13; \
             ALTER TABLE bars ALTER volume TYPE double precision",
        )
        .await;
    place
        .run(&["dlq", "replay", "--store", &database.url])
        .code(0);
    let count = "SELECT count(*) FROM bars";
    let count: i64 = database.shell.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(count, 20_000);
}

const ONE: &str = "symbol,ts,close_price\nS,2024-11-01T00:00:00Z,1.5\nS,2024-11-01T00:01:00Z,1.5\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_stops_with_words_that_help_and_nothing_is_lost() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    place.run(&["migrate", "--store", &database.url]).code(0);
    database.run("ALTER TABLE bars RENAME TO moved").await;
    let outcome = ingest(&place, &database, ONE, &[]).code(1);
    outcome.says("\n  - table bars is gone; give it its name again, or restore it from a backup\n");
    assert_eq!(letters(&place), []);
    database.run("ALTER TABLE moved RENAME TO bars").await;
    let outcome = ingest(&place, &database, ONE, &[]).code(0);
    assert!(outcome.books().contains("written 2"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_a_server_that_was_written_to_a_moment_ago_and_of_one_that_refuses() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    ingest(&place, &database, ONE, &[]).code(0);
    let health = || place.run(&["health", "--store", &database.url]);
    let outcome = health().code(0);
    assert!(
        outcome
            .stdout
            .contains("revisions     ok      not ahead of the clock"),
        "{outcome:?}"
    );
    let name = database.url.rsplit('/').next().unwrap();
    let role = format!("{name}_weak");
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}; \
         REVOKE INSERT, UPDATE ON news FROM {role}"
    );
    database.run(&grants).await;
    let url = database.url.replace("postgres@", &format!("{role}@"));
    let weak = place.run(&["health", "--store", &url]).code(0);
    let told =
        "rights        degraded  the role lacks INSERT, UPDATE on news; GRANT what it needs\n";
    assert!(weak.stdout.contains(told), "{weak:?}");
    let revoke = format!("REVOKE INSERT ON tenants FROM {role}");
    database.run(&revoke).await;
    let weak = place.run(&["health", "--store", &url]).code(1);
    assert!(weak.stdout.contains("INSERT on tenants"), "{weak:?}");
    database
        .run(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'closed for today' USING ERRCODE = '42501'; END $$; \
             CREATE TRIGGER no BEFORE UPDATE ON mds_meta EXECUTE FUNCTION no()",
        )
        .await;
    let outcome = health().code(1);
    let told = format!(
        "{}: closed for today; GRANT the role what it lacks (fatal, 42501)\n",
        database.url
    );
    assert!(outcome.stdout.contains(&told), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_makes_no_tables() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    place
        .run(&["delete", "bars", "--all", "--yes", "--store", &database.url])
        .code(1)
        .says("run `mds migrate` first");
    let made = database
        .shell
        .query_typed_one("SELECT to_regclass('bars') IS NOT NULL", &[])
        .await
        .unwrap();
    assert!(!made.get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_a_role_without_any_right_names_all_of_them() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    place.run(&["migrate", "--store", &database.url]).code(0);
    let name = database.url.rsplit('/').next().unwrap();
    let role = format!("{name}_none");
    database.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = database.url.replace("postgres@", &format!("{role}@"));
    let health = place.run(&["health", "--store", &url]).code(1);
    for told in [
        "failed  the role lacks SELECT on mds_migrations; INSERT, SELECT, UPDATE on bars; ",
        "; INSERT on tenants; SELECT, UPDATE on mds_meta; INSERT, SELECT, UPDATE on ingested_files; \
         GRANT what it needs\n",
    ] {
        assert!(health.stdout.contains(told), "{health:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_for_a_server_that_only_reads() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    place.run(&["migrate", "--store", &database.url]).code(0);
    // A server that reads only would not even take the revision of the file.
    database
        .run(
            "CREATE FUNCTION only_reads() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'cannot execute INSERT in a read-only transaction' \
             USING ERRCODE = '25006'; END $$; \
             CREATE TRIGGER only_reads BEFORE INSERT ON bars \
             FOR EACH STATEMENT EXECUTE FUNCTION only_reads()",
        )
        .await;
    let outcome = ingest(&place, &database, ONE, &["--max-outage", "1s"]);
    outcome
        .code(1)
        .says("the store was away for longer than --max-outage (1s)")
        .says("25006");
    database.run("DROP TRIGGER only_reads ON bars").await;
    let outcome = ingest(&place, &database, ONE, &[]).code(0);
    assert!(outcome.books().contains("written 2"), "{outcome:?}");
}
