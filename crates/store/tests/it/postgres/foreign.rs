//! Rows that another program has written into the tables.

use mds_core::{Bar, ErrorKind, OptionSnap, Timeframe};
use mds_store::{Query, Store, StoredRecord};

use super::{Database, Server};
use crate::support::{all, bar, write_new};

const BARS: &str = "INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts, close_price) VALUES \
     ('00000000-0000-0000-0000-000000000001', 'v', 'o''S', ";

async fn refusal<R: StoredRecord>(store: &Store, database: &Database) -> String {
    let error = store
        .query::<R>(Query::default())
        .collect()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Fatal, "STORED_ROW_UNREADABLE")
    );
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", database.url))
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_text_that_is_no_time_frame_is_an_error_that_names_the_row() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    database
        .run(&format!("{BARS} 'now and then', '2024-11-02', 3.5)"))
        .await;
    assert_eq!(
        refusal::<Bar>(&store, &database).await,
        "a row of bars cannot be read, timeframe = \"now and then\": must be a time frame, such as \
         1m, 1h or 1d; correct or delete the row WHERE \
         tenant_id = '00000000-0000-0000-0000-000000000001' AND vendor = 'v' AND symbol = 'o''S' \
         AND timeframe = 'now and then' AND ts = '2024-11-02T00:00:00Z'"
    );
    // The condition is one that a person can use.
    database
        .run(
            "DELETE FROM bars WHERE tenant_id = '00000000-0000-0000-0000-000000000001' \
             AND vendor = 'v' AND symbol = 'o''S' AND timeframe = 'now and then' \
             AND ts = '2024-11-02T00:00:00Z'",
        )
        .await;
    assert_eq!(all::<Bar>(&store).await, [bar(0, 1.0, 1)]);
}

#[tokio::test]
async fn a_text_that_is_no_option_type_is_an_error() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    database
        .run(
            "INSERT INTO options_snap (tenant_id, vendor, symbol, expiry, option_type, strike, ts) \
             VALUES ('00000000-0000-0000-0000-000000000001', 'v', 'S', '2024-11-15', 'STRADDLE', \
             5, '2024-11-02')",
        )
        .await;
    let text = refusal::<OptionSnap>(&store, &database).await;
    assert!(
        text.contains("option_type = \"STRADDLE\": must be C or P"),
        "{text}"
    );
}

#[tokio::test]
async fn other_spellings_are_read_as_what_they_mean() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    database
        .run(&format!("{BARS} '5min', '2024-11-02', 'NaN')"))
        .await;
    let rows = all::<Bar>(&store).await;
    assert_eq!(rows[0].timeframe, "5m".parse::<Timeframe>().unwrap());
    assert!(rows[0].close_price.unwrap().is_nan());
}

#[tokio::test]
async fn times_beyond_what_a_record_holds_are_an_error() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    for ts in ["infinity", "-infinity", "290000-01-01"] {
        database.run(&format!("{BARS} '1m', '{ts}', 1)")).await;
        let text = refusal::<Bar>(&store, &database).await;
        assert!(
            text.starts_with("a row of bars cannot be read, ts = "),
            "{ts}: {text}"
        );
        database.run("DELETE FROM bars").await;
    }
}
