//! The only place that prints: data on standard output, talk on standard error.
//!
//! On a terminal there are colours and one moving line; elsewhere plain lines, each said once.
//! With `--json`, standard output holds exactly one document, with a version.

use crate::arguments::{Global, When};
use crate::environment;
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The version of every `--json` document.
const JSON_VERSION: u32 = 1;

/// Where a command's words go.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    colour: bool,
    colour_data: bool,
    bar: Option<ProgressBar>,
    phases: Vec<(String, f64)>,
    current: Option<(String, Instant)>,
    /// Whether the command's JSON document is out.
    told: Cell<bool>,
}

impl Output {
    /// As the operator asked for it.
    pub(crate) fn new(global: &Global) -> Self {
        let colour = |is_terminal: bool| match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && !environment::no_colour(),
        };
        let talks = std::io::stderr().is_terminal();
        Self {
            json: global.json,
            quiet: global.quiet,
            colour: colour(talks),
            colour_data: colour(std::io::stdout().is_terminal()),
            bar: (talks && !global.quiet).then(bar),
            phases: Vec::new(),
            current: None,
            told: Cell::new(false),
        }
    }

    /// Whether `--json` was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether talk may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Asks somebody at the terminal something; the moving line is away meanwhile.
    pub(crate) fn while_asking<T>(&self, ask: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(ask),
            None => ask(),
        }
    }

    /// A line of data, unless `--json`.
    pub(crate) fn data(&self, line: &str) {
        if !self.json {
            self.out(line);
        }
    }

    /// Bytes of data as they are; on a terminal, a line break after them.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let print = || {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            if std::io::stdout().is_terminal() && bytes.last() != Some(&b'\n') {
                out.write_all(b"\n")?;
            }
            out.flush()
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Whether the command's JSON document is out, as far as one is wanted.
    pub(crate) fn has_told(&self) -> bool {
        self.told.get()
    }

    /// The command's one JSON document.
    pub(crate) fn json<T: Serialize>(&self, value: &T) {
        if self.json {
            self.told.set(true);
            let document = serde_json::json!({ "version": JSON_VERSION, "result": value });
            self.out(&format!("{document:#}"));
        }
    }

    fn out(&self, line: &str) {
        let print = || {
            let mut out = std::io::stdout().lock();
            // Whoever reads may have gone; there is nobody left to tell.
            let _ = writeln!(out, "{line}");
            let _ = out.flush();
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// A line of talk.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            self.err(line);
        }
    }

    fn err(&self, line: &str) {
        let print = || {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// A heading of talk, such as what was done.
    pub(crate) fn good(&self, line: &str) {
        let line = if self.colour { line.green().bold().to_string() } else { line.to_owned() };
        self.say(&line);
    }

    /// An error's words. Said even when quiet.
    pub(crate) fn error(&mut self, words: &str) {
        self.finish();
        let words = match words.strip_prefix("error: ") {
            Some(rest) if self.colour => format!("{} {rest}", "error:".red().bold()),
            _ => words.to_owned(),
        };
        self.err(words.trim_end());
    }

    /// A text in the colour for additions, removals or less important things.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.colour_data {
            return text.to_owned();
        }
        match paint {
            Paint::Added => text.green().to_string(),
            Paint::Changed => text.yellow().to_string(),
            Paint::Removed => text.red().to_string(),
            Paint::Faint => text.dimmed().to_string(),
            Paint::Strong => text.bold().to_string(),
        }
    }

    /// A phase of the command begins; the one before has ended.
    pub(crate) fn phase(&mut self, name: &str) {
        self.end_phase();
        self.current = Some((name.to_owned(), Instant::now()));
        if let Some(bar) = &self.bar {
            bar.set_message(name.to_owned());
        }
    }

    /// What goes on within the phase, in a few words; shown on a terminal only.
    pub(crate) fn detail(&self, words: &str) {
        if let Some(bar) = &self.bar {
            let phase = self.current.as_ref().map_or("", |(name, _)| name.as_str());
            bar.set_message(format!("{phase} · {words}"));
        }
    }

    fn end_phase(&mut self) {
        if let Some((name, began)) = self.current.take() {
            let seconds = began.elapsed().as_secs_f64();
            if !self.quiet {
                let time = format!("{seconds:.2} s");
                self.err(&format!("  {name:<12} {}", if self.colour { time.dimmed().to_string() } else { time }));
            }
            self.phases.push((name, seconds));
        }
    }

    /// Ends the last phase and takes the moving line away.
    pub(crate) fn finish(&mut self) {
        self.end_phase();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Every phase so far with its seconds.
    pub(crate) fn phases(&self) -> &[(String, f64)] {
        &self.phases
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:>5}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    // Nothing is shown for what is over in a moment.
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Added,
    Changed,
    Removed,
    Faint,
    Strong,
}

/// A number of bytes for people: `1.4 MB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}

/// A time for people: `2 h`, `3 days`.
pub(crate) fn ago(seconds: i64) -> String {
    match seconds {
        ..0 => "in the future".to_owned(),
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
