//! `mds export`: writes records to a file.

mod guard;
mod target;

use std::path::PathBuf;

use anyhow::Context as _;
use mds_core::Kind;
use mds_core::settings::SettingFlag;
use mds_formats::{RowFormat, RowWriter};
use mds_store::{Query, StoredRecord};

use self::target::{Shape, Target, is_stdout};
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime::{block_on, stop_requested};
use crate::selection::{Selection, Tenants};
use crate::values::{self, with_record};

const EXAMPLES: &str = "\
Examples:
  mds export bars --out bars.csv.gz
  mds export news --vendor benzinga --start 2024-11-01 --out news.ndjson
  mds export bars --symbol SPY --with-revision --out - --format csv | head

The form follows from the name: .csv or .ndjson, with .gz compressed. The file appears when it is
whole. It reads back through `mds ingest`; with --with-revision also with the same revisions.
Times are written as 2024-11-01 (midnight UTC) or 2024-11-01T09:30:00-05:00.";

/// Arguments of `mds export`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kind of record
    #[arg(value_name = "KIND", value_parser = values::kind_parser())]
    kind: Kind,
    /// The file to write; - is standard output
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// The form of the records, where the name of the file does not say it
    #[arg(long, value_name = "FORM", value_parser = values::row_format_parser())]
    format: Option<RowFormat>,
    /// Write the revision of each record too
    #[arg(long)]
    with_revision: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    tenants: Tenants,
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        self.tenants.setting_flags()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let shape = Shape::of(&args.out, args.format)?;
    if !is_stdout(&args.out) {
        guard::refuse_precious(&args.out, context)?;
    }
    let query = args
        .tenants
        .apply(args.selection.query(args.kind)?, context);
    block_on(async {
        tokio::select! {
            exit = export_kind(args, shape, query, context) => exit,
            // The half-written file is removed when `export` is dropped.
            signal = stop_requested() => {
                context.note("stopped before the end; no file was written or replaced");
                Ok(signal?)
            }
        }
    })
}

async fn export_kind(
    args: &Args,
    shape: Shape,
    query: Query,
    context: &Context,
) -> anyhow::Result<Exit> {
    with_record!(args.kind, R => export::<R>(args, shape, query, context).await)
}

async fn export<R: StoredRecord>(
    args: &Args,
    shape: Shape,
    query: Query,
    context: &Context,
) -> anyhow::Result<Exit> {
    let shown = args.out.display();
    let cannot_write = || format!("cannot write to {shown}");
    let store = context.open_for_reading().await?;
    let target = Target::open(&args.out, shape.gzip)?;
    let mut writer =
        RowWriter::new::<R>(shape.format, args.with_revision, target).with_context(cannot_write)?;
    let mut records = 0_u64;
    let mut chunks = store.query::<R>(query);
    while let Some(chunk) = chunks.next().await {
        for record in chunk? {
            writer.write(&record).with_context(cannot_write)?;
            records += 1;
        }
    }
    writer
        .into_inner()
        .with_context(cannot_write)?
        .finish()
        .with_context(cannot_write)?;
    store.close().await;
    context.note(format_args!("exported {records} {} to {shown}", args.kind));
    Ok(Exit::Success)
}
