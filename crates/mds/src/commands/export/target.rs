//! What an export writes to, and in which form.

use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use mds_formats::RowFormat;

use crate::atomic_file::AtomicFile;
use crate::exit::Usage;
use crate::output::Out;

/// What is written, besides the records themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) format: RowFormat,
    pub(super) gzip: bool,
}

impl Shape {
    /// What the name of the file says, and `format` where it says nothing.
    pub(super) fn of(out: &Path, format: Option<RowFormat>) -> Result<Self, Usage> {
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

pub(super) fn is_stdout(out: &Path) -> bool {
    out.as_os_str() == "-"
}

/// Where the text goes.
#[derive(Debug)]
pub(super) enum Target {
    Stdout(Out),
    Plain(BufWriter<AtomicFile>),
    Gzip(Box<GzEncoder<BufWriter<AtomicFile>>>),
}

impl Target {
    pub(super) fn open(out: &Path, gzip: bool) -> anyhow::Result<Self> {
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
    pub(super) fn finish(self) -> anyhow::Result<()> {
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
