//! The loop behind [`crate::bench::bare_copy`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::SinkExt as _;
use mds_core::Record;

use super::dsn::Dsn;
use super::sql::Sql;
use super::{encode, failed, pool_of, run};
use crate::{OpenOptions, StoreError};

/// See [`crate::bench::bare_copy`].
pub(crate) async fn bare_copy<R: Record>(
    dsn: &Dsn,
    rows: &[R],
    rows_per_transaction: usize,
    writers: usize,
) -> Result<Duration, StoreError> {
    let name = dsn.to_string();
    // The bytes of each COPY are made within the clock, as a client makes them.
    let parts: Vec<Vec<R>> = rows
        .chunks(rows_per_transaction.max(1))
        .map(<[R]>::to_vec)
        .collect();
    let parts = Arc::new(parts);
    let pool = pool_of(dsn, &OpenOptions::default())?;
    let gate = Arc::new(tokio::sync::Barrier::new(writers + 1));
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let (pool, name) = (pool.clone(), name.clone());
        let (parts, gate) = (Arc::clone(&parts), Arc::clone(&gate));
        tasks.push(tokio::spawn(async move {
            run(&pool, &name, "copy", move |conn| async move {
                let sql = Sql::of::<R>();
                let statement = conn.client.prepare(&sql.copy).await;
                gate.wait().await;
                let result = async {
                    let statement = statement?;
                    for part in parts.iter().skip(writer).step_by(writers) {
                        let sink = conn.client.copy_in(&statement).await?;
                        futures_util::pin_mut!(sink);
                        let mut chunk = BytesMut::with_capacity(1 << 16);
                        chunk.extend_from_slice(encode::COPY_HEAD);
                        for row in part {
                            encode::put_row(&mut chunk, row);
                            if chunk.len() > 1 << 16 {
                                sink.feed(chunk.split().freeze()).await?;
                            }
                        }
                        chunk.extend_from_slice(encode::COPY_END);
                        sink.feed(chunk.freeze()).await?;
                        sink.finish().await?;
                    }
                    Ok(())
                }
                .await;
                (None, result)
            })
            .await?
            .map_err(|error| failed(&name, "copy", error))
        }));
    }
    gate.wait().await;
    let started = Instant::now();
    for task in tasks {
        match task.await {
            Ok(result) => result?,
            Err(join) => std::panic::resume_unwind(join.into_panic()),
        }
    }
    Ok(started.elapsed())
}

/// See [`crate::bench::truncate_bars`].
pub(crate) async fn truncate_bars(dsn: &Dsn) -> Result<(), StoreError> {
    let name = dsn.to_string();
    let pool = pool_of(dsn, &OpenOptions::default())?;
    run(&pool, &name, "truncate bars", |conn| async move {
        let result = conn.client.batch_execute("TRUNCATE bars; CHECKPOINT").await;
        (None, result)
    })
    .await?
    .map_err(|error| failed(&name, "truncate bars", error))
}
