//! Settling, replaying and removing.

use std::fs;

use mds_coordinator::dead_letter::{Letter, LetterDraft, LetterFilter, Reason, Reclaimed};

use super::{Dlq, draft, drafts, folder, letters, names, number, numbers, open, small_files};

fn rotated_queue(path: &std::path::Path, letters: u64) -> Dlq {
    let dlq = Dlq::open(path, small_files()).unwrap();
    for i in 0..letters {
        dlq.append(drafts(i..i + 1)).unwrap();
    }
    dlq
}

#[test]
fn a_file_goes_when_all_its_letters_are_settled_and_not_before() {
    let (dir, path) = folder();
    let dlq = rotated_queue(&path, 20);
    let first = dir.path().join("bars.000001.ndjson");
    let second = dir.path().join("bars.000002.ndjson");
    let in_first: Vec<_> = letters(&dlq)
        .into_iter()
        .filter(|letter| letter.path == first)
        .map(|letter| letter.id)
        .collect();
    let (last, others) = in_first.split_last().unwrap();

    assert_eq!(dlq.settle(others).unwrap(), others.len() as u64);
    assert!(first.exists());
    assert_eq!(numbers(&dlq).len(), 20 - others.len());
    assert_eq!(dlq.settle(&[*last]).unwrap(), 1);
    assert!(!first.exists() && second.exists());
    assert_eq!(dlq.settle(&[*last]).unwrap(), 0, "it is gone");
    // The marks of what was in the file went with it.
    assert_eq!(
        fs::read_to_string(dir.path().join("bars.ndjson.settled")).unwrap(),
        ""
    );
    let next = dlq.append(drafts(20..30)).unwrap();
    assert!(next.rotated);
    assert_eq!(
        numbers(&dlq),
        (in_first.len() as u64..30).collect::<Vec<_>>()
    );

    assert_eq!(
        dlq.purge(LetterFilter::default()).unwrap(),
        30 - in_first.len() as u64
    );
    assert_eq!(names(&dir), [""; 0]);
    assert_eq!(dlq.append(drafts(0..1)).unwrap().ids.len(), 1);
    assert_eq!(numbers(&dlq), [0]);
}

#[test]
fn a_purged_record_that_is_given_up_again_is_a_letter_again() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..2)).unwrap();
    let id = draft(0).id();
    assert_eq!(
        dlq.purge(LetterFilter {
            ids: vec![id],
            ..LetterFilter::default()
        })
        .unwrap(),
        1
    );
    assert_eq!(numbers(&dlq), [1]);
    dlq.append(vec![draft(0)]).unwrap();
    assert_eq!(numbers(&dlq), [1, 0]);
}

#[test]
fn a_replayer_gives_each_letter_once_and_leaves_later_ones() {
    let (dir, path) = folder();
    let dlq = rotated_queue(&path, 12);
    let mut replayer = dlq.replayer(LetterFilter::default()).unwrap();
    let mut seen = Vec::new();
    loop {
        let batch = replayer.next_batch(5).unwrap();
        if batch.is_empty() {
            break;
        }
        for letter in &batch {
            seen.push(number(letter));
            // Each fails again: the new letter first, then the old one is settled.
            let again = LetterDraft {
                replays: letter.replays() + 1,
                replaces: Some(letter.id),
                reason: Reason::RetriesExhausted,
                ..draft(number(letter))
            };
            dlq.append(vec![again]).unwrap();
        }
        let keys: Vec<_> = batch.iter().map(Letter::key).collect();
        replayer.settle(&keys).unwrap();
    }
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    assert_eq!(replayer.settled(), 12);
    let Reclaimed { files, .. } = replayer.finish().unwrap();
    assert!(files > 1, "{files}");
    assert!(!dir.path().join("bars.000001.ndjson").exists());

    let again = letters(&dlq);
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), seen);
    assert!(again.iter().all(|letter| letter.replays() == 1));
}

#[test]
fn a_replayer_is_filtered_and_what_it_does_not_settle_stays() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..6)).unwrap();
    let filter = LetterFilter {
        code: Some("23511".to_owned()),
        ..LetterFilter::default()
    };
    let mut replayer = dlq.replayer(filter.clone()).unwrap();
    let batch = replayer.next_batch(100).unwrap();
    assert_eq!(batch.iter().map(number).collect::<Vec<_>>(), [1, 3, 5]);
    replayer.settle(&[batch[1].key()]).unwrap();
    drop(replayer);
    assert_eq!(numbers(&dlq), [0, 1, 2, 4, 5]);

    let mut replayer = dlq.replayer(filter).unwrap();
    let batch = replayer.next_batch(100).unwrap();
    assert_eq!(batch.iter().map(number).collect::<Vec<_>>(), [1, 5]);
}

#[test]
fn a_copy_that_a_kill_left_beside_the_newer_one_is_settled_with_it() {
    let (dir, path) = folder();
    let dlq = open(&path);
    let again = LetterDraft {
        replays: 1,
        replaces: Some(draft(3).id()),
        ..draft(3)
    };
    dlq.append(vec![draft(3), again]).unwrap();
    let mut replayer = dlq.replayer(LetterFilter::default()).unwrap();
    let batch = replayer.next_batch(10).unwrap();
    assert_eq!((batch.len(), batch[0].replays()), (1, 1));
    replayer.settle(&[batch[0].key()]).unwrap();
    replayer.finish().unwrap();
    assert_eq!(names(&dir), [""; 0]);
}

#[test]
fn settling_at_the_same_time_forgets_nothing() {
    let (dir, path) = folder();
    let dlq = rotated_queue(&path, 60);
    std::thread::scope(|scope| {
        for own in 0..4 {
            let dlq = dlq.clone();
            scope.spawn(move || {
                for n in (own..60).step_by(4) {
                    assert_eq!(dlq.settle(&[draft(n).id()]).unwrap(), 1, "{n}");
                    let gone = numbers(&dlq)
                        .into_iter()
                        .all(|left| left % 4 != own || left > n);
                    assert!(gone, "a letter up to {n} came back");
                }
            });
        }
    });
    assert_eq!(names(&dir), [""; 0]);
}

#[test]
fn a_mark_that_was_cut_off_settles_nothing() {
    let (dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..3)).unwrap();
    let id = draft(0).id();
    dlq.settle(&[id]).unwrap();
    let settled = dir.path().join("bars.ndjson.settled");
    let marks = fs::read_to_string(&settled).unwrap();
    assert!(marks.ends_with(&format!(" {id}\n")), "{marks}");
    // Cut anywhere inside the fingerprint, the mark says nothing, and the next one is whole.
    for cut in [1, 8, 32, 35] {
        fs::write(&settled, &marks[..cut]).unwrap();
        assert_eq!(numbers(&dlq), [0, 1, 2], "{cut}");
        dlq.settle(&[draft(1).id()]).unwrap();
        assert_eq!(numbers(&dlq), [0, 2], "{cut}");
    }
}
