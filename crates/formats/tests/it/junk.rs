//! No bytes make a reader panic, and every row is told.

use std::io::Cursor;

use mds_core::{Bar, Fundamentals, News, OptionSnap};
use mds_formats::{Limits, Options, Readable, Source, Verdict, formats, reader};
use proptest::prelude::*;

use crate::support::series;

/// Pieces of which the formats are made, so that random text gets beyond the first check.
const PIECES: [&str; 34] = [
    "\"",
    ",",
    ";",
    "\n",
    "\r\n",
    "{",
    "}",
    "[",
    "]",
    ":",
    "null",
    "1",
    "-2.5e3",
    "1388534520000",
    "Date,Open,High,Low,Close,Adj Close,Volume\n",
    "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie\n",
    "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n",
    "2024-01-02",
    "\"ts\":",
    "\"2024-01-02T00:00:00Z\"",
    "\"facts\":{\"us-gaap\":{\"Assets\":{\"units\":{\"USD\":[",
    "\"cik\":1,",
    "{\"end\":\"2024-01-02\",\"val\":1,\"accn\":\"a\",\"filed\":\"2024-01-02\"}",
    "ts,close_price\n",
    "é",
    "\u{feff}",
    "\0",
    "NaN",
    "inf",
    "1e400",
    "9223372036854775807",
    "\\",
    "D",
    "99999999999999999999",
];

fn read_all<R: Readable>(bytes: &[u8], options: &Options) {
    let limits = Limits {
        line_bytes: 70_000,
        document_bytes: 1 << 20,
        unpacked_bytes: 1 << 22,
    };
    let Ok(source) = Source::from_reader("x", Cursor::new(bytes.to_vec()), limits) else {
        return;
    };
    let Ok(mut reader) = reader::<R>(source, options) else {
        return;
    };
    let mut verdicts = Vec::new();
    while matches!(reader.next_chunk(&mut verdicts, 7), Ok(1..)) {}
    let mut next = 0;
    for verdict in &verdicts {
        let ordinal = match verdict {
            Verdict::Record(row) => row.ordinal,
            Verdict::Invalid(row) => row.ordinal,
            Verdict::Skipped { .. } => continue,
        };
        assert_eq!(ordinal, next, "ordinals have no gaps");
        next += 1;
    }
}

fn read_as_everything(bytes: &[u8]) {
    let mut all = vec![
        Options::default(),
        Options {
            vendor: Some("v".into()),
            map: vec!["ts=1".parse().unwrap(), "close_price=2".parse().unwrap()],
            time_format: Some("epoch_s".parse().unwrap()),
            ..series("s", "1m")
        },
    ];
    all.extend(formats().iter().map(|&format| Options {
        format: Some(format),
        tz: Some("Europe/Warsaw".parse().unwrap()),
        ..series("s", "1d")
    }));
    for options in all {
        read_all::<Bar>(bytes, &options);
        read_all::<OptionSnap>(bytes, &options);
        read_all::<Fundamentals>(bytes, &options);
        read_all::<News>(bytes, &options);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn random_archives(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        magic in prop::sample::select(vec![&b"\x1F\x8B\x08\0"[..], b"PK\x03\x04", b"PK\x05\x06"]),
    ) {
        read_as_everything(&[magic, &bytes].concat());
    }

    #[test]
    fn random_pieces(pieces in proptest::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        read_as_everything(pieces.concat().as_bytes());
    }
}
