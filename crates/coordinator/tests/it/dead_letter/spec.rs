//! The behaviour that programs written for the original rely on.

use std::fs;
use std::sync::Arc;

use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions};
use mds_core::Bar;
use serde_json::{Map, Value, json};

use super::{Dlq, folder, open};

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn save() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    let metadata = map(&json!({"stage": "write", "attempt": 5}));
    dlq.save(&[json!({"id": 1}), json!({"id": 2})], &"boom", &metadata)
        .await
        .unwrap();

    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
    let (ts, rest) = text.split_once(",\"error\"").unwrap();
    assert!(ts.strip_prefix("{\"ts\":").unwrap().parse::<f64>().unwrap() > 1_700_000_000.0);
    assert_eq!(
        rest,
        ":\"boom\",\"metadata\":{\"attempt\":5,\"stage\":\"write\"},\"items\":[{\"id\":1},{\"id\":2}]}\n"
    );
}

#[tokio::test]
async fn replay() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    assert_eq!(dlq.replay(100).await.unwrap(), [], "no file yet");
    let metadata = map(&json!({"stage": "write"}));
    dlq.save(&[json!("a")], &"first", &metadata).await.unwrap();
    dlq.save(&[json!("b")], &"second", &Map::new())
        .await
        .unwrap();

    for _ in 0..2 {
        let records = dlq.replay(100).await.unwrap();
        let errors: Vec<_> = records.iter().map(|r| r.error.as_str()).collect();
        assert_eq!(errors, ["first", "second"], "replaying removes nothing");
        assert_eq!(records[0].metadata, metadata);
        assert_eq!(records[1].items, [json!("b")]);
        assert!(records[0].ts < records[1].ts);
    }
}

#[tokio::test]
async fn limits() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    for i in 0..10 {
        dlq.save(&[json!(i)], &"e", &Map::new()).await.unwrap();
    }
    let records = dlq.replay(3).await.unwrap();
    let items: Vec<_> = records.into_iter().flat_map(|r| r.items).collect();
    assert_eq!(items, [json!(0), json!(1), json!(2)]);
    assert_eq!(dlq.replay(0).await.unwrap(), []);
    assert_eq!(dlq.replay(usize::MAX).await.unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent() {
    let (_dir, path) = folder();
    let dlq = Arc::new(open(&path));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let dlq = Arc::clone(&dlq);
            // Equal letters, which must stay fifty.
            tokio::spawn(async move { dlq.save(&[json!("same")], &"e", &Map::new()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(dlq.replay(1_000).await.unwrap().len(), 50);
}

#[tokio::test]
async fn records_come_back_as_records_and_not_as_texts() {
    let (_dir, path) = folder();
    let dlq = DeadLetterQueue::<Bar>::open(&path, DlqOptions::default()).unwrap();
    let bar = Bar {
        vendor: "binance".into(),
        symbol: "BTCUSDT".into(),
        close_price: Some(0.1 + 0.2),
        volume: Some(5e-324),
        revision: 1_730_419_200_000_001,
        ..Bar::default()
    };
    dlq.save(std::slice::from_ref(&bar), &"down", &Map::new())
        .await
        .unwrap();
    assert_eq!(dlq.replay(1).await.unwrap()[0].items, [bar]);
}

/// Lines as the original writes them: spaces after separators, models as their `repr`, and numbers
/// that JSON does not have.
#[tokio::test]
async fn files_of_the_original_are_read() {
    let (_dir, path) = folder();
    fs::write(
        &path,
        concat!(
            r#"{"ts": 1729000000.5, "error": "timeout", "metadata": {"stage": "write"}, "items": ["Bar(symbol='SPY', vendor='ibkr')"]}"#,
            "\n",
            r#"{"ts": 1729000001.5, "error": "NaN", "metadata": {}, "items": [{"vendor": "x", "symbol": "spy", "timeframe": "1m", "ts": "2024-11-01T00:00:00Z", "close_price": NaN, "volume": 2.5}]}"#,
            "\n",
            r#"{"ts": 1729000002.5, "error": "", "metadata": null, "items": []}"#,
            "\n",
        ),
    )
    .unwrap();
    let dlq = DeadLetterQueue::<Bar>::open(&path, DlqOptions::default()).unwrap();
    let records = dlq.replay(10).await.unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(records[0].ts.to_string(), "1729000000.5");
    assert_eq!(records[0].items, []);
    assert_eq!(
        records[0].metadata["unparsed_items"],
        json!(["Bar(symbol='SPY', vendor='ibkr')"])
    );
    assert_eq!(records[1].error, "NaN");
    assert_eq!(records[1].items[0].close_price, None);
    assert_eq!(records[1].items[0].volume, Some(2.5));
    assert_eq!(records[2].items, []);

    let ids: Vec<_> = super::letters(&dlq).iter().map(|l| l.id).collect();
    assert_eq!(dlq.settle(&ids[..1]).unwrap(), 1);
    assert_eq!(dlq.replay(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_id_in_the_metadata_of_another_program_hides_no_letter() {
    let (_dir, path) = folder();
    let dlq: Dlq = open(&path);
    let metadata = map(&json!({"id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}));
    for i in 0..3 {
        dlq.save(&[json!(i)], &"e", &metadata).await.unwrap();
    }
    assert_eq!(dlq.replay(10).await.unwrap().len(), 3);
}
