//! The pool grows and shrinks with the load, and does not flap.

use std::sync::Arc;

use crate::support::{Act, FakeSink, builder, millis, secs};

/// Ten times the load for ten minutes, then the old load again: the limit of each second.
#[tokio::test(start_paused = true)]
async fn a_range_of_workers_follows_the_load() {
    // One worker writes 100 rows in a second.
    let (sink, peek) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = Arc::new(
        builder(sink)
            .workers(1)
            .workers_max(8)
            .batch_size(100)
            .capacity(100_000)
            .start()
            .unwrap(),
    );
    let producer = Arc::clone(&coordinator);
    let task = tokio::spawn(async move {
        let mut row = 0;
        for (seconds, per_second) in [(120, 50), (600, 700), (1_800, 50)] {
            for _ in 0..seconds {
                let mut rows = (row..row + per_second).collect();
                row += per_second;
                producer.submit_many(&mut rows).await.unwrap();
                tokio::time::sleep(secs(1)).await;
            }
        }
    });
    let mut limits = Vec::new();
    while !task.is_finished() {
        limits.push(coordinator.worker_limit());
        let alive = coordinator.health().workers_alive;
        assert!((1..=8).contains(&alive), "{alive} workers");
        tokio::time::sleep(secs(1)).await;
    }
    let (light, rest) = limits.split_at(115);
    let (heavy, light_again) = rest.split_at(600);
    assert!(light.iter().all(|limit| *limit == 1), "{light:?}");
    assert!(heavy.last() >= Some(&7), "{heavy:?}");
    assert_eq!(light_again.last(), Some(&1), "{light_again:?}");
    for (what, limits) in [("heavy", heavy), ("light again", light_again)] {
        assert!(turns(limits) <= 2, "{what}: {limits:?}");
    }
    tokio::time::sleep(secs(10)).await;
    assert_eq!(
        (coordinator.health().workers_alive, peek.rows()),
        (1, 516_000)
    );
    assert!(peek.most_running() <= 8);
    tokio::time::sleep(millis(1)).await;
}

/// How often the direction of a move changes.
fn turns(limits: &[usize]) -> usize {
    let moves = limits.windows(2).filter(|w| w[0] != w[1]);
    let up: Vec<bool> = moves.map(|w| w[1] > w[0]).collect();
    up.windows(2).filter(|w| w[0] != w[1]).count()
}
