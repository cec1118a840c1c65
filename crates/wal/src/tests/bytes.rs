//! The bytes on the disk, literally: they were computed apart from this code.

use crate::acks::{Acks, Settled};
use crate::checkpoint::Checkpoint;
use crate::identity::{Header, checksum};
use crate::record::Group;
use crate::segment::{SegmentHead, spare};

const SALT: u64 = 0x0123_4567_89ab_cdef;

fn hex(bytes: &[u8]) -> String {
    let text = bytes.iter().map(|byte| format!("{byte:02x}"));
    text.collect::<Vec<_>>().concat()
}

/// A block that is kept twice, up to the zeros behind its content.
fn pair(bytes: &[u8], content: usize) -> String {
    assert_eq!(bytes.len(), 4_096);
    assert_eq!(bytes[..2_048], bytes[2_048..]);
    assert!(bytes[8 + content..2_048].iter().all(|byte| *byte == 0));
    hex(&bytes[..8 + content])
}

#[test]
fn a_header() {
    let header = Header {
        salt: SALT,
        identity: "bars".to_owned(),
    };
    let expected = "c56aae1a160000004d445357414c51480100efcdab896745230162617273";
    assert_eq!(pair(&header.encode(), 22), expected);
}

#[test]
fn the_head_of_a_segment() {
    let head = SegmentHead {
        number: 3,
        first: 50,
        previous_end: 48,
        salt: SALT,
        is_reused: true,
        identity: Some(checksum("bars")),
    };
    let expected = "28ed7df52f0000004d445357414c53470200\
                    0300000000000000320000000000000030000000000000\
                    00efcdab896745230101717a7b2d";
    assert_eq!(pair(&head.encode(), 47), expected);
    let expected = "9c0b49ff0a0000004d445357414c53500200";
    assert_eq!(pair(&spare(), 10), expected);
}

#[test]
fn a_group_of_records() {
    let mut group = Group::new((5 << 32) + 7, Vec::new());
    group.push(b"one", SALT);
    group.push(b"", SALT);
    let bytes = group.on_disk();
    let expected = "a29585950300000007000000000000006f6e65\
                    60a5b3fd000000000800000001000000";
    assert_eq!((hex(&bytes[..35]).as_str(), bytes.len()), (expected, 4_096));
    assert!(bytes[35..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_checkpoint() {
    let mut acks = Acks::new(1);
    acks.settle(1..10, Settled::Class(0));
    acks.settle(12..15, Settled::Class(2));
    acks.settle(20..21, Settled::Damaged);
    let bytes = Checkpoint {
        generation: 5,
        salt: SALT,
        end: 30,
        acks,
    }
    .encode();
    let expected = [
        "4d445357414c43500100e600000042dacf63",
        "0500000000000000efcdab89674523010a000000000000001e00000000000000",
        "090000000000000000000000000000000300000000000000",
        &"0".repeat(13 * 16),
        "01000000000000000000000000000000",
        "020000000c000000000000000f0000000000000014000000000000001500000000000000",
    ];
    assert_eq!(hex(&bytes), expected.concat());
}
