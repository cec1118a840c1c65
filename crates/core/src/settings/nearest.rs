//! The known name nearest to one that was mistyped.

/// The candidate with the fewest edits to `name`, where that is few enough to be a typing error:
/// at most a third of the name's length.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= name.len() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance: insertions, deletions and substitutions of bytes.
fn edits(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let substituted = previous[j] + usize::from(x != *y);
            current.push(substituted.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_name_and_nonsense_does_not() {
        let names = [
            "MDS_COORDINATOR_WORKERS",
            "MDS_COORDINATOR_CAPACITY",
            "MDS_STORE",
        ];
        assert_eq!(
            nearest("MDS_COORDINATOR_WORKER", names),
            Some("MDS_COORDINATOR_WORKERS")
        );
        assert_eq!(
            nearest("MDS_CORDINATOR_CAPASITY", names),
            Some("MDS_COORDINATOR_CAPACITY")
        );
        assert_eq!(nearest("MDS_TSORE", names), Some("MDS_STORE"));
        assert_eq!(nearest("MDS_QQQQQQQQQQQQ", names), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
