//! Words as a POSIX shell reads them back.

/// The word in quotes: whatever is in it, the shell takes it as one word, as it is.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
