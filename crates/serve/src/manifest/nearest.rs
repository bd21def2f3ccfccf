//! Which of the known names somebody may have meant.

/// The known name that is nearest to a text, if one is near enough to be meant.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing that we know is as long.
    if text.len() > 64 {
        return None;
    }
    let near = known.into_iter().map(|name| (distance(text, name), name));
    let near = near.filter(|(distance, name)| *distance <= (name.len().min(text.len()) / 3).max(1));
    near.min().map(|(_, name)| name)
}

/// How many characters have to be changed, added, left out or swapped with their neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Of the first characters of `a` and all of `b`, row by row.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(!a[i - 1].eq_ignore_ascii_case(&b[j - 1]));
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn a_slip_of_the_fingers_is_one_change() {
        for (a, b, changes) in [
            ("", "", 0),
            ("", "abc", 3),
            ("memory", "memory", 0),
            ("memroy", "memory", 1),
            ("memor", "memory", 1),
            ("Memory", "memory", 0),
            ("call-bytes", "call_bytes", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), changes, "{a} {b}");
            assert_eq!(distance(b, a), changes, "{b} {a}");
        }
    }

    #[test]
    fn only_what_may_be_meant_is_near() {
        let known = ["memory", "stack", "heap"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("stak", known), Some("stack"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("deadline", known), None);
        assert_eq!(nearest(&"a".repeat(1000), known), None);
    }
}
