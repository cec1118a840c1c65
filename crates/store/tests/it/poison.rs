//! Rows that the database refuses, by triggers that a user might have made.

use mds_core::{Bar, RowOutcome};

use crate::support::{Place, all, bar, write, write_new};

fn rejected(outcome: &RowOutcome, code: &str, reason: &str) {
    let RowOutcome::Rejected { code: c, reason: r } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((c.as_str(), r.as_str()), (code, reason));
}

async fn with_trigger(action: &str, when: &str) -> (Place, mds_store::Store) {
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
async fn the_runner_up_takes_the_place_of_a_refused_winner() {
    let (_place, store) = with_trigger("ABORT, 'no 13'", "BEFORE INSERT").await;
    let rows = vec![bar(0, 1.0, 1), bar(0, 13.0, 9), bar(0, 2.0, 2)];
    let report = write(&store, rows).await;
    assert_eq!(report.outcomes[0], RowOutcome::Superseded);
    rejected(&report.outcomes[1], "SQLITE_CONSTRAINT_TRIGGER", "no 13");
    assert_eq!(report.outcomes[2], RowOutcome::Written);
    assert_eq!(all::<Bar>(&store).await, [bar(0, 2.0, 2)]);
    // A refused revision was never stored.
    assert_eq!(store.last_revision().await.unwrap(), 2);
}

#[tokio::test]
async fn a_refused_replacement_leaves_what_was_there() {
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
