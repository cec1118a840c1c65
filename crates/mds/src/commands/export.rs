//! `mds export`: writes records to a file.

use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use mds_core::Kind;
use mds_core::settings::SettingFlag;
use mds_store::{Query, StoredRecord};

use crate::atomic_file::AtomicFile;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::output::Out;
use crate::rows::{RowFormat, RowWriter};
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
    #[arg(long, value_enum, value_name = "FORM")]
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

/// What is written, besides the records themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    format: RowFormat,
    gzip: bool,
}

impl Shape {
    /// What the name of the file says, and `format` where it says nothing.
    fn of(out: &Path, format: Option<RowFormat>) -> Result<Self, Usage> {
        if is_stdout(out) {
            return Ok(Self {
                format: format.unwrap_or(RowFormat::Ndjson),
                gzip: false,
            });
        }
        let lower = |path: &Path| path.extension().map(OsStr::to_ascii_lowercase);
        let gzip = lower(out).is_some_and(|e| e == "gz");
        let name = if gzip {
            out.with_extension("")
        } else {
            out.to_path_buf()
        };
        let extension = lower(&name);
        let by_name = match extension.as_deref().and_then(OsStr::to_str) {
            Some("csv") => Some(RowFormat::Csv),
            Some("ndjson" | "jsonl") => Some(RowFormat::Ndjson),
            Some("parquet") => {
                return Err(Usage::new(
                    "parquet is not in this build; use .csv.gz or .ndjson.gz",
                ));
            }
            _ => None,
        };
        match format.or(by_name) {
            Some(format) => Ok(Self { format, gzip }),
            None => Err(Usage::new(format!(
                "{} does not say its form; end the name in .csv, .ndjson, .csv.gz or .ndjson.gz, \
                 or give --format",
                out.display()
            ))),
        }
    }
}

fn is_stdout(out: &Path) -> bool {
    out.as_os_str() == "-"
}

/// Where the text goes.
#[derive(Debug)]
enum Target {
    Stdout(Out),
    Plain(BufWriter<AtomicFile>),
    Gzip(Box<GzEncoder<BufWriter<AtomicFile>>>),
}

impl Target {
    fn open(out: &Path, gzip: bool) -> anyhow::Result<Self> {
        if is_stdout(out) {
            return Ok(Self::Stdout(Out::stdout()));
        }
        let file = BufWriter::with_capacity(256 * 1024, AtomicFile::create(out)?);
        Ok(if gzip {
            Self::Gzip(Box::new(GzEncoder::new(file, Compression::default())))
        } else {
            Self::Plain(file)
        })
    }

    /// Writes the rest and gives the file its name.
    fn finish(self) -> anyhow::Result<()> {
        let file = match self {
            Self::Stdout(out) => return out.finish(),
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
        };
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .commit()
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::Plain(file) => file.flush(),
            // A flush inside of the stream costs compression and serves nobody: `finish` does it.
            Self::Gzip(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_from_the_name() {
        let shape = |name: &str| Shape::of(Path::new(name), None);
        for (name, format, gzip) in [
            ("a.csv", RowFormat::Csv, false),
            ("a.CSV.GZ", RowFormat::Csv, true),
            ("a.b.ndjson", RowFormat::Ndjson, false),
            ("a.jsonl.gz", RowFormat::Ndjson, true),
            ("-", RowFormat::Ndjson, false),
        ] {
            assert_eq!(shape(name).unwrap(), Shape { format, gzip }, "{name}");
        }
        for name in ["a", "a.gz", "a.json", "a.parquet", ".csv"] {
            assert!(shape(name).is_err(), "{name}");
        }
        let given = Shape::of(Path::new("a.txt.gz"), Some(RowFormat::Csv)).unwrap();
        assert_eq!(
            given,
            Shape {
                format: RowFormat::Csv,
                gzip: true
            }
        );
    }
}
