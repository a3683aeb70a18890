//! The known name that is nearest to a mistyped one, for the help of a diagnostic.

/// The candidate with the fewest edits to `name`, if it is near enough to have been meant. Case counts as no edit.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= limit && *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The number of characters to insert, delete, replace, or swap with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, c) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, d) in to.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let replace = at(&row, j) + usize::from(c != *d);
            let mut best = replace.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j > 0 && last == Some(*d) && to.get(j - 1) == Some(&c);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = row;
        row = next;
        last = Some(c);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["COPY", "FROM", "RUN", "ENV", "ENTRYPOINT"];
        for (typed, meant) in [
            ("COPPY", Some("COPY")),
            ("fron", Some("FROM")),
            ("RNU", Some("RUN")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("SOMETHING", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
