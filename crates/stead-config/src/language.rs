//! The evaluator: Nickel as a library, with Stead's own files in memory.
//!
//! Reads what the project imports, and nothing else; no package of Nickel's is fetched, no environment is read.
//! Turns Nickel's errors into one [`Failure`] each, in the words of the project: places in Stead's own library are
//! never shown, paths are relative to the project, and the place named is the one to change.

use crate::failure::{Failure, Kind, Place};
use crate::tree::{self, Node, Problem, Reason};
use codespan_reporting::diagnostic::{Diagnostic, Label, LabelStyle};
use nickel_lang_core::cache::{CacheHub, ImportResolver, InputFormat, SourcePath, TermEntry, normalize_abs_path};
use nickel_lang_core::error::report::{ColorOpt, report_as_str};
use nickel_lang_core::error::{Error, IntoDiagnostics, NullReporter};
use nickel_lang_core::eval::cache::CacheImpl;
use nickel_lang_core::eval::value::{Container, NickelValue, ValueContent};
use nickel_lang_core::eval::{VirtualMachine, VmContext};
use nickel_lang_core::files::{FileId, Files};
use nickel_lang_core::position::{PosIdx, RawSpan};
use nickel_lang_core::term::Term;
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
    pub(crate) context: VmContext<CacheHub, CacheImpl>,
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

/// Does this apart from the rest of the program: with a stack that deep nesting does not exhaust, and so that a failure
/// of the evaluator itself is a failure of this project only.
pub(crate) fn apart<T: Send>(act: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    const STACK: usize = 256 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("evaluation".to_owned()).stack_size(STACK);
        match thread.spawn_scoped(scope, act).map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::unplaced(
                Kind::Evaluation,
                "the evaluation of this project broke off; this is a defect of Stead or Nickel",
            )),
            Err(error) => Err(Failure::unplaced(Kind::Evaluation, format!("the evaluation cannot begin: {error}"))),
        }
    })
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
        Self { context, root: normalize_abs_path(root), inputs: BTreeSet::new() }
    }

    /// Evaluates a program of Stead's own that imports the project's files. Problems of single values come beside
    /// the result; a failure to read or parse any file is a failure of the whole.
    pub(crate) fn evaluate(&mut self, program: String) -> Result<(Node, Vec<Problem>), Failure> {
        let id = self
            .context
            .import_resolver
            .sources
            .add_string(SourcePath::Path("stead:main.ncl".into(), InputFormat::Nickel), program);
        let value = self.context.prepare_eval(id).map_err(|error| self.explain(error, &[]))?;
        self.thaw_data();
        Ok(tree::walk(VirtualMachine::new(&mut self.context), value))
    }

    /// Makes the records of imported TOML, YAML and JSON files such as Nickel's own are before their first evaluation.
    /// As the parsers give them they are half evaluated, which merging (in Nickel 0.19) does not expect.
    fn thaw_data(&mut self) {
        let terms = &mut self.context.import_resolver.terms;
        let data: Vec<_> = terms
            .terms()
            .iter()
            .filter(|(_, entry)| entry.format != InputFormat::Nickel)
            .map(|(id, entry)| (*id, entry.clone()))
            .collect();
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

    pub(crate) fn files(&self) -> &Files {
        self.context.import_resolver.files()
    }

    /// Whether a file is of the project or of an input, rather than Stead's or Nickel's own.
    pub(crate) fn is_theirs(&self, file: FileId) -> bool {
        is_theirs(self.files(), file)
    }

    /// The failure of one value. `path` leads to it from the top of the configuration.
    pub(crate) fn explain_problem(&self, problem: Problem, path: &[String]) -> Failure {
        match problem.reason {
            Reason::Nickel(error) => self.explain(Error::EvalError(error), path),
            Reason::TooDeep => self.fail(Report::new(
                Kind::Evaluation,
                format!("`{}` never ends: it contains itself", spell(&path[..path.len().min(6)])),
            )),
        }
    }

    /// The failure that this report is.
    pub(crate) fn fail(&self, report: Report) -> Failure {
        let labels = report.places.iter().enumerate().map(|(index, (span, words))| {
            let style = if index == 0 { LabelStyle::Primary } else { LabelStyle::Secondary };
            Label::new(style, span.src_id, span.start.to_usize()..span.end.to_usize()).with_message(words.clone())
        });
        let diagnostic =
            Diagnostic::error().with_message(&report.message).with_labels(labels.collect()).with_notes(report.hints);
        self.render(report.kind, diagnostic, self.files().clone(), report.hidden)
    }

    /// Nickel's own account, without the places in Stead's and Nickel's own files.
    pub(crate) fn in_nickels_words(&self, kind: Kind, error: impl IntoDiagnostics) -> Failure {
        let mut files = self.files().clone();
        let first = error.into_diagnostics(&mut files).into_iter().next();
        let mut diagnostic = first.unwrap_or_else(|| Diagnostic::error().with_message("the evaluation failed"));
        // A parser's own drawing of the source: its last line says what is wrong.
        if let Some(last) =
            diagnostic.message.lines().next_back().filter(|_| diagnostic.message.contains(" parse error at line "))
        {
            diagnostic.message = format!("this file cannot be read: {}", last.trim());
        }
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
        let primary = diagnostic.labels.iter().find(|label| label.style == LabelStyle::Primary);
        let place = primary.and_then(|label| self.place_in(&files, label.file_id, label.range.start));
        if hidden {
            let at = place.as_ref().map(|place| format!("  --> {place}\n")).unwrap_or_default();
            let text = format!("error: {message}\n{at}");
            return Failure::new(kind, message, place, text.clone(), text);
        }
        let plain = self.shorten(&report_as_str(&mut files, diagnostic.clone(), ColorOpt::Never));
        let coloured = self.shorten(&report_as_str(&mut files, diagnostic, ColorOpt::AlwaysAnsi));
        Failure::new(kind, self.shorten(&message), place, plain, coloured)
    }

    /// A place, as people are told it.
    pub(crate) fn spell_place(&self, span: RawSpan) -> Option<Place> {
        self.place_in(self.files(), span.src_id, span.start.to_usize())
    }

    fn place_in(&self, files: &Files, id: FileId, start: usize) -> Option<Place> {
        let before = files.source(id).get(..start)?;
        let file = self.shorten(&files.name(id).to_string_lossy());
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(Place { file, line: before.matches('\n').count() + 1, column })
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
            Container::Alloc(data) => {
                NickelValue::array(data.array.into_iter().map(thaw).collect(), data.pending_contracts, position)
            }
            Container::Empty => NickelValue::empty_array().with_pos_idx(position),
        },
        other => other.restore(),
    }
}

fn is_theirs(files: &Files, file: FileId) -> bool {
    let name = files.name(file).to_string_lossy();
    !files.is_stdlib(file) && !name.starts_with("stead:") && !name.starts_with('<')
}
