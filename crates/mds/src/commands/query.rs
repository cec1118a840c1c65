//! `mds query`: prints records.

use anyhow::Context as _;
use clap::ValueEnum;
use mds_core::settings::SettingFlag;
use mds_core::{ColumnType, Kind, Record};
use mds_formats::{REVISION, RowFormat, RowWriter};
use mds_store::{Order, Query, Store, StoredRecord};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, table};
use crate::runtime::block_on;
use crate::selection::{Selection, Tenants};
use crate::values::{self, with_record};

/// Rows of a table that is printed without `--limit`: a table is held in memory to find the widths
/// of its columns.
const TABLE_ROWS: u64 = 1_000;

const EXAMPLES: &str = "\
Examples:
  mds query bars --symbol BTCUSDT --timeframe 1m --start 2024-11-01 --end 2024-11-02
  mds query bars -s SPY -s QQQ --newest-first --limit 10
  mds query options --symbol NDXP --output csv > chain.csv
  mds query news --vendor benzinga --start 2024-11-01T09:30:00-05:00 --output ndjson

Times are written as 2024-11-01 (midnight UTC) or 2024-11-01T09:30:00-05:00.
A table without --limit ends after 1000 records and says so; csv and ndjson do not.";

/// Arguments of `mds query`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kind of record
    #[arg(value_name = "KIND", value_parser = values::kind_parser())]
    kind: Kind,
    /// At most N records
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u64>,
    /// Newest first instead of oldest first
    #[arg(long)]
    newest_first: bool,
    /// The form of the output
    #[arg(long, short, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    output: Form,
    /// Print the revision of each record too
    #[arg(long)]
    with_revision: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    tenants: Tenants,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    // Plain comments: documentation would make the help of every option three lines long.
    // Columns for people.
    Table,
    // Comma-separated values with a header.
    Csv,
    // One JSON object a line.
    Ndjson,
}

impl Form {
    /// The form as that of rows; `None` for a table.
    pub(crate) const fn row_format(self) -> Option<RowFormat> {
        match self {
            Self::Table => None,
            Self::Csv => Some(RowFormat::Csv),
            Self::Ndjson => Some(RowFormat::Ndjson),
        }
    }
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        self.tenants.setting_flags()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let query = Query {
        limit: args.limit,
        order: if args.newest_first {
            Order::NewestFirst
        } else {
            Order::OldestFirst
        },
        ..args
            .tenants
            .apply(args.selection.query(args.kind)?, context)
    };
    block_on(async {
        let store = context.open_for_reading().await?;
        with_record!(args.kind, R => match args.output.row_format() {
            Some(format) => print_rows::<R>(&store, query, format, args.with_revision).await,
            None => print_table::<R>(&store, query, args, context).await,
        })?;
        store.close().await;
        Ok(Exit::Success)
    })
}

async fn print_rows<R: StoredRecord>(
    store: &Store,
    query: Query,
    format: RowFormat,
    with_revision: bool,
) -> anyhow::Result<()> {
    let cannot_write = "cannot write to standard output";
    let mut writer =
        RowWriter::new::<R>(format, with_revision, Out::stdout()).context(cannot_write)?;
    let mut chunks = store.query::<R>(query);
    while let Some(chunk) = chunks.next().await {
        for record in chunk? {
            writer.write(&record).context(cannot_write)?;
        }
    }
    writer.into_inner().context(cannot_write)?.finish()
}

async fn print_table<R: StoredRecord>(
    store: &Store,
    query: Query,
    args: &Args,
    context: &Context,
) -> anyhow::Result<()> {
    // One more than is shown tells whether there are more.
    let limit = query.limit.unwrap_or(TABLE_ROWS + 1);
    let mut records = store
        .query::<R>(Query {
            limit: Some(limit),
            ..query
        })
        .collect()
        .await?;
    let is_cut = args.limit.is_none() && records.len() as u64 > TABLE_ROWS;
    if is_cut {
        records.pop();
    }
    if records.is_empty() {
        context.note(format_args!("no {} match", args.kind));
        return Ok(());
    }
    let mut out = Out::stdout();
    out.table(&table_of(&records, args))?;
    out.finish()?;
    if is_cut {
        context.note(format_args!(
            "only the first {TABLE_ROWS} records are shown; --limit N shows more, --output csv all"
        ));
    }
    Ok(())
}

fn table_of<R: Record>(records: &[R], args: &Args) -> comfy_table::Table {
    let shown: Vec<usize> = (0..R::COLUMNS.len())
        .filter(|i| args.tenants.all_tenants || R::COLUMNS[*i].ty != ColumnType::Tenant)
        .collect();
    let revision = args.with_revision.then(|| format!(">{REVISION}"));
    let names: Vec<String> = shown
        .iter()
        .map(|i| &R::COLUMNS[*i])
        .map(|c| {
            format!(
                "{}{}",
                if c.ty == ColumnType::Float { ">" } else { "" },
                c.name
            )
        })
        .chain(revision)
        .collect();
    let mut rows = table(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for record in records {
        let revision = args.with_revision.then(|| record.revision().to_string());
        let values = shown
            .iter()
            .map(|i| one_line(&record.value(*i).to_string()));
        rows.add_row(values.chain(revision));
    }
    rows
}

/// Text without line breaks and other control characters, which would break the table or the
/// terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
