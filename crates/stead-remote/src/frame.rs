//! Frames: how messages and bulk bytes travel.
//!
//! A frame is its payload's length (four bytes, big-endian), its kind (one byte), and the payload.
//! Messages are JSON; data is raw and ends with an empty end frame.
//!
//! Promises that a length is checked before anything is allocated, that an unknown kind or field is
//! refused, and that a line which ends inside a frame is told from one which ends between two.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufReader, BufWriter, Read, Write};

/// Bytes of a frame's head.
pub const HEAD: usize = 5;
/// Most bytes of a message.
pub const MESSAGE_LIMIT: usize = 1 << 20;
/// Most bytes of a data frame.
pub const DATA_LIMIT: usize = 256 << 10;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message of [`crate::message`] as JSON.
    Message,
    /// Bytes of a stream.
    Data,
    /// The end of a stream. Empty.
    End,
    /// Bytes of a command's standard error.
    Errors,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Message => 1,
            Kind::Data => 2,
            Kind::End => 3,
            Kind::Errors => 4,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Kind::Message, Kind::Data, Kind::End, Kind::Errors].into_iter().find(|kind| kind.byte() == byte)
    }

    /// Most bytes that a frame of this kind holds.
    pub fn limit(self) -> usize {
        match self {
            Kind::Message => MESSAGE_LIMIT,
            Kind::Data | Kind::Errors => DATA_LIMIT,
            Kind::End => 0,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// The receiving end of a conversation.
#[derive(Debug)]
pub struct Reader<R> {
    input: BufReader<R>,
}

/// The sending end of a conversation. What is written goes out with [`Writer::flush`] at the latest.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: BufWriter<W>,
}

/// Both ends of one side of a conversation.
#[derive(Debug)]
pub struct Connection<R, W: Write> {
    /// What the other side says.
    pub reader: Reader<R>,
    /// What this side says.
    pub writer: Writer<W>,
}

impl<R: Read, W: Write> Connection<R, W> {
    /// A conversation over these two.
    pub fn new(input: R, output: W) -> Self {
        Self { reader: Reader::new(input), writer: Writer::new(output) }
    }

    /// Sends a message, and everything written before it, now.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), Error> {
        self.writer.message(message)?;
        self.writer.flush()
    }

    /// Waits for the next message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        self.reader.message()
    }
}

impl<R: Read> Reader<R> {
    /// Reads frames from here.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(64 << 10, input) }
    }

    /// What it reads from, past what was read ahead.
    pub fn inner_mut(&mut self) -> &mut R {
        self.input.get_mut()
    }

    /// The bytes up to the next line's end, without it: for the line before the first frame.
    /// At most `limit` bytes are read.
    pub fn line(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            match self.input.read(&mut byte).map_err(Error::Read)? {
                0 if line.is_empty() => return Err(Error::Closed),
                0 => return Err(Error::Dropped),
                _ if byte[0] == b'\n' => return Ok(line),
                _ if line.len() == limit => return Err(Error::TooLong { length: limit + 1, limit }),
                _ => line.push(byte[0]),
            }
        }
    }

    /// Waits for the next frame.
    pub fn frame(&mut self) -> Result<Frame, Error> {
        let mut payload = Vec::new();
        let kind = self.frame_into(&mut payload)?;
        Ok(Frame { kind, payload })
    }

    /// Waits for the next frame and puts its payload in place of what is in `payload`.
    pub fn frame_into(&mut self, payload: &mut Vec<u8>) -> Result<Kind, Error> {
        let mut head = [0; HEAD];
        let mut filled = 0;
        while filled < HEAD {
            match self.input.read(&mut head[filled..]) {
                Ok(0) if filled == 0 => return Err(Error::Closed),
                Ok(0) => return Err(Error::Dropped),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        let [length @ .., kind] = head;
        let kind = Kind::of(kind).ok_or(Error::UnknownKind { kind })?;
        let length = u32::from_be_bytes(length) as usize;
        if length > kind.limit() {
            return Err(Error::TooLong { length, limit: kind.limit() });
        }
        payload.clear();
        payload.resize(length, 0);
        self.input.read_exact(payload).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Dropped,
            _ => Error::Read(error),
        })?;
        Ok(kind)
    }

    /// Waits for the next message.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let frame = self.frame()?;
        match frame.kind {
            Kind::Message => read_message(&frame.payload),
            kind => Err(Error::OutOfTurn { expected: "a message", kind }),
        }
    }

    /// The data frames up to the next end frame, as one reader. Read it to its end
    /// ([`Stream::finish`]) before the next frame is read.
    pub fn stream(&mut self) -> Stream<'_, R> {
        Stream { reader: self, buffer: Vec::new(), at: 0, state: StreamState::Open }
    }
}

/// The message in these bytes.
pub fn read_message<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|error| Error::NotUnderstood {
        error,
        text: String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned(),
    })
}

impl<W: Write> Writer<W> {
    /// Writes frames to here.
    pub fn new(output: W) -> Self {
        Self { output: BufWriter::with_capacity(64 << 10, output) }
    }

    /// Writes one frame.
    pub fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        if payload.len() > kind.limit() {
            return Err(Error::TooLong { length: payload.len(), limit: kind.limit() });
        }
        let length = u32::try_from(payload.len()).expect("no kind's limit is above 32 bits").to_be_bytes();
        self.output.write_all(&length).map_err(Error::Write)?;
        self.output.write_all(&[kind.byte()]).map_err(Error::Write)?;
        self.output.write_all(payload).map_err(Error::Write)
    }

    /// Writes a message.
    pub fn message<T: Serialize>(&mut self, message: &T) -> Result<(), Error> {
        let payload = serde_json::to_vec(message).map_err(|error| Error::Write(error.into()))?;
        self.frame(Kind::Message, &payload)
    }

    /// Writes bytes as they are: for what comes before the first frame.
    pub(crate) fn unframed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_all(bytes).map_err(Error::Write)
    }

    /// [`Writer::unframed`], without a copy in a buffer: for what must not stay in memory.
    pub(crate) fn unbuffered(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.flush()?;
        self.output.get_mut().write_all(bytes).map_err(Error::Write)
    }

    /// Begins a data stream; [`Sink::finish`] ends it.
    pub fn stream(&mut self) -> Sink<'_, W> {
        Sink { writer: self, buffer: Vec::with_capacity(SINK_BUFFER) }
    }

    /// Sends what is written.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.output.flush().map_err(Error::Write)
    }
}

/// Data is gathered to frames of this size.
const SINK_BUFFER: usize = 64 << 10;

/// A data stream that is being sent.
#[derive(Debug)]
#[must_use = "a stream without its end frame is one that dropped"]
pub struct Sink<'a, W: Write> {
    writer: &'a mut Writer<W>,
    buffer: Vec<u8>,
}

impl<W: Write> Sink<'_, W> {
    /// Writes the rest and the end frame; does not flush.
    pub fn finish(mut self) -> Result<(), Error> {
        self.pass()?;
        self.writer.frame(Kind::End, &[])
    }

    fn pass(&mut self) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            self.writer.frame(Kind::Data, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == SINK_BUFFER {
            self.pass().map_err(Error::into_io)?;
        }
        let count = bytes.len().min(SINK_BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass().and_then(|()| self.writer.flush()).map_err(Error::into_io)
    }
}

/// A data stream that is being received.
#[derive(Debug)]
pub struct Stream<'a, R> {
    reader: &'a mut Reader<R>,
    buffer: Vec<u8>,
    at: usize,
    state: StreamState,
}

#[derive(Debug, PartialEq)]
enum StreamState {
    Open,
    Ended,
    Broken,
}

impl<R: Read> Stream<'_, R> {
    /// Reads what is left and throws it away; fails if that is more than `limit` bytes.
    pub fn finish(mut self, limit: u64) -> Result<(), Error> {
        let mut left = limit;
        loop {
            match self.next_frame()? {
                0 => return Ok(()),
                count if count as u64 > left => return Err(Error::Surplus),
                count => left -= count as u64,
            }
            self.at = self.buffer.len();
        }
    }

    /// Bytes of the frame that is in the buffer now; 0: the stream ended.
    fn next_frame(&mut self) -> Result<usize, Error> {
        while self.at == self.buffer.len() && self.state == StreamState::Open {
            self.at = 0;
            self.state = StreamState::Broken;
            self.state = match self.reader.frame_into(&mut self.buffer)? {
                Kind::Data => StreamState::Open,
                Kind::End => StreamState::Ended,
                kind => return Err(Error::OutOfTurn { expected: "data", kind }),
            };
        }
        match self.state {
            StreamState::Broken => Err(Error::Dropped),
            _ => Ok(self.buffer.len() - self.at),
        }
    }
}

impl<R: Read> Read for Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.next_frame().map_err(Error::into_io)?.min(buffer.len());
        buffer[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side ended the conversation, between two frames.
    #[error("the other side ended the conversation")]
    Closed,
    /// The line was cut in the middle of a frame.
    #[error("the line dropped")]
    Dropped,
    /// Reading failed.
    #[error("could not read from the line")]
    Read(#[source] io::Error),
    /// Writing failed.
    #[error("could not write to the line")]
    Write(#[source] io::Error),
    /// A frame of a kind that this version does not know.
    #[error("a frame of the unknown kind {kind}")]
    UnknownKind {
        /// The kind's byte.
        kind: u8,
    },
    /// A frame above its kind's limit.
    #[error("a frame of {length} bytes, where at most {limit} are allowed")]
    TooLong {
        /// Bytes that it claims.
        length: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A message that this version does not know.
    #[error("a message that is not understood: `{text}`")]
    NotUnderstood {
        /// Why.
        #[source]
        error: serde_json::Error,
        /// Its beginning.
        text: String,
    },
    /// A frame of a known kind where another one belongs.
    #[error("a frame of the kind {kind:?} came where {expected} was expected")]
    OutOfTurn {
        /// What belongs there.
        expected: &'static str,
        /// What came.
        kind: Kind,
    },
    /// A stream that is longer than announced.
    #[error("more data came than was announced")]
    Surplus,
}

impl Error {
    /// The same as an error of reading or writing; [`Error::from_io`] gets it back.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Error::Closed | Error::Dropped => io::ErrorKind::UnexpectedEof,
            Error::Read(error) | Error::Write(error) => error.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }

    /// The error of this conversation in `error`, if it is one; or else `error`.
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Reply, Request};
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Writer<&mut Vec<u8>>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        write(&mut writer);
        writer.flush().unwrap();
        drop(writer);
        bytes
    }

    #[test]
    fn a_line_that_ends_inside_a_frame_is_told_from_one_that_ends_between_two() {
        let bytes = written(|writer| writer.message(&Request::Status {}).unwrap());
        for cut in 0..bytes.len() {
            let error = Reader::new(&bytes[..cut]).message::<Request>().unwrap_err();
            assert_eq!(matches!(error, Error::Closed), cut == 0, "{cut}: {error:?}");
            assert_eq!(matches!(error, Error::Dropped), cut != 0, "{cut}: {error:?}");
        }
        assert_eq!(Reader::new(&bytes[..]).message::<Request>().unwrap(), Request::Status {});
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_anything_is_read() {
        for (kind, limit) in [(1, MESSAGE_LIMIT), (2, DATA_LIMIT), (3, 0)] {
            let mut bytes = u32::try_from(limit + 1).unwrap().to_be_bytes().to_vec();
            bytes.push(kind);
            assert!(matches!(Reader::new(&bytes[..]).frame(), Err(Error::TooLong { .. })));
        }
    }

    #[test]
    fn unknown_kinds_messages_and_fields_are_refused() {
        assert!(matches!(Reader::new(&[0, 0, 0, 0, 9][..]).frame(), Err(Error::UnknownKind { kind: 9 })));
        for text in [r#"{"format":{}}"#, r#"{"status":{"more":1}}"#, r#"{"gc":{"dry":true}}"#, "", "[]"] {
            assert!(matches!(read_message::<Request>(text.as_bytes()), Err(Error::NotUnderstood { .. })), "{text}");
        }
    }

    #[test]
    fn a_stream_without_its_end_is_an_error_and_never_a_short_file() {
        let bytes = written(|writer| {
            let mut sink = writer.stream();
            sink.write_all(&[7; 100_000]).unwrap();
            sink.finish().unwrap();
        });
        let mut content = Vec::new();
        Reader::new(&bytes[..]).stream().read_to_end(&mut content).unwrap();
        assert_eq!(content, [7; 100_000]);
        for cut in [0, 3, 5, 70_000, bytes.len() - 5, bytes.len() - 1] {
            assert!(Reader::new(&bytes[..cut]).stream().read_to_end(&mut Vec::new()).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_message_in_the_middle_of_a_stream_is_refused() {
        let bytes = written(|writer| {
            writer.frame(Kind::Data, b"x").unwrap();
            writer.message(&Reply::Done {}).unwrap();
        });
        let mut reader = Reader::new(&bytes[..]);
        let error = reader.stream().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(Error::from_io(error), Ok(Error::OutOfTurn { kind: Kind::Message, .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_a_limit(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::new(&bytes[..]);
            while let Ok(frame) = reader.frame() {
                prop_assert!(frame.payload.len() <= frame.kind.limit());
                let _ = read_message::<Request>(&frame.payload);
                let _ = read_message::<Reply>(&frame.payload);
            }
        }

        #[test]
        fn frames_read_back_as_written(
            frames in proptest::collection::vec((1_u8..=4, proptest::collection::vec(any::<u8>(), 0..300)), 0..10)
        ) {
            let frames: Vec<Frame> = frames
                .into_iter()
                .map(|(byte, payload)| {
                    let kind = Kind::of(byte).unwrap();
                    Frame { kind, payload: if kind == Kind::End { Vec::new() } else { payload } }
                })
                .collect();
            let bytes = written(|writer| frames.iter().for_each(|frame| writer.frame(frame.kind, &frame.payload).unwrap()));
            let mut reader = Reader::new(&bytes[..]);
            for frame in &frames {
                prop_assert_eq!(&reader.frame().unwrap(), frame);
            }
            prop_assert!(matches!(reader.frame(), Err(Error::Closed)));
        }
    }
}
