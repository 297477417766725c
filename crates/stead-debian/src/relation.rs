//! Relations between packages: `Depends: a (>= 1) | b:any, c`.
//!
//! Syntax: Debian Policy, section 7.1; versions compare by `debversion`. Restrictions of build
//! dependencies (`[arch]`, `<profile>`) do not occur in binary packages and are refused.

use debversion::Version;
use std::fmt;

/// One package, and which versions of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) name: String,
    /// `any`, `native` or an architecture.
    pub(crate) qualifier: Option<String>,
    pub(crate) version: Option<Bound>,
}

/// Versions on one side of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    pub(crate) operator: Operator,
    pub(crate) version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Less,
    AtMost,
    Exactly,
    AtLeast,
    More,
}

impl Bound {
    /// Whether this version is within. A version that cannot be read is within nothing.
    pub(crate) fn admits(&self, version: &str) -> bool {
        let (Ok(version), Ok(bound)) = (parse_version(version), parse_version(&self.version)) else { return false };
        match self.operator {
            Operator::Less => version < bound,
            Operator::AtMost => version <= bound,
            Operator::Exactly => version == bound,
            Operator::AtLeast => version >= bound,
            Operator::More => version > bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.operator {
            Operator::Less => "<<",
            Operator::AtMost => "<=",
            Operator::Exactly => "=",
            Operator::AtLeast => ">=",
            Operator::More => ">>",
        };
        write!(out, "({operator} {})", self.version)
    }
}

/// The version, also with the underscores that some old packages have.
pub(crate) fn parse_version(text: &str) -> Result<Version, debversion::ParseError> {
    Version::parse_lenient(text)
}

/// Every group of a field; one relation of each group has to hold.
pub(crate) fn parse_groups(field: &str) -> Option<Vec<Vec<Relation>>> {
    let groups = field.split(',').map(str::trim).filter(|group| !group.is_empty());
    groups.map(|group| group.split('|').map(|relation| parse(relation.trim())).collect()).collect()
}

fn parse(text: &str) -> Option<Relation> {
    let (name, version) = match text.split_once('(') {
        Some((name, bound)) => (name.trim(), Some(parse_bound(bound.strip_suffix(')')?.trim())?)),
        None => (text, None),
    };
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
        None => (name, None),
    };
    let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    valid.then(|| Relation { name: name.to_owned(), qualifier, version })
}

fn parse_bound(text: &str) -> Option<Bound> {
    // Longer operators first; `<` and `>` alone are the old spellings of `<=` and `>=`.
    const OPERATORS: [(&str, Operator); 7] = [
        ("<<", Operator::Less),
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        (">>", Operator::More),
        ("=", Operator::Exactly),
        ("<", Operator::AtMost),
        (">", Operator::AtLeast),
    ];
    let (prefix, operator) = OPERATORS.into_iter().find(|(prefix, _)| text.starts_with(prefix))?;
    let version = text[prefix.len()..].trim();
    (!version.is_empty() && !version.contains(char::is_whitespace))
        .then(|| Bound { operator, version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_versions_and_qualifiers_are_read() {
        let groups = parse_groups("debconf (>= 0.5) | debconf-2.0, python3:any, libc6 (>>2.3)").unwrap();
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0][0].version.as_ref().unwrap().to_string(), "(>= 0.5)");
        assert_eq!(groups[0][1].name, "debconf-2.0");
        assert_eq!(groups[1][0].qualifier.as_deref(), Some("any"));
        assert_eq!(groups[2][0].version.as_ref().unwrap().operator, Operator::More);
        assert_eq!(parse_groups(""), Some(vec![]));
        for wrong in ["a (>= 1", "a (1)", "a b", "a (>= )", "a [amd64]", "| a"] {
            assert_eq!(parse_groups(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn versions_compare_by_debians_rules() {
        let bound = |text| parse_groups(&format!("a ({text})")).unwrap()[0][0].version.clone().unwrap();
        assert!(bound("<< 1.0").admits("1.0~rc1"));
        assert!(bound(">> 2.0").admits("1:0.1"));
        assert!(bound("= 1.0-1").admits("1.0-1"));
        assert!(!bound("= 1.0-1").admits("1.0-1+b1"));
        assert!(bound(">= 9").admits("10"));
    }
}
