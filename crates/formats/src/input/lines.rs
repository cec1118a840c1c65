//! Lines with numbers, in bounded memory.
//!
//! - A line ends at `\n`; one `\r` before it belongs to the end. The last line needs no end.
//! - A UTF-8 byte order mark at the start is no part of the first line.
//! - A line longer than the limit is delivered as its first bytes, marked as over-long; the rest
//!   is read past, never held.
//! - After a failed read every complete line that had arrived is still delivered; the torn rest of
//!   a line is not, since a cut-off number reads like a whole one.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

use crate::verdict::RAW_LIMIT;

/// The first buffer; grows up to the limit of a line where a line needs it.
const BUFFER_BYTES: usize = 256 * 1024;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One line, without its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    /// From 1.
    pub(crate) number: u64,
    /// Whether only the first bytes of the line are here.
    pub(crate) over_long: bool,
}

#[derive(Debug)]
enum State {
    Open,
    Ended,
    Failed(io::Error),
    /// The failure was told.
    Dead,
}

/// A reader of lines.
pub(crate) struct Lines {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The bytes of `buffer` that hold unread input.
    start: usize,
    end: usize,
    state: State,
    number: u64,
    limit: usize,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("number", &self.number)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Where the next line lies in the buffer.
struct Span {
    /// Up to the end of the text, from `start`.
    text: usize,
    /// Up to the start of the next line, from `start`.
    whole: usize,
    over_long: bool,
}

/// What a look ahead has seen.
#[derive(Debug, Default)]
struct Seen {
    /// Lines that are not blank.
    lines: usize,
    /// The end of the first of them.
    first: Option<usize>,
    line_start: usize,
    searched: usize,
}

impl Seen {
    fn is_enough(&mut self, unread: &[u8], count: usize, lines: usize, limit: usize) -> bool {
        for at in memchr_iter(b'\n', unread.get(self.searched..).unwrap_or_default()) {
            let end = self.searched + at;
            if !unread[self.line_start..end].trim_ascii().is_empty() {
                self.lines += 1;
                self.first.get_or_insert(end + 1);
            }
            self.line_start = end + 1;
        }
        self.searched = unread.len();
        let whole = self.first.is_some() || unread.len() > limit || starts_array(unread);
        self.lines >= lines || (unread.len() >= count && whole)
    }
}

fn starts_array(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'[')
}

impl Lines {
    /// Lines of `input`, each at most `limit` bytes long.
    pub(crate) fn new(input: Box<dyn Read + Send>, limit: usize) -> Self {
        let mut lines = Self {
            input,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            state: State::Open,
            number: 0,
            limit: limit.max(RAW_LIMIT),
        };
        lines.fill_to(BOM.len());
        if lines.unread().starts_with(BOM) {
            lines.start = BOM.len();
        }
        lines
    }

    /// The number of the last line delivered; 0 before the first.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether everything that there is has been read into the buffer.
    pub(crate) const fn has_ended(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// About `count` bytes that come next, without taking them, and whether that is all there is.
    ///
    /// There is one whole line that is not blank among them, unless the input or the limit of a line
    /// ends before it (an array of JSON may well be one line, and is told by its start). Content
    /// with less than `count` once it has `lines` such lines, since a stream may take long to send
    /// more.
    pub(crate) fn peek_start(&mut self, count: usize, lines: usize) -> (&[u8], bool) {
        let mut seen = Seen::default();
        while !seen.is_enough(self.unread(), count, lines, self.limit) && self.fill() {}
        let unread = self.unread();
        let end = count.max(seen.first.unwrap_or_else(|| {
            if starts_array(unread) {
                0
            } else {
                unread.len()
            }
        }));
        let start = unread.get(..end).unwrap_or(unread);
        (start, self.has_ended() && start.len() == unread.len())
    }

    /// Whether the input ends soon and has nothing but blanks.
    pub(crate) fn is_blank(&mut self) -> bool {
        while self.unread().trim_ascii_start().is_empty()
            && self.end - self.start < BUFFER_BYTES
            && self.fill()
        {}
        matches!(self.state, State::Ended) && self.unread().trim_ascii_start().is_empty()
    }

    /// The error that reading has ended with, where not even one byte came before it.
    pub(crate) fn failed_at_once(&mut self) -> Option<io::Error> {
        if self.start < self.end || self.number > 0 {
            return None;
        }
        self.take_failure()
    }

    /// The error that reading has ended with, whatever came before it.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        if !matches!(self.state, State::Failed(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        let Some(span) = self.find_line()? else {
            return Ok(None);
        };
        Ok(Some(self.take(&span, 1)))
    }

    /// The next record of delimited text, which goes on over line ends inside of quotes, as far as
    /// `accept` takes the joined text; a line with a stray quote is a record of its own, so that
    /// it costs one line and not the rest of the file.
    pub(crate) fn next_record(
        &mut self,
        joined_limit: usize,
        mut accept: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<Line<'_>>> {
        let Some(first) = self.find_line()? else {
            return Ok(None);
        };
        let text = &self.unread()[..first.text];
        if first.over_long || memchr(b'"', text).is_none() || even_quotes(text) {
            return Ok(Some(self.take(&first, 1)));
        }
        match self.join_lines(&first, joined_limit) {
            Some((span, lines)) if accept(&self.unread()[..span.text]) => {
                Ok(Some(self.take(&span, lines)))
            }
            _ => Ok(Some(self.take(&first, 1))),
        }
    }

    /// Everything that is left, as one piece of at most `limit` bytes; `None` where there is more.
    pub(crate) fn rest(&mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut all = self.unread().to_vec();
        self.start = self.end;
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Failed(error) => return Err(error),
            State::Open => {
                let room = limit.saturating_add(1).saturating_sub(all.len() as u64);
                self.input.by_ref().take(room).read_to_end(&mut all)?;
            }
            State::Ended | State::Dead => {}
        }
        self.state = State::Ended;
        Ok((all.len() as u64 <= limit).then_some(all))
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn take(&mut self, span: &Span, lines: u64) -> Line<'_> {
        let from = self.start;
        self.start += span.whole;
        // A record of several lines is told by its first one.
        let number = self.number + 1;
        self.number += lines;
        if span.over_long {
            self.skip_line();
        }
        let mut bytes = &self.buffer[from..from + span.text];
        if let [head @ .., b'\r'] = bytes {
            bytes = head;
        }
        Line {
            bytes,
            number,
            over_long: span.over_long,
        }
    }

    /// Finds the next line, reading as much as it takes.
    fn find_line(&mut self) -> io::Result<Option<Span>> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.unread()[searched..]) {
                let text = searched + at;
                return Ok(Some(self.span(text, text + 1)));
            }
            searched = self.end - self.start;
            // One more byte may be the first of the line's end.
            if searched > self.limit + 1 {
                return Ok(Some(self.span(searched, searched)));
            }
            if !self.fill() {
                return self.last_line(searched);
            }
        }
    }

    /// A line of `text` bytes, or the start of one that is longer than the limit.
    fn span(&self, text: usize, whole: usize) -> Span {
        let end = self.unread().get(..text).unwrap_or_default();
        let length = text - usize::from(end.ends_with(b"\r"));
        if length > self.limit {
            return Span {
                text: RAW_LIMIT,
                whole: RAW_LIMIT,
                over_long: true,
            };
        }
        Span {
            text,
            whole,
            over_long: false,
        }
    }

    fn last_line(&mut self, length: usize) -> io::Result<Option<Span>> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Failed(error) => {
                self.start = self.end;
                Err(error)
            }
            State::Dead => Ok(None),
            ended @ (State::Open | State::Ended) => {
                self.state = ended;
                Ok((length > 0).then(|| self.span(length, length)))
            }
        }
    }

    /// Extends `first`, which ends inside of quotes, to the line end where they are closed.
    fn join_lines(&mut self, first: &Span, limit: usize) -> Option<(Span, u64)> {
        let mut lines = 1;
        // Up to here the text is read, and it ends inside of quotes.
        let mut from = first.whole;
        while from <= limit {
            let Some(at) = memchr(b'\n', &self.unread()[from..]) else {
                if self.end - self.start <= limit && self.fill() {
                    continue;
                }
                let closed = !even_quotes(&self.unread()[from..]);
                let whole = self.end - self.start;
                let span = Span {
                    text: whole,
                    whole,
                    over_long: false,
                };
                return (closed && matches!(self.state, State::Ended)).then_some((span, lines + 1));
            };
            lines += 1;
            let closes = !even_quotes(&self.unread()[from..from + at]);
            if closes {
                let span = Span {
                    text: from + at,
                    whole: from + at + 1,
                    over_long: false,
                };
                return Some((span, lines));
            }
            from += at + 1;
        }
        None
    }

    /// Reads past the rest of an over-long line, keeping the start of it (the `RAW_LIMIT` bytes
    /// before `self.start`) in place.
    fn skip_line(&mut self) {
        let keep = self.start;
        loop {
            if let Some(at) = memchr(b'\n', self.unread()) {
                self.start += at + 1;
                return;
            }
            self.start = keep;
            self.end = keep;
            if !matches!(self.state, State::Open) || !self.read_once() {
                return;
            }
        }
    }

    fn fill_to(&mut self, count: usize) {
        while self.end - self.start < count && self.fill() {}
    }

    /// Reads some more bytes behind the unread ones; false where there are none.
    fn fill(&mut self) -> bool {
        if !matches!(self.state, State::Open) {
            return false;
        }
        if self.start > 0 && (self.start == self.end || self.end == self.buffer.len()) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        self.read_once()
    }

    fn read_once(&mut self) -> bool {
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.state = State::Ended;
                    return false;
                }
                Ok(count) => {
                    self.end += count;
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.state = State::Failed(error);
                    return false;
                }
            }
        }
    }
}

fn even_quotes(text: &[u8]) -> bool {
    memchr_iter(b'"', text).count().is_multiple_of(2)
}
