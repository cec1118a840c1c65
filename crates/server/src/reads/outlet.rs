//! Sending an answer to somebody who may be slow, or gone.
//!
//! An answer goes out in pieces, a few at a time: the next one is made when whoever reads has taken an
//! earlier one off our hands, whatever stands in between. Until the last is taken the answer keeps its
//! place among the reads, and a stream its snapshot of the store, so that waiting is limited: nobody who
//! reads at more than [`RATE`] is ever cut off by it, and whoever stops reading is, with the connection,
//! which frees everything that it held.
//!
//! A body ends well only where it was said to: whatever else happens breaks it off, so that a part is
//! never taken for the whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::listen::Cut;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;
/// Pieces that were handed out and not taken.
const PIECES: usize = 2;
/// Waiting that each answer may cause, however short it is.
const GRACE: Duration = Duration::from_secs(30);
/// Bytes a second that a reader must take on average, beyond that.
const RATE: u32 = 32 << 10;
/// Waiting for one piece: at that rate the buffers of a connection may take so long to have room again,
/// but whoever has read fast before has not earned a longer rest.
const STALL: Duration = Duration::from_secs(60);
/// Waiting that no answer may exceed: a snapshot of the store keeps the space of what was replaced.
const MOST: Duration = Duration::from_secs(600);

/// The answer was broken off.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off")]
pub(super) struct BrokenOff;

/// Nobody takes the answer any more, or not fast enough.
#[derive(Debug)]
pub(super) struct Gone;

/// A piece, or that it was the last.
type Part = Option<Bytes>;

/// The end of an answer that the pieces go into.
#[derive(Debug)]
pub(super) struct Outlet {
    parts: mpsc::Sender<Part>,
    /// Places for pieces; each has one until it is taken.
    room: Arc<Semaphore>,
    cut: Option<Cut>,
    waited: Duration,
    taken: u32,
    _place: OwnedSemaphorePermit,
}

impl Outlet {
    /// A way out that keeps `place`, and the body that comes out of it; `cut` ends the connection.
    pub(super) fn open(place: OwnedSemaphorePermit, cut: Option<Cut>) -> (Self, Body) {
        let (parts, receiver) = mpsc::channel(PIECES + 1);
        let outlet = Self {
            parts,
            room: Arc::new(Semaphore::new(PIECES)),
            cut,
            waited: Duration::ZERO,
            taken: 0,
            _place: place,
        };
        (outlet, Body::new(Pieces(receiver)))
    }

    /// Sends bytes, as they are taken.
    pub(super) async fn put(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let room = self.room(1).await?;
            self.taken = self.taken.saturating_add(length);
            let piece = Bytes::from_owner(Held { piece, _room: room });
            self.parts.send(Some(piece)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Waits until nobody takes the answer any more.
    pub(super) async fn gone(&self) {
        self.parts.closed().await;
    }

    /// Ends the answer well, once all of it was taken.
    pub(super) async fn finish(mut self) -> Result<(), Gone> {
        // A body whose length was told may have been dropped; its last pieces need not be taken yet.
        drop(self.parts.send(None).await);
        let all = u32::try_from(PIECES).unwrap_or(u32::MAX);
        self.room(all).await.map(drop)
    }

    /// Waits for places of pieces, as long as the answer may.
    async fn room(&mut self, pieces: u32) -> Result<OwnedSemaphorePermit, Gone> {
        let by_rate = Duration::from_secs(u64::from(self.taken / RATE));
        let left = (GRACE + by_rate).min(MOST).saturating_sub(self.waited);
        let left = left.min(STALL);
        let started = Instant::now();
        let free = Arc::clone(&self.room).acquire_many_owned(pieces);
        let waited = tokio::time::timeout(left, free).await;
        self.waited += started.elapsed();
        if let Ok(Ok(room)) = waited {
            return Ok(room);
        }
        tracing::info!("an answer that nobody reads is cut off, with its connection");
        if let Some(cut) = &self.cut {
            cut.cut();
        }
        Err(Gone)
    }
}

/// Bytes that have a place until they are dropped.
struct Held {
    piece: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

/// The body of an answer.
struct Pieces(mpsc::Receiver<Part>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(match ready!(self.0.poll_recv(context)) {
            Some(Some(piece)) => Some(Ok(Frame::data(piece))),
            Some(None) => None,
            None => Some(Err(BrokenOff)),
        })
    }
}

#[cfg(test)]
mod tests;
