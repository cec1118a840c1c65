//! `mds health`: whether writing has a chance now.

use std::path::Path;

use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, LetterFilter};
use mds_core::time::MICROS_PER_SECOND;
use mds_core::{Kind, RevisionClock};
use mds_store::{MissingRights, OpenOptions, Store, StoreError};
use mds_wal::{FileStorage, InspectError};
use serde_json::{Value, json};

use crate::commands::stats::bytes;
use crate::context::{self, Context};
use crate::durable;
use crate::exit::{Exit, told};
use crate::lost::{Accepted, is_settled};
use crate::output::{Out, grouped, table};
use crate::runtime::block_on;

const EXAMPLES: &str = "\
Examples:
  mds health
  mds health --json
  mds health --quiet && echo ready

Checks that the store can be written to, how many dead letters wait, that revisions do not run ahead
of the clock, and what the durable queues hold where the settings name a folder of them. Exit code 0: ok or degraded (it works, but somebody should look); 1: failed.
With --quiet the exit code alone says it.";

/// Arguments of `mds health`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// The tables of the four kinds.
const KIND_TABLES: [&str; 4] = ["bars", "options_snap", "fundamentals", "news"];

/// The code of a right that is missing.
const NO_RIGHT: &str = "42501";

/// How well something is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Ok,
    Degraded,
    Failed,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was checked.
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    /// What programs read, besides the above.
    numbers: Value,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut checks = block_on(async { Ok(check_store(context).await) })?;
    checks.push(check_dead_letters(context));
    checks.extend(check_queues(context));
    let worst = checks.iter().map(|c| c.status).max().unwrap_or(Status::Ok);
    let mut out = Out::stdout();
    if args.json {
        out.json(&json_of(&checks, worst))?;
    } else if !context.quiet {
        let mut rows = table(&["check", "status", "detail"]);
        for check in &checks {
            rows.add_row([check.name, check.status.as_str(), &check.detail]);
        }
        out.table(&rows)?;
    }
    out.finish()?;
    Ok(if worst == Status::Failed {
        Exit::Failure
    } else {
        Exit::Success
    })
}

fn json_of(checks: &[Check], worst: Status) -> Value {
    let mut object = json!({ "status": worst.as_str() });
    for check in checks {
        let mut entry = check.numbers.clone();
        entry["status"] = check.status.as_str().into();
        entry["detail"] = check.detail.as_str().into();
        object[check.name.replace(' ', "_")] = entry;
    }
    object
}

/// The store, and the revisions in it where it can be opened.
async fn check_store(context: &Context) -> Vec<Check> {
    let name = "store";
    let url = context.settings.store().to_string();
    let failed = |error: anyhow::Error| Check {
        name,
        status: Status::Failed,
        detail: told(&error),
        numbers: json!({ "url": url }),
    };
    let options = OpenOptions {
        create: false,
        migrate: false,
        ..OpenOptions::default()
    };
    let store = match context.open(options.clone()).await {
        Ok(store) => store,
        Err(error) => {
            let rights = rights_lacking(context, options, &error).await;
            return [failed(error)].into_iter().chain(rights).collect();
        }
    };
    let mut checks = Vec::new();
    match store.check().await {
        Ok(()) => checks.push(Check {
            name,
            status: Status::Ok,
            detail: url.clone(),
            numbers: json!({ "url": url }),
        }),
        Err(error) => checks.push(failed(error.into())),
    }
    match store.missing_rights().await {
        Ok(missing) => checks.extend(check_rights(&missing)),
        Err(error) => checks.push(failed(error.into())),
    }
    match store.last_revision().await {
        Ok(last) => checks.push(check_revisions(last)),
        Err(error) => checks.push(failed(error.into())),
    }
    store.close().await;
    checks
}

/// What the role lacks to open the store, and to write: told at once, not one table after the other.
async fn rights_lacking(
    context: &Context,
    options: OpenOptions,
    error: &anyhow::Error,
) -> Option<Check> {
    let error = error.downcast_ref::<StoreError>()?;
    if error.code() != NO_RIGHT {
        return None;
    }
    let url = context.store_url().ok()?;
    let missing = Store::missing_rights_at(&url, context.options(options)).await;
    check_rights(&missing.ok()?)
}

/// A role that may not write all kinds may be meant to; one that may write none is not.
fn check_rights(missing: &[MissingRights]) -> Option<Check> {
    let of_table: Vec<String> = missing
        .iter()
        .map(|m| format!("{} on {}", m.rights.join(", "), m.table))
        .collect();
    let list = of_table.join("; ");
    if missing.is_empty() {
        return None;
    }
    let is_kind = |m: &&MissingRights| KIND_TABLES.contains(&m.table.as_str());
    let kinds = missing.iter().filter(is_kind).count();
    let some_can = kinds == missing.len() && kinds < KIND_TABLES.len();
    Some(Check {
        name: "rights",
        status: if some_can {
            Status::Degraded
        } else {
            Status::Failed
        },
        detail: format!("the role lacks {list}; GRANT what it needs"),
        numbers: json!({ "missing": of_table }),
    })
}

/// How far the revision that a server keeps runs ahead of the written ones.
const SERVERS_RUN_AHEAD: i64 = MICROS_PER_SECOND;

fn check_revisions(last: i64) -> Check {
    let ahead = RevisionClock::new(last).ahead_of(context::now());
    let (status, detail) = if ahead > SERVERS_RUN_AHEAD {
        let seconds = (ahead - 1) / MICROS_PER_SECOND + 1;
        (
            Status::Degraded,
            format!("{seconds} s ahead of the clock; set the clock right"),
        )
    } else {
        (Status::Ok, "not ahead of the clock".to_owned())
    };
    let numbers = json!({ "last_revision": last, "ahead_micros": ahead });
    Check {
        name: "revisions",
        status,
        detail,
        numbers,
    }
}

fn check_dead_letters(context: &Context) -> Check {
    let mut paths: Vec<_> = Kind::ALL.map(|kind| context.dlq_path(kind)).into();
    paths.dedup();
    let (mut letters, mut damaged, mut size) = (0, 0, 0);
    for path in paths {
        let counted = DeadLetterQueue::<Value>::at(&path, DlqOptions::default())
            .and_then(|dlq| Ok((dlq.histogram(LetterFilter::default())?, dlq.bytes()?)));
        match counted {
            Ok((histogram, file_bytes)) => {
                letters += histogram.letters;
                damaged += histogram.damaged;
                size += file_bytes;
            }
            Err(error) => {
                return Check {
                    name: "dead letters",
                    status: Status::Failed,
                    detail: told(&error.into()),
                    numbers: json!({ "path": path.display().to_string() }),
                };
            }
        }
    }
    let waiting = letters + damaged > 0;
    let detail = if waiting {
        let lines = if damaged > 0 {
            format!(" and {damaged} damaged lines")
        } else {
            String::new()
        };
        format!(
            "{letters} wait{lines}, {}; `mds dlq list` shows them",
            bytes(size)
        )
    } else {
        "none wait".to_owned()
    };
    Check {
        name: "dead letters",
        status: if waiting {
            Status::Degraded
        } else {
            Status::Ok
        },
        detail,
        numbers: json!({ "letters": letters, "damaged": damaged, "bytes": size }),
    }
}

/// The durable queues that are there.
fn check_queues(context: &Context) -> Vec<Check> {
    let Some(dir) = durable::dir(context) else {
        return Vec::new();
    };
    let names = Kind::ALL.map(|kind| (kind, name_of_queue(kind)));
    let check = |(kind, name): (Kind, &'static str)| check_queue(name, &dir.join(kind.as_str()));
    names.into_iter().filter_map(check).collect()
}

const fn name_of_queue(kind: Kind) -> &'static str {
    match kind {
        Kind::Bars => "queue bars",
        Kind::Options => "queue options",
        Kind::Fundamentals => "queue fundamentals",
        Kind::News => "queue news",
    }
}

/// What waits in a queue, and whether something is lost that nobody has accepted; `None` where there
/// is no queue.
fn check_queue(name: &'static str, folder: &Path) -> Option<Check> {
    let dir = folder.display().to_string();
    let failed = |error: &anyhow::Error| {
        Some(Check {
            name,
            status: Status::Failed,
            detail: told(error),
            numbers: json!({ "dir": dir }),
        })
    };
    let found = match mds_wal::inspect(&FileStorage::at(folder)) {
        Ok(found) => found,
        Err(InspectError::NoQueue) => return None,
        Err(_) if !folder.exists() => return None,
        Err(error) => return failed(&error.into()),
    };
    let totals = durable::totals_of(&found);
    let accepted = match Accepted::read(folder, &totals) {
        Ok(accepted) => accepted,
        Err(error) => return failed(&error),
    };
    let is_past_lost = durable::is_past_lost(&found);
    let is_whole = !is_past_lost && is_settled(&totals, accepted.as_ref());
    let size: u64 = found.segments.iter().map(|segment| segment.bytes).sum();
    let state = match (is_whole, is_past_lost) {
        (true, _) => "nothing is lost",
        (false, true) => durable::PAST_LOST,
        (false, false) => "records are lost; `mds audit` says how many, and what to do",
    };
    let waiting = grouped(found.waiting);
    Some(Check {
        name,
        status: if is_whole {
            Status::Ok
        } else {
            Status::Degraded
        },
        detail: format!("{waiting} wait, {}; {state}", bytes(size)),
        numbers: json!({
            "dir": dir, "waiting": found.waiting, "bytes": size, "damaged": totals.damaged,
            "lost": totals.lost(),
        }),
    })
}
