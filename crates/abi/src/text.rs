//! Text of guests and modules, made safe for terminals and logs.

use alloc::string::String;

/// Characters of one text that are shown at the most. A guest can send a mebibyte of it, and what is said
/// of it ends up in logs.
pub const MAX_TEXT: usize = 1000;

/// What stands for the rest of a text that is cut.
pub const ELLIPSIS: &str = "...";

/// A character as it is shown: itself, or its escape if a terminal would obey it or nobody would see it.
/// Quotes and backslashes are themselves.
pub fn shown(c: char) -> impl Iterator<Item = char> + Clone {
    let escape = c.escape_debug();
    let plain = matches!(c, '"' | '\'' | '\\') || escape.len() == 1;
    let (itself, escape) = if plain { (Some(c), None) } else { (None, Some(escape)) };
    itself.into_iter().chain(escape.into_iter().flatten())
}

/// The whole text as it is shown.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.chars().flat_map(shown).collect()
}

/// The text as it is shown, cut at [`MAX_TEXT`] characters, though not within an escape.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(MAX_TEXT));
    let mut room = MAX_TEXT;
    for c in text.chars() {
        let shown = shown(c);
        let len = shown.clone().count();
        if len > room {
            safe.push_str(ELLIPSIS);
            break;
        }
        room -= len;
        safe.extend(shown);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(escaped("a\x1b[31m\r\n\x07\x7f"), "a\\u{1b}[31m\\r\\n\\u{7}\\u{7f}");
        assert_eq!(escaped("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(escaped("a\u{202e}b\u{2066}c"), "a\\u{202e}b\\u{2066}c");
        assert_eq!(escaped("Größe \"1\" \\ 你好"), "Größe \"1\" \\ 你好");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let (long, fits) = ("é".repeat(1 << 20), "é".repeat(MAX_TEXT));
        assert_eq!(printable(&long), alloc::format!("{fits}..."));
        assert_eq!(printable(&fits), fits);
        // No escape is cut in half.
        let escaped = printable(&"\u{1b}".repeat(1 << 20));
        assert_eq!(escaped, alloc::format!("{}...", "\\u{1b}".repeat(MAX_TEXT / 6)));
    }
}
