//! Files, archives and streams.

use std::fmt::Write as _;
use std::io::{Cursor, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use mds_core::Bar;
use mds_formats::{Limits, OpenError, Options, RAW_LIMIT, ReadError, Source, Verdict, reader};
use zip::write::SimpleFileOptions;

use crate::support::{drain, format, read, series, try_bytes, zip_of};

const NAME: &str = "bitfinex-btcusd-1m.csv";

fn candles(from: u64, count: u64) -> String {
    let mut text = String::new();
    for time in (from..from + count).map(|i| 1_388_534_520_000 + i * 60_000) {
        writeln!(text, "{time},2,2.5,3,1,0.5\r").unwrap();
    }
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_gzip_is_read_through_all_of_its_members() {
    let mut bytes = gzip(&candles(0, 3_000));
    bytes.extend(gzip(&candles(3_000, 3_000)));
    bytes.extend(gzip(&candles(6_000, 10)));
    // The name does not say that it is packed; the content does.
    let read = read::<Bar>(NAME, bytes, &Options::default());
    assert_eq!(read.counts(), (6_010, 0, 0));
    assert_eq!(read.lines().last(), Some(&6_010));
}

#[test]
fn a_truncated_gzip_is_an_error_after_the_rows_before_it() {
    let whole = gzip(&candles(0, 50_000));
    let cut = whole[..whole.len() / 2].to_vec();
    let read = read::<Bar>(NAME, cut, &Options::default());
    let (records, invalid, _) = read.counts();
    assert!(records > 10_000 && invalid == 0, "{records} {invalid}");
    let Some(ReadError::Io { path, line, .. }) = &read.error else {
        panic!("{:?}", read.error)
    };
    assert_eq!((path.as_str(), *line), (NAME, records as u64));
}

/// A pipe whose writer takes its time: more than the text has not come yet.
struct Slow(Cursor<Vec<u8>>);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        assert!(count > 0, "opening waits for rows that have not come yet");
        Ok(count)
    }
}

#[test]
fn a_slow_stream_is_opened_by_its_first_lines() {
    let open = |lines: u64, options: &Options| {
        let slow = Slow(Cursor::new(candles(0, lines).into_bytes()));
        let source = Source::from_reader(NAME, slow, Limits::default()).unwrap();
        reader::<Bar>(source, options).unwrap().format().name
    };
    assert_eq!(open(8, &Options::default()), "bitfinex");
    let given = Options {
        format: Some("bitfinex".parse().unwrap()),
        ..Options::default()
    };
    assert_eq!(open(2, &given), "bitfinex");
}

#[test]
fn a_gzip_that_is_cut_in_its_first_line_is_unreadable_and_not_unknown() {
    let whole = gzip("vendor,symbol,timeframe,ts,close_price\n");
    for options in [
        Options::default(),
        Options {
            format: Some("csv".parse().unwrap()),
            ..Options::default()
        },
    ] {
        let cut = Cursor::new(whole[..whole.len() / 2].to_vec());
        let source = Source::from_reader("bars.csv.gz", cut, Limits::default()).unwrap();
        let error = reader::<Bar>(source, &options).unwrap_err();
        assert!(
            matches!(&error, OpenError::Io { path, .. } if path == "bars.csv.gz"),
            "{error:?}"
        );
        assert!(!error.is_usage());
    }
}

#[test]
fn a_corrupt_gzip_is_an_error() {
    let mut bytes = gzip(&candles(0, 50_000));
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].fill(0xAA);
    let read = read::<Bar>(NAME, bytes, &Options::default());
    assert!(
        matches!(read.error, Some(ReadError::Io { .. })),
        "{:?}",
        read.error
    );

    let error = try_bytes::<Bar>(NAME, *b"\x1F\x8Bnot gzip at all", &Options::default());
    let error = error.unwrap_err();
    assert!(
        matches!(error, OpenError::Io { .. }) && !error.is_usage(),
        "{error}"
    );
}

#[test]
fn entries_of_a_zip_have_lines_of_their_own_and_one_count() {
    let bytes = zip_of(&[
        ("a/bitfinex-btcusd-1m.csv", candles(0, 3).as_bytes()),
        ("__MACOSX/a/._x.csv", b"junk"),
        (
            "bitfinex-ethusd-1m.csv.gz",
            &gzip("1388534520000,2,bad,3,1,0.5\n"),
        ),
        ("readme.txt", b"about these files"),
        ("bitfinex-ltcusd-5m.csv", candles(9, 1).as_bytes()),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let from_file = drain(
        reader::<Bar>(
            Source::open(file.path(), Limits::default()).unwrap(),
            &Options::default(),
        )
        .unwrap(),
    );
    let from_stream = read::<Bar>("x.zip", bytes, &Options::default());
    for read in [&from_file, &from_stream] {
        assert_eq!(read.counts(), (4, 1, 0));
        assert_eq!(read.lines(), [1, 2, 3, 1]);
        let Some(Verdict::Record(last)) = read.verdicts.last() else {
            panic!()
        };
        assert_eq!(last.ordinal, 4);
        assert_eq!(last.sourced.record.symbol.as_str(), "LTCUSD");
        assert_eq!(last.sourced.record.timeframe.to_string(), "5m");
        assert!(
            read.notes.iter().any(|n| n.contains("left out readme.txt")),
            "{:?}",
            read.notes
        );
    }
    let bad = &from_stream.invalid()[0].origin;
    assert_eq!(
        (bad.path.as_ref(), bad.line),
        ("x.zip!bitfinex-ethusd-1m.csv.gz", 1)
    );
}

#[test]
fn an_entry_whose_name_gives_no_symbol_is_an_error_not_the_last_symbol() {
    let bytes = zip_of(&[
        ("bitfinex-btcusd-1m.csv", candles(0, 3).as_bytes()),
        ("other.csv", candles(5, 3).as_bytes()),
    ]);
    let read = read::<Bar>("x.zip", bytes, &Options::default());
    assert_eq!(read.counts(), (3, 0, 0));
    assert!(matches!(
        read.error,
        Some(ReadError::Missing {
            flag: "--symbol",
            ..
        })
    ));
}

#[test]
fn a_damaged_zip_entry_is_an_error_after_its_rows() {
    let text = candles(0, 100);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file(NAME, stored).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    let at = bytes.windows(3).rposition(|w| w == b"0.5").unwrap();
    bytes[at] = b'7';
    let read = read::<Bar>("x.zip", bytes, &Options::default());
    assert_eq!(read.counts().0, 100);
    let Some(error) = read.error else {
        panic!("the checksum was not looked at")
    };
    assert_eq!(
        error.to_string(),
        "cannot read x.zip!bitfinex-btcusd-1m.csv after line 100"
    );
}

#[test]
fn junk_is_refused_and_empty_input_too() {
    let junk: Vec<u8> = (0..4_000_u32).map(|i| (i * i % 251) as u8).collect();
    let error = try_bytes::<Bar>("x", junk.clone(), &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "x is not recognised: it is not text; pass --format, or --map field=column for a delimited file (docs/formats.md lists both)"
    );
    let error = try_bytes::<Bar>("x", "", &Options::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("x is not recognised: it is empty"),
        "{error}"
    );
    assert!(error.is_usage());

    // Told what it is, the reader finds no record in either.
    let empty = read::<Bar>("x", "", &format("ndjson"));
    assert_eq!((empty.counts(), empty.error.is_none()), ((0, 0, 0), true));
    let junk = read::<Bar>("x", junk, &format("ndjson"));
    assert!(junk.counts().0 == 0 && junk.counts().1 > 0);
    assert_eq!(junk.invalid()[0].code, "not_utf8");
}

#[test]
fn a_zip_without_entries_has_no_rows() {
    let error = try_bytes::<Bar>("x.zip", zip_of(&[]), &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotRecognised { .. }), "{error}");
    let read = read::<Bar>("x.zip", zip_of(&[]), &format("ndjson"));
    assert_eq!(read.counts(), (0, 0, 0));
}

#[test]
fn utf16_is_named() {
    let error = try_bytes::<Bar>("x", *b"\xFF\xFEt\0s\0", &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Utf16 { .. }));
}

#[test]
fn an_over_long_line_is_one_bad_line() {
    let limits = Limits {
        line_bytes: 100_000,
        ..Limits::default()
    };
    let long = "9".repeat(3_000_000);
    let text = format!("{}{long}\r\n{}", candles(0, 2), candles(2, 2));
    let source = Source::from_reader(NAME, Cursor::new(text), limits).unwrap();
    let read = drain(reader::<Bar>(source, &Options::default()).unwrap());
    assert_eq!(read.lines(), [1, 2, 4, 5]);
    assert_eq!(read.faults(), [(3, "line", "line_too_long")]);
    let bad = read.invalid()[0];
    assert!(bad.truncated);
    assert_eq!(bad.raw.len(), RAW_LIMIT);
}

#[test]
fn a_document_beyond_the_limit_is_an_error() {
    let limits = Limits {
        document_bytes: 1_000,
        ..Limits::default()
    };
    let row = r#"{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z"}"#;
    let text = format!("[{}]", vec![row; 50].join(","));
    let source = Source::from_reader("x.json", Cursor::new(text), limits).unwrap();
    let read = drain(reader::<Bar>(source, &Options::default()).unwrap());
    assert!(matches!(
        read.error,
        Some(ReadError::TooLarge { limit: 1_000, .. })
    ));
}

#[test]
fn what_unpacks_to_more_than_the_limit_is_an_error() {
    let limits = Limits {
        unpacked_bytes: 100_000,
        ..Limits::default()
    };
    let bytes = gzip(&candles(0, 50_000));
    let source = Source::from_reader(NAME, Cursor::new(bytes), limits).unwrap();
    let read = drain(reader::<Bar>(source, &Options::default()).unwrap());
    // 100,000 bytes are 3,448 lines of 29, and a torn one.
    assert_eq!(read.counts(), (3_448, 0, 0));
    assert!(
        matches!(read.error, Some(ReadError::Io { .. })),
        "{:?}",
        read.error
    );
}

/// A stream that gives a byte or two at a time.
struct Drip(Cursor<Vec<u8>>, usize);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 3 + 1;
        let count = self.1.min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn how_the_bytes_arrive_changes_nothing() {
    let mut text = "\u{feff}".to_owned();
    text.push_str(&candles(0, 300));
    text.push_str("1388534520000,2,2.5,3,1,0.5");
    let source = Source::from_reader(
        "-",
        Drip(Cursor::new(text.into_bytes()), 0),
        Limits::default(),
    );
    let options = Options {
        format: Some("bitfinex".parse().unwrap()),
        ..series("btcusd", "1m")
    };
    let read = drain(reader::<Bar>(source.unwrap(), &options).unwrap());
    assert_eq!(read.counts(), (301, 0, 0));
    assert_eq!(read.lines()[300], 301);
}

#[test]
fn chunks_are_about_as_long_as_asked_for() {
    let source = Source::from_reader(NAME, Cursor::new(candles(0, 25)), Limits::default()).unwrap();
    let mut reader = reader::<Bar>(source, &Options::default()).unwrap();
    // What there is to tell is told before the first row is read.
    assert!(
        reader
            .notes()
            .contains(&"symbol BTCUSD: from the file name".to_owned())
    );
    let mut verdicts = Vec::new();
    let mut counts = Vec::new();
    loop {
        let count = reader.next_chunk(&mut verdicts, 10).unwrap();
        counts.push(count);
        if count == 0 {
            break;
        }
    }
    assert_eq!(counts, [10, 10, 5, 0]);
    assert_eq!(verdicts.len(), 25);
}

#[test]
fn a_reader_can_go_to_another_thread() {
    let source = Source::from_reader(NAME, Cursor::new(candles(0, 5)), Limits::default()).unwrap();
    let reader = reader::<Bar>(source, &Options::default()).unwrap();
    let read = std::thread::spawn(move || drain(reader)).join().unwrap();
    assert_eq!(read.counts(), (5, 0, 0));
}

#[test]
fn progress_is_counted_in_packed_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("bitfinex-btcusd-1m.csv.gz", gzip(&candles(0, 20_000))),
        ("b.zip", zip_of(&[(NAME, candles(0, 20_000).as_bytes())])),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let source = Source::open(&path, Limits::default()).unwrap();
        let mut reader = reader::<Bar>(source, &Options::default()).unwrap();
        let mut verdicts = Vec::new();
        while reader.next_chunk(&mut verdicts, 1_000).unwrap() > 0 {}
        assert_eq!(verdicts.len(), 20_000);
        assert_eq!(reader.length(), Some(bytes.len() as u64));
        let read = reader.bytes_read();
        assert!(
            read <= bytes.len() as u64 && read > bytes.len() as u64 / 2,
            "{read}"
        );
    }
}

#[test]
fn a_folder_or_a_missing_file_says_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let error = Source::open(folder.path(), Limits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Io {
                operation: "read",
                ..
            }
        ),
        "{error}"
    );
    let error = Source::open(folder.path().join("x"), Limits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Io {
                operation: "open",
                ..
            }
        ),
        "{error}"
    );
}
