//! How far files were taken into a durable queue is believed only where the queue has their rows.

use std::fs;
use std::path::{Path, PathBuf};

use super::bars;
use crate::data::count;
use crate::process::Running;
use crate::run::{Outcome, Place};
use mds_core::Bar;

const ROWS: u64 = 60_000;
const INGEST: [&str; 6] = ["ingest", "bars", "bars.csv", "--queue", "disk:q", "--json"];
/// Segments of 4 MiB: the rows fill more than one, and all of them have room.
const SMALL: [(&str, &str); 1] = [("MDS_QUEUE_MAX_BYTES", "33554432")];

/// A batch that is never full, and never due: nothing is written.
const NO_BATCH: [(&str, &str); 4] = [
    ("MDS_COORDINATOR_MAX_BYTES", "1073741824"),
    ("MDS_COORDINATOR_CAPACITY", "100000"),
    ("MDS_COORDINATOR_BATCH_SIZE", "100000"),
    ("MDS_COORDINATOR_FLUSH_INTERVAL", "3600"),
];

/// A place where all rows of a file were taken into the queue, and none of them is in a store.
fn taken() -> Place {
    let place = Place::new();
    place.write("bars.csv", &bars(ROWS));
    // The other input never ends, and neither does the run.
    let args = ["ingest", "bars", "bars.csv", "-", "--queue", "disk:q"];
    let mut command = place.command(&args);
    let mut running = Running::new(command.envs(SMALL).envs(NO_BATCH));
    running.wait_for("format csv");
    let is_taken = |text: String| text.contains("\"is_whole\": true");
    while !fs::read_to_string(place.path("q/bars/inputs.json")).is_ok_and(is_taken) {
        std::thread::yield_now();
    }
    running.signal("KILL");
    drop(running);
    assert_eq!(count::<Bar>(&place), 0);
    place
}

fn ingest(place: &Place) -> Outcome {
    place.run_with_env(&INGEST, &SMALL)
}

/// The files of the queue whose names end so, by name.
fn parts(place: &Place, end: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(place.path("q/bars")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(end));
    files.sort();
    files
}

fn checkpoints(place: &Place) -> Vec<PathBuf> {
    [parts(place, "ack.0"), parts(place, "ack.1")].concat()
}

fn remove(files: &[PathBuf]) {
    assert!(!files.is_empty());
    for file in files {
        fs::remove_file(file).unwrap();
    }
}

/// The last segment with records in it.
fn last_segment(place: &Place) -> PathBuf {
    let mut segments = parts(place, ".seg");
    segments.retain(|path| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(3).any(|window| window == b"ABC")
    });
    assert!(segments.len() > 1);
    segments.pop().unwrap()
}

/// Flips a bit of a record of a segment.
fn flip(segment: &Path, record: usize) {
    let mut bytes = fs::read(segment).unwrap();
    let places = bytes.windows(3).enumerate();
    let mut places = places.filter(|(_, window)| *window == b"ABC");
    let at = places.nth(record).unwrap().0;
    bytes[at] ^= 1;
    fs::write(segment, bytes).unwrap();
}

fn edit_marks(place: &Place, from: &str, to: &str) {
    let path = place.path("q/bars/inputs.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn a_queue_that_has_the_rows_is_gone_on_with() {
    let place = taken();
    let resumed = ingest(&place).code(0);
    let resumed = resumed.says("bars.csv: all 60,000 rows were taken by an earlier run\n");
    assert!(!resumed.stderr.contains("anew"), "{resumed:?}");
    assert_eq!(count::<Bar>(&place), ROWS);
}

/// What is lost, what is done to the queue, and what is said to it.
type Loss = (&'static str, fn(&Place), &'static str);

#[test]
fn a_queue_without_its_past_gets_the_file_anew() {
    let losses: [Loss; 7] = [
        (
            "segments and checkpoints",
            |place| {
                remove(&parts(place, ".seg"));
                remove(&checkpoints(place));
            },
            "q/bars: the queue has lost its checkpoints: files are read anew from their beginning",
        ),
        (
            "all but the marks",
            |place| {
                remove(&parts(place, ".seg"));
                remove(&checkpoints(place));
                remove(&parts(place, "header"));
            },
            "q/bars: its marks are those of another queue: files are read anew",
        ),
        (
            "checkpoints and the last segment",
            |place| {
                remove(&checkpoints(place));
                remove(&[last_segment(place)]);
            },
            "q/bars: the queue has lost its checkpoints: files are read anew",
        ),
        (
            "checkpoints overwritten, and the tail of the last segment zeroed",
            |place| {
                for file in checkpoints(place) {
                    fs::write(file, [7; 4_096]).unwrap();
                }
                let last = last_segment(place);
                let mut bytes = fs::read(&last).unwrap();
                bytes[64 << 10..].fill(0);
                fs::write(last, bytes).unwrap();
            },
            "q/bars: the queue has lost its checkpoints: files are read anew",
        ),
        (
            "a segment, with checkpoints that know of it",
            |place| remove(&[last_segment(place)]),
            "q/bars: the queue has lost records that were durable: files are read anew",
        ),
        (
            "the number of the queue, which earlier versions did not write",
            |place| edit_marks(place, "\"queue\":", "\"nothing\":"),
            "q/bars: its marks are those of another queue: files are read anew",
        ),
        (
            "the end of the queue: put back as it was before",
            |place| edit_marks(place, "\"next\": ", "\"next\": 1"),
            "q/bars: the queue has lost records that were durable: files are read anew",
        ),
    ];
    for (what, lose, says) in losses {
        let place = taken();
        lose(&place);
        let again = ingest(&place).says(says);
        assert!(
            !again.stderr.contains("by an earlier run"),
            "{what}: {again:?}"
        );
        assert_eq!(count::<Bar>(&place), ROWS, "{what}");
    }
}

/// A header without any checkpoint is what is left of a queue.
#[test]
fn that_the_past_of_a_queue_is_lost_is_told_by_all_who_look_at_it() {
    let place = Place::new();
    place.write("bars.csv", &bars(10));
    place.run(&INGEST).code(0);
    remove(&parts(&place, ".seg"));
    remove(&checkpoints(&place));
    let lost = "a queue was there, and neither of its checkpoints can be read: nobody knows what \
                became of its records";
    let inspected = place.run(&["wal", "inspect", "q"]).code(3);
    assert!(inspected.stdout.contains(lost), "{inspected:?}");
    let verified = place.run(&["wal", "verify", "q"]).code(3);
    assert!(
        verified.stdout.contains(&format!("q/bars: {lost}\n")),
        "{verified:?}"
    );
    let json = place.run(&["wal", "verify", "q", "--json"]).code(3);
    assert!(json.stdout.contains("\"past_lost\":true"), "{json:?}");
    let books = place.run(&["audit", "--queue", "disk:q"]).code(1);
    assert!(books.stdout.contains("NO, past lost"), "{books:?}");
    books.says(&format!("q/bars: {lost}. `mds audit FILE...` tells"));
    let files = ["audit", "bars.csv", "--kind", "bars", "--queue", "disk:q"];
    place.run(&files).code(0).says(&format!("q/bars: {lost}\n"));
    let warning = format!("warning: q/bars: {lost}\n");
    place.run(&INGEST).code(0).says(&warning);
    // The next one has a past again.
    let next = place.run(&INGEST).code(0);
    assert!(!next.stderr.contains("warning"), "{next:?}");
    place.run(&["wal", "verify", "q"]).code(0);
}

/// Damage that is known when the first row is read: the same run reads its file anew.
#[test]
fn damage_at_the_start_is_told_once_and_asks_for_no_other_run() {
    let place = taken();
    flip(&last_segment(&place), 1_000);
    let again = ingest(&place).code(3);
    let again = again
        .says(" ERROR q/bars: 0000000000000002.seg: bytes ")
        .says("q/bars: records of the queue were damaged: files are read anew")
        .says("rows of the queue were damaged: the files of this run were read anew; ");
    assert_eq!(again.stderr.matches(" is lost").count(), 1, "{again:?}");
    assert_eq!(count::<Bar>(&place), ROWS);
}

/// That nobody knows what became of records is no damage.
#[test]
fn fates_that_are_lost_with_the_checkpoints_are_not_called_damage() {
    let place = Place::new();
    place.write("bars.csv", &bars(ROWS));
    ingest(&place).code(0);
    remove(&checkpoints(&place));
    ingest(&place).code(0);
    let audit = ["audit", "--queue", "disk:q"];
    let torn = place.run(&audit).code(1);
    let torn = torn.says(" of q/bars is not known: the checkpoints that said it are lost\n");
    assert!(!torn.stderr.contains("damaged"), "{torn:?}");
    let files = ["audit", "bars.csv", "--kind", "bars", "--queue", "disk:q"];
    let whole = place.run(&files).code(0);
    let whole = whole.says(
        " of the queue q/bars is not known: the checkpoints that said it are lost; every row of \
         these files is there\n",
    );
    assert!(!whole.stderr.contains("damage"), "{whole:?}");
    let json = place.run(&[&audit[..], &["--json"]].concat()).code(1);
    let book: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(book[0]["unknown"].as_u64().unwrap() > 0, "{json:?}");
    assert_eq!(
        (&book[0]["damaged"], &book[0]["unknown"]),
        (&0.into(), &book[0]["lost"])
    );
    let accept = ["wal", "accept-damage", "q"];
    place
        .run(&accept)
        .code(2)
        .says("this accepts that nobody knows what became of ");
    place
        .run(&[&accept[..], &["--yes", "--reason", "all are in"]].concat())
        .code(0)
        .says("q/bars: it is accepted that nobody knows what became of ");
    let settled = place.run(&audit).code(0);
    assert!(settled.stdout.contains("NO, accepted"), "{settled:?}");
    settled
        .says(" of q/bars is not known, which is accepted since ")
        .says(": all are in\n");
}

/// Whoever opens the queue first after the loss: the marks do not outlive it.
#[test]
fn marks_are_gone_once_the_queue_was_opened_without_its_past() {
    let place = taken();
    remove(&parts(&place, ".seg"));
    remove(&checkpoints(&place));
    let drain = ["ingest", "bars", "--queue", "disk:q"];
    place.run_with_env(&drain, &SMALL).code(0);
    assert!(!fs::read_to_string(place.path("q/bars/inputs.json")).is_ok_and(|t| t.contains("csv")));
    ingest(&place).code(0);
    assert_eq!(count::<Bar>(&place), ROWS);
}

/// Damage that is found only when the backlog is read, by a run without files.
#[test]
fn a_file_is_read_anew_after_a_run_that_found_rows_of_it_damaged() {
    let place = taken();
    let segments = parts(&place, ".seg");
    flip(&segments[0], 20_000);
    let drain = ["ingest", "bars", "--queue", "disk:q", "--json"];
    let drained = place.run_with_env(&drain, &SMALL).code(3);
    assert!(drained.books().ends_with(", damaged 1"), "{drained:?}");
    assert_eq!(count::<Bar>(&place), ROWS - 1);
    // Once, with the folder; and that there were no files to be read anew.
    let told = drained.stderr.matches("record 20001 is lost").count();
    assert_eq!(told, 1, "{drained:?}");
    drained
        .says("q/bars: 0000000000000001.seg: bytes ")
        .says("rows of the queue were damaged: ingest the files that they came from again; ");
    let says = "q/bars: records of the queue were damaged: files are read anew";
    ingest(&place).code(0).says(says);
    assert_eq!(count::<Bar>(&place), ROWS);
}
