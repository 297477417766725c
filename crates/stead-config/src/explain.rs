//! Nickel's errors in the words of the project.
//!
//! One report for one error, with the places of the project's own files, and what to do about it. The frequent errors
//! have words of their own; the others keep Nickel's.

use crate::failure::{Failure, Kind};
use crate::language::{Report, Session, spell};
use crate::unknown;
use nickel_lang_core::error::{Error, EvalError, EvalErrorKind, ImportErrorKind, TypecheckErrorKind};
use nickel_lang_core::eval::value::{NickelValue, ValueContentRef};
use nickel_lang_core::label::Label;
use nickel_lang_core::position::RawSpan;
use nickel_lang_core::typ::{Type, TypeF};
use std::collections::BTreeSet;

impl Session {
    /// The failure of this error, at this option.
    pub(crate) fn explain(&self, error: Error, path: &[String]) -> Failure {
        match error {
            Error::EvalError(error) => match self.explain_evaluation(&error, path) {
                Some(report) => self.fail(report),
                None => self.in_nickels_words(Kind::Evaluation, *error),
            },
            Error::ParseErrors(errors) => self.in_nickels_words(Kind::Syntax, errors),
            Error::ImportError(error) => self.explain_import(*error),
            Error::TypecheckError(error) => {
                let kind = match error.borrow_error() {
                    TypecheckErrorKind::ImportError(error) => return self.explain_import(error.clone()),
                    TypecheckErrorKind::UnboundIdentifier(_) => Kind::UnknownName,
                    _ => Kind::Evaluation,
                };
                self.in_nickels_words(kind, error)
            }
            other => self.in_nickels_words(Kind::Evaluation, other),
        }
    }

    fn explain_import(&self, error: ImportErrorKind) -> Failure {
        match error {
            ImportErrorKind::IOError(file, cause, position) => {
                let place = position.into_opt().filter(|span| self.is_theirs(span.src_id));
                let message = if cause.contains("could not find") || cause.contains("No such file") {
                    format!("there is no file `{file}`")
                } else {
                    format!("`{file}` cannot be read: {cause}")
                };
                let hint = "Imports are relative to the file that they are written in.";
                self.fail(Report::new(Kind::MissingFile, message).at(place, "imported here").hint(hint))
            }
            ImportErrorKind::ParseErrors(errors, _) => self.in_nickels_words(Kind::Syntax, errors),
            other => self.in_nickels_words(Kind::MissingFile, other),
        }
    }

    /// Our own words for the frequent errors; `None` where Nickel's say it best.
    fn explain_evaluation(&self, error: &EvalError, path: &[String]) -> Option<Report> {
        let option = spell(path);
        match &error.error {
            EvalErrorKind::BlameError { evaluated_arg, label } => {
                let value = evaluated_arg.clone().or_else(|| label.get_evaluated_arg(&self.context.cache));
                Some(self.wrong_value(&option, value, label))
            }
            EvalErrorKind::MergeIncompatibleArgs { left_arg, right_arg, .. } => Some(self.conflict(&option, left_arg, right_arg)),
            EvalErrorKind::MissingFieldDef { id, pos_access, .. } => {
                let report = Report::new(Kind::MissingValue, format!("`{id}` has no value, and is needed here"));
                let theirs = |span: &RawSpan| self.is_theirs(span.src_id);
                let report = report.at(self.place(*pos_access), "needed here");
                Some(report.at(id.pos.into_opt().filter(theirs), "declared here"))
            }
            EvalErrorKind::FieldMissing { id, field_names, pos_op, .. } => {
                let names: BTreeSet<&str> = field_names.iter().map(|name| name.label()).collect();
                let place = id.pos.into_opt().filter(|span| self.is_theirs(span.src_id)).or_else(|| self.place(*pos_op));
                Some(self.no_such_field(id.label(), &names, place))
            }
            EvalErrorKind::InfiniteRecursion(_, position) => Some(
                Report::new(Kind::Evaluation, if path.is_empty() { "a value refers to itself".to_owned() } else { format!("`{option}` refers to itself") })
                    .at(self.place(*position), "here")
                    .hint("The names of options and modules cannot depend on `config`; their values can."),
            ),
            EvalErrorKind::FailedDestructuring { pattern_pos, .. } => Some(
                Report::new(Kind::UnknownName, "a function does not take the arguments that it is given")
                    .at(self.place(*pattern_pos), "these arguments")
                    .hint("A module is given `config`, `inputs`, `secret` and `stead`; a module of an input is given `source` too.")
                    .hint("A module's arguments end in `..`: `fun { inputs, .. } => …`."),
            ),
            _ => None,
        }
    }

    /// A value that its option does not accept.
    fn wrong_value(&self, option: &str, value: Option<NickelValue>, label: &Label) -> Report {
        let said = label.diagnostics.iter().rev().find_map(|diagnostic| diagnostic.message.clone());
        let place = value.as_ref().and_then(|value| self.place(value.pos_idx()));
        let given = self.place(label.arg_pos);
        if said.as_deref().is_some_and(|said| said.contains("cannot merge unequal arrays")) {
            let option = option.trim_end_matches(|c: char| c.is_ascii_digit() || "[]".contains(c));
            return Report::new(Kind::Conflict, format!("two modules give different lists for `{option}`"))
                .at(place.or(given), "one of them is here")
                .hint("Lists do not join. Give the list in one module, or mark one as `| force` or `| default`.");
        }
        let expected = match said {
            Some(said) => said.replace("a Record", "a record").replace("an Array", "a list"),
            None => format!("expected {}", plain_type(&expected_type(&label.typ, value.as_ref()).to_string())),
        };
        let hidden = expected.contains("a secret:");
        let got =
            value.as_ref().filter(|_| !hidden).and_then(describe).map(|got| format!(", got {got}")).unwrap_or_default();
        let subject = if option.is_empty() { "a value is wrong".to_owned() } else { format!("`{option}` is wrong") };
        let mut report =
            Report::new(Kind::WrongValue, format!("{subject}: {expected}{got}")).at(place.or(given), "this value");
        if let (Some(place), Some(given)) = (place, given)
            && place != given
        {
            report = report.at(Some(given), "used here");
        }
        report.hidden = hidden;
        report.hints = label.diagnostics.iter().flat_map(|diagnostic| diagnostic.notes.clone()).collect();
        report.at(self.place(label.span), "the type is declared here")
    }

    /// Two values for one option.
    fn conflict(&self, option: &str, left: &NickelValue, right: &NickelValue) -> Report {
        let mut places: Vec<(RawSpan, &NickelValue)> =
            [left, right].into_iter().filter_map(|value| Some((self.place(value.pos_idx())?, value))).collect();
        places.sort_by_key(|(span, _)| (self.files().name(span.src_id).to_owned(), span.start));
        if let [(place, value)] = places.as_slice() {
            // The other one is Stead's own: a default, or the record that options are in.
            if left.type_of() != right.type_of() {
                let subject =
                    if option.is_empty() { "a project or a module".to_owned() } else { format!("`{option}`") };
                let got = describe(value).map(|got| format!(", got {got}")).unwrap_or_default();
                let other = if std::ptr::eq(*value, left) { right } else { left };
                let expected = plain_type(other.type_of().unwrap_or("another value"));
                return Report::new(Kind::WrongValue, format!("{subject} is wrong: expected {expected}{got}"))
                    .at(Some(*place), "this value");
            }
            return Report::new(
                Kind::Conflict,
                format!("`{option}` has a default already, which `| default` does not replace"),
            )
            .at(Some(*place), "this value")
            .hint("Give it a plain value, or mark it as `| priority -1` to let other modules override it.");
        }
        let mut report = Report::new(Kind::Conflict, format!("two modules give different values for `{option}`"));
        for (index, (place, _)) in places.into_iter().enumerate() {
            report = report.at(Some(place), if index == 0 { "one value is here" } else { "another one is here" });
        }
        report.hint("Remove one of them, or mark the one that wins as `| force`, or the other one as `| default`.")
    }

    /// A name that refers to nothing.
    fn no_such_field(&self, name: &str, known: &BTreeSet<&str>, place: Option<RawSpan>) -> Report {
        let of_inputs = !known.is_empty() && known.iter().copied().eq(self.inputs.iter().map(String::as_str));
        if name == "module" && known.iter().copied().eq(["path"]) {
            return Report::new(Kind::UnknownName, "this input has no `stead.ncl`, and so no module")
                .at(place, "used here");
        }
        let message = if of_inputs {
            format!("`{name}` is not an input of this project")
        } else {
            format!("there is no field `{name}` here")
        };
        let mut report = Report::new(Kind::UnknownName, message).at(place, "used here");
        if let Some(similar) = unknown::similar(name, known.iter().copied()) {
            report = report.hint(format!("Did you mean `{similar}`?"));
        } else if !known.is_empty() && known.len() <= 12 {
            let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            report = report.hint(format!("There are: {}.", known.join(", ")));
        }
        if of_inputs { report.hint("Inputs are declared in `stead.ncl`, under `inputs`.") } else { report }
    }
}

/// The part of a type that this value does not fit: of `{ _ : String }` the `String`, if the value is not a record.
fn expected_type<'a>(kind: &'a Type, value: Option<&NickelValue>) -> &'a Type {
    match (&kind.typ, value.map(NickelValue::content_ref)) {
        (TypeF::Dict { .. }, Some(ValueContentRef::Record(_)))
        | (TypeF::Array(_), Some(ValueContentRef::Array(_)))
        | (_, None) => kind,
        (TypeF::Dict { type_fields, .. }, _) => expected_type(type_fields, value),
        _ => kind,
    }
}

/// Nickel's types in everyday words.
fn plain_type(name: &str) -> String {
    match name {
        "String" => "a text".to_owned(),
        "Number" => "a number".to_owned(),
        "Bool" => "`true` or `false`".to_owned(),
        "Record" => "a record".to_owned(),
        name if name.starts_with("Array") => "a list".to_owned(),
        name if name.starts_with('{') => "a record".to_owned(),
        name => name.to_owned(),
    }
}

/// What a value is, shortly.
fn describe(value: &NickelValue) -> Option<String> {
    const LONGEST: usize = 60;
    Some(match value.content_ref() {
        ValueContentRef::Null => "`null`".to_owned(),
        ValueContentRef::Bool(value) => format!("`{value}`"),
        ValueContentRef::Number(number) => format!("the number {number}"),
        ValueContentRef::String(text) if text.chars().count() <= LONGEST && !text.contains("\n") => {
            format!("the text \"{}\"", &**text)
        }
        ValueContentRef::String(_) => "a long text".to_owned(),
        ValueContentRef::Array(_) => "a list".to_owned(),
        ValueContentRef::Record(_) => "a record".to_owned(),
        ValueContentRef::EnumVariant(variant) => format!("the tag '{}", variant.tag.label()),
        ValueContentRef::Term(_) => "a function".to_owned(),
        _ => return None,
    })
}
