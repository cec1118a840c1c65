//! The elements of a JSON array, one by one, with the lines where they start.

use serde_json::value::RawValue;

use crate::error::ReadError;
use crate::input::Part;

/// A JSON array whose elements are parsed only when they are asked for.
///
/// A document that is one object counts as an array of that object.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    path: String,
    text: String,
    /// What was parsed so far, in bytes.
    at: usize,
    /// The line of `at`, from 1.
    line: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    End,
    /// Before the first element of an array.
    First,
    /// Behind an element of an array.
    Behind,
    /// Before the only element of a document that is no array.
    Single,
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) text: &'a str,
    /// Where it starts, from 1.
    pub(crate) line: u64,
}

impl Elements {
    /// The elements of the document that `part` is.
    pub(crate) fn of(part: &mut Part) -> Result<Self, ReadError> {
        let mut elements = Self {
            path: part.path.to_string(),
            text: part.document()?,
            at: 0,
            line: 1,
            place: Place::Single,
        };
        elements.skip_blanks();
        match elements.peek() {
            None => elements.place = Place::End,
            Some(b'[') => {
                elements.at += 1;
                elements.place = Place::First;
            }
            Some(_) => {}
        }
        Ok(elements)
    }

    /// The next element; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Element<'_>>, ReadError> {
        self.skip_blanks();
        match (self.place, self.peek()) {
            (Place::End, None) => return Ok(None),
            (Place::End, Some(_)) => return self.broken("nothing may follow after the document"),
            (Place::First | Place::Behind, Some(b']')) => {
                self.at += 1;
                self.place = Place::End;
                return self.next();
            }
            (Place::Behind, Some(b',')) => self.at += 1,
            (Place::Behind, Some(_)) => {
                return self
                    .broken("an element must be followed by a comma or the closing bracket");
            }
            (_, None) => return self.broken("the document ends in the middle of an array"),
            (Place::First | Place::Single, Some(_)) => {}
        }
        self.element().map(Some)
    }

    /// Parses the element that comes next.
    fn element(&mut self) -> Result<Element<'_>, ReadError> {
        self.skip_blanks();
        let (line, from) = (self.line, self.at);
        let mut values =
            serde_json::Deserializer::from_str(&self.text[from..]).into_iter::<&RawValue>();
        let parsed = values.next().transpose();
        let length = values.byte_offset();
        match parsed {
            Ok(Some(_)) => {}
            Ok(None) => return self.broken("the document ends in the middle of an array"),
            Err(source) => {
                return Err(ReadError::Json {
                    path: self.path.clone(),
                    line: line + (source.line() as u64).saturating_sub(1),
                    source: source.into(),
                });
            }
        }
        self.place = match self.place {
            Place::Single => Place::End,
            _ => Place::Behind,
        };
        self.advance(length);
        let text = self.text[from..self.at].trim_ascii();
        Ok(Element { text, line })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.advance(blanks);
    }

    fn advance(&mut self, count: usize) {
        let passed = &self.text.as_bytes()[self.at..self.at + count];
        self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.at += count;
    }

    fn broken<T>(&self, reason: &str) -> Result<T, ReadError> {
        Err(ReadError::Malformed {
            path: self.path.clone(),
            line: self.line,
            reason: reason.to_owned(),
        })
    }
}
