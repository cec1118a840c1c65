//! Running asynchronous work, and being asked to stop.

use std::future::Future;
use std::io;

use anyhow::Context as _;

use crate::exit::Exit;

/// Runs a future to its end on a runtime of its own. The future itself may block: it runs on the
/// calling thread.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads of the program")?;
    runtime.block_on(work)
}

/// Waits for SIGINT or SIGTERM and answers with the exit code that belongs to it.
///
/// From the first call on, these signals no longer end the process by themselves.
pub(crate) async fn stop_requested() -> io::Result<Exit> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => Ok(Exit::Interrupted),
            _ = terminate.recv() => Ok(Exit::Terminated),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await?;
        Ok(Exit::Interrupted)
    }
}
