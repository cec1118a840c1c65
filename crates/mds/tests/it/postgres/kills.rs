//! The real server is killed with SIGKILL while four producers hand in bars.
//!
//! `MDS_LONG=1` makes it a million bars and twenty kills. How soon the rate is back is measured by
//! `cargo run --release -p mds --example postgres_outages`.

use super::cluster::Cluster;
use super::outages::{Outage, Plan, allowed, run};
use super::seed;
use crate::run::skip;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_again_and_again_costs_nothing() {
    let cluster = match Cluster::start().await {
        Ok(cluster) => cluster,
        Err(why) => return skip(&why),
    };
    let is_long = std::env::var("MDS_LONG").is_ok_and(|v| v == "1");
    for workers in [4, 1] {
        let plan = Plan {
            rows: if is_long { 1_000_000 } else { 100_000 },
            producers: 4,
            workers,
            kills: if is_long { 20 } else { 3 },
            away_ms: if is_long {
                (1_000, 5_000)
            } else {
                (200, 1_000)
            },
            seed: seed(),
        };
        let mut outages = Vec::new();
        let report = run(&cluster, plan, |outage| {
            tell(outage);
            outages.push(outage);
        })
        .await;
        assert!(report.is_whole(), "{report:?}");
        assert!(report.stats.submitted >= plan.rows && report.stats.is_balanced());
        assert_eq!(outages.len() as u64, plan.kills);
        for outage in outages {
            assert!(
                outage.attempts <= allowed(workers, outage.away),
                "{outage:?}"
            );
        }
    }
}

/// Figures for whoever reads along.
#[expect(clippy::print_stderr, reason = "figures are told")]
fn tell(outage: Outage) {
    let (away, back) = (outage.away.as_secs_f64(), outage.back_after.as_secs_f64());
    let (rate, attempts) = (outage.rate_before, outage.attempts);
    eprintln!("away {away:.2} s, {rate:.0} rows/s back after {back:.2} s, {attempts} attempts");
}
