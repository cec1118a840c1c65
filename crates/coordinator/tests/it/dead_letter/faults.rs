//! Torn lines, full disks, places that cannot be written to, files that go away.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use mds_coordinator::dead_letter::{DlqError, DlqOptions, Letter, LetterFilter};
use mds_core::ErrorKind;

use super::{Dlq, damaged, draft, drafts, folder, names, numbers, open, small_files};

#[test]
fn a_torn_line_stays_one_line_and_the_next_letter_is_whole() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..2)).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let second = whole.find('\n').unwrap() + 1;
    for cut in second + 1..whole.len() - 1 {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!((numbers(&dlq), damaged(&dlq)), (vec![0], 1), "{cut}");
        dlq.append(drafts(2..3)).unwrap();
        assert_eq!((numbers(&dlq), damaged(&dlq)), (vec![0, 2], 1), "{cut}");
    }
    // Only the line break is missing: nothing is damaged.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(numbers(&dlq), [0, 1]);
    dlq.append(drafts(2..3)).unwrap();
    assert_eq!((numbers(&dlq), damaged(&dlq)), (vec![0, 1, 2], 0));
}

#[test]
fn a_line_that_is_being_written_is_waited_for() {
    let (dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..1)).unwrap();
    let line = fs::read(&path).unwrap();
    let lock = fs::File::open(dir.path().join("bars.ndjson.lock")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Another process that appends, stopped in the middle of each line.
            for _ in 0..500 {
                lock.lock().unwrap();
                let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                file.write_all(&line[..100]).unwrap();
                std::thread::yield_now();
                file.write_all(&line[100..]).unwrap();
                lock.unlock().unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            assert_eq!((numbers(&dlq), damaged(&dlq)), (vec![0], 0));
        }
    });
}

#[test]
fn bytes_of_any_kind_are_damage_and_nothing_worse() {
    let mut rng = super::rng();
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..3)).unwrap();
    let good = fs::read(&path).unwrap();
    for _ in 0..200 {
        let mut bytes = good.clone();
        for _ in 0..rng.usize(1..20) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        fs::write(&path, &bytes).unwrap();
        let found = dlq.list(LetterFilter::default()).unwrap().len();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
            .count();
        assert!(found <= lines && found > 0);
    }
    fs::write(&path, [0; 10_000]).unwrap();
    assert_eq!((numbers(&dlq), damaged(&dlq)), (vec![], 1));
}

#[test]
fn only_the_owner_can_read_letters() {
    let (dir, path) = folder();
    let dlq = Dlq::open(&path, small_files()).unwrap();
    for i in 0..10 {
        dlq.append(drafts(i..i + 1)).unwrap();
    }
    dlq.settle(&[draft(9).id()]).unwrap();
    let files = names(&dir);
    assert!(files.len() > 3, "{files:?}");
    for name in files {
        let mode = fs::metadata(dir.path().join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn missing_folders_are_made_if_asked() {
    let (dir, _) = folder();
    let path = dir.path().join("a/b/.dlq/bars.ndjson");
    let strict = DlqOptions {
        mkdirs: false,
        ..DlqOptions::default()
    };
    assert!(matches!(
        Dlq::open(&path, strict),
        Err(DlqError::Lock { .. })
    ));
    let dlq = open(&path);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);

    // Somebody cleans up while we run.
    dlq.append(drafts(0..1)).unwrap();
    fs::remove_dir_all(dir.path().join("a")).unwrap();
    assert_eq!(numbers(&dlq), [0; 0]);
    assert_eq!(dlq.purge_damaged().unwrap(), 0);
    dlq.append(drafts(1..2)).unwrap();
    assert_eq!(numbers(&dlq), [1]);
}

#[test]
fn a_file_that_was_moved_away_is_not_written_to() {
    let (dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..1)).unwrap();
    let moved = dir.path().join("evidence");
    fs::rename(&path, &moved).unwrap();
    dlq.append(drafts(1..2)).unwrap();
    assert_eq!(numbers(&dlq), [1]);
    assert_eq!(fs::read_to_string(moved).unwrap().lines().count(), 1);
}

#[test]
fn a_place_that_cannot_be_written_to_is_an_error_at_once() {
    let (dir, path) = folder();
    let opened = |path: &std::path::Path| Dlq::open(path, DlqOptions::default());
    fs::write(&path, "").unwrap();
    assert!(matches!(
        opened(&path.join("x.ndjson")),
        Err(DlqError::CreateFolder { path: folder, .. }) if folder == path
    ));
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    assert!(matches!(opened(&folder), Err(DlqError::Open { path, .. }) if path == folder));
    assert!(matches!(
        opened("..".as_ref()),
        Err(DlqError::NotAFile { .. })
    ));

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("probe"), "").is_ok() {
        eprintln!("a read-only folder does not stop this user; that part is not tested");
        return;
    }
    let error = opened(&folder.join("x.ndjson")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(
        error.to_string().contains("the folder must be writable"),
        "{error}"
    );
}

#[test]
fn letters_can_be_read_where_nothing_can_be_written() {
    let (dir, path) = folder();
    open(&path).append(drafts(0..2)).unwrap();
    fs::remove_file(dir.path().join("bars.ndjson.lock")).unwrap();
    let dlq = Dlq::at(&path, DlqOptions::default()).unwrap();
    assert_eq!(numbers(&dlq), [0, 1]);
    assert_eq!(names(&dir), ["bars.ndjson"], "reading makes no file");

    let nowhere = Dlq::at("/nonexistent/bars.ndjson", DlqOptions::default()).unwrap();
    assert_eq!(numbers(&nowhere), [0; 0]);
    assert_eq!(nowhere.bytes().unwrap(), 0);
}

#[test]
fn a_full_disk_is_an_outage() {
    let full = std::path::Path::new("/dev/full");
    if !full.exists() {
        eprintln!("there is no /dev/full; not tested");
        return;
    }
    let (_dir, path) = folder();
    std::os::unix::fs::symlink(full, &path).unwrap();
    let error = open(&path).append(drafts(0..1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment);
    let DlqError::Write {
        path: named,
        source,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((named, source.kind()), (path, io::ErrorKind::StorageFull));
}

#[test]
fn the_bound_on_all_letters_refuses_more_until_some_are_settled() {
    let (dir, path) = folder();
    let options = DlqOptions {
        max_total_bytes: 5_000,
        ..small_files()
    };
    let dlq = Dlq::open(&path, options).unwrap();
    let mut kept = 0;
    let error = loop {
        match dlq.append(drafts(kept..kept + 1)) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Environment);
    let used = dlq.bytes().unwrap();
    assert!(used <= 5_000 && used > 4_000, "{used}");
    assert!(
        matches!(&error, DlqError::Full { limit: 5_000, used: u, needed, .. } if *u == used && used + needed > 5_000),
        "{error}"
    );
    assert_eq!(
        numbers(&dlq),
        (0..kept).collect::<Vec<_>>(),
        "the refused letter left nothing"
    );

    // The bytes are counted on disk, so cleaning up by hand helps too.
    fs::remove_file(dir.path().join("bars.000001.ndjson")).unwrap();
    dlq.append(drafts(100..101)).unwrap();

    // Settled letters make room even where whoever settled them was killed before removing files.
    let first = super::letters(&dlq)[0].path.clone();
    let mut replayer = dlq.replayer(LetterFilter::default()).unwrap();
    let batch = replayer.next_batch(1_000).unwrap();
    let keys: Vec<_> = batch
        .iter()
        .filter(|l| l.path == first)
        .map(Letter::key)
        .collect();
    replayer.settle(&keys).unwrap();
    drop(replayer);
    assert!(first.exists());
    let mut more = 0;
    while dlq.append(drafts(200 + more..201 + more)).is_ok() {
        more += 1;
    }
    assert!(!first.exists());
    assert!(more > 3, "{more}");
}

#[test]
fn an_unfinished_rotated_file_is_read_to_its_end() {
    let (dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..2)).unwrap();
    let rotated = dir.path().join("bars.000009.ndjson");
    fs::rename(&path, &rotated).unwrap();
    let mut file = OpenOptions::new().append(true).open(&rotated).unwrap();
    file.write_all(b"{\"ts\":1").unwrap();
    dlq.append(drafts(2..3)).unwrap();
    assert_eq!((numbers(&dlq), damaged(&dlq)), (vec![0, 1, 2], 1));
}

#[test]
fn opening_does_not_wait_for_ever_for_somebody_elses_lock() {
    let (dir, path) = folder();
    let holder = fs::File::create(dir.path().join("bars.ndjson.lock")).unwrap();
    holder.lock().unwrap();
    let options = DlqOptions {
        lock_wait: std::time::Duration::from_millis(30),
        ..small_files()
    };
    let error = Dlq::open(&path, options.clone()).unwrap_err();
    let DlqError::Lock { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(error.kind(), ErrorKind::Environment);
    drop(holder);
    Dlq::open(&path, options).unwrap();
}
