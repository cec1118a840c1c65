//! Failures that the server tells late, or not at all.

use mds_core::{Bar, Batch, RowOutcome, Sink as _};

use super::Server;
use crate::support::{all, bar};

/// A constraint that is checked late is checked in time all the same: with the rows, so that the
/// one that it refuses is found, and not with COMMIT.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_deferred_constraint_refuses_costs_that_row_alone() {
    let Some(server) = Server::find() else { return };
    let (store, admin) = server.open_with_admin().await;
    admin
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END$$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON bars DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW WHEN (NEW.close_price = 13) EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
    let rows: Vec<_> = (0..100)
        .map(|i| bar(i, if i == 50 { 13.0 } else { 1.0 }, 1))
        .collect();
    let report = store.sink::<Bar>().write(Batch::from(rows.clone())).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    for (row, outcome) in rows.iter().zip(&report.outcomes) {
        match outcome {
            RowOutcome::Written => assert_eq!(row.close_price, Some(1.0)),
            RowOutcome::Rejected { code, .. } => {
                assert_eq!((row.close_price, code.as_str()), (Some(13.0), "23514"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(all::<Bar>(&store).await.len(), 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_trigger_leaves_out_of_a_copy_are_told() {
    let Some(server) = Server::find() else { return };
    let (store, admin) = server.open_with_admin().await;
    admin
        .batch_execute(
            "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RETURN NULL; END$$; \
             CREATE TRIGGER thirteen BEFORE INSERT ON bars \
             FOR EACH ROW WHEN (NEW.close_price = 13) EXECUTE FUNCTION leave_out()",
        )
        .await
        .unwrap();
    let rows: Vec<_> = (0..100)
        .map(|i| bar(i, if i == 50 { 13.0 } else { 1.0 }, 1))
        .collect();
    let report = store.sink::<Bar>().write(Batch::from(rows.clone())).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    for (row, outcome) in rows.iter().zip(&report.outcomes) {
        match outcome {
            RowOutcome::Written => assert_eq!(row.close_price, Some(1.0)),
            RowOutcome::Rejected { code, .. } => {
                assert_eq!((row.close_price, code.as_str()), (Some(13.0), "IGNORED"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(all::<Bar>(&store).await.len(), 99);
}
