//! Asking the store which revision an input begins with, however long that takes.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use mds_core::{ErrorKind, Timestamp};
use mds_store::{FileRevision, IngestedFile, Remembered, StoreError};
use tokio::time::Instant;

use super::input::{self, Base, Input};
use super::revise::Revisions;
use super::run::Run;
use super::stop::Stop;
use super::watch::Outages;
use super::{read, reading};
use crate::pipeline::MarketRecord;

/// How long to wait between two questions to a store that is away.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// With what an input begins.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub(super) revisions: Revisions,
    /// For a file whose content the store has not seen before: when it was last changed.
    pub(super) is_new: Option<Timestamp>,
    /// For a file: its content and how it is read, as one text.
    pub(super) content: Option<String>,
    /// The store has seen this content, read like this, before.
    pub(super) is_known: bool,
}

impl<R: MarketRecord> Run<R> {
    /// The revisions of an input; `None` if the run stops before the store has said them. A store
    /// that is away is waited for.
    pub(super) async fn base_revision(&self, input: &Input) -> anyhow::Result<Option<Begin>> {
        let name = input.name();
        let content = match input::base_revision(input, self.revision).await? {
            Base::Known(revisions, note) => {
                if *input == Input::Stdin {
                    self.tally().stdin_base = Some(revisions.base);
                }
                self.notes(&name, note.as_slice());
                return Ok(Some(Begin {
                    revisions,
                    is_new: None,
                    content: None,
                    is_known: false,
                }));
            }
            Base::OfContent(content) => content,
        };
        let modified = content.modified;
        self.must_be_known(input).await?;
        let file = IngestedFile {
            content_hash: content.hash,
            kind: R::KIND,
            keys: reading::keys(&self.options),
            reading: reading::reading(&self.options),
            path: Some(&content.path),
            modified: modified.micros(),
            now: input::now().micros(),
            max_rows: content.max_rows,
        };
        let Some(said) = self.ask_store(|| self.store.file_revision(&file)).await else {
            return Ok(None);
        };
        let note = note(&said, modified).or(content.note);
        self.notes(&name, note.as_slice());
        let parts = [file.content_hash, file.keys, file.reading];
        let mut content = String::new();
        // Marks are about these rows with these revisions, in a store that knows them.
        let is_known = said.remembered == Remembered::SameReading;
        for byte in parts.concat() {
            // Writing into memory cannot fail.
            _ = write!(content, "{byte:02x}");
        }
        _ = write!(content, " {}", said.base);
        Ok(Some(Begin {
            content: Some(content),
            is_known,
            revisions: Revisions {
                base: said.base,
                as_of: said.modified,
                as_of_is: "last changed at",
                first_seen: said.first_seen,
            },
            is_new: (said.remembered == Remembered::Nothing).then_some(modified),
        }))
    }

    /// The store remembers a content only where it is understood: otherwise the next attempt would be
    /// another reading of it, and not the first.
    async fn must_be_known(&self, input: &Input) -> anyhow::Result<()> {
        let (input, options) = (input.clone(), self.options.clone());
        let looked = tokio::task::spawn_blocking(move || read::refused::<R>(&input, &options));
        let refused = looked.await.context("the look at the file was given up")?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The store's answer, however long that takes; `None` if the run stops.
    async fn ask_store<V, F>(&self, ask: impl Fn() -> F) -> Option<V>
    where
        F: Future<Output = Result<V, StoreError>>,
    {
        let outages = Outages::new(self.max_outage, |text: &str| self.say(text));
        let mut since: Option<Instant> = None;
        loop {
            let error = match ask().await {
                Ok(answer) => {
                    outages.over();
                    return Some(answer);
                }
                Err(error) => error,
            };
            let is_away = matches!(error.kind(), ErrorKind::Environment | ErrorKind::Transient);
            let error = told(error);
            if !is_away {
                self.stop_for(Stop::Fatal { error });
                return None;
            }
            let length = since.get_or_insert_with(Instant::now).elapsed();
            outages.away(length, &error);
            if outages.is_over_limit(Some(length)) {
                let limit = self.max_outage;
                self.stop_for(Stop::Outage { limit, error });
            }
            tokio::select! {
                biased;
                _ = self.stopped() => return None,
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }
}

/// What a person should know about a content that the store has seen.
fn note(said: &FileRevision, modified: Timestamp) -> Option<String> {
    let base = Timestamp::from_micros(said.base);
    match said.remembered {
        Remembered::SameReading if base != modified => Some(format!(
            "this content was seen before, with revisions from {base}"
        )),
        Remembered::OtherReading => Some(format!(
            "read by another --format, --map, --tz or --time-format than before: revisions start \
             anew at {base}, and these rows win"
        )),
        _ => None,
    }
}

/// A failed change as the write path would tell it, anything else with its causes.
fn told(error: StoreError) -> String {
    match error {
        StoreError::Write { source, .. } => source.to_string(),
        other => crate::exit::told(&other.into()),
    }
}
