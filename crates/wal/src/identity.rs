//! What a folder is for: the file `header`, so that no queue is opened by somebody else.
//!
//! ```text
//! offset  size  content of the file (kept twice, see `pair`), little-endian
//!      0     8  "MDSWALQH"
//!      8     2  version of the format
//!     10     8  salt: a random number of this queue
//!     18     n  identity: UTF-8, whatever the owner says
//! ```

use std::io;

use crate::error::{OpenError, StorageError};
use crate::pair::{self, Found};
use crate::storage::{Storage, read_full};
use crate::survey::{Survey, SurveyError};

const MAGIC: &[u8; 8] = b"MDSWALQH";
/// The newest version of the file.
const VERSION: u16 = 1;
const HEAD: usize = 18;
/// The name of the file.
pub(crate) const NAME: &str = "header";
/// Under this name it is written before it gets its own.
const NEW_NAME: &str = "header.new";
/// Bytes that an identity may have.
pub(crate) const MAX: usize = pair::ROOM - HEAD;

/// What a queue is for, in the words of its owner.
pub(crate) type Identity = str;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) salt: u64,
    pub(crate) identity: String,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(HEAD + self.identity.len());
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&VERSION.to_le_bytes());
        content.extend_from_slice(&self.salt.to_le_bytes());
        content.extend_from_slice(self.identity.as_bytes());
        pair::encode(&content)
    }

    fn decode(content: &[u8]) -> Result<Self, Option<u16>> {
        let rest = content.strip_prefix(MAGIC).ok_or(None)?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(None)?;
        let version = u16::from_le_bytes(*version);
        if version > VERSION {
            return Err(Some(version));
        }
        let (salt, identity) = rest.split_first_chunk::<8>().ok_or(None)?;
        Ok(Self {
            salt: u64::from_le_bytes(*salt),
            identity: String::from_utf8_lossy(identity).into_owned(),
        })
    }
}

/// Reads the file; `None` where there is none, or nothing of it can be read. Tells whether all of
/// it is as it was written, which it is where there is none.
pub(crate) fn read(storage: &dyn Storage) -> Result<(Option<Header>, bool), SurveyError> {
    let failed = |source| StorageError::new("read", NAME, source);
    let file = match storage.open(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, true)),
        other => other.map_err(failed)?,
    };
    let mut bytes = vec![0; pair::PAIR];
    let length = read_full(file.as_ref(), &mut bytes, 0).map_err(failed)?;
    match pair::decode(&bytes[..length]) {
        Found::Content(content, is_damaged) => match Header::decode(&content) {
            Ok(header) => Ok((Some(header), !is_damaged)),
            Err(Some(found)) => Err(SurveyError::Newer(found, VERSION)),
            Err(None) => Ok((None, false)),
        },
        Found::Damaged | Found::Empty => Ok((None, false)),
    }
}

/// The checksum of an identity, which each segment bears.
pub(crate) fn checksum(identity: &Identity) -> u32 {
    crc32fast::hash(identity.as_bytes())
}

/// Checks that the folder is for what is wanted, or makes it so if it is for nothing yet; answers
/// with the salt. A damaged file is written anew.
pub(crate) fn settle(
    storage: &dyn Storage,
    survey: &Survey,
    wanted: &Identity,
) -> Result<u64, OpenError> {
    if let Some(found) = &survey.header
        && found.identity != wanted
    {
        return Err(OpenError::Mismatch {
            found: found.identity.clone(),
            wanted: wanted.to_owned(),
        });
    }
    // Without its header, the segments still say whether it is another one.
    if survey.header.is_none()
        && survey
            .identity
            .is_some_and(|found| found != checksum(wanted))
    {
        return Err(OpenError::Mismatch {
            found: "something else (its header is gone)".to_owned(),
            wanted: wanted.to_owned(),
        });
    }
    let salt = survey.salt.unwrap_or_else(|| fastrand::u64(1..));
    if survey.header.is_none() || !survey.is_header_whole {
        let header = Header {
            salt,
            identity: wanted.to_owned(),
        };
        write(storage, survey.has(NEW_NAME), &header)?;
    }
    Ok(salt)
}

fn write(storage: &dyn Storage, has_new: bool, header: &Header) -> Result<(), StorageError> {
    let failed = |operation| move |source| StorageError::new(operation, NAME, source);
    if has_new {
        storage.remove(NEW_NAME).map_err(failed("remove"))?;
    }
    let bytes = header.encode();
    let file = storage
        .create(NEW_NAME, bytes.len() as u64)
        .map_err(failed("make"))?;
    file.write_all_at(&bytes, 0).map_err(failed("write"))?;
    file.sync().map_err(failed("sync"))?;
    storage.rename(NEW_NAME, NAME).map_err(failed("rename"))?;
    storage.sync_dir().map_err(failed("sync"))
}
