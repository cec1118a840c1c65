//! The ways in which a batch is written answer alike: copied, compared and replaced in parts,
//! merged among many others.

use mds_core::{Bar, Batch, RowOutcome, Sink as _, Timestamp};
use mds_store::{OpenOptions, Store};
use tokio_postgres::Client;

use super::{Server, connect};
use crate::support::{MINUTE, START, all, bar, write, write_new};

/// `count` symbols at each of `minutes` minutes.
fn bars(minutes: i64, count: usize, close: f64, revision: i64) -> Vec<Bar> {
    let of_minute = |minute: i64| {
        (0..count).map(move |symbol| Bar {
            symbol: format!("S{symbol:03}").as_str().into(),
            open_price: Some(1.0),
            ..bar(minute, close, revision)
        })
    };
    (0..minutes).flat_map(of_minute).collect()
}

/// Rows of the table that were ever inserted and updated, as the server counts them.
async fn written(admin: &Client) -> (i64, i64) {
    let sql = "SELECT pg_stat_force_next_flush(), n_tup_ins, n_tup_upd \
         FROM pg_stat_user_tables WHERE relname = 'bars'";
    let row = admin.query_one(sql, &[]).await.unwrap();
    (row.get(1), row.get(2))
}

async fn outcomes(store: &Store, rows: Vec<Bar>) -> Vec<RowOutcome> {
    let report = write(store, rows).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    report.outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_writes_nothing_and_a_later_revision_replaces() {
    let Some(server) = Server::find() else { return };
    let (store, admin) = server.open_with_admin().await;
    let first = bars(30, 100, 2.0, 1);
    write_new(&store, first.clone()).await;
    for _ in 0..3 {
        let again = outcomes(&store, first.clone()).await;
        assert_eq!(again, vec![RowOutcome::Same; 3_000]);
    }
    let sql = "SELECT count(*) FROM bars WHERE xmax <> 0";
    let locked: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(locked, 0, "rows that are the same are not even locked");

    // Some columns change, one of them only in its sign bit, one becomes absent.
    let mut newer = bars(30, 100, 3.0, 2);
    newer[7].open_price = None;
    newer[8].volume = Some(-0.0);
    write_new(&store, newer.clone()).await;
    let kept = all::<Bar>(&store).await;
    assert_eq!(kept, newer);
    assert_eq!(kept[8].volume.unwrap().to_bits(), (-0.0_f64).to_bits());
    let older = outcomes(&store, first).await;
    assert_eq!(older, vec![RowOutcome::Superseded; 3_000]);
    let (inserted, _) = written(&admin).await;
    assert!(inserted <= 3_000 * 2, "{inserted} rows were inserted");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_new_same_lower_and_higher_in_one_batch_get_their_answers() {
    let Some(server) = Server::find() else { return };
    let store = server.open().await;
    write_new(&store, bars(20, 100, 2.0, 5)).await;
    // A replay, so that the next batch is compared.
    let same = outcomes(&store, bars(20, 100, 2.0, 5)).await;
    assert_eq!(same, vec![RowOutcome::Same; 2_000]);
    let mut rows = bars(30, 100, 2.0, 5);
    for (number, row) in rows.iter_mut().enumerate() {
        match number % 5 {
            0 => row.revision = 6,
            1 => row.revision = 4,
            2 => row.close_price = Some(3.0),
            3 => row.close_price = Some(1.0),
            _ => {}
        }
    }
    let report = write(&store, rows.clone()).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    for (number, outcome) in report.outcomes.iter().enumerate() {
        let wanted = match (number < 2_000, number % 5) {
            (false, _) | (true, 0 | 2) => RowOutcome::Written,
            (true, 1 | 3) => RowOutcome::Superseded,
            (true, _) => RowOutcome::Same,
        };
        assert_eq!(*outcome, wanted, "row {number}");
    }
    assert_eq!(report.conflicts, 800, "equal revision, other values");
    let kept = all::<Bar>(&store).await;
    assert_eq!(kept.len(), 3_000);
    for (number, row) in kept.iter().enumerate() {
        let wanted = match (number < 2_000, number % 5) {
            (true, 1 | 3) => (Some(2.0), 5),
            _ => (rows[number].close_price, rows[number].revision),
        };
        assert_eq!((row.close_price, row.revision), wanted, "row {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_among_many_others_are_merged() {
    let Some(server) = Server::find() else { return };
    let store = server.open().await;
    write_new(&store, bars(100, 50, 2.0, 1)).await;
    // Two of fifty symbols at each minute: the rows at these times are mostly others.
    let few = |close, revision| -> Vec<Bar> {
        let rows = bars(100, 50, close, revision).into_iter();
        let is_of_few = |row: &Bar| ["S003", "S040"].contains(&row.symbol.as_str());
        rows.filter(is_of_few).collect()
    };
    let same = outcomes(&store, few(2.0, 1)).await;
    assert_eq!(same, vec![RowOutcome::Same; 200]);
    let newer = outcomes(&store, few(3.0, 2)).await;
    assert_eq!(newer, vec![RowOutcome::Written; 200]);
    let older = outcomes(&store, few(2.0, 1)).await;
    assert_eq!(older, vec![RowOutcome::Superseded; 200]);
    assert_eq!(all::<Bar>(&store).await.len(), 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_among_thousands_that_are_replaced_costs_itself_alone() {
    let Some(server) = Server::find() else { return };
    let (store, admin) = server.open_with_admin().await;
    write_new(&store, bars(40, 100, 2.0, 1)).await;
    let same = outcomes(&store, bars(40, 100, 2.0, 1)).await;
    assert_eq!(same, vec![RowOutcome::Same; 4_000]);
    let sql = "ALTER TABLE bars ADD CONSTRAINT no_13 CHECK (close_price <> 13)";
    admin.batch_execute(sql).await.unwrap();
    let mut newer = bars(40, 100, 3.0, 2);
    for number in [2, 1_999, 3_999] {
        newer[number].close_price = Some(13.0);
    }
    let answers = outcomes(&store, newer).await;
    for (number, outcome) in answers.iter().enumerate() {
        match outcome {
            RowOutcome::Rejected { code, .. } => {
                assert!([2, 1_999, 3_999].contains(&number), "row {number}");
                assert_eq!(code, "23514");
            }
            other => assert_eq!(*other, RowOutcome::Written, "row {number}"),
        }
    }
    let kept = all::<Bar>(&store).await;
    let newest = kept.iter().filter(|row| row.close_price == Some(3.0));
    assert_eq!((kept.len(), newest.count()), (4_000, 3_997));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_replace_the_same_rows_keep_the_newest_and_count_each_once() {
    let Some(server) = Server::find() else { return };
    let store = server.open().await;
    write_new(&store, bars(20, 100, 0.0, 1)).await;
    let mut tasks = Vec::new();
    for writer in 0..4_u32 {
        let sink = store.sink::<Bar>();
        tasks.push(tokio::spawn(async move {
            let mut written = 0;
            for round in 0..10 {
                let revision = 2 + round * 4 + writer;
                let rows = bars(20, 100, f64::from(revision), i64::from(revision));
                let report = sink.write(Batch::from(rows)).await;
                assert!(report.error.is_none(), "{:?}", report.error);
                assert!(!report.outcomes.contains(&RowOutcome::NotTried));
                written += report
                    .outcomes
                    .iter()
                    .filter(|o| **o == RowOutcome::Written)
                    .count();
            }
            written
        }));
    }
    let mut written = 0;
    for task in tasks {
        written += task.await.unwrap();
    }
    assert!((2_000..=80_000).contains(&written), "{written}");
    let kept = all::<Bar>(&store).await;
    assert_eq!(kept, bars(20, 100, 41.0, 41));
    assert_eq!(kept[0].ts, Timestamp::from_micros(START));
    assert_eq!(kept[1_999].ts, Timestamp::from_micros(START + 19 * MINUTE));
}

/// What writes a table anew moves rows, and leaves their writers as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_written_anew_meanwhile_gets_each_value_on_its_own_key() {
    let Some(server) = Server::find() else { return };
    let (store, admin) = server.open_with_admin().await;
    let rows = |revision: u32| -> Vec<Bar> {
        let mut rows = bars(20, 100, 0.0, i64::from(revision));
        for (number, row) in (0_u32..).zip(&mut rows) {
            row.close_price = Some(f64::from(revision * 10_000 + number));
        }
        rows
    };
    // One writer for all rows.
    write_new(&store, rows(1)).await;
    assert_eq!(
        outcomes(&store, rows(1)).await,
        vec![RowOutcome::Same; 2_000]
    );
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let vacuum = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            admin.batch_execute("VACUUM FULL bars").await.unwrap();
            admin
                .batch_execute("CLUSTER bars USING bars_pkey")
                .await
                .unwrap();
        }
    });
    for revision in 2..=30 {
        write_new(&store, rows(revision)).await;
        assert_eq!(all::<Bar>(&store).await, rows(revision));
    }
    stop.send(()).unwrap();
    vacuum.await.unwrap();
}

/// A trigger that leaves out what would replace a row costs that row alone, as for new rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_a_trigger_leaves_out_costs_itself_alone() {
    let Some(server) = Server::find() else { return };
    let (store, admin) = server.open_with_admin().await;
    write_new(&store, bars(10, 100, 2.0, 1)).await;
    admin
        .batch_execute(
            "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RETURN NULL; END$$; \
             CREATE TRIGGER seven BEFORE UPDATE ON bars \
             FOR EACH ROW WHEN (NEW.symbol = 'S007') EXECUTE FUNCTION leave_out()",
        )
        .await
        .unwrap();
    for rows in [bars(10, 100, 3.0, 2), bars(1, 10, 4.0, 3)] {
        let answers = outcomes(&store, rows.clone()).await;
        for (row, outcome) in rows.iter().zip(&answers) {
            match outcome {
                RowOutcome::Rejected { code, .. } => {
                    assert_eq!((row.symbol.as_str(), code.as_str()), ("S007", "IGNORED"));
                }
                other => {
                    assert_eq!(*other, RowOutcome::Written);
                    assert_ne!(row.symbol.as_str(), "S007");
                }
            }
        }
    }
}

/// A database that would rather not wait for its disk, and one with another isolation.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_relies_on_is_not_left_to_the_defaults_of_the_database() {
    let Some(server) = Server::find() else { return };
    let url = server.database().await;
    let open = || Store::open(&url, OpenOptions::default());
    let store = open().await.unwrap();
    let admin = connect(&url.to_string()).await;
    admin
        .batch_execute(
            "CREATE TABLE seen (sync text, isolation text); \
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit'), \
             current_setting('transaction_isolation')); RETURN NULL; END$$; \
             CREATE TRIGGER looks AFTER INSERT OR UPDATE ON bars \
             FOR EACH STATEMENT EXECUTE FUNCTION look(); \
             DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', \
             current_database()); EXECUTE format('ALTER DATABASE %I \
             SET default_transaction_isolation = serializable', current_database()); END$$",
        )
        .await
        .unwrap();
    store.close().await;
    let store = open().await.unwrap();
    write_new(&store, bars(1, 10, 1.0, 1)).await;
    write_new(&store, bars(1, 100, 1.0, 2)).await;
    write_new(&store, bars(2, 100, 1.0, 3)[100..].to_vec()).await;
    let seen = admin
        .query("SELECT DISTINCT sync, isolation FROM seen", &[])
        .await
        .unwrap();
    let seen: Vec<(String, String)> = seen.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(seen, [("on".to_owned(), "read committed".to_owned())]);
}
