//! What an outage of a PostgreSQL server costs.
//!
//! ```text
//! cargo run --release -p mds --example postgres_outages [ROWS [KILLS]]
//! ```
//!
//! Starts a server of its own in a temporary folder, has four producers hand in bars as fast as
//! they go, and kills the server with SIGKILL again and again. Prints what each outage did, and
//! ends with exit code 1 where a row was lost or doubled, where the rate was not back above 80 % of
//! what it was within 3 s of the server's return, or where there were more connection attempts
//! than two for each worker and ten (and one for each second beyond five).
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool: it prints figures, and what it cannot do ends it"
)]

#[path = "../tests/it/postgres/cluster.rs"]
mod cluster;
#[path = "../tests/it/postgres/outages.rs"]
mod outages;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/postgres/proxy.rs"]
mod proxy;

use std::process::ExitCode;
use std::time::Duration;

use cluster::Cluster;
use outages::{Outage, Plan, Report, allowed, run};

/// How soon the rate must be back.
const BACK_WITHIN: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let mut number = |default| numbers.next().map_or(default, Result::unwrap);
    let (rows, kills) = (number(1_000_000), number(20));
    let cluster = match Cluster::start().await {
        Ok(cluster) => cluster,
        Err(why) => {
            println!("skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let mut is_good = true;
    for workers in [4, 1] {
        let plan = Plan {
            rows,
            producers: 4,
            workers,
            kills,
            away_ms: (1_000, 5_000),
            seed: fastrand::u64(..),
        };
        let report = run(&cluster, plan).await;
        is_good &= tell(plan, &report);
    }
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a report; answers whether it is as promised.
fn tell(plan: Plan, report: &Report) -> bool {
    println!("{} workers, seed {}", plan.workers, plan.seed);
    println!("outage   away s   rows/s before   80 % again after s   attempts   of");
    let mut is_good = true;
    for (number, outage) in (1..).zip(&report.outages) {
        let Outage {
            away,
            rate_before,
            back_after,
            attempts,
        } = *outage;
        let allowed = allowed(plan.workers, away);
        let is_slow = back_after > BACK_WITHIN || attempts > allowed;
        println!(
            "{number:>6}   {:>6.2}   {rate_before:>13.0}   {:>18.2}   {attempts:>8}   {allowed:>2}{}",
            away.as_secs_f64(),
            back_after.as_secs_f64(),
            if is_slow { "  <-- too much" } else { "" },
        );
        is_good &= !is_slow;
    }
    let (stats, (stored, keys)) = (&report.stats, report.stored);
    println!(
        "handed in {}, written {}, superseded {}, dead letters {}, stored {stored}, keys {keys}, \
         {:.1} s",
        stats.submitted, stats.written, stats.superseded, report.letters, report.seconds,
    );
    let is_whole = (stored, keys, stats.written) == (plan.rows, plan.rows, plan.rows);
    let has_lost = !is_whole || report.letters > 0 || !stats.is_balanced();
    println!(
        "{}\n",
        if has_lost {
            "LOST OR DOUBLED"
        } else {
            "0 lost, 0 doubled, 0 dead letters"
        }
    );
    is_good && !has_lost
}
