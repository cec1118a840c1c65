//! Asking the store which revision an input begins with, however long that takes.

use std::time::Duration;

use mds_core::ErrorKind;
use mds_store::StoreError;
use tokio::time::Instant;

use super::input::{self, Base, Input};
use super::run::Run;
use super::stop::Stop;
use super::watch::Outages;
use crate::pipeline::MarketRecord;

/// How long to wait between two questions to a store that is away.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl<R: MarketRecord> Run<R> {
    /// The revision of the first row of an input; `None` if the run stops before the store has
    /// said it. A store that is away is waited for.
    pub(super) async fn base_revision(&self, input: &Input) -> anyhow::Result<Option<i64>> {
        let name = input.name();
        let (base, note) = match input::base_revision(input, self.revision).await? {
            Base::Known(base, note) => {
                if *input == Input::Stdin {
                    self.tally().stdin_base = Some(base);
                }
                (base, note)
            }
            Base::OfContent {
                hash,
                path,
                proposed,
                note,
            } => {
                let ask = || {
                    self.store
                        .file_revision(hash, R::KIND, Some(&path), proposed)
                };
                let Some(base) = self.ask_store(ask).await else {
                    return Ok(None);
                };
                let seen = (base != proposed).then(|| input::seen_before(base));
                (base, seen.or(note))
            }
        };
        self.notes(&name, note.as_slice());
        Ok(Some(base))
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

/// A failed change as the write path would tell it, anything else with its causes.
fn told(error: StoreError) -> String {
    match error {
        StoreError::Write { source, .. } => source.to_string(),
        other => crate::exit::told(&other.into()),
    }
}
