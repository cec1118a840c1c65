//! What an outage of a PostgreSQL server costs.
//!
//! ```text
//! cargo run --release -p mds --example postgres_outages [ROWS [KILLS]]
//! ```
//!
//! Starts a server of its own in a temporary folder, has four producers hand in bars as fast as
//! they go (ROWS of them, and more until the last outage is over), and kills the server with SIGKILL
//! again and again. Prints what each outage did. Ends with exit code 1 where a row was lost or
//! doubled, where the rate was not back above 80 % of what it was within 3 s of the server's return,
//! or where an outage cost more connection attempts than two for each worker and ten (and one for
//! each second beyond five).
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
        println!("{workers} workers, seed {}", plan.seed);
        println!("away s   rows/s before   80 % again after s   attempts   of");
        let report = run(&cluster, plan, |outage| {
            is_good &= tell_outage(workers, outage);
        })
        .await;
        is_good &= tell_report(&report);
    }
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints an outage; answers whether it cost as little as promised.
fn tell_outage(workers: usize, outage: Outage) -> bool {
    let allowed = allowed(workers, outage.away);
    let is_good = outage.back_after <= BACK_WITHIN && outage.attempts <= allowed;
    println!(
        "{:>6.2}   {:>13.0}   {:>18.2}   {:>8}   {allowed:>2}{}",
        outage.away.as_secs_f64(),
        outage.rate_before,
        outage.back_after.as_secs_f64(),
        outage.attempts,
        if is_good { "" } else { "  <-- too much" },
    );
    is_good
}

/// Prints the books; answers whether nothing was lost or doubled.
fn tell_report(report: &Report) -> bool {
    let (stats, (stored, keys)) = (&report.stats, report.stored);
    println!(
        "handed in {}, written {}, superseded {}, dead letters {}, stored {stored}, keys {keys}",
        stats.submitted, stats.written, stats.superseded, report.letters,
    );
    let is_good = report.is_whole() && stats.is_balanced();
    println!(
        "{}\n",
        if is_good {
            "0 lost, 0 doubled, 0 dead letters"
        } else {
            "LOST OR DOUBLED"
        }
    );
    is_good
}
