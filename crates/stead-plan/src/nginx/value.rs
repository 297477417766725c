//! Values in an nginx configuration: what may stand where one value is meant.
//!
//! nginx splits at spaces, ends a directive at `;`, opens blocks at `{`, and knows quotes, `\` and
//! `${name}` (`ngx_conf_read_token`). Values that would end or open anything are refused here; a
//! text that is one word is quoted where it needs it.

use crate::error::PlanError;

/// Refuses a text that is not some words of one directive.
///
/// # Errors
/// For line breaks, open quotes, comments, a backslash at the end, and `;`, `{`, `}` outside of quotes.
pub(super) fn check_words(option: &str, text: &str) -> Result<(), PlanError> {
    let bad = |problem| Err(PlanError::bad(option, text, problem));
    if text.trim().is_empty() {
        return bad("is empty");
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return bad("has a line break or control character");
    }
    let mut quote: Option<char> = None;
    let mut begins = true;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let begun = std::mem::replace(&mut begins, c.is_whitespace());
        match (quote, c) {
            (_, '\\') if chars.next().is_none() => return bad("ends with a backslash"),
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') if begun => quote = Some(c),
            (None, '#') if begun => return bad("has a comment: quote the `#`"),
            (None, '$') if chars.peek() == Some(&'{') => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                if !name[1..].chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return bad("has a `${` that is not the name of a variable");
                }
            }
            (None, ';' | '{' | '}') => return bad("has a `;`, `{` or `}` that is not in quotes"),
            _ => {}
        }
    }
    if quote.is_some() { bad("has a quote that does not end") } else { Ok(()) }
}

/// The text as one word, quoted if it has to be. Variables in it stay variables.
///
/// # Errors
/// For control characters, an empty text, and a backslash at the end.
pub(super) fn word(option: &str, text: &str) -> Result<String, PlanError> {
    if text.is_empty() {
        return Err(PlanError::bad(option, text, "is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(PlanError::bad(option, text, "has a line break or control character"));
    }
    if text.ends_with('\\') {
        return Err(PlanError::bad(option, text, "ends with a backslash"));
    }
    let needs_quotes = text.starts_with('#') || text.contains([' ', ';', '{', '}', '"', '\'']);
    Ok(if needs_quotes { format!("\"{}\"", escaped(text)) } else { text.to_owned() })
}

/// A backslash before each quote that has none yet; other escapes mean what they meant.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push('\\');
                out.extend(chars.next());
            }
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

/// Lines as they were declared, moved in by `indent`. Quotes may go over lines, so lines are kept
/// exactly when there is one with an odd number of quotes.
pub(super) fn lines(text: &str, indent: &str) -> String {
    let text = text.trim_matches('\n');
    if text.trim().is_empty() {
        return String::new();
    }
    let spans_lines =
        text.lines().any(|line| line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1);
    if spans_lines {
        return format!("{text}\n");
    }
    text.lines()
        .map(|line| if line.trim().is_empty() { "\n".to_owned() } else { format!("{indent}{}\n", line.trim_end()) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_values_pass() {
        for text in
            ["$uri $uri/ =404", "301 https://git.example/example", "200 'a; b'", "${scheme}://x", "/a\\.b", "~^x$"]
        {
            assert_eq!(check_words("o", text), Ok(()), "{text}");
        }
    }

    #[test]
    fn nothing_ends_a_directive_or_opens_a_block() {
        for text in ["a; b", "a\nb", "a { b", "}", "x # y", "'open", "end\\", "", "${a b}", "a \"x\";"] {
            assert!(check_words("o", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_word_with_braces_is_quoted() {
        assert_eq!(word("o", "^/a{2}$").unwrap(), "\"^/a{2}$\"");
        assert_eq!(word("o", "a\"b").unwrap(), "\"a\\\"b\"");
        assert_eq!(word("o", "\\.php$").unwrap(), "\\.php$");
    }

    proptest! {
        #[test]
        fn a_word_never_ends_its_directive(text in "[a\\\\\"'; {}$#]{1,12}") {
            if let Ok(word) = word("o", &text) {
                prop_assert_eq!(check_words("o", &word), Ok(()), "{}", word);
            }
        }
    }
}
