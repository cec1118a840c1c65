//! What an input is by its first bytes, and how far it is looked at.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use mds_core::Bar;
use mds_formats::{Limits, Source, reader};

use crate::support::{daily, drain, format, read, refusal, told, try_bytes};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..5].copy_from_slice(b"a.csv");
    bytes[257..263].copy_from_slice(b"ustar\0");
    bytes
}

#[test]
fn what_is_no_text_is_named_whatever_the_options_say() {
    let twice = gzip(&gzip(b"ts,close_price\n"));
    let packed_tar = gzip(&tar());
    let cases: [(&[u8], &str); 13] = [
        (&twice, "gzip within gzip; unpack it once (gunzip)"),
        (
            &tar(),
            "a tar archive; unpack it (tar -xf) and pass its files",
        ),
        (
            &packed_tar,
            "a tar archive; unpack it (tar -xf) and pass its files",
        ),
        (
            b"BZh91AY&SY\x01\x02\x03",
            "packed with bzip2; unpack it (bunzip2) first",
        ),
        (
            b"\xFD7zXZ\0\0\x04",
            "packed with xz; unpack it (unxz) first",
        ),
        (
            b"\x28\xB5\x2F\xFD\x24\x05",
            "packed with zstd; unpack it (unzstd) first",
        ),
        (
            b"7z\xBC\xAF\x27\x1C\0\x04",
            "a 7z archive; unpack it and pass the files in it",
        ),
        (
            b"PAR1\x15\x04\x15\x10",
            "a Parquet file; export what it holds as CSV first",
        ),
        (
            b"SQLite format 3\0\x10\0",
            "a SQLite data base; export what it holds as CSV first",
        ),
        (
            b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0\0",
            "an old Office document (such as .xls); export what it holds as CSV first",
        ),
        (
            b"%PDF-1.7\n%x\n",
            "a PDF document; export what it holds as CSV first",
        ),
        (
            b"<!DOCTYPE html>\n<html>",
            "an HTML page; check where it was downloaded from",
        ),
        (
            b"t\0s\0,\0c\0l\0o\0s\0e\0",
            "UTF-16 text; convert it to UTF-8 (iconv -f UTF-16LE -t UTF-8) first",
        ),
    ];
    for (bytes, named) in cases {
        for options in [daily(), format("csv")] {
            assert_eq!(
                refusal::<Bar>("x", bytes, &options),
                format!("x is {named}")
            );
        }
    }
}

#[test]
fn a_word_that_looks_like_magic_is_a_word() {
    let text = "ORC,ts,close_price\n1,2024-01-02,1\n";
    assert_eq!(read::<Bar>("x.csv", text, &daily()).counts(), (1, 0, 0));
}

#[test]
fn a_cut_json_document_is_told_with_one_line() {
    let text = "[\n{\"ts\":\"2024-01-02T00:00:00Z\",\"close_price\":1},\n{\"ts\":\"2024-01-03T0";
    let array = read::<Bar>("x.json", text, &daily());
    assert_eq!(array.lines(), [2]);
    assert_eq!(
        told(&array),
        "x.json, line 3: the JSON document cannot be read on: EOF while parsing a string (column 19)"
    );
}

fn line(title: usize) -> String {
    format!(
        "{{\"vendor\":\"v\",\"published_at\":\"2024-01-02T00:00:00Z\",\"title\":\"{}\"}}\n",
        "x".repeat(title)
    )
}

#[test]
fn a_format_is_known_by_its_first_line_however_long_or_late_it_is() {
    let long = line(300_000) + &line(5);
    let read_long = read::<mds_core::News>("x", long, &daily());
    assert_eq!(
        (read_long.format, read_long.counts()),
        ("ndjson", (2, 0, 0))
    );
    let late = "\n".repeat(100_000) + &line(5);
    let late = read::<mds_core::News>("x", late, &daily());
    assert_eq!((late.format, late.lines()), ("ndjson", vec![100_001]));

    // More blank lines than lines of a stream are looked at.
    let late = "\n".repeat(20) + &line(5);
    let late = read::<mds_core::News>("x", late, &daily());
    assert_eq!((late.format, late.lines()), ("ndjson", vec![21]));
}

#[test]
fn lines_up_to_the_limit_are_read_and_no_longer_ones() {
    let limit = 100_000;
    let limits = Limits {
        line_bytes: limit,
        ..Limits::default()
    };
    let bytes = line(0).trim_end().len();
    let fits = line(limit - bytes);
    let ends = fits.trim_end();
    let over = line(limit - bytes + 1);
    let short = line(5);
    for text in [
        format!("{short}{fits}{over}{short}"),
        format!("{short}{ends}\r\n{over}{short}"),
        format!("{short}{fits}{over}{}", short.trim_end()),
        format!("{short}{short}{over}{ends}"),
    ] {
        let source = Source::from_reader("x", Cursor::new(text), limits).unwrap();
        let read = drain(reader::<mds_core::News>(source, &daily()).unwrap());
        assert_eq!(read.faults(), [(3, "line", "line_too_long")]);
        assert_eq!(read.lines(), [1, 2, 4]);
    }
    let error = try_bytes::<Bar>("x", line(20 << 20), &daily()).unwrap_err();
    assert!(error.is_usage(), "{error}");
}
