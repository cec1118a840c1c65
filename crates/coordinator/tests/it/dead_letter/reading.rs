//! What is written, and how it is found again.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqOptions, Entry, Item, LetterDraft, LetterFilter, LetterItem, Reason,
};
use mds_core::{Bar, Timestamp};
use serde_json::{Map, Value, json};

use super::{Dlq, draft, drafts, folder, letters, line_item, numbers, open, small_files};

#[test]
fn a_letter_says_who_what_and_why() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    let written = LetterDraft {
        outcome_unknown: true,
        metadata: [("source".to_owned(), "feed-7".into())]
            .into_iter()
            .collect(),
        ..draft(5)
    };
    let id = written.id();
    // Ids are in files: one that changes makes old letters strangers to new ones.
    assert_eq!(id.to_string(), "101ad6e5-159e-5b02-bf46-1dd33a0da4fb");
    let appended = dlq.append(vec![written]).unwrap();
    assert_eq!((appended.ids, appended.rotated), (vec![id], false));
    assert_eq!(appended.bytes, fs::metadata(&path).unwrap().len());

    let letter = letters(&dlq).remove(0);
    assert_eq!(
        Value::from(letter.metadata.clone()),
        json!({
            "id": id.to_string(), "coord_id": "prod", "kind": "bars", "reason": "rejected_row",
            "error_class": "rejected", "code": "23511", "attempts": 1, "worker_id": 2,
            "replays": 0, "outcome_unknown": true, "source": "feed-7",
        })
    );
    assert_eq!(letter.error, "violates a check");
    assert_eq!((letter.path.as_path(), letter.line), (path.as_path(), 1));
    assert_eq!(letter.reason(), Some(Reason::RejectedRow));
    assert!(letter.outcome_unknown());
}

#[test]
fn records_read_back_equal_to_the_bit() {
    let (_dir, path) = folder();
    let dlq = DeadLetterQueue::<Bar>::open(&path, DlqOptions::default()).unwrap();
    let bars: Vec<_> = [
        0.1 + 0.2,
        4.051,
        f64::MAX,
        5e-324,
        123_456_789.123_456_78,
        -37.63,
    ]
    .into_iter()
    .zip(0_i64..)
    .map(|(price, i)| Bar {
        vendor: "x".into(),
        symbol: "CL \"n\"\n".into(),
        ts: Timestamp::from_micros(1_730_419_200_000_001),
        close_price: Some(price),
        revision: i64::MAX - i,
        ..Bar::default()
    })
    .collect();
    let drafts = bars.iter().map(|bar| {
        let item = LetterItem::record(bar).unwrap();
        LetterDraft::new("prod", Reason::Overflow, "full", "overflow", item)
    });
    dlq.append(drafts.collect()).unwrap();
    let back: Vec<_> = letters(&dlq).into_iter().map(|l| l.items).collect();
    let expected: Vec<_> = bars
        .into_iter()
        .map(|bar| vec![Item::Record(bar)])
        .collect();
    assert_eq!(back, expected);
}

#[test]
fn a_line_that_is_no_record_is_kept_as_it_was() {
    let (_dir, path) = folder();
    let dlq = DeadLetterQueue::<Bar>::open(&path, DlqOptions::default()).unwrap();
    let lines: [&[u8]; 2] = [b"SPY,abc,\"1\",\t\\", b"SPY,\xff\x00,2"];
    let drafts = lines.map(|line| {
        LetterDraft::new(
            "prod",
            Reason::Invalid,
            "no",
            "invalid",
            LetterItem::line(line),
        )
    });
    dlq.append(drafts.into()).unwrap();
    let found = letters(&dlq);
    assert_eq!(found[0].items, [Item::Raw(json!("SPY,abc,\"1\",\t\\"))]);
    assert_eq!(found[1].items, [Item::Raw(json!("SPY,\u{fffd}\0,2"))]);
    assert_eq!(found[1].metadata["raw_hex"], "5350592cff002c32");
}

#[test]
fn equal_lines_of_a_file_are_two_letters_and_the_same_line_twice_is_one() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    let at = |line: u64| LetterDraft {
        metadata: [
            ("path".to_owned(), json!("a.csv")),
            ("line".to_owned(), json!(line)),
        ]
        .into_iter()
        .collect(),
        ..LetterDraft::new("prod", Reason::Invalid, "no", "invalid", line_item("x"))
    };
    dlq.append(vec![at(2), at(3), at(2)]).unwrap();
    assert_eq!(letters(&dlq).len(), 2);
}

#[test]
fn the_newest_copy_of_a_letter_counts() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    let first = draft(1);
    let again = |replays| LetterDraft {
        replays,
        replaces: Some(first.id()),
        reason: Reason::RetriesExhausted,
        ..first.clone()
    };
    dlq.append(vec![first.clone(), again(2), draft(7), again(1)])
        .unwrap();
    let found = letters(&dlq);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].id, found[0].replays()), (first.id(), 2));
    assert_eq!(found[0].reason(), Some(Reason::RetriesExhausted));

    // All copies are settled together; a copy that comes later is a letter again.
    assert_eq!(dlq.settle(&[first.id()]).unwrap(), 1);
    assert_eq!(numbers(&dlq), [7]);
    dlq.append(vec![first]).unwrap();
    assert_eq!(numbers(&dlq), [7, 1]);
}

#[test]
fn a_settled_copy_does_not_hide_those_that_come_later() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    let copy = |replays| LetterDraft {
        replays,
        ..draft(1)
    };
    dlq.append(vec![copy(2), draft(5)]).unwrap();
    dlq.settle(&[draft(1).id()]).unwrap();
    assert_eq!(numbers(&dlq), [5]);
    dlq.append(vec![copy(0), copy(1)]).unwrap();
    assert_eq!(numbers(&dlq), [5, 1]);
    assert_eq!(letters(&dlq)[1].replays(), 1);
}

#[test]
fn a_damaged_copy_does_not_hide_the_letter() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(1..2)).unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    let at = good.windows(4).position(|w| w == b"\"S1\"").unwrap();
    bad[at + 1] = 0xff;
    fs::write(&path, [good, bad].concat()).unwrap();
    assert_eq!((numbers(&dlq), super::damaged(&dlq)), (vec![1], 1));
}

#[tokio::test]
async fn a_file_that_was_copied_into_the_folder_adds_no_letters() {
    let (dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..2)).unwrap();
    dlq.save(&[json!({"number": 7})], &"e", &Map::new())
        .await
        .unwrap();
    fs::copy(&path, dir.path().join("bars.000004.ndjson")).unwrap();
    assert_eq!(numbers(&dlq), [0, 1, 7]);
    assert_eq!(dlq.purge(LetterFilter::default()).unwrap(), 3);
    assert_eq!(super::names(&dir), [""; 0]);
}

#[test]
fn letters_are_found_by_what_they_say() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..6)).unwrap();
    dlq.append(vec![
        LetterDraft::new(
            "test",
            Reason::Expired,
            "old",
            "expired",
            json!({"symbols": ["A", "s1"]}).into(),
        ),
        LetterDraft::new(
            "test",
            Reason::Invalid,
            "bad",
            "invalid",
            line_item("2024,S1;x"),
        ),
    ])
    .unwrap();
    let all = letters(&dlq);
    let count = |set: &dyn Fn(&mut LetterFilter)| {
        let mut filter = LetterFilter::default();
        set(&mut filter);
        dlq.list(filter).unwrap().len()
    };
    assert_eq!(count(&|_| {}), 8);
    assert_eq!(count(&|f| f.reason = Some(Reason::Expired)), 1);
    assert_eq!(count(&|f| f.code = Some("23511".to_owned())), 3);
    assert_eq!(count(&|f| f.kind = Some("bars".to_owned())), 6);
    assert_eq!(count(&|f| f.coord_id = Some("test".to_owned())), 2);
    assert_eq!(count(&|f| f.symbol = Some("s1 ".to_owned())), 4);
    assert_eq!(count(&|f| f.symbol = Some("S".to_owned())), 0);
    assert_eq!(count(&|f| f.from = Some(all[3].ts)), 5);
    assert_eq!(count(&|f| f.until = Some(all[3].ts)), 3);
    assert_eq!(count(&|f| f.ids = vec![all[2].id]), 1);
    assert_eq!(count(&|f| f.limit = Some(2)), 2);
}

#[test]
fn letters_are_counted_and_purged_by_what_they_say() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..6)).unwrap();
    let other = LetterDraft::new("test", Reason::Invalid, "no", "invalid", line_item("x"));
    dlq.append(vec![other]).unwrap();
    let all = letters(&dlq);
    let any = LetterFilter::default;
    let counts = dlq.histogram(any()).unwrap();
    assert_eq!((counts.letters, counts.items, counts.damaged), (7, 7, 0));
    assert_eq!(counts.by_reason["rejected_row"], 6);
    assert_eq!(counts.by_code["23510"], 3);
    assert_eq!(counts.by_kind[""], 1);
    assert_eq!(counts.written, Some((all[0].ts, all[6].ts)));
    let two_bars = LetterFilter {
        kind: Some("bars".to_owned()),
        limit: Some(2),
        ..any()
    };
    assert_eq!(dlq.purge(two_bars).unwrap(), 2);
    assert_eq!(dlq.histogram(any()).unwrap().by_kind["bars"], 4);
}

#[test]
fn letters_are_read_across_files_oldest_first() {
    let (dir, path) = folder();
    let dlq = Dlq::open(&path, small_files()).unwrap();
    for i in 0..20 {
        dlq.append(drafts(i..i + 1)).unwrap();
    }
    let files = dlq.letter_files().unwrap();
    assert_eq!(files[0], dir.path().join("bars.000001.ndjson"));
    assert_eq!(files.last().unwrap(), &path);
    assert!(files.len() > 3, "{files:?}");
    assert!(
        files
            .iter()
            .all(|f| fs::metadata(f).unwrap().len() <= 1_000)
    );
    assert_eq!(numbers(&dlq), (0..20).collect::<Vec<_>>());
    let on_disk: u64 = files.iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert_eq!(dlq.bytes().unwrap(), on_disk);
}

#[test]
fn an_acknowledged_letter_is_found_while_files_rotate() {
    let (_dir, path) = folder();
    let options = DlqOptions {
        sync: false,
        max_file_bytes: 1,
        ..DlqOptions::default()
    };
    let dlq = Dlq::open(&path, options).unwrap();
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..600 {
                dlq.append(drafts(i..i + 1)).unwrap();
                acknowledged.store(i + 1, Ordering::Release);
            }
        });
        let mut expected = 0;
        while expected < 600 {
            expected = acknowledged.load(Ordering::Acquire);
            let found = dlq.histogram(LetterFilter::default()).unwrap();
            assert!(found.letters >= expected, "{found:?}, {expected}");
            assert_eq!(found.damaged, 0);
        }
    });
}

#[test]
fn damage_is_reported_and_kept_until_it_is_purged() {
    let (dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..1)).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let bad = "{\"ts\":1,\"err\n[1]\n{\"ts\":1}\n\n";
    fs::write(&path, format!("{bad}{good}")).unwrap();
    let entries = dlq.list(LetterFilter::default()).unwrap();
    let places: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Damaged(d) => (d.line, d.bytes, d.preview.as_str()),
            Entry::Letter(l) => (l.line, 0, ""),
        })
        .collect();
    assert_eq!(
        places,
        [
            (1, 12, "{\"ts\":1,\"err"),
            (2, 3, "[1]"),
            (3, 8, "{\"ts\":1}"),
            (5, 0, "")
        ]
    );

    assert_eq!(dlq.purge(LetterFilter::default()).unwrap(), 1);
    assert!(path.exists(), "damaged lines are still in it");
    assert_eq!(dlq.purge_damaged().unwrap(), 3);
    assert_eq!(super::names(&dir), [""; 0]);
}

#[test]
fn a_letter_that_a_person_repaired_is_replayed_as_repaired() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..2)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"number\":1", "\"number\":41")).unwrap();
    assert_eq!(numbers(&dlq), [0, 41]);
}
