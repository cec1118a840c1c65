//! The process that is killed: rows come in on standard input, one number a line, and go through a
//! coordinator into the store; each is answered on standard output after its submit has returned.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mds_coordinator::WriteCoordinator;
use mds_core::{Bar, Batch, Sink, SinkError, Sourced, WriteReport};
use tokio::sync::{Semaphore, mpsc};

use super::{life, rows};
use crate::context::Context;
use crate::exit::Exit;
use crate::{durable, pipeline};

/// Rows that may wait for their answer at once.
const UNDER_WAY: u32 = 64;
/// How long the last life may take for all that is left.
const LIMIT: Duration = Duration::from_secs(60);

/// A store that takes its time.
struct Slow<S> {
    sink: S,
    delay: Duration,
}

impl<T: Send + Sync + 'static, S: Sink<T>> Sink<T> for Slow<S> {
    fn name(&self) -> &str {
        self.sink.name()
    }

    async fn write(&self, batch: Batch<T>) -> WriteReport {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.sink.write(batch).await
    }

    async fn check(&self) -> Option<Result<(), SinkError>> {
        self.sink.check().await
    }
}

/// Runs until standard input ends and everything is in the store.
pub(super) async fn run(delay: Duration, context: &Context) -> anyhow::Result<Exit> {
    let store = pipeline::open_store(context, Duration::ZERO).await?;
    let queue = durable::open_queue::<Bar>(context, &store)?;
    let sink = Slow {
        sink: store.sink::<Bar>(),
        delay,
    };
    let mut builder = pipeline::coordinator::<Bar, _>(&context.settings.coordinator(), sink);
    if let Some(queue) = queue {
        builder = builder.durable_queue(queue);
    }
    let coordinator = Arc::new(builder.start()?);
    let (answer, answers) = blocking::channel();
    let writer = std::thread::spawn(move || write(&answers));
    answer.send(life::READY.to_owned())?;
    take(&coordinator, &answer).await?;
    let flushed = coordinator.flush(LIMIT).await;
    let stopped = coordinator.stop(true, LIMIT).await;
    pipeline::close_store(&store, stopped.timed_out).await;
    if flushed.outstanding > 0 || stopped.timed_out {
        bail!("{} rows are not in the store", flushed.outstanding);
    }
    answer.send(life::DONE.to_owned())?;
    drop(answer);
    drop(writer.join());
    Ok(Exit::Success)
}

/// Submits each row in a task of its own, so that many wait for one sync.
async fn take(
    coordinator: &Arc<WriteCoordinator<Sourced<Bar>>>,
    answer: &blocking::Sender<String>,
) -> anyhow::Result<()> {
    let (to_us, mut numbers) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if to_us.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let places = Arc::new(Semaphore::new(UNDER_WAY as usize));
    while let Some(line) = numbers.recv().await {
        let number: u64 = line.parse().with_context(|| format!("no number: {line}"))?;
        let place = Arc::clone(&places).acquire_owned().await?;
        let (coordinator, answer) = (Arc::clone(coordinator), answer.clone());
        tokio::spawn(async move {
            let submitted = coordinator.submit(rows::bar(number).into()).await;
            // Whether anybody listens is not our business.
            drop(match submitted {
                Ok(()) => answer.send(number.to_string()),
                Err(refused) => answer.send(format!("{number} {}", refused.refusal)),
            });
            drop(place);
        });
    }
    drop(places.acquire_many(UNDER_WAY).await?);
    Ok(())
}

/// Writes all answers that there are, and waits for more.
fn write(answers: &blocking::Receiver<String>) {
    let mut out = std::io::stdout().lock();
    while let Ok(first) = answers.recv() {
        let mut text = first + "\n";
        for answer in answers.try_iter() {
            text.push_str(&answer);
            text.push('\n');
        }
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return;
        }
    }
}
