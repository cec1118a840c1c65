//! Which record of a key is kept, whatever the order and the batches in which they come.

use std::collections::BTreeMap;

use mds_core::{Bar, Batch, Record as _, RowOutcome, Sink as _, TenantId, Timeframe};
use mds_store::Store;
use proptest::prelude::*;

use crate::support::{Place, all, bar, write, write_new};

fn is(outcomes: &[RowOutcome], wanted: &[&str]) {
    let names: Vec<_> = outcomes
        .iter()
        .map(|o| match o {
            RowOutcome::Written => "written",
            RowOutcome::Same => "same",
            RowOutcome::Superseded => "superseded",
            RowOutcome::Rejected { .. } => "rejected",
            RowOutcome::NotTried => "not tried",
        })
        .collect();
    assert_eq!(names, wanted);
}

async fn one_batch_writes_the_best_row_of_each_key(store: Store) {
    let rows = vec![
        bar(0, 1.0, 1),
        bar(0, 3.0, 3),
        bar(0, 2.0, 2),
        bar(0, 3.0, 3),
        bar(1, 9.0, 1),
    ];
    let report = write(&store, rows).await;
    is(
        &report.outcomes,
        &[
            "superseded",
            "written",
            "superseded",
            "superseded",
            "written",
        ],
    );
    assert_eq!(report.conflicts, 0);
    assert_eq!(all::<Bar>(&store).await, [bar(0, 3.0, 3), bar(1, 9.0, 1)]);
}

/// What is left of a batch after a failed attempt comes as a part of it.
async fn a_part_of_a_batch_is_written_as_that_part(store: Store) {
    let of = |tenant, minute| Bar {
        tenant_id: TenantId::from_u128(tenant),
        ..bar(minute, 1.0, 1)
    };
    let rows = vec![of(7, 0), of(7, 1), of(8, 2), of(7, 3), of(8, 4), of(7, 5)];
    let part = Batch::from(rows).select(vec![5, 4, 3]);
    let report = store.sink::<Bar>().write(part).await;
    is(&report.outcomes, &["written", "written", "written"]);
    let written = [of(7, 3), of(8, 4), of(7, 5)];
    assert_eq!(all::<Bar>(&store).await, written);
}

async fn a_later_batch_wins_only_by_rank(store: Store) {
    write_new(&store, vec![bar(0, 5.0, 5)]).await;
    let report = write(&store, vec![bar(0, 4.0, 4), bar(0, 5.0, 5)]).await;
    is(&report.outcomes, &["superseded", "same"]);
    let report = write(&store, vec![bar(0, 6.0, 6)]).await;
    is(&report.outcomes, &["written"]);
    assert_eq!(all::<Bar>(&store).await, [bar(0, 6.0, 6)]);
    assert_eq!(store.last_revision().await.unwrap(), 6);
}

async fn equal_revisions_with_other_values_are_counted_as_conflicts(store: Store) {
    write_new(&store, vec![bar(0, 5.0, 5)]).await;
    let report = write(&store, vec![bar(0, 4.0, 5)]).await;
    is(&report.outcomes, &["superseded"]);
    assert_eq!(report.conflicts, 1);
    let report = write(&store, vec![bar(0, 6.0, 5)]).await;
    is(&report.outcomes, &["written"]);
    assert_eq!(report.conflicts, 1);
    let report = write(&store, vec![bar(1, 1.0, 1), bar(1, 2.0, 1)]).await;
    is(&report.outcomes, &["superseded", "written"]);
    assert_eq!(report.conflicts, 1);
}

async fn a_settled_bar_outranks_a_newer_provisional_one(store: Store) {
    let provisional = Bar {
        provisional: true,
        ..bar(0, 2.0, 9)
    };
    write_new(&store, vec![provisional.clone()]).await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let report = write(&store, vec![provisional]).await;
    is(&report.outcomes, &["superseded"]);
    assert_eq!(all::<Bar>(&store).await, [bar(0, 1.0, 1)]);
    // The high-water mark remembers the greatest revision all the same.
    assert_eq!(store.last_revision().await.unwrap(), 9);
}

#[tokio::test]
async fn a_replay_writes_nothing() {
    let place = Place::new();
    let store = place.open().await;
    let rows: Vec<_> = (0..2_000).map(|i| bar(i, 1.5, 7)).collect();
    write_new(&store, rows.clone()).await;
    let log = place.path.with_extension("db-wal");
    let before = std::fs::read(&log).unwrap();
    for part in rows.chunks(500) {
        let report = write(&store, part.to_vec()).await;
        assert_eq!(report.outcomes, vec![RowOutcome::Same; part.len()]);
    }
    assert!(
        before == std::fs::read(&log).unwrap(),
        "the log was written to"
    );
}

async fn batches_of_many_callers_are_each_answered(store: Store) {
    let mut tasks = Vec::new();
    for caller in 0..16_i64 {
        let sink = store.sink::<Bar>();
        tasks.push(tokio::spawn(async move {
            let rows: Vec<_> = (0..100).map(|i| bar(i, 1.0, caller + 1)).collect();
            sink.write(Batch::from(rows)).await
        }));
    }
    let mut written = 0;
    for task in tasks {
        let report = task.await.unwrap();
        assert!(report.error.is_none());
        written += report
            .outcomes
            .iter()
            .filter(|o| **o == RowOutcome::Written)
            .count();
    }
    assert!(written >= 100);
    let rows = all::<Bar>(&store).await;
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row.revision == 16));
}

fn any_bar() -> impl Strategy<Value = Bar> {
    let price = proptest::option::of(-3..3_i32);
    (
        -20..20_i64,
        0..3_i64,
        price,
        any::<bool>(),
        0..2_u8,
        0..2_u8,
    )
        .prop_map(
            |(minute, revision, price, provisional, symbol, daily)| Bar {
                symbol: ["A", "B"][usize::from(symbol)].into(),
                timeframe: [Timeframe::MINUTE, Timeframe::DAY][usize::from(daily)],
                close_price: price.map(f64::from),
                provisional,
                revision,
                ..bar(minute, 0.0, 0)
            },
        )
}

/// The record of highest rank of each key, in the order of the key.
fn model(rows: &[Bar]) -> Vec<Bar> {
    let mut kept: BTreeMap<_, Bar> = BTreeMap::new();
    for row in rows {
        let key = (row.ts, row.symbol.clone(), row.timeframe);
        let best = kept.entry(key).or_insert_with(|| row.clone());
        if row.rank_cmp(best).is_gt() {
            *best = row.clone();
        }
    }
    let mut kept: Vec<_> = kept.into_values().collect();
    kept.sort_by(Bar::key_cmp);
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_order_and_any_batches_end_in_the_same_table(
        rows in prop::collection::vec(any_bar(), 1..200),
        size in 1..60_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            let store = place.open().await;
            let expected = model(&rows);
            let mut written = 0;
            for part in rows.chunks(size) {
                let report = write(&store, part.to_vec()).await;
                assert!(report.error.is_none());
                assert!(report.outcomes.iter().all(|o| matches!(
                    o,
                    RowOutcome::Written | RowOutcome::Same | RowOutcome::Superseded
                )));
                written += report.outcomes.iter().filter(|o| **o == RowOutcome::Written).count();
            }
            assert!(written >= expected.len());
            assert_eq!(all::<Bar>(&store).await, expected);
            // Again, backwards and in other batches: nothing may change.
            for part in rows.iter().rev().cloned().collect::<Vec<_>>().chunks(size + 7) {
                let report = write(&store, part.to_vec()).await;
                assert!(!report.outcomes.contains(&RowOutcome::Written));
            }
            assert_eq!(all::<Bar>(&store).await, expected);
            store.close().await;
        });
    }
}

/// As the write path hands in the second half of a batch that it takes apart.
async fn of_a_part_of_a_batch_that_part_is_written(store: Store) {
    let rows: Vec<_> = (0..200).map(|minute| bar(minute, 1.0, 1)).collect();
    let half = Batch::from(rows.clone()).select((100..200).collect());
    let report = store.sink::<Bar>().write(half).await;
    assert_eq!(report.outcomes, vec![RowOutcome::Written; 100]);
    assert_eq!(all::<Bar>(&store).await, rows[100..]);
    let few = Batch::from(rows.clone()).select(vec![7, 3]);
    let report = store.sink::<Bar>().write(few).await;
    is(&report.outcomes, &["written", "written"]);
    let stored = all::<Bar>(&store).await;
    assert_eq!(stored[..2], [rows[3].clone(), rows[7].clone()]);
}

on_every_store!(
    of_a_part_of_a_batch_that_part_is_written,
    one_batch_writes_the_best_row_of_each_key,
    a_part_of_a_batch_is_written_as_that_part,
    a_later_batch_wins_only_by_rank,
    equal_revisions_with_other_values_are_counted_as_conflicts,
    a_settled_bar_outranks_a_newer_provisional_one,
    batches_of_many_callers_are_each_answered,
);
