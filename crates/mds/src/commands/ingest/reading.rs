//! How an input is read, as hashes by which the store remembers it.

use mds_formats::{EpochUnit, Options, TimeFormat};
use sha2::{Digest, Sha256};

/// A hash of the options that set records apart: the same content for another symbol is other
/// records.
pub(super) fn keys(options: &Options) -> [u8; 32] {
    hash([
        options.vendor.as_ref().map(ToString::to_string),
        options.symbol.as_ref().map(ToString::to_string),
        options.timeframe.as_ref().map(ToString::to_string),
        options.tenant.as_ref().map(ToString::to_string),
        options.published_at.as_ref().map(ToString::to_string),
    ])
}

/// A hash of the options that say which values the records have. Zone and format of the times are
/// among them: rows that they shift fall on the times of other rows, and must win there.
pub(super) fn reading(options: &Options) -> [u8; 32] {
    let mut map: Vec<String> = options.map.iter().map(ToString::to_string).collect();
    map.sort_unstable();
    let first = [
        options.format.map(|format| format.name.to_owned()),
        options.time_format.as_ref().map(time_format),
        options.tz.as_ref().map(ToString::to_string),
    ];
    hash(first.into_iter().chain(map.into_iter().map(Some)))
}

/// The text that `--time-format` takes.
fn time_format(format: &TimeFormat) -> String {
    match format {
        TimeFormat::Rfc3339 => "rfc3339",
        TimeFormat::Epoch(EpochUnit::Seconds) => "epoch_s",
        TimeFormat::Epoch(EpochUnit::Millis) => "epoch_ms",
        TimeFormat::Epoch(EpochUnit::Micros) => "epoch_us",
        TimeFormat::Epoch(EpochUnit::Nanos) => "epoch_ns",
        TimeFormat::Pattern(pattern) => pattern,
    }
    .to_owned()
}

/// A hash of texts that may be absent; each goes with its length, so that no two lists are one text.
fn hash(parts: impl IntoIterator<Item = Option<String>>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        match part {
            None => hasher.update([0]),
            Some(text) => {
                hasher.update([1]);
                hasher.update((text.len() as u64).to_le_bytes());
                hasher.update(text);
            }
        }
    }
    hasher.finalize().into()
}
