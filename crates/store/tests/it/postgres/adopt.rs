//! Databases that the Python original made become stores of ours, without losing a row.

use mds_core::{Bar, Batch, Fundamentals, News, OptionSnap, RowOutcome, Sink as _, Timestamp};
use mds_store::{OpenOptions, Query, Store, StoreError};

use RowOutcome::{Superseded, Written};

use super::original::{
    ACME, NARROW, ROWS, WIDE, database, everything, migrate, plan, problems, text,
};
use super::{Server, connect};
use crate::support::{all, write};

/// 2025-02-01T00:00:00Z, when most of the rows were last written.
const STAMP: i64 = 1_738_368_000_000_000;
/// The columns that records have, as a database of ours has them.
const OURS: &str = "SELECT string_agg(format('%s.%s %s %s %s %s', a.attrelid::regclass, a.attname, \
     format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull, \
     CASE WHEN a.attname <> 'id' THEN pg_get_expr(d.adbin, d.adrelid) END), E'\\n' \
     ORDER BY a.attrelid::regclass::text, a.attname) \
     FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
     WHERE a.attrelid IN ('bars'::regclass, 'options_snap'::regclass, 'fundamentals'::regclass, \
     'news'::regclass) AND a.attnum > 0 AND NOT a.attisdropped \
     AND a.attname NOT IN ('created_at', 'updated_at') \
     AND (a.attname <> 'id' OR a.attrelid = 'news'::regclass)";
const KEYS: &str = "SELECT string_agg(conrelid::regclass || ' ' || pg_get_constraintdef(oid), E'\\n' \
     ORDER BY conrelid::regclass::text) FROM pg_constraint WHERE contype IN ('p', 'u') \
     AND conrelid IN ('bars'::regclass, 'options_snap'::regclass, 'fundamentals'::regclass, \
     'news'::regclass)";
const POLICIES: &str = "SELECT string_agg(tablename || ' ' || policyname || ' ' || qual, E'\\n' \
     ORDER BY tablename, policyname) FROM pg_policies";
const VIEWS: &str = "SELECT string_agg(pg_get_viewdef(oid) || reloptions::text, E'\\n' ORDER BY relname) \
     FROM pg_class WHERE relname IN ('latest_prices', 'data_freshness')";

fn acme(bar: &Bar) -> Bar {
    Bar {
        tenant_id: ACME.parse().unwrap(),
        vendor: "ibkr".into(),
        symbol: "AAPL".into(),
        ..bar.clone()
    }
}

/// The bars of [`ROWS`] as records.
fn bars() -> [Bar; 2] {
    [
        acme(&Bar {
            ts: Timestamp::parse("2024-11-01T13:30:00Z").unwrap(),
            open_price: Some(222.11),
            high_price: Some(222.5),
            low_price: Some(221.99),
            close_price: Some(222.420_000_01),
            volume: Some(1_234_567.0),
            revision: STAMP,
            ..Bar::default()
        }),
        // It was not over yet when it was written.
        acme(&Bar {
            timeframe: "1d".parse().unwrap(),
            ts: Timestamp::parse("2025-02-01T00:00:00Z").unwrap(),
            close_price: Some(222.4),
            provisional: true,
            revision: STAMP + 43_200_000_000,
            ..Bar::default()
        }),
    ]
}

/// What must be so after the rows of [`ROWS`] were adopted.
pub(super) async fn has_our_rows(store: &Store) {
    assert_eq!(all::<Bar>(store).await, bars());
    let options = all::<OptionSnap>(store).await;
    assert_eq!(options.len(), 1);
    assert_eq!(options[0].strike, 5_800.0);
    assert_eq!(
        (options[0].iv, options[0].oi, options[0].spot),
        (Some(0.1234), Some(17.0), Some(5_812.25))
    );
    let fundamentals = all::<Fundamentals>(store).await;
    assert_eq!(fundamentals.len(), 1);
    assert_eq!(fundamentals[0].period, "");
    assert_eq!(fundamentals[0].total_assets, Some(364_980_000_000.0));
    assert_eq!(fundamentals[0].eps, Some(6.08));
    let news = all::<News>(store).await;
    assert_eq!(news.len(), 1);
    assert_eq!(news[0].id, "00000000-0000-4000-8000-000000000001");
    assert_eq!(news[0].symbols, ["AAPL".into()]);
    assert_eq!(news[0].sentiment_score, Some(0.25));
    // Nothing that is written from now on comes before what is there.
    assert!(store.last_revision().await.unwrap() >= STAMP + 43_200_000_000);
}

/// What an adopted store must take: what a database of ours takes.
pub(super) async fn takes_records(store: &Store) {
    let [minute, day] = bars();
    let newer = Bar {
        close_price: Some(223.0),
        revision: STAMP + 1,
        ..minute.clone()
    };
    let of_another_vendor = Bar {
        vendor: "polygon".into(),
        ..minute.clone()
    };
    let of_another_tenant = Bar {
        tenant_id: "7c9e6679-7425-40de-944b-e07fc1f90ae7".parse().unwrap(),
        symbol: "A-SYMBOL-THAT-IS-LONGER-THAN-TWENTY-CHARACTERS".into(),
        volume: Some(0.125),
        ..minute.clone()
    };
    let over = Bar {
        close_price: Some(230.0),
        provisional: false,
        revision: 1,
        ..day
    };
    let rows = vec![minute, newer, of_another_vendor, of_another_tenant, over];
    let report = write(store, rows).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(
        report.outcomes,
        [Superseded, Written, Written, Written, Written]
    );
    let mut option = all::<OptionSnap>(store).await.remove(0);
    option.iv = Some(0.2);
    option.revision = i64::MAX / 2;
    let report = write(store, vec![option]).await;
    assert_eq!(report.outcomes, [Written], "{:?}", report.error);
    let headline = News {
        tenant_id: ACME.parse().unwrap(),
        vendor: "wire".into(),
        id: "an id that is no UUID".into(),
        ..News::default()
    };
    let report = write(store, vec![headline]).await;
    assert_eq!(report.outcomes, [Written], "{:?}", report.error);
    let quarter = Fundamentals {
        period: "Q4".into(),
        ..all::<Fundamentals>(store).await.remove(0)
    };
    let report = write(store, vec![quarter]).await;
    assert_eq!(report.outcomes, [Written], "{:?}", report.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_narrow_keys_is_adopted() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    let before = everything(&admin).await;
    let planned = plan(&url).await;
    assert_eq!((planned.from, planned.to, planned.applied), (0, 1, false));
    assert_eq!(planned.problems, [""; 0]);
    for step in [
        "latest_prices: make the view anew; it runs with the rights of who asks, so that row \
         security holds for it",
        "bars: drop the foreign key bars_tenant_id_fkey to tenants, which would refuse records of \
         a tenant that is not listed",
        "bars: drop the key uq_bars (symbol, timeframe, ts)",
        "bars: drop the key bars_pkey (id)",
        "bars: open_price numeric(20,8) becomes double precision",
        "bars: volume bigint becomes double precision",
        "bars: vendor \"IBKR\" becomes \"ibkr\" in 2 rows",
        "bars: timeframe \"1Day\" becomes \"1d\" in 1 row",
        "bars: timeframe \"1min\" becomes \"1m\" in 1 row",
        "bars: add revision (bigint)",
        "bars: the revision is taken from updated_at, else created_at",
        "options_snap: the revision is taken from created_at",
        "bars: the key becomes (ts, tenant_id, vendor, symbol, timeframe)",
        "options_snap: drop the trigger update_options_snap_updated_at, which fails since there is \
         no updated_at",
        "news: title may be absent",
        "tenants: id is called tenant_id, as in every other table",
    ] {
        assert!(
            planned.actions.iter().any(|action| action == step),
            "{step}\nis not in {:#?}",
            planned.actions
        );
    }
    assert_eq!(everything(&admin).await, before, "a plan changes nothing");

    let done = migrate(&url).await.unwrap();
    assert_eq!((done.from, done.to, done.applied), (0, 1, true));
    assert_eq!(done.actions, planned.actions);
    let again = migrate(&url).await.unwrap();
    assert_eq!((again.from, again.to, again.steps.len()), (1, 1, 0));
    assert_eq!(again.actions, [""; 0]);

    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    has_our_rows(&store).await;
    takes_records(&store).await;
    store.close().await;
    // What else was in the database is there as before.
    let others = "SELECT string_agg(line, ' ' ORDER BY line) FROM (SELECT status || priority AS line \
         FROM job_queue_health UNION ALL SELECT name || slug || first_seen::date FROM tenants \
         WHERE slug = 'acme' UNION ALL SELECT count(DISTINCT id)::text FROM bars) AS lines";
    assert_eq!(text(&admin, others).await, "4 Acmeacme2025-01-01");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_database_has_the_shape_of_a_new_one() {
    let Some(server) = Server::find() else { return };
    let (fresh_url, fresh) = database(&server, &[]).await;
    migrate(&fresh_url).await.unwrap();
    for script in [NARROW, WIDE] {
        let (url, admin) = database(&server, &[script, ROWS]).await;
        migrate(&url).await.unwrap();
        for what in [OURS, KEYS, VIEWS] {
            assert_eq!(text(&admin, what).await, text(&fresh, what).await);
        }
        let ours = text(&fresh, POLICIES).await;
        let theirs = text(&admin, POLICIES).await;
        assert!(
            theirs
                .lines()
                .filter(|l| !l.starts_with("jobs"))
                .eq(ours.lines()),
            "{theirs}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_wide_keys_is_adopted() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[WIDE, ROWS]).await;
    admin
        .batch_execute(
            "INSERT INTO bars_ohlcv VALUES ('p', 'X', '1d', '2024-01-01 00:00:00Z', 1.5);
             INSERT INTO jobs_outbox (tenant_id, idempotency_key)
             VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'k')",
        )
        .await
        .unwrap();
    let before = everything(&admin).await;
    let planned = plan(&url).await;
    assert_eq!(planned.problems, [""; 0]);
    assert_eq!(everything(&admin).await, before);
    assert!(
        planned
            .notes
            .iter()
            .any(|note| note.starts_with("bars: row security binds its owner")),
        "{:#?}",
        planned.notes
    );
    migrate(&url).await.unwrap();
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    has_our_rows(&store).await;
    takes_records(&store).await;
    store.close().await;
    let kept = "SELECT concat_ws(' ', (SELECT close FROM bars_ohlcv), \
         (SELECT count(*) FROM jobs_outbox), (SELECT bool_and(relforcerowsecurity) FROM pg_class \
         WHERE oid IN ('bars'::regclass, 'news'::regclass)), \
         to_regclass('ix_bars_tenant_vendor_sym_tf_ts_desc'), \
         (SELECT count(*) FROM bars WHERE updated_at > '2025-06-01' AND revision > 1))";
    assert_eq!(
        text(&admin, kept).await,
        "1.5 1 t ix_bars_tenant_vendor_sym_tf_ts_desc 3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_rows_of_an_adopted_database() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[WIDE, ROWS]).await;
    let role = format!("reader_{}", std::process::id());
    admin
        .batch_execute(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN;
             GRANT SELECT ON bars, latest_prices TO {role};
             INSERT INTO tenants (id, tenant_id) VALUES ('7c9e6679-7425-40de-944b-e07fc1f90ae7', 'b');
             INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts, close_price) VALUES
             ('7c9e6679-7425-40de-944b-e07fc1f90ae7', 'v', 'B', '1m', '2024-11-01 00:00:00Z', 2)"
        ))
        .await
        .unwrap();
    migrate(&url).await.unwrap();
    let reader = connect(&url.to_string().replace("postgres@", &format!("{role}@"))).await;
    let seen = "SELECT string_agg(symbol || price, ' ') FROM latest_prices";
    // Before anything is said, and after what was said is empty again: nothing, and no error.
    assert_eq!(text(&reader, seen).await, "");
    reader
        .batch_execute("SET app.tenant_id = '7c9e6679-7425-40de-944b-e07fc1f90ae7'")
        .await
        .unwrap();
    assert_eq!(text(&reader, seen).await, "B2");
    reader
        .batch_execute("SET app.tenant_id = ''")
        .await
        .unwrap();
    assert_eq!(text(&reader, seen).await, "");
    assert_eq!(text(&reader, "SELECT count(*)::text FROM bars").await, "0");
    admin
        .batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_row_security_binds_adopts_as_well() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[WIDE, ROWS]).await;
    let role = format!("owner_{}", std::process::id());
    admin
        .batch_execute(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role};
             ALTER TABLE tenants OWNER TO {role}; ALTER TABLE bars OWNER TO {role};
             ALTER TABLE options_snap OWNER TO {role}; ALTER TABLE fundamentals OWNER TO {role};
             ALTER TABLE news OWNER TO {role}; ALTER VIEW latest_prices OWNER TO {role};
             ALTER VIEW data_freshness OWNER TO {role};
             INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts) VALUES
             ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'ibkr', 'AAPL', '1m', '2024-11-01 13:30:00Z')"
        ))
        .await
        .unwrap();
    let url = url.to_string().replace("postgres@", &format!("{role}@"));
    let url = url.parse().unwrap();
    let before = everything(&admin).await;
    let planned = plan(&url).await;
    assert!(
        planned.notes.contains(
            &"bars: row security hides its rows from this role, so that they were not looked at; \
              migrating lifts it for as long as it takes"
                .to_owned()
        ),
        "{:#?}",
        planned.notes
    );
    // What it could not see in the plan, it sees.
    assert!(problems(&url).await[0].starts_with("bars: 2 rows would share 1 key"));
    assert_eq!(everything(&admin).await, before);
    admin
        .batch_execute("DELETE FROM bars WHERE vendor = 'ibkr'")
        .await
        .unwrap();
    migrate(&url).await.unwrap();
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let report = write(&store, bars().to_vec()).await;
    assert_eq!(
        report.outcomes,
        [RowOutcome::Same, RowOutcome::Same],
        "{:?}",
        report.error
    );
    store.close().await;
    let forced = "SELECT relforcerowsecurity::text FROM pg_class WHERE oid = 'bars'::regclass";
    assert_eq!(text(&admin, forced).await, "true");
    admin
        .batch_execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_would_be_one_record_stop_it() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    admin
        .batch_execute(
            "INSERT INTO tenants (id, tenant_id)
             VALUES ('00000000-0000-0000-0000-000000000001', 'default');
             INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts, close_price) VALUES
             ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'ibkr', 'AAPL', '1m', '2024-11-01 13:30:00Z', 1),
             ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'ibkr', ' aapl', '60s', '2024-11-01 13:30:00Z', 2),
             (NULL, 'v', 'X', '1m', '2024-11-01 13:30:00Z', 3),
             ('00000000-0000-0000-0000-000000000001', 'v', 'x', '1m', '2024-11-01 13:30:00Z', 4);
             ALTER TABLE options_snap ALTER COLUMN strike TYPE numeric;
             INSERT INTO options_snap (tenant_id, vendor, symbol, expiry, option_type, strike, ts) VALUES
             ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'v', 'S', '2024-12-20', 'C',
              5800.00000000000000001, '2024-11-01 13:30:00Z'),
             ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'v', 'S', '2024-12-20', 'C',
              5800, '2024-11-01 13:30:00Z')",
        )
        .await
        .unwrap();
    let before = everything(&admin).await;
    let expected = [
        "bars: 5 rows would share 2 keys (ts, tenant_id, vendor, symbol, timeframe), in our spelling \
         and with 00000000-0000-0000-0000-000000000001 for an absent tenant; keep one row of each",
        "bars: for instance 2024-11-01 13:30:00+00 (none) v X 1m and 2024-11-01 13:30:00+00 \
         00000000-0000-0000-0000-000000000001 v x 1m",
        "bars: for instance 2024-11-01 13:30:00+00 6ba7b810-9dad-11d1-80b4-00c04fd430c8 IBKR AAPL \
         1min and 2024-11-01 13:30:00+00 6ba7b810-9dad-11d1-80b4-00c04fd430c8 ibkr AAPL 1m",
        "options_snap: 2 rows would share 1 key (ts, tenant_id, vendor, symbol, expiry, option_type, \
         strike), in our spelling and with 00000000-0000-0000-0000-000000000001 for an absent \
         tenant; keep one row of each",
        "options_snap: for instance 2024-11-01 13:30:00+00 6ba7b810-9dad-11d1-80b4-00c04fd430c8 v S \
         2024-12-20 C 5800 and 2024-11-01 13:30:00+00 6ba7b810-9dad-11d1-80b4-00c04fd430c8 v S \
         2024-12-20 C 5800.00000000000000001",
    ];
    assert_eq!(plan(&url).await.problems, expected);
    assert_eq!(problems(&url).await, expected);
    assert_eq!(everything(&admin).await, before, "nothing is changed");
    let text = migrate(&url).await.unwrap_err().to_string();
    assert!(
        text.contains(
            "the database cannot be used as it is, and nothing was changed:\n  - bars: 5 rows"
        ),
        "{text}"
    );
    // Once one row of each is left, it goes through.
    admin
        .batch_execute(
            "DELETE FROM bars WHERE close_price IN (1, 2, 4); DELETE FROM options_snap WHERE strike = 5800 \
             AND vendor = 'v'",
        )
        .await
        .unwrap();
    migrate(&url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_record_can_be_stop_it() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    admin
        .batch_execute(
            "INSERT INTO bars (vendor, symbol, timeframe, ts) VALUES
             ('v', 'A', 'tick', '2024-11-01 13:30:00Z'), ('v', 'B', 'tick', '2024-11-01 13:30:00Z'),
             (' ', 'C', '1m', '2024-11-01 13:30:00Z'), ('v', E'D\\t1', '1m', '2024-11-01 13:30:00Z'),
             ('v', 'E', '1m', 'infinity'), ('v', 'F', '1m', '1899-12-31 23:59:59Z');
             INSERT INTO options_snap (vendor, symbol, expiry, option_type, strike, ts) VALUES
             ('v', 'S', '2024-12-20', 'X', 0, '2024-11-01 13:30:00Z')",
        )
        .await
        .unwrap();
    let found = problems(&url).await;
    assert_eq!(
        found,
        [
            "bars: 2 rows in ts with one outside the years 1900 to 2199, such as 1899-12-31 \
             23:59:59+00; change or delete them",
            "bars: 1 row has \" \" as vendor, which no record can have (a key part must be present); \
             change or delete them",
            "bars: 1 row has \"D\\t1\" as symbol, which no record can have (must not have control characters); \
             change or delete them",
            "bars: 2 rows have \"tick\" as timeframe, which no record can have (must be a time \
             frame, such as 1m, 1h or 1d); change or delete them",
            "options_snap: 1 row in strike with one that is not above 0, such as 0.00; change or \
             delete them",
            "options_snap: 1 row has \"X\" as option_type, which no record can have (must be C or P); \
             change or delete them",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_built_on_it_is_named() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    admin
        .batch_execute(
            "CREATE VIEW my_closes AS SELECT symbol, close_price FROM bars;
             CREATE MATERIALIZED VIEW my_daily AS SELECT max(high_price) FROM bars;
             CREATE VIEW my_latest AS SELECT price FROM latest_prices;
             CREATE VIEW my_count AS SELECT count(*) FROM bars;
             CREATE UNIQUE INDEX my_key ON bars (symbol, ts);
             ALTER TABLE bars ADD COLUMN desk text NOT NULL;
             ALTER TABLE bars ADD COLUMN doubled numeric GENERATED ALWAYS AS (close_price * 2) STORED",
        )
        .await
        .unwrap_err();
    admin
        .batch_execute(
            "CREATE VIEW my_closes AS SELECT symbol, close_price FROM bars;
             CREATE MATERIALIZED VIEW my_daily AS SELECT max(high_price) FROM bars;
             CREATE VIEW my_latest AS SELECT price FROM latest_prices;
             CREATE VIEW my_count AS SELECT count(*) FROM bars;
             CREATE UNIQUE INDEX my_key ON news (symbol, published_at);
             ALTER TABLE fundamentals ADD COLUMN desk text NOT NULL DEFAULT '';
             ALTER TABLE fundamentals ALTER COLUMN desk DROP DEFAULT;
             ALTER TABLE bars ADD COLUMN doubled numeric GENERATED ALWAYS AS (close_price * 2) STORED",
        )
        .await
        .unwrap();
    let before = everything(&admin).await;
    let found = problems(&url).await;
    assert_eq!(
        found,
        [
            "latest_prices must be made anew, and view my_latest uses it; drop it first and make it \
             again afterwards",
            "bars has columns that must be altered and generated column doubled uses; drop it first \
             and make it again afterwards",
            "bars has columns that must be altered and materialized view my_daily uses; drop it first \
             and make it again afterwards",
            "bars has columns that must be altered and view my_closes uses; drop it first and make it \
             again afterwards",
            "fundamentals has a column desk of its own that must not be absent and has no default, so \
             that no record could be written; give it a default or drop NOT NULL",
            "news has a unique key my_key (symbol, published_at), which would refuse different records; \
             drop it first",
        ]
    );
    assert_eq!(everything(&admin).await, before);
    admin
        .batch_execute(
            "DROP VIEW my_latest, my_closes; DROP MATERIALIZED VIEW my_daily; DROP INDEX my_key;
             ALTER TABLE bars DROP COLUMN doubled;
             ALTER TABLE fundamentals ALTER COLUMN desk SET DEFAULT 'main'",
        )
        .await
        .unwrap();
    migrate(&url).await.unwrap();
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    takes_records(&store).await;
    let desks = "SELECT string_agg(desk, ',' ORDER BY desk) FROM fundamentals";
    assert_eq!(text(&admin, desks).await, ",main");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_change_are_told() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    admin
        .batch_execute(
            "INSERT INTO bars (vendor, symbol, timeframe, ts, close_price, open_price, volume) VALUES
             ('v', 'A', '1m', '2024-11-01 13:30:00Z', 123456789012.12345678, 'NaN', 9007199254740993),
             ('v', 'B', '1m', '2024-11-01 13:30:00Z', 123456789012.12500000, 1.5, 9007199254740992)",
        )
        .await
        .unwrap();
    let planned = plan(&url).await;
    assert_eq!(planned.problems, [""; 0]);
    assert_eq!(
        planned.notes,
        [
            "bars: 1 row has in open_price a value that is no number, such as NaN; it becomes absent",
            "bars: 1 row has in close_price more digits than a double holds, such as \
             123456789012.12345678, which becomes 123456789012.12346",
            "bars: 1 row has in volume more digits than a double holds, such as 9007199254740993, \
             which becomes 9007199254740992",
        ]
    );
    let done = migrate(&url).await.unwrap();
    assert_eq!(done.notes, planned.notes);
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let query = Query {
        vendor: Some("v".into()),
        ..Query::default()
    };
    let read = store.query::<Bar>(query).collect().await.unwrap();
    let of = |bar: &Bar| (bar.open_price, bar.close_price, bar.volume);
    assert_eq!(
        of(&read[0]),
        (
            None,
            Some(123_456_789_012.123_46),
            Some(9_007_199_254_740_992.0)
        )
    );
    assert_eq!(
        of(&read[1]),
        (
            Some(1.5),
            Some(123_456_789_012.125),
            Some(9_007_199_254_740_992.0)
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_tenant_get_the_one_that_is_named() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    admin
        .batch_execute(
            "INSERT INTO bars (vendor, symbol, timeframe, ts, close_price) VALUES
             ('v', 'A', '1m', '2024-11-01 13:30:00Z', 1)",
        )
        .await
        .unwrap();
    let tenant = "7c9e6679-7425-40de-944b-e07fc1f90ae7".parse().unwrap();
    let options = OpenOptions {
        tenant_id: tenant,
        ..OpenOptions::default()
    };
    let done = Store::migrate(&url, options, false).await.unwrap();
    assert!(
        done.actions.contains(
            &"bars: 1 row without a tenant become those of 7c9e6679-7425-40de-944b-e07fc1f90ae7"
                .to_owned()
        ),
        "{:#?}",
        done.actions
    );
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let query = Query {
        tenant: Some(tenant),
        ..Query::default()
    };
    assert_eq!(store.query::<Bar>(query).collect().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_on_the_way_leaves_everything_as_it_was() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    // No look at the catalog says what a condition means.
    admin
        .batch_execute("ALTER TABLE bars ADD CONSTRAINT shouting CHECK (vendor = upper(vendor))")
        .await
        .unwrap();
    let before = everything(&admin).await;
    let error = migrate(&url).await.unwrap_err();
    assert_eq!(error.code(), "23514");
    assert_eq!(everything(&admin).await, before);
    admin
        .batch_execute("ALTER TABLE bars DROP CONSTRAINT shouting")
        .await
        .unwrap();
    migrate(&url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_adopt_at_once() {
    let Some(server) = Server::find() else { return };
    let (url, _admin) = database(&server, &[NARROW, ROWS]).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let url = url.clone();
        tasks.push(tokio::spawn(async move { migrate(&url).await.unwrap() }));
    }
    let mut froms = Vec::new();
    for task in tasks {
        froms.push(task.await.unwrap().from);
    }
    froms.sort_unstable();
    assert_eq!(froms, [0, 1, 1, 1], "one did it, the others found it done");
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    has_our_rows(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_somebody_else_is_not_adopted_on_the_side() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[NARROW, ROWS]).await;
    let before = everything(&admin).await;
    let error = Store::open(&url, OpenOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAdopted { .. }), "{error}");
    assert!(error.to_string().contains("mds migrate --plan"), "{error}");
    assert_eq!(everything(&admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_hold_something_else_are_left_alone() {
    let Some(server) = Server::find() else { return };
    for (script, object) in [
        ("CREATE TABLE bars (name text, opens time)", "bars"),
        ("CREATE TABLE tenants (id int PRIMARY KEY)", "tenants"),
        ("CREATE TABLE latest_prices (a int)", "latest_prices"),
        ("CREATE TABLE mds_meta (a int)", "mds_meta"),
    ] {
        let (url, _admin) = database(&server, &[script]).await;
        for error in [
            migrate(&url).await.unwrap_err(),
            Store::open(&url, OpenOptions::default()).await.unwrap_err(),
        ] {
            assert!(
                matches!(&error, StoreError::Foreign { object: found, .. } if found == object),
                "{error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_some_of_the_tables_are_enough() {
    let Some(server) = Server::find() else { return };
    let (url, _admin) = database(
        &server,
        &[
            "CREATE TABLE bars (tenant_id uuid, vendor text, symbol text, timeframe text,
             ts timestamptz, close_price real, note text);
           INSERT INTO bars VALUES (NULL, 'v', 's', '1h', '2024-11-01 00:00:00Z', 0.1, 'kept')",
        ],
    )
    .await;
    migrate(&url).await.unwrap();
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let read = all::<Bar>(&store).await;
    // A `real` is taken by its text.
    assert_eq!(read[0].close_price, Some(0.1));
    assert_eq!((read[0].symbol.as_str(), read[0].revision), ("S", 0));
    let sink = store.sink::<News>();
    let news = News {
        vendor: "v".into(),
        id: "1".into(),
        ..News::default()
    };
    let report = sink.write(Batch::from(vec![news])).await;
    assert_eq!(report.outcomes, [Written]);
}
