//! What each SQLSTATE means for a write, by errors that a real server gives.
//!
//! Each test provokes its error through the store, says what a person reads, and then takes the
//! cause away: the same batch, handed in again, is written by the same store. No row was lost.

mod fatal;
mod full;
mod retried;
mod rows;
mod waiting;

use std::time::Duration;

use mds_core::{ErrorKind, RowOutcome, SinkError, WriteReport};
use tokio_postgres::Client;

use super::Database;

/// None of the rows was tried, for a reason that `says` is part of.
#[track_caller]
fn kept(report: &WriteReport, kind: ErrorKind, code: &str, says: &[&str]) {
    let error = report.error.as_ref().expect("the write fails");
    error_is(error, kind, code, says);
    let is_kept = |outcome: &RowOutcome| *outcome == RowOutcome::NotTried;
    assert!(report.outcomes.iter().all(is_kept), "{:?}", report.outcomes);
    assert!(!error.outcome_unknown(), "{error}");
}

#[track_caller]
fn error_is(error: &SinkError, kind: ErrorKind, code: &str, says: &[&str]) {
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
    for part in says {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// The process of a session of the store that waits for what the test's session holds.
async fn waits(shell: &Client) -> i32 {
    let sql = "SELECT pid FROM pg_locks WHERE NOT granted \
         AND pg_backend_pid() = ANY (pg_blocking_pids(pid)) LIMIT 1";
    let wait = async {
        loop {
            if let Some(row) = shell.query_opt(sql, &[]).await.unwrap() {
                return row.get(0);
            }
        }
    };
    // Only a test that hangs takes so long.
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("a session waits for a lock")
}

/// Ends the sessions of the store, so that what was set for new ones counts.
async fn end_sessions(database: &Database) {
    database
        .run(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
}
