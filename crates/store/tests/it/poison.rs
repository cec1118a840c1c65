//! Rows that the database refuses, by triggers that a user might have made.

use mds_core::{Bar, RowOutcome};
use mds_store::{Query, Store};

use crate::postgres::Database;
use crate::support::{Place, all, bar, write, write_new};

fn rejected(outcome: &RowOutcome, code: &str, reason: &str) {
    let RowOutcome::Rejected { code: c, reason: r } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((c.as_str(), r.as_str()), (code, reason));
}

/// A store with triggers that a user might have made.
enum Guarded {
    Sqlite(Place),
    Postgres(Database),
}

impl Guarded {
    async fn open(&self) -> Store {
        match self {
            Self::Sqlite(place) => place.open().await,
            Self::Postgres(database) => database.open().await,
        }
    }

    /// Refuses bars whose close is 13, when they come in.
    async fn refuse_13(&self, when: &str) {
        match self {
            Self::Sqlite(place) => place
                .shell()
                .execute_batch(&format!(
                    "DROP TRIGGER IF EXISTS guard; CREATE TRIGGER guard {when} ON bars_data \
                     WHEN new.close_price = 13 BEGIN SELECT RAISE(ABORT, 'no 13'); END"
                ))
                .unwrap(),
            Self::Postgres(database) => {
                database
                    .run(&format!(
                        "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS \
                         $$ BEGIN RAISE EXCEPTION 'no 13'; END $$; \
                         DROP TRIGGER IF EXISTS guard ON bars; CREATE TRIGGER guard {when} ON bars \
                         FOR EACH ROW WHEN (new.close_price = 13) EXECUTE FUNCTION guard()"
                    ))
                    .await;
            }
        }
    }

    #[track_caller]
    fn refuses(&self, outcome: &RowOutcome) {
        let code = match self {
            Self::Sqlite(_) => "SQLITE_CONSTRAINT_TRIGGER",
            Self::Postgres(_) => "P0001",
        };
        rejected(outcome, code, "no 13");
    }
}

async fn rows_refused_on_the_way_in_cost_themselves_alone(guarded: Guarded) {
    let store = guarded.open().await;
    for when in ["BEFORE INSERT", "AFTER INSERT"] {
        guarded.refuse_13(when).await;
        for count in [500, 40] {
            let mut rows: Vec<_> = (0..count).map(|i| bar(i, 1.0, 1)).collect();
            for place in [0, 10, 11, 39] {
                rows[place].close_price = Some(13.0);
            }
            let report = write(&store, rows).await;
            assert!(report.error.is_none(), "{:?}", report.error);
            for (place, outcome) in report.outcomes.iter().enumerate() {
                if [0, 10, 11, 39].contains(&place) {
                    guarded.refuses(outcome);
                } else {
                    assert_eq!(*outcome, RowOutcome::Written, "{when} row {place}");
                }
            }
            let kept = all::<Bar>(&store).await;
            assert_eq!(kept.len(), report.outcomes.len() - 4, "{when}");
            assert!(kept.iter().all(|row| row.close_price == Some(1.0)));
            store.delete::<Bar>(Query::default()).await.unwrap();
        }
    }
}

async fn all_of_a_batch_may_be_refused(guarded: Guarded) {
    let store = guarded.open().await;
    guarded.refuse_13("BEFORE INSERT").await;
    for count in [1, 2, 3, 150] {
        let rows: Vec<_> = (0..count).map(|i| bar(i, 13.0, 1)).collect();
        let report = write(&store, rows).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        report.outcomes.iter().for_each(|o| guarded.refuses(o));
    }
    assert_eq!(all::<Bar>(&store).await, []);
}

async fn the_runner_up_takes_the_place_of_a_refused_winner(guarded: Guarded) {
    let store = guarded.open().await;
    guarded.refuse_13("BEFORE INSERT").await;
    // Alone, and among so many that they are copied.
    for others in [0, 200] {
        let mut rows = vec![
            bar(0, 1.0, 1),
            bar(0, 13.0, 9),
            bar(0, 2.0, 2),
            bar(0, 13.0, 8),
        ];
        rows.extend((1..=others).map(|i| bar(i, 3.0, 1)));
        let report = write(&store, rows).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        assert_eq!(report.outcomes[0], RowOutcome::Superseded);
        guarded.refuses(&report.outcomes[1]);
        assert_eq!(report.outcomes[2], RowOutcome::Written);
        guarded.refuses(&report.outcomes[3]);
        assert!(
            report.outcomes[4..]
                .iter()
                .all(|o| *o == RowOutcome::Written)
        );
        assert_eq!(all::<Bar>(&store).await[0], bar(0, 2.0, 2));
        store.delete::<Bar>(Query::default()).await.unwrap();
    }
}

async fn a_refused_replacement_leaves_what_was_there(guarded: Guarded) {
    let store = guarded.open().await;
    for when in ["BEFORE UPDATE", "AFTER UPDATE"] {
        for count in [2, 200] {
            guarded.refuse_13(when).await;
            write_new(&store, (0..count).map(|i| bar(i, 1.0, 1)).collect()).await;
            let mut newer: Vec<_> = (0..=count).map(|i| bar(i, 2.0, 2)).collect();
            newer[1].close_price = Some(13.0);
            let report = write(&store, newer.clone()).await;
            assert!(report.error.is_none(), "{:?}", report.error);
            guarded.refuses(&report.outcomes[1]);
            newer[1] = bar(1, 1.0, 1);
            assert_eq!(all::<Bar>(&store).await, newer, "{when}");
            store.delete::<Bar>(Query::default()).await.unwrap();
        }
    }
}

/// As `on_every_store!`, with a way to change the tables.
macro_rules! on_every_guarded_store {
    ($($test:ident,)*) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(super::Guarded::Sqlite(crate::support::Place::new())).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $test() {
                    if let Some(server) = crate::postgres::Server::find() {
                        super::$test(super::Guarded::Postgres(server.make("").await)).await;
                    }
                }
            )*
        }
    };
}

on_every_guarded_store!(
    rows_refused_on_the_way_in_cost_themselves_alone,
    all_of_a_batch_may_be_refused,
    the_runner_up_takes_the_place_of_a_refused_winner,
    a_refused_replacement_leaves_what_was_there,
);

/// What only SQLite knows: a trigger that ends the statement or the whole transaction.
async fn with_trigger(action: &str, when: &str) -> (Place, Store) {
    let place = Place::new();
    let store = place.open().await;
    place
        .shell()
        .execute_batch(&format!(
            "CREATE TRIGGER guard {when} ON bars_data WHEN new.close_price = 13 \
             BEGIN SELECT RAISE({action}); END"
        ))
        .unwrap();
    (place, store)
}

#[tokio::test]
async fn every_way_to_refuse_a_row_costs_that_row_alone() {
    for when in ["BEFORE INSERT", "AFTER INSERT"] {
        for action in ["ABORT, 'no 13'", "FAIL, 'no 13'", "ROLLBACK, 'no 13'"] {
            let (_place, store) = with_trigger(action, when).await;
            let mut rows: Vec<_> = (0..500).map(|i| bar(i, 1.0, 1)).collect();
            rows[100].close_price = Some(13.0);
            rows[300].close_price = Some(13.0);
            let report = write(&store, rows).await;
            assert!(report.error.is_none(), "{:?}", report.error);
            for (i, outcome) in report.outcomes.iter().enumerate() {
                if i == 100 || i == 300 {
                    rejected(outcome, "SQLITE_CONSTRAINT_TRIGGER", "no 13");
                } else {
                    assert_eq!(*outcome, RowOutcome::Written, "{when} {action} row {i}");
                }
            }
            let kept = all::<Bar>(&store).await;
            assert_eq!(kept.len(), 498, "{when} {action}");
            assert!(kept.iter().all(|row| row.close_price == Some(1.0)));
        }
    }
}

#[tokio::test]
async fn an_ignored_row_is_not_called_written() {
    let (_place, store) = with_trigger("IGNORE", "BEFORE INSERT").await;
    let report = write(&store, vec![bar(0, 13.0, 1), bar(1, 1.0, 1)]).await;
    rejected(
        &report.outcomes[0],
        "IGNORED_BY_TRIGGER",
        "a trigger of the table ignored the row",
    );
    assert_eq!(report.outcomes[1], RowOutcome::Written);
}

#[tokio::test]
async fn a_refused_revision_was_never_stored() {
    let (_place, store) = with_trigger("ABORT, 'no 13'", "BEFORE INSERT").await;
    write(&store, vec![bar(0, 13.0, 9), bar(0, 2.0, 2)]).await;
    assert_eq!(store.last_revision().await.unwrap(), 2);
}

#[tokio::test]
async fn every_way_to_refuse_a_replacement_leaves_what_was_there() {
    for action in ["ABORT, 'no 13'", "FAIL, 'no 13'", "ROLLBACK, 'no 13'"] {
        for when in ["BEFORE UPDATE", "AFTER UPDATE"] {
            let (_place, store) = with_trigger(action, when).await;
            write_new(&store, vec![bar(0, 1.0, 1)]).await;
            let report = write(&store, vec![bar(0, 13.0, 2), bar(1, 1.0, 1)]).await;
            rejected(&report.outcomes[0], "SQLITE_CONSTRAINT_TRIGGER", "no 13");
            assert_eq!(report.outcomes[1], RowOutcome::Written);
            assert_eq!(all::<Bar>(&store).await, [bar(0, 1.0, 1), bar(1, 1.0, 1)]);
        }
    }
}

#[tokio::test]
async fn a_number_that_sqlite_cannot_hold_is_refused_and_not_stored_as_absent() {
    let place = Place::new();
    let store = place.open().await;
    let report = write(&store, vec![bar(0, f64::NAN, 1), bar(1, 1.0, 1)]).await;
    rejected(
        &report.outcomes[0],
        "NOT_STORABLE",
        "a value is not a number (NaN), which cannot be stored",
    );
    assert_eq!(all::<Bar>(&store).await, [bar(1, 1.0, 1)]);
}

#[tokio::test]
async fn a_number_given_to_a_new_series_does_not_outlive_a_rollback() {
    // The first row of a new series takes its transaction with it: the number that the series
    // got is gone, and must not be used for the rows after it.
    let (place, store) = with_trigger("ROLLBACK, 'no 13'", "BEFORE INSERT").await;
    let mut rows = vec![bar(0, 13.0, 1), bar(1, 1.0, 1)];
    for row in &mut rows {
        row.symbol = "NEW".into();
    }
    let report = write(&store, rows).await;
    assert_eq!(report.outcomes[1], RowOutcome::Written);
    let symbol: String = place
        .shell()
        .query_row("SELECT symbol FROM bars", [], |row| row.get(0))
        .unwrap();
    assert_eq!(symbol, "NEW");
}
