//! `mds migrate` on a database that the Python original made, where a PostgreSQL server is at hand.

use std::process::Stdio;

use tokio_postgres::{Client, NoTls};

use crate::run::Place;

/// Tables of the original, and a row of bars in its spelling.
const ORIGINAL: &str = "
    CREATE TABLE tenants (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        tenant_id varchar(50) NOT NULL UNIQUE
    );
    CREATE TABLE bars (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        tenant_id uuid REFERENCES tenants (id),
        symbol varchar(20) NOT NULL,
        timeframe varchar(10) NOT NULL,
        ts timestamptz NOT NULL,
        open_price numeric(20, 8),
        high_price numeric(20, 8),
        low_price numeric(20, 8),
        close_price numeric(20, 8),
        volume bigint,
        vendor varchar(50) NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT uq_bars UNIQUE (symbol, timeframe, ts)
    );
    INSERT INTO bars (vendor, symbol, timeframe, ts, close_price, volume, updated_at) VALUES
        ('IBKR', 'AAPL', '1min', '2024-11-01 13:30:00Z', 222.42000000, 100, '2025-02-01 00:00:00Z');
";

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}

/// A new database with the tables of the original, and a connection to it.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn original(name: &str) -> Option<(String, Client)> {
    let Ok(server) = std::env::var("MDS_TEST_POSTGRES") else {
        eprintln!("skipped: MDS_TEST_POSTGRES names no server");
        return None;
    };
    let name = format!("mds_cli_{}_{name}", std::process::id());
    connect(&server)
        .await
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let admin = connect(&url).await;
    admin.batch_execute(ORIGINAL).await.unwrap();
    Some((url, admin))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_original_is_adopted_by_one_of_two_processes() {
    let Some((url, _admin)) = original("two").await else {
        return;
    };
    let place = Place::new();
    let outcome = place
        .run(&["latest", "--store", &url, "--all-tenants"])
        .code(1);
    assert!(
        outcome.stderr.contains("mds migrate --plan"),
        "{outcome:#?}"
    );
    let plan = place.run(&["migrate", "--store", &url, "--plan"]).code(0);
    for line in [
        "bars: close_price numeric(20,8) becomes double precision",
        "bars: vendor \"IBKR\" becomes \"ibkr\" in 1 row",
    ] {
        assert!(plan.stdout.lines().any(|l| l == line), "{plan:#?}");
    }
    plan.says("would go from version 0 to 1");

    let start = || {
        let mut command = place.command(&["migrate", "--store", &url, "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut froms: Vec<i64> = [start(), start()]
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            report["from"].as_i64().unwrap()
        })
        .to_vec();
    froms.sort_unstable();
    assert_eq!(froms, [0, 1], "one did it, the other found it done");

    place
        .run(&[
            "export",
            "bars",
            "--store",
            &url,
            "--out",
            "bars.ndjson",
            "--with-revision",
        ])
        .code(0);
    assert_eq!(
        std::fs::read_to_string(place.path("bars.ndjson")).unwrap(),
        concat!(
            r#"{"tenant_id":"00000000-0000-0000-0000-000000000001","vendor":"ibkr","symbol":"AAPL","#,
            r#""timeframe":"1m","ts":"2024-11-01T13:30:00Z","close_price":222.42,"volume":100.0,"#,
            r#""provisional":false,"revision":1738368000000000}"#,
            "\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_told_by_the_plan_and_by_the_migration() {
    let Some((url, admin)) = original("way").await else {
        return;
    };
    admin
        .batch_execute(
            "CREATE VIEW closes AS SELECT close_price FROM bars;
             INSERT INTO bars (vendor, symbol, timeframe, ts) VALUES
             ('ibkr', 'AAPL', '60s', '2024-11-01 13:30:00Z')",
        )
        .await
        .unwrap();
    let place = Place::new();
    let plan = place.run(&["migrate", "--store", &url, "--plan"]).code(1);
    let told: Vec<_> = plan
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("in the way: "))
        .collect();
    assert_eq!(told.len(), 3, "{plan:#?}");
    assert!(told[0].starts_with("bars: 2 rows would share 1 key"));
    assert!(told[2].contains("view closes"));
    let told: Vec<_> = told.iter().map(|line| format!("  - {line}")).collect();
    let outcome = place.run(&["migrate", "--store", &url]).code(1);
    for line in told {
        assert!(outcome.stderr.lines().any(|l| l == line), "{outcome:#?}");
    }
}
