//! The evaluator: Nickel as a library, with Stead's own files in memory.
//!
//! Reads what the project imports, and nothing else; no package of Nickel's is fetched, no environment is read.
//! Turns Nickel's errors into one [`Failure`] each, in the words of the project: places in Stead's own library are
//! never shown, paths are relative to the project, and the place named is the one to change.

use crate::failure::{Failure, Kind, Place};
use crate::tree::{self, Node, Problem, Reason};
use crate::unknown;
use codespan_reporting::diagnostic::{Diagnostic, Label, LabelStyle};
use nickel_lang_core::cache::{CacheHub, ImportResolver, InputFormat, SourcePath, TermEntry};
use nickel_lang_core::error::report::{ColorOpt, report_as_str};
use nickel_lang_core::error::{Error, EvalError, EvalErrorKind, ImportErrorKind, IntoDiagnostics, NullReporter, TypecheckErrorKind};
use nickel_lang_core::eval::cache::CacheImpl;
use nickel_lang_core::eval::value::{Container, NickelValue, ValueContent, ValueContentRef};
use nickel_lang_core::eval::{VirtualMachine, VmContext};
use nickel_lang_core::files::{FileId, Files};
use nickel_lang_core::position::{PosIdx, RawSpan};
use nickel_lang_core::term::Term;
use nickel_lang_core::typ::{Type, TypeF};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Stead's own files, by the name that an import of `%inmem_src%:NAME` has.
const LIBRARY: [(&str, &str); 3] = [
    ("stead:types.ncl", include_str!("../library/types.ncl")),
    ("stead:options.ncl", include_str!("../library/options.ncl")),
    ("stead:project.ncl", include_str!("../library/project.ncl")),
];

/// One evaluation, and the places that its values came from.
pub(crate) struct Session {
    context: VmContext<CacheHub, CacheImpl>,
    root: PathBuf,
    /// Names of the project's inputs, to tell `inputs.foo` from other missing fields.
    pub(crate) inputs: BTreeSet<String>,
}

/// A problem before it is words for people: with places instead of lines.
pub(crate) struct Report {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// Places with what to say about each; the first is the one to change.
    pub(crate) places: Vec<(RawSpan, String)>,
    pub(crate) hints: Vec<String>,
    /// Whether the source must not be shown, because it may hold a secret.
    pub(crate) hidden: bool,
}

impl Report {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), places: Vec::new(), hints: Vec::new(), hidden: false }
    }

    pub(crate) fn at(mut self, place: Option<RawSpan>, words: impl Into<String>) -> Self {
        self.places.extend(place.map(|place| (place, words.into())));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// A text as a Nickel string.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("%{", "\\%{").replace('\n', "\\n"))
}

/// A path of option names, as one writes it.
pub(crate) fn spell<S: AsRef<str>>(path: &[S]) -> String {
    let plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let name = |name: &str| if plain(name) { name.to_owned() } else { format!("\"{name}\"") };
    path.iter().fold(String::new(), |mut text, part| {
        let part = part.as_ref();
        if !text.is_empty() && part.chars().all(|c| c.is_ascii_digit()) && !part.is_empty() {
            text.push_str(&format!("[{part}]"));
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(&name(part));
        }
        text
    })
}

impl Session {
    pub(crate) fn new(root: &Path) -> Self {
        let mut cache = CacheHub::new();
        for (name, text) in LIBRARY {
            cache.sources.add_string(SourcePath::Path(name.into(), InputFormat::Nickel), text.to_owned());
        }
        let context = VmContext::new(cache, std::io::sink(), NullReporter {});
        Self { context, root: root.to_owned(), inputs: BTreeSet::new() }
    }

    /// Evaluates a program of Stead's own that imports the project's files. Problems of single values come beside
    /// the result; a failure to read or parse any file is a failure of the whole.
    pub(crate) fn evaluate(&mut self, program: String) -> Result<(Node, Vec<Problem>), Failure> {
        let id = self.context.import_resolver.sources.add_string(SourcePath::Path("stead:main.ncl".into(), InputFormat::Nickel), program);
        let value = self.context.prepare_eval(id).map_err(|error| self.explain(error, &[]))?;
        self.thaw_data();
        Ok(tree::walk(VirtualMachine::new(&mut self.context), value))
    }

    /// Makes the records of imported TOML, YAML and JSON files such as Nickel's own are before their first evaluation.
    /// As the parsers give them they are half evaluated, which merging (in Nickel 0.19) does not expect.
    fn thaw_data(&mut self) {
        let terms = &mut self.context.import_resolver.terms;
        let data: Vec<_> =
            terms.terms().iter().filter(|(_, entry)| entry.format != InputFormat::Nickel).map(|(id, entry)| (*id, entry.clone())).collect();
        for (id, entry) in data {
            let value = thaw(entry.value);
            terms.insert(id, TermEntry { value, ..entry });
        }
    }

    /// Where this value is written, if it is in a file of the project or of an input.
    pub(crate) fn place(&self, position: PosIdx) -> Option<RawSpan> {
        self.context.pos_table.get(position).into_opt().filter(|span| self.is_theirs(span.src_id))
    }

    /// Where this option is written: its value, or else its name.
    pub(crate) fn place_of(&self, node: &Node) -> Option<RawSpan> {
        self.place(node.value).or_else(|| self.place_of_name(node))
    }

    /// Where this option's name is written.
    pub(crate) fn place_of_name(&self, node: &Node) -> Option<RawSpan> {
        node.key.filter(|span| self.is_theirs(span.src_id)).or_else(|| self.place(node.value))
    }

    fn files(&self) -> &Files {
        self.context.import_resolver.files()
    }

    /// Whether a file is of the project or of an input, rather than Stead's or Nickel's own.
    fn is_theirs(&self, file: FileId) -> bool {
        is_theirs(self.files(), file)
    }

    /// The failure of one value. `path` leads to it from the top of the configuration.
    pub(crate) fn explain_problem(&self, problem: Problem, path: &[String]) -> Failure {
        match problem.reason {
            Reason::Nickel(error) => self.explain(Error::EvalError(error), path),
            Reason::TooDeep => self.fail(
                Report::new(Kind::Evaluation, format!("`{}` never ends: it contains itself", spell(&path[..path.len().min(6)])))
            ),
        }
    }

    /// The failure that this report is.
    pub(crate) fn fail(&self, report: Report) -> Failure {
        let labels = report.places.iter().enumerate().map(|(index, (span, words))| {
            let style = if index == 0 { LabelStyle::Primary } else { LabelStyle::Secondary };
            Label::new(style, span.src_id, span.start.to_usize()..span.end.to_usize()).with_message(words.clone())
        });
        let diagnostic = Diagnostic::error().with_message(&report.message).with_labels(labels.collect()).with_notes(report.hints);
        self.render(report.kind, diagnostic, self.files().clone(), report.hidden)
    }

    fn explain(&self, error: Error, path: &[String]) -> Failure {
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
                let said = label.diagnostics.iter().rev().find_map(|diagnostic| diagnostic.message.clone());
                if said.as_deref().is_some_and(|said| said.contains("cannot merge unequal arrays")) {
                    let report = Report::new(Kind::Conflict, format!("two modules give different lists for `{}`", option.trim_end_matches(|c: char| c.is_ascii_digit() || "[]".contains(c))));
                    let second = value.as_ref().and_then(|value| self.place(value.pos_idx()));
                    return Some(
                        report
                            .at(second.or_else(|| self.place(label.arg_pos)), "one of them is here")
                            .hint("Lists do not join. Give the list in one module, or mark one as `| force` or `| default`."),
                    );
                }
                let expected = match said {
                    Some(said) => said.replace("a Record", "a record").replace("an Array", "a list"),
                    None => format!("expected {}", plain_type(&expected_type(&label.typ, value.as_ref()).to_string())),
                };
                let hidden = expected.contains("a secret:");
                let got = value.as_ref().filter(|_| !hidden).and_then(describe).map(|got| format!(", got {got}")).unwrap_or_default();
                let subject = if path.is_empty() { "a value is wrong".to_owned() } else { format!("`{option}` is wrong") };
                let mut report = Report::new(Kind::WrongValue, format!("{subject}: {expected}{got}"));
                let value = value.and_then(|value| self.place(value.pos_idx()));
                let given = self.place(label.arg_pos);
                report = report.at(value.or(given), "this value");
                if let (Some(value), Some(given)) = (value, given)
                    && value != given
                {
                    report = report.at(Some(given), "used here");
                }
                report.hidden = hidden;
                report.hints = label.diagnostics.iter().flat_map(|diagnostic| diagnostic.notes.clone()).collect();
                Some(report.at(self.place(label.span), "the type is declared here"))
            }
            EvalErrorKind::MergeIncompatibleArgs { left_arg, right_arg, .. } => {
                let mut places: Vec<RawSpan> = [left_arg, right_arg].iter().filter_map(|arg| self.place(arg.pos_idx())).collect();
                places.sort_by_key(|span| (self.files().name(span.src_id).to_owned(), span.start));
                places.dedup();
                if let [place] = places.as_slice() {
                    let report = Report::new(Kind::Conflict, format!("`{option}` has a default already, which `| default` does not replace"));
                    let hint = "Give it a plain value, or mark it as `| priority -1` to let other modules override it.";
                    return Some(report.at(Some(*place), "this value").hint(hint));
                }
                let mut report = Report::new(Kind::Conflict, format!("two modules give different values for `{option}`"));
                for (index, place) in places.into_iter().enumerate() {
                    report = report.at(Some(place), if index == 0 { "one value is here" } else { "another one is here" });
                }
                Some(report.hint("Remove one of them, or mark the one that wins as `| force`, or the other one as `| default`."))
            }
            EvalErrorKind::MissingFieldDef { id, pos_access, .. } => {
                let report = Report::new(Kind::MissingValue, format!("`{id}` has no value, and is needed here"));
                let theirs = |span: &RawSpan| self.is_theirs(span.src_id);
                let report = report.at(self.place(*pos_access), "needed here");
                Some(report.at(id.pos.into_opt().filter(theirs), "declared here"))
            }
            EvalErrorKind::FieldMissing { id, field_names, pos_op, .. } => {
                let names: BTreeSet<&str> = field_names.iter().map(|name| name.label()).collect();
                let of_inputs = !names.is_empty() && names.iter().copied().eq(self.inputs.iter().map(String::as_str));
                let message = if of_inputs {
                    format!("`{id}` is not an input of this project")
                } else {
                    format!("there is no field `{id}` here")
                };
                let place = id.pos.into_opt().filter(|span| self.is_theirs(span.src_id)).or_else(|| self.place(*pos_op));
                let mut report = Report::new(Kind::UnknownName, message).at(place, "used here");
                if let Some(similar) = unknown::similar(id.label(), names.iter().copied()) {
                    report = report.hint(format!("Did you mean `{similar}`?"));
                } else if !names.is_empty() && names.len() <= 12 {
                    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                    report = report.hint(format!("There are: {}.", names.join(", ")));
                }
                if of_inputs {
                    report = report.hint("Inputs are declared in `stead.ncl`, under `inputs`.");
                }
                Some(report)
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

    /// Nickel's own account, without the places in Stead's and Nickel's own files.
    fn in_nickels_words(&self, kind: Kind, error: impl IntoDiagnostics) -> Failure {
        let mut files = self.files().clone();
        let first = error.into_diagnostics(&mut files).into_iter().next();
        let mut diagnostic = first.unwrap_or_else(|| Diagnostic::error().with_message("the evaluation failed"));
        diagnostic.labels.retain(|label| is_theirs(&files, label.file_id));
        if !diagnostic.labels.iter().any(|label| label.style == LabelStyle::Primary)
            && let Some(label) = diagnostic.labels.first_mut()
        {
            label.style = LabelStyle::Primary;
        }
        self.render(kind, diagnostic, files, false)
    }

    fn render(&self, kind: Kind, diagnostic: Diagnostic<FileId>, mut files: Files, hidden: bool) -> Failure {
        let message = diagnostic.message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let place = diagnostic.labels.iter().find(|label| label.style == LabelStyle::Primary).and_then(|label| {
            let before = files.source(label.file_id).get(..label.range.start)?;
            let file = self.shorten(&files.name(label.file_id).to_string_lossy());
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Some(Place { file, line: before.matches('\n').count() + 1, column })
        });
        if hidden {
            let at = place.as_ref().map(|place| format!("  --> {place}\n")).unwrap_or_default();
            let text = format!("error: {message}\n{at}");
            return Failure::new(kind, message, place, text.clone(), text);
        }
        let plain = self.shorten(&report_as_str(&mut files, diagnostic.clone(), ColorOpt::Never));
        let coloured = self.shorten(&report_as_str(&mut files, diagnostic, ColorOpt::AlwaysAnsi));
        Failure::new(kind, self.shorten(&message), place, plain, coloured)
    }

    /// Paths relative to the project, where they are in it or beside it.
    fn shorten(&self, text: &str) -> String {
        let Some(parent) = self.root.parent() else { return text.to_owned() };
        let text = text.replace(&format!("{}/", self.root.display()), "");
        match parent.parent() {
            Some(_) => text.replace(&format!("{}/", parent.display()), "../"),
            None => text,
        }
    }
}

fn thaw(value: NickelValue) -> NickelValue {
    let position = value.pos_idx();
    match value.content() {
        ValueContent::Thunk(thunk) => thaw(thunk.take().into_closure().value),
        ValueContent::Record(record) => match record.take() {
            Container::Alloc(record) => {
                let record = record.map_defined_values(|_, value| thaw(value));
                NickelValue::term(Term::rec_record(record, Vec::new(), Vec::new(), None, false), position)
            }
            Container::Empty => NickelValue::empty_record().with_pos_idx(position),
        },
        ValueContent::Array(array) => match array.take() {
            Container::Alloc(data) => NickelValue::array(data.array.into_iter().map(thaw).collect(), data.pending_contracts, position),
            Container::Empty => NickelValue::empty_array().with_pos_idx(position),
        },
        other => other.restore(),
    }
}

fn is_theirs(files: &Files, file: FileId) -> bool {
    let name = files.name(file).to_string_lossy();
    !files.is_stdlib(file) && !name.starts_with("stead:") && !name.starts_with('<')
}

/// The part of a type that this value does not fit: of `{ _ : String }` the `String`, if the value is not a record.
fn expected_type<'a>(kind: &'a Type, value: Option<&NickelValue>) -> &'a Type {
    match (&kind.typ, value.map(NickelValue::content_ref)) {
        (TypeF::Dict { .. }, Some(ValueContentRef::Record(_))) | (TypeF::Array(_), Some(ValueContentRef::Array(_))) | (_, None) => kind,
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
        ValueContentRef::String(text) if text.chars().count() <= LONGEST && !text.contains("\n") => format!("the text \"{}\"", &**text),
        ValueContentRef::String(_) => "a long text".to_owned(),
        ValueContentRef::Array(_) => "a list".to_owned(),
        ValueContentRef::Record(_) => "a record".to_owned(),
        ValueContentRef::EnumVariant(variant) => format!("the tag '{}", variant.tag.label()),
        ValueContentRef::Term(_) => "a function".to_owned(),
        _ => return None,
    })
}
