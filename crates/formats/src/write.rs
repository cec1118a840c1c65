//! Records as text: CSV with our column names, and JSON objects, one a line.
//!
//! Both read back equal through a [`reader`](crate::reader()): an absent value is an empty field in CSV
//! and missing in JSON, a number is the shortest text that reads back as the same number.

use std::io::{self, Write};

use mds_core::{Record, Value};

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl RowFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Csv, Self::Ndjson];

    /// The name that users type: `csv`, `ndjson`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// The column that both formats can have besides those of the kind.
pub const REVISION: &str = "revision";

/// Writes records of one kind, one after another.
#[derive(Debug)]
pub struct RowWriter<W: Write> {
    form: Form<W>,
    with_revision: bool,
}

#[derive(Debug)]
enum Form<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Ndjson { out: W, line: Vec<u8> },
}

impl<W: Write> RowWriter<W> {
    /// A writer that has written the header already, where the format has one.
    ///
    /// # Errors
    ///
    /// What `out` said.
    pub fn new<R: Record>(format: RowFormat, with_revision: bool, out: W) -> io::Result<Self> {
        let mut writer = Self::going_on(format, with_revision, out);
        if let Form::Csv(csv) = &mut writer.form {
            let revision = with_revision.then_some(REVISION);
            let names = R::COLUMNS.iter().map(|c| c.name).chain(revision);
            csv.write_record(names).map_err(io_error)?;
        }
        Ok(writer)
    }

    /// A writer that goes on where another has ended: without a header.
    pub fn going_on(format: RowFormat, with_revision: bool, out: W) -> Self {
        let form = match format {
            RowFormat::Csv => Form::Csv(Box::new(csv::Writer::from_writer(out))),
            RowFormat::Ndjson => Form::Ndjson {
                out,
                line: Vec::new(),
            },
        };
        Self {
            form,
            with_revision,
        }
    }

    /// Writes one record.
    ///
    /// # Errors
    ///
    /// What it writes to said.
    pub fn write<R: Record>(&mut self, record: &R) -> io::Result<()> {
        match &mut self.form {
            Form::Csv(csv) => {
                let values = (0..R::COLUMNS.len()).map(|i| record.value(i).to_string());
                let revision = self.with_revision.then(|| record.revision().to_string());
                csv.write_record(values.chain(revision)).map_err(io_error)
            }
            Form::Ndjson { out, line } => {
                line.clear();
                json_line(line, record, self.with_revision)?;
                out.write_all(line)
            }
        }
    }

    /// What it wrote to; everything has arrived there.
    ///
    /// # Errors
    ///
    /// What it writes to said of the last part.
    pub fn into_inner(self) -> io::Result<W> {
        match self.form {
            Form::Csv(csv) => csv.into_inner().map_err(csv::IntoInnerError::into_error),
            Form::Ndjson { out, .. } => Ok(out),
        }
    }
}

/// The I/O error that `csv` wraps, so that it is still known for what it is.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        // Records of one kind are all of one length, and only reading finds other faults.
        other => io::Error::other(format!("{other:?}")),
    }
}

fn json_line<R: Record>(line: &mut Vec<u8>, record: &R, with_revision: bool) -> io::Result<()> {
    let mut separator = '{';
    for (i, column) in R::COLUMNS.iter().enumerate() {
        let value = record.value(i);
        if value.is_null() {
            continue;
        }
        // Column names are plain words.
        write!(line, "{separator}\"{}\":", column.name)?;
        separator = ',';
        json_value(line, &value)?;
    }
    if with_revision {
        write!(line, ",\"{REVISION}\":{}", record.revision())?;
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

fn json_value(line: &mut Vec<u8>, value: &Value<'_>) -> io::Result<()> {
    match value {
        Value::Float(v) => serde_json::to_writer(line, v)?,
        Value::Bool(v) => serde_json::to_writer(line, v)?,
        Value::Text(v) => serde_json::to_writer(line, v)?,
        Value::Symbols(v) => serde_json::to_writer(line, v)?,
        // Times, tenants, spans: text without anything to escape.
        other => write!(line, "\"{other}\"")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mds_core::{Bar, Fundamentals, News, OptionSnap, OptionType, Timestamp};

    use super::*;

    fn text<R: Record>(format: RowFormat, with_revision: bool, records: &[R]) -> String {
        let mut writer = RowWriter::new::<R>(format, with_revision, Vec::new()).unwrap();
        for record in records {
            writer.write(record).unwrap();
        }
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn bar() -> Bar {
        Bar {
            vendor: "binance".into(),
            symbol: "BTCUSDT".into(),
            ts: time("2024-11-01T00:00:00.25Z"),
            open_price: Some(0.1 + 0.2),
            close_price: Some(1e300),
            volume: Some(5e-324),
            provisional: true,
            revision: 7,
            ..Bar::default()
        }
    }

    fn news() -> News {
        News {
            vendor: "x".into(),
            published_at: time("2024-11-01T00:00:00Z"),
            id: "a\"1\"".into(),
            symbol: Some("A".into()),
            symbols: vec!["A".into(), "B".into()],
            title: Some("Up, \"again\"\nand ümläut".to_owned()),
            revision: 7,
            ..News::default()
        }
    }

    /// What is written reads back equal, in both formats, whatever the kind.
    fn round_trip<R: Record>(record: &R) {
        let json = text(RowFormat::Ndjson, true, std::slice::from_ref(record));
        assert_eq!(&serde_json::from_str::<R>(&json).unwrap(), record, "{json}");

        let csv = text(RowFormat::Csv, true, std::slice::from_ref(record));
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let names = reader.headers().unwrap().clone();
        let fields = reader.records().next().unwrap().unwrap();
        let mut read = R::default();
        for (name, field) in names.iter().zip(&fields) {
            match R::column(name) {
                Some(column) => read.set(column, field).unwrap(),
                None => read.set_revision(field.parse().unwrap()),
            }
        }
        assert_eq!(&read, record, "{csv}");
    }

    #[test]
    fn every_kind_reads_back_equal() {
        round_trip(&bar());
        round_trip(&news());
        round_trip(&Fundamentals {
            vendor: "sec".into(),
            symbol: "LPA".into(),
            asof: time("2024-06-30T00:00:00Z"),
            period: "Q2".into(),
            eps: Some(-0.07),
            revision: 7,
            ..Fundamentals::default()
        });
        round_trip(&OptionSnap {
            vendor: "cboe".into(),
            symbol: "NDXP".into(),
            ts: time("2022-02-05T00:00:00Z"),
            option_type: OptionType::Put,
            strike: 14_700.5,
            iv: Some(0.2345),
            revision: 7,
            ..OptionSnap::default()
        });
    }

    #[test]
    fn the_text_of_a_bar() {
        assert_eq!(
            text(RowFormat::Ndjson, false, &[bar()]),
            "{\"tenant_id\":\"00000000-0000-0000-0000-000000000001\",\"vendor\":\"binance\",\
             \"symbol\":\"BTCUSDT\",\"timeframe\":\"1m\",\"ts\":\"2024-11-01T00:00:00.25Z\",\
             \"open_price\":0.30000000000000004,\"close_price\":1e+300,\"volume\":5e-324,\
             \"provisional\":true}\n"
        );
        let csv = text(RowFormat::Csv, true, &[bar()]);
        assert!(csv.starts_with(
            "tenant_id,vendor,symbol,timeframe,ts,open_price,high_price,low_price,close_price,\
             volume,provisional,revision\n"
        ));
    }

    #[test]
    fn a_text_in_parts_is_the_text() {
        for format in RowFormat::ALL {
            let mut writer = RowWriter::new::<Bar>(format, true, Vec::new()).unwrap();
            writer.write(&bar()).unwrap();
            let part = writer.into_inner().unwrap();
            let mut writer = RowWriter::going_on(format, true, part);
            writer.write(&bar()).unwrap();
            let parts = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            assert_eq!(parts, text(format, true, &[bar(), bar()]));
        }
    }

    #[test]
    fn no_records_are_a_header_or_nothing() {
        assert_eq!(text::<Bar>(RowFormat::Ndjson, true, &[]), "");
        assert_eq!(text::<Bar>(RowFormat::Csv, false, &[]).lines().count(), 1);
    }
}
