//! Reading a text or file to its end, and looking at what came out.

use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use mds_formats::{
    InvalidRow, Limits, OpenError, Options, ReadError, Readable, Reader, Row, Source, Verdict,
    reader,
};

/// Everything that one input gave.
#[derive(Debug)]
pub(crate) struct Read<R> {
    pub(crate) format: &'static str,
    pub(crate) notes: Vec<String>,
    pub(crate) verdicts: Vec<Verdict<R>>,
    pub(crate) error: Option<ReadError>,
}

impl<R: Readable> Read<R> {
    fn rows(&self) -> impl Iterator<Item = &Row<R>> {
        self.verdicts.iter().filter_map(|v| match v {
            Verdict::Record(row) => Some(row),
            _ => None,
        })
    }

    pub(crate) fn records(&self) -> Vec<&R> {
        self.rows().map(|row| &row.sourced.record).collect()
    }

    /// The lines of the records.
    pub(crate) fn lines(&self) -> Vec<u64> {
        let origins = self.rows().filter_map(|row| row.sourced.origin.as_ref());
        origins.map(|origin| origin.line).collect()
    }

    pub(crate) fn invalid(&self) -> Vec<&InvalidRow> {
        let rows = self.verdicts.iter().filter_map(|v| match v {
            Verdict::Invalid(row) => Some(row.as_ref()),
            _ => None,
        });
        rows.collect()
    }

    /// Line, field and code of the invalid rows.
    pub(crate) fn faults(&self) -> Vec<(u64, &str, &str)> {
        let rows = self.invalid().into_iter();
        rows.map(|row| (row.origin.line, row.field.as_ref(), row.code))
            .collect()
    }

    /// Line and reason of the skipped rows.
    pub(crate) fn skipped(&self) -> Vec<(u64, &'static str)> {
        let rows = self.verdicts.iter().filter_map(|v| match v {
            Verdict::Skipped { line, reason } => Some((*line, *reason)),
            _ => None,
        });
        rows.collect()
    }

    /// Records, invalid and skipped rows.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (
            self.records().len(),
            self.invalid().len(),
            self.skipped().len(),
        )
    }
}

pub(crate) fn drain<R: Readable>(mut reader: Reader<R>) -> Read<R> {
    let mut verdicts = Vec::new();
    let error = loop {
        match reader.next_chunk(&mut verdicts, 1_000) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error),
        }
    };
    assert_eq!(
        reader.next_chunk(&mut verdicts, 1).ok(),
        Some(0),
        "the end stays the end"
    );
    Read {
        format: reader.format().name,
        notes: reader.notes().to_vec(),
        verdicts,
        error,
    }
}

/// Reads bytes that are called `name`.
pub(crate) fn try_bytes<R: Readable>(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    options: &Options,
) -> Result<Read<R>, OpenError> {
    let source = Source::from_reader(name, Cursor::new(bytes.into()), Limits::default())?;
    reader(source, options).map(drain)
}

pub(crate) fn read<R: Readable>(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    options: &Options,
) -> Read<R> {
    try_bytes(name, bytes, options).unwrap()
}

/// Reads a file of the crate's `testdata`.
pub(crate) fn sample<R: Readable>(name: &str, options: &Options) -> Read<R> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name);
    let source = Source::open(path, Limits::default()).unwrap();
    drain(reader(source, options).unwrap())
}

/// Symbol and time frame.
pub(crate) fn series(symbol: &str, timeframe: &str) -> Options {
    Options {
        symbol: Some(symbol.into()),
        timeframe: Some(timeframe.parse().unwrap()),
        ..Options::default()
    }
}

pub(crate) fn format(name: &str) -> Options {
    Options {
        format: Some(name.parse().unwrap()),
        ..Options::default()
    }
}

/// An archive of these entries.
pub(crate) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Columns that are mapped, of the vendor `acme`.
pub(crate) fn mapped(map: &[&str], time_format: &str, options: Options) -> Options {
    Options {
        map: map.iter().map(|m| m.parse().unwrap()).collect(),
        time_format: (!time_format.is_empty()).then(|| time_format.parse().unwrap()),
        vendor: Some("acme".into()),
        ..options
    }
}

/// `--vendor acme --symbol SPY --timeframe 1d`
pub(crate) fn daily() -> Options {
    Options {
        vendor: Some("acme".into()),
        ..series("SPY", "1d")
    }
}

/// The message with which an input is refused; it must be one about the user's words or file.
pub(crate) fn refusal<R: Readable>(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    options: &Options,
) -> String {
    let error = try_bytes::<R>(name, bytes, options).unwrap_err();
    assert!(error.is_usage(), "{error}");
    error.to_string()
}

/// The error that ended the reading, with its causes; empty where there was none.
pub(crate) fn told<R>(read: &Read<R>) -> String {
    let mut told = Vec::new();
    let mut error = read.error.as_ref().map(|e| e as &dyn std::error::Error);
    while let Some(cause) = error {
        told.push(cause.to_string());
        error = cause.source();
    }
    told.join(": ")
}
