//! The loop behind [`crate::bench::Scratch::bare_copy`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::SinkExt as _;
use mds_core::{Batch, ErrorKind, Record};
use tokio::sync::Barrier;
use tokio::task::{JoinError, JoinSet};
use tokio_postgres::{Client, Error, Statement};

use super::connect::Endpoint;
use super::dsn::Dsn;
use super::pool::Pool;
use super::sql::{self, Sql};
use super::{encode, failed, pool_of, run};
use crate::{OpenOptions, StoreError};

/// Bytes of a COPY that are sent at once.
const CHUNK: usize = 64 * 1024;

/// See [`crate::bench::Scratch::bare_copy`].
pub(crate) async fn bare_copy<R: Record>(
    dsn: &Dsn,
    options: &OpenOptions,
    batches: &Arc<Vec<Batch<R>>>,
    writers: usize,
) -> Result<Duration, StoreError> {
    let name = dsn.to_string();
    let pool = pool_of(dsn, options)?;
    let gate = Arc::new(Barrier::new(writers + 1));
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let share = batches.iter().skip(writer).step_by(writers);
        let share = share.cloned().collect();
        tasks.spawn(copy_share::<R>(
            pool.clone(),
            name.clone(),
            share,
            Arc::clone(&gate),
        ));
    }
    tokio::select! {
        biased;
        _ = gate.wait() => {}
        // One that cannot even connect does not come to the gate.
        Some(ended) = tasks.join_next() => ended.map_err(|join| panicked(join, &name))??,
    }
    let started = Instant::now();
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|join| panicked(join, &name))??;
    }
    Ok(started.elapsed())
}

/// Copies batches over one connection, from the moment on at which all are connected.
async fn copy_share<R: Record>(
    pool: Pool<Endpoint>,
    name: String,
    share: Vec<Batch<R>>,
    gate: Arc<Barrier>,
) -> Result<(), StoreError> {
    run(&pool, &name, "copy", move |conn| async move {
        let result = async {
            let statement = conn
                .client
                .prepare(&Sql::of::<R>(sql::Texts::Bytewise).copy)
                .await?;
            gate.wait().await;
            for batch in &share {
                copy(&conn.client, &statement, batch).await?;
            }
            Ok(())
        };
        let result = result.await;
        (None, result)
    })
    .await?
    .map_err(|error| failed(&name, "copy", error))
}

async fn copy<R: Record>(
    client: &Client,
    statement: &Statement,
    batch: &Batch<R>,
) -> Result<(), Error> {
    let sink = client.copy_in(statement).await?;
    futures_util::pin_mut!(sink);
    let mut chunk = BytesMut::with_capacity(CHUNK + 1_024);
    chunk.extend_from_slice(encode::COPY_HEAD);
    for row in batch.iter() {
        encode::put_row(&mut chunk, row);
        if chunk.len() >= CHUNK {
            sink.feed(chunk.split().freeze()).await?;
            chunk.reserve(CHUNK + 1_024);
        }
    }
    chunk.extend_from_slice(encode::COPY_END);
    sink.feed(chunk.freeze()).await?;
    sink.finish().await?;
    Ok(())
}

fn panicked(join: JoinError, dsn: &str) -> StoreError {
    StoreError::Server {
        dsn: dsn.to_owned(),
        operation: "copy",
        code: "PANIC".to_owned(),
        kind: ErrorKind::Unknown,
        source: Box::new(join),
    }
}
