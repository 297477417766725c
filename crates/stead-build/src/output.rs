//! What a build prints: all of it into a log, the last lines into the error.
//!
//! Promises bounded memory and a bounded log, whatever is printed.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Lines that an error shows.
const SHOWN: usize = 20;
/// Characters of a line that an error shows.
const WIDTH: usize = 400;
/// Bytes of a log; a build that prints without end does not fill the disk.
const LONGEST_LOG: usize = 64 * 1024 * 1024;

/// The last lines of a build's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines(pub Vec<String>);

impl fmt::Display for Lines {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(out, "\n  (it printed nothing)");
        }
        self.0.iter().try_for_each(|line| write!(out, "\n  {line}"))
    }
}

/// Keeps what is printed.
pub(crate) struct Recorder {
    log: BufWriter<File>,
    written: usize,
    last: VecDeque<String>,
    trouble: Option<io::Error>,
}

impl Recorder {
    pub(crate) fn create(log: &Path) -> io::Result<Self> {
        Ok(Self { log: BufWriter::new(File::create(log)?), written: 0, last: VecDeque::new(), trouble: None })
    }

    pub(crate) fn line(&mut self, line: &str) {
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(WIDTH).collect());
        self.written += line.len() + 1;
        if self.written <= LONGEST_LOG && self.trouble.is_none() {
            self.trouble = writeln!(self.log, "{line}").err();
        }
    }

    /// The last lines. Fails if the log could not be written.
    pub(crate) fn finish(mut self) -> io::Result<Vec<String>> {
        match self.trouble.take() {
            Some(trouble) => Err(trouble),
            None => self.log.flush().map(|()| self.last.into()),
        }
    }
}

/// Cuts a stream of bytes into lines. What is not UTF-8 is replaced; a line without end is cut.
#[derive(Default)]
pub(crate) struct Splitter {
    rest: Vec<u8>,
}

/// Bytes after which a line is cut.
const LONGEST_LINE: usize = 64 * 1024;

impl Splitter {
    pub(crate) fn feed(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() > LONGEST_LINE {
                self.end(line);
            }
        }
    }

    pub(crate) fn end(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.rest.is_empty() {
            line(String::from_utf8_lossy(&self.rest).trim_end_matches(['\n', '\r']));
            self.rest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_end_however_the_bytes_arrive() {
        for size in 1..8 {
            let mut lines = Vec::new();
            let mut splitter = Splitter::default();
            let text = b"one\r\n\ntwo \xff\nrest";
            text.chunks(size).for_each(|bytes| splitter.feed(bytes, &mut |line| lines.push(line.to_owned())));
            splitter.end(&mut |line| lines.push(line.to_owned()));
            assert_eq!(lines, ["one", "", "two \u{fffd}", "rest"]);
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut count = 0;
        let mut splitter = Splitter::default();
        (0..100).for_each(|_| splitter.feed(&[b'x'; 8192], &mut |_| count += 1));
        assert!(count > 5 && splitter.rest.len() <= LONGEST_LINE);
    }

    #[test]
    fn an_error_shows_the_last_twenty_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(&folder.path().join("log")).unwrap();
        (0..50).for_each(|number| recorder.line(&number.to_string()));
        let last = recorder.finish().unwrap();
        assert_eq!((last.len(), last[0].as_str(), last[19].as_str()), (20, "30", "49"));
        assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap().lines().count(), 50);
    }
}
