//! What can be wrong with a project, told to people.
//!
//! A [`Failure`] is one problem: its kind, one plain line, the place, and a rendering that shows the source. It
//! owns all its text, so that it outlives the evaluator and crosses threads. It never shows the source line of
//! something that should have been a secret.

use std::fmt;

/// What sort of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The file is not Nickel, TOML, YAML or JSON.
    Syntax,
    /// A file that is imported or read is not there.
    MissingFile,
    /// An option that nobody declares.
    UnknownOption,
    /// An option of a later version.
    NotYet,
    /// A value that its option does not accept.
    WrongValue,
    /// A required option without a value.
    MissingValue,
    /// Two modules that disagree.
    Conflict,
    /// A name that refers to nothing: an input, a field, a variable.
    UnknownName,
    /// Any other failure of the evaluation.
    Evaluation,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the project where it is inside.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One problem of a project.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
    place: Option<Place>,
    plain: String,
    coloured: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: String, place: Option<Place>, plain: String, coloured: String) -> Self {
        Self { kind, message, place, plain, coloured }
    }

    /// A problem that no place in a file explains.
    pub(crate) fn unplaced(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        let plain = format!("error: {message}\n");
        Self { kind, message, place: None, coloured: plain.clone(), plain }
    }

    /// What sort of problem it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The problem in one line, without its place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is, when a place explains it.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The problem with its source lines and hints, over several lines; with ANSI colours if `colour`.
    pub fn render(&self, colour: bool) -> String {
        if colour { self.coloured.clone() } else { self.plain.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        out.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Failure({:?}, {self})", self.kind)
    }
}

impl std::error::Error for Failure {}
