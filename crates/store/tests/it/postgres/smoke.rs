//! A thin slice.

use mds_core::{Bar, Batch, RowOutcome, Sink as _, Timestamp};
use mds_store::{OpenOptions, Query, Store};

use super::Server;

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_in_and_out() {
    let Some(server) = Server::find() else { return };
    let url = server.database().await;
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let bar = |minute: i64, close: f64, revision| Bar {
        vendor: "v".into(),
        symbol: "S".into(),
        ts: Timestamp::from_micros(1_730_419_200_000_000 + minute * 60_000_000),
        close_price: Some(close),
        revision,
        ..Bar::default()
    };
    let rows: Vec<_> = (0..1_000).map(|i| bar(i, 1.0, 1)).collect();
    let report = store.sink::<Bar>().write(Batch::from(rows.clone())).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(report.outcomes, vec![RowOutcome::Written; 1_000]);
    let again = store.sink::<Bar>().write(Batch::from(rows.clone())).await;
    assert!(again.error.is_none(), "{:?}", again.error);
    assert_eq!(again.outcomes, vec![RowOutcome::Same; 1_000]);
    let mixed = vec![
        bar(0, 2.0, 2),
        bar(0, 3.0, 2),
        bar(1, 9.0, 0),
        bar(5_000, 1.0, 1),
    ];
    let report = store.sink::<Bar>().write(Batch::from(mixed)).await;
    assert_eq!(
        report.outcomes,
        [
            RowOutcome::Superseded,
            RowOutcome::Written,
            RowOutcome::Superseded,
            RowOutcome::Written
        ]
    );
    assert_eq!(report.conflicts, 1);
    let read = store
        .query::<Bar>(Query::default())
        .collect()
        .await
        .unwrap();
    assert_eq!(read.len(), 1_001);
    assert_eq!(read[0], bar(0, 3.0, 2));
    assert_eq!(read[1..1_000], rows[1..]);
    store.close().await;
}
