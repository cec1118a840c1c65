//! Odd files and surroundings that a user meets.

use std::ffi::OsStr;
use std::fs;

use mds_core::Bar;

use super::{HEADER, bars, gzip, letters, places, rows};
use crate::data::count;
use crate::run::Place;

/// Ingests one file of bars.
#[track_caller]
fn ingest(name: &str, content: impl AsRef<[u8]>, code: i32, books: &str) -> Place {
    let place = Place::new();
    fs::write(place.path(name), content).unwrap();
    let outcome = place.run(&["ingest", "bars", name, "--json"]).code(code);
    assert_eq!(outcome.books(), books);
    place
}

#[test]
fn line_ends_of_other_systems() {
    let text = format!("{}acme,ABC,1m,never,1\n", bars(3)).replace('\n', "\r\n");
    let place = ingest("bars.csv", text, 3, "read 4, written 3, dead_lettered 1");
    let letters = letters(&place, ".dlq/bars.ndjson");
    assert_eq!(places(&letters), ["bars.csv:5"]);
    assert_eq!(letters[0]["items"][0], "acme,ABC,1m,never,1");
}

#[test]
fn a_byte_order_mark() {
    ingest(
        "bars.csv",
        format!("\u{feff}{}", bars(3)),
        0,
        "read 3, written 3",
    );
}

#[test]
fn a_last_line_without_an_end() {
    let text = bars(3);
    ingest("bars.csv", text.trim_end(), 0, "read 3, written 3");
}

#[test]
fn only_a_header() {
    ingest("bars.csv", HEADER, 0, "");
}

#[test]
fn nothing_at_all() {
    let place = ingest("bars.csv", "", 2, "");
    fs::write(place.path("bars.gz"), gzip("")).unwrap();
    place
        .run(&["ingest", "bars", "bars.gz"])
        .code(2)
        .says("bars.gz is not recognised: it is empty");
    // Whoever names the format says that an empty file is a file without rows.
    let named = place
        .run(&["ingest", "bars", "bars.csv", "--format", "ndjson", "--json"])
        .code(0);
    assert_eq!(named.books(), "");
}

#[test]
fn blanks_and_dashes_in_a_name() {
    let place = ingest(" a b.csv ", bars(3), 0, "read 3, written 3");
    place.write("-x.csv", &bars(4));
    let outcome = place
        .run(&["ingest", "bars", "--json", "--", "-x.csv"])
        .code(0);
    assert_eq!(outcome.books(), "read 4, written 4");
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_text() {
    use std::os::unix::ffi::OsStrExt as _;

    let place = Place::new();
    let name = OsStr::from_bytes(b"b\xffrs.csv");
    let path = place.path("").join(name);
    if let Err(error) = fs::write(&path, format!("{}acme,ABC,1m,never,1\n", bars(3))) {
        crate::run::skip(&format!("this file system has no such names: {error}"));
        return;
    }
    let output = place
        .command(&["ingest", "bars", "--json"])
        .arg(name)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(count::<Bar>(&place), 3);
    let letters = letters(&place, ".dlq/bars.ndjson");
    assert_eq!(places(&letters), ["b\u{fffd}rs.csv:5"]);
}

#[test]
fn text_in_another_encoding() {
    let utf16: Vec<u8> = format!("\u{feff}{}", bars(3))
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let place = ingest("bars.csv", utf16, 2, "");
    place
        .run(&["ingest", "bars", "bars.csv"])
        .code(2)
        .errors(&["bars.csv is UTF-16 text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8) first"]);
}

#[test]
fn a_row_with_bytes_that_are_no_text() {
    let mut text = bars(3).into_bytes();
    text.extend(b"acme,\xff\xfe,1m,2024-11-01T00:00:00Z,1\n");
    let place = ingest("bars.csv", text, 3, "read 4, written 3, dead_lettered 1");
    assert_eq!(places(&letters(&place, ".dlq/bars.ndjson")), ["bars.csv:5"]);
}

#[test]
fn nobody_reads_the_report() {
    let place = Place::new();
    place.write("bars.csv", &format!("{}acme,ABC,1m,never,1\n", bars(3)));
    // `mds ingest ... | head -0`: the rows are in, and the code says what it always does.
    let script = "\"$0\" ingest bars bars.csv; echo $? > code";
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_mds")])
        .current_dir(place.path(""))
        .stdin(std::process::Stdio::null())
        .stdout(closed_pipe())
        .stderr(std::process::Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!(fs::read_to_string(place.path("code")).unwrap(), "3\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        !stderr.contains("error") && !stderr.contains("panick"),
        "{stderr}"
    );
    assert_eq!(count::<Bar>(&place), 3);
}

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        crate::run::skip("there is no /dev/full");
        return;
    };
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    let output = place
        .command(&["ingest", "bars", "bars.csv", "--json"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("error: cannot print the report: No space left"),
        "{stderr}"
    );
    assert_eq!(count::<Bar>(&place), 3);
}

#[test]
fn a_pipe_with_a_name_is_read_like_standard_input() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo")
        .arg(place.path("pipe"))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        crate::run::skip("mkfifo cannot make a pipe here");
        return;
    }
    let running = place.start(&["ingest", "bars", "pipe", "--json"]);
    fs::write(place.path("pipe"), bars(3)).unwrap();
    let outcome = running
        .outcome()
        .code(0)
        .says("pipe: not a regular file: revisions start at ");
    assert_eq!(outcome.books(), "read 3, written 3");
}

#[test]
fn a_file_that_has_grown_is_a_new_file() {
    let place = ingest("bars.csv", bars(3), 0, "read 3, written 3");
    place.write("bars.csv", &format!("{}{}", bars(3), rows(3..5)));
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(0);
    // Its content is new, so its rows are newer revisions.
    assert_eq!(outcome.books(), "read 5, written 5");
    assert_eq!(count::<Bar>(&place), 5);
}
