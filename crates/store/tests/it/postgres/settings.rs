//! Settings of a database that change what a statement means, columns that hold less than a record,
//! and locks of others.

use std::time::Duration;

use mds_core::{Bar, ErrorKind, Kind, News, RowOutcome};
use mds_store::{IngestedFile, OpenOptions, Query, Store};

use super::{Server, connect};
use crate::support::{all, bar, write, write_new};

fn bar_of(symbol: &str) -> Bar {
    Bar {
        symbol: symbol.into(),
        ..bar(0, 1.0, 1)
    }
}

#[tokio::test]
async fn a_backslash_in_a_symbol_is_a_backslash_whatever_the_database_takes_it_for() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let shell = &database.shell;
    let off = "ALTER DATABASE {} SET standard_conforming_strings = off";
    let off = off.replace("{}", &database.name);
    shell.batch_execute(&off).await.unwrap();
    let store = database.open().await;
    let symbols = ["A\\'B", "A\\B", "AB"];
    write_new(&store, symbols.map(bar_of).to_vec()).await;
    let of = |symbol: &str| Query {
        symbols: vec![symbol.into()],
        ..Query::default()
    };
    for symbol in symbols {
        let found = store.query::<Bar>(of(symbol)).collect().await.unwrap();
        assert_eq!(found, [bar_of(symbol)]);
    }
    assert_eq!(store.delete::<Bar>(of("A\\B")).await.unwrap(), 1);
    assert_eq!(all::<Bar>(&store).await, [bar_of("AB"), bar_of("A\\'B")]);
    // The views are made as anywhere else.
    let sql = "SELECT position('^\\d+' IN pg_get_viewdef('latest_prices'::regclass)) > 0";
    let is_whole: bool = shell.query_one(sql, &[]).await.unwrap().get(0);
    assert!(is_whole);
}

/// What a narrower column has made of a row is that row when it comes again.
#[tokio::test]
async fn rows_of_which_a_column_keeps_fewer_digits_may_come_again() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    database
        .run("ALTER TABLE bars ALTER volume TYPE numeric(12, 2)")
        .await;
    // Rounded down, up, and kept.
    let volumes = [0.123, 0.128, 0.5];
    let rows = |revision| -> Vec<Bar> {
        let of = |minute: i64| Bar {
            volume: Some(volumes[usize::try_from(minute).unwrap() % 3]),
            ..bar(minute, 1.0, revision)
        };
        (0..99).map(of).collect()
    };
    for revision in [1, 2] {
        write_new(&store, rows(revision)).await;
        let again = write(&store, rows(revision)).await;
        assert!(again.error.is_none(), "{:?}", again.error);
        let is_there = |o: &RowOutcome| matches!(o, RowOutcome::Same | RowOutcome::Superseded);
        let other = again.outcomes.iter().find(|o| !is_there(o));
        assert_eq!(other, None);
    }
    let stored: Vec<_> = all::<Bar>(&store).await.iter().map(|b| b.volume).collect();
    let rounded = [Some(0.12), Some(0.13), Some(0.5)];
    assert_eq!(stored, rounded.repeat(33));
}

/// A session of the server that waits for a lock does not notice that its client is gone: it has to
/// end by itself.
#[tokio::test]
async fn a_file_is_remembered_within_the_limit_for_locks_or_not_at_all() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let options = OpenOptions {
        statement_timeout: Duration::from_secs(5),
        ..OpenOptions::default()
    };
    let store = Store::open(&database.url, options).await.unwrap();
    let other = connect(&database.text).await;
    other
        .batch_execute("BEGIN; LOCK TABLE ingested_files")
        .await
        .unwrap();
    let file = IngestedFile {
        content_hash: [1; 32],
        kind: Kind::Bars,
        keys: [2; 32],
        reading: [3; 32],
        path: None,
        modified: 1,
        now: 2,
        max_rows: 3,
    };
    let error = store.file_revision(&file).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Environment, "55P03")
    );
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(store.file_revision(&file).await.unwrap().base, 1);
}

/// Of two texts of one revision the same one stays, whatever the order of bytes in the database and
/// whichever way the rows come in.
#[tokio::test]
async fn texts_rank_alike_in_every_encoding() {
    let Some(server) = Server::find() else { return };
    // In this encoding the sign of the euro comes before letters with accents.
    let options = "ENCODING 'WIN1252' LOCALE 'C' TEMPLATE template0";
    let store = server.make(options).await.open().await;
    let of = |count: i64, title: &str| -> Vec<News> {
        let article = |number: i64| News {
            vendor: "v".into(),
            published_at: bar(number, 1.0, 1).ts,
            id: "a".into(),
            title: Some(title.to_owned()),
            revision: 1,
            ..News::default()
        };
        (0..count).map(article).collect()
    };
    // By a merge, by a comparison, and both in one batch.
    for (count, is_split) in [(5, true), (100, true), (5, false)] {
        for [first, second] in [["\u{20ac}", "\u{e9}"], ["\u{e9}", "\u{20ac}"]] {
            let batches = if is_split {
                vec![of(count, first), of(count, second)]
            } else {
                vec![[of(count, first), of(count, second)].concat()]
            };
            for rows in batches {
                let report = write(&store, rows).await;
                assert!(report.error.is_none(), "{:?}", report.error);
            }
            assert_eq!(all::<News>(&store).await, of(count, "\u{20ac}"));
            store.delete::<News>(Query::default()).await.unwrap();
        }
    }
}
