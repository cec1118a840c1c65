//! Failures that the server tells late, or not at all.

use mds_core::{Bar, Batch, ErrorKind, RowOutcome, Sink as _};

use super::Server;
use crate::support::{all, bar, write_new};

/// A copy is answered twice: once for its rows, once for the transaction that they are in.
#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_copy_went_through_and_whose_commit_failed_are_not_written() {
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
    // Nobody knows which row it is until they come in smaller batches.
    let error = report.error.expect("the commit failed");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Rejected, "23514"));
    assert!(!error.outcome_unknown());
    assert_eq!(report.outcomes, vec![RowOutcome::NotTried; 100]);
    assert_eq!(all::<Bar>(&store).await, [] as [Bar; 0]);

    let (good, bad): (Vec<_>, Vec<_>) = rows.into_iter().partition(|r| r.close_price == Some(1.0));
    write_new(&store, good.clone()).await;
    let alone = store.sink::<Bar>().write(Batch::from(bad)).await;
    assert_eq!(alone.outcomes, [RowOutcome::NotTried]);
    assert_eq!(alone.error.unwrap().code(), "23514");
    assert_eq!(all::<Bar>(&store).await, good);
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
