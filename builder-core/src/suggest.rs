//! "Did you mean …?": the nearest of some known names.

/// The candidate nearest to `wanted`: equal but for case, or at most a third of its characters away. Of equally near
/// ones the first.
pub fn nearest<S: AsRef<str>>(wanted: &str, candidates: impl IntoIterator<Item = S>) -> Option<String> {
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    let mut best: Option<(usize, String)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        let distance = distance(&wanted.to_lowercase(), &candidate.to_lowercase());
        if distance <= limit && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, candidate.to_owned()));
        }
    }
    best.map(|(_, name)| name)
}

/// The number of characters to insert, delete, replace or swap with a neighbour (Damerau-Levenshtein distance,
/// restricted form).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut here = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let mut least = (above[column] + usize::from(from != to)).min(above[column + 1] + 1).min(here[column] + 1);
            let swapped = row > 0 && column > 0 && *from == right[column - 1] && left[row - 1] == *to;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            here.push(least);
        }
        before = std::mem::replace(&mut above, here);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_of_the_finger() {
        let known = ["COPY", "CMD", "ENTRYPOINT", "ENV", "EXPOSE"];
        for (wanted, expected) in [
            ("COPPY", Some("COPY")),
            ("cpoy", Some("COPY")),
            ("ENTRPYOINT", Some("ENTRYPOINT")),
            ("XYZZY", None),
            ("EVN", Some("ENV")),
        ] {
            assert_eq!(nearest(wanted, known).as_deref(), expected, "{wanted}");
        }
    }
}
