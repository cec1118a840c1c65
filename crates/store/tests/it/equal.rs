//! Whatever is written in whatever order: all stores keep the same rows, those of a model, and give
//! the same answers.

mod model;
mod rows;

use std::sync::Arc;

use mds_core::{Bar, Batch, Fundamentals, News, OptionSnap, Sink as _};
use mds_store::{Order, Query, Store, StoreStats};

use self::model::{Model, bits};
use self::rows::Random;
use crate::support::{Place, all, is_long, seed, write};

/// One store of each kind that there is.
struct Stores {
    _place: Place,
    stores: Vec<(&'static str, Store)>,
}

impl Stores {
    /// `None` where there is only SQLite.
    async fn open() -> Option<Self> {
        let server = crate::postgres::Server::find()?;
        let place = Place::new();
        let mut stores = vec![
            ("sqlite", place.open().await),
            ("postgres", server.open().await),
        ];
        if let Some(store) = crate::postgres::timescale::store().await {
            stores.push(("timescale", store));
        }
        Some(Self {
            _place: place,
            stores,
        })
    }

    /// Writes a batch into all of them; every row gets the answer of the model.
    async fn write<R: Random>(&self, model: &mut Model<R>, batch: Vec<R>) {
        let (outcomes, conflicts) = model.write(&batch);
        for (name, store) in &self.stores {
            let report = write(store, batch.clone()).await;
            assert!(report.error.is_none(), "{name}: {:?}", report.error);
            for (place, (is, should)) in report.outcomes.iter().zip(&outcomes).enumerate() {
                assert_eq!(is, should, "{name}, row {place}: {:?}", batch[place]);
            }
            assert_eq!(report.conflicts, conflicts, "{name}");
        }
    }

    /// All of them hold the rows of the model, bit by bit, and say the same of them.
    async fn hold<R: Random>(&self, model: &Model<R>, random: &mut fastrand::Rng) {
        for (name, store) in &self.stores {
            let kept = all::<R>(store).await;
            for (kept, row) in kept.iter().zip(model.rows()) {
                assert_eq!(bits(kept), bits(row), "{name}");
            }
            assert_eq!(kept.len(), model.rows().len(), "{name}");
        }
        for _ in 0..5 {
            let query = query::<R>(model, random);
            let mut answers = Vec::new();
            for (name, store) in &self.stores {
                let rows = store.query::<R>(query.clone()).collect().await.unwrap();
                let count = store.count::<R>(query.clone()).await.unwrap();
                assert_eq!(count, rows.len() as u64, "{name}: {query:?}");
                let latest = store.latest(query.clone()).await.unwrap();
                answers.push((rows.iter().map(bits).collect::<Vec<_>>(), latest));
            }
            for answer in &answers[1..] {
                assert_eq!(*answer, answers[0], "{query:?}");
            }
        }
    }

    /// The figures of all are the same.
    async fn count_alike(&self) {
        let mut figures = Vec::new();
        for (_, store) in &self.stores {
            let StoreStats {
                mut kinds,
                freshness,
                ..
            } = store.stats().await.unwrap();
            for kind in &mut kinds {
                // A file remembers series of which nothing is left.
                kind.series = 0;
            }
            figures.push((kinds, freshness));
        }
        for figure in &figures[1..] {
            assert_eq!(*figure, figures[0]);
        }
    }

    /// Deletes a part, and then the rest.
    async fn clear<R: Random>(&self, model: &Model<R>, random: &mut fastrand::Rng) {
        let query = query::<R>(model, random);
        let mut deleted = Vec::new();
        for (_, store) in &self.stores {
            let part = store.delete::<R>(query.clone()).await.unwrap();
            let left: Vec<_> = all::<R>(store).await.iter().map(bits).collect();
            deleted.push((part, left));
            store.delete::<R>(Query::default()).await.unwrap();
        }
        for one in &deleted[1..] {
            assert_eq!(*one, deleted[0], "{query:?}");
        }
    }
}

/// A query that probably finds something.
fn query<R: Random>(model: &Model<R>, random: &mut fastrand::Rng) -> Query {
    let mut query = R::query(random);
    let mut some = || model.rows().get(random.usize(..model.rows().len().max(1)));
    query.start = some().map(R::time);
    query.end = some().map(R::time);
    if random.bool() {
        query.start = None;
    }
    if random.bool() {
        query.end = None;
    }
    if random.bool() {
        query.limit = Some(random.u64(0..20));
    }
    if random.bool() {
        query.order = Order::NewestFirst;
    }
    query
}

async fn one_after_another<R: Random>(stores: &Stores, random: &mut fastrand::Rng) {
    let mut model = Model::default();
    // Few keys meet often, many go the ways of large batches.
    let keys = *random.choice(&[3, 40, 3_000]).unwrap();
    for _ in 0..random.usize(1..6) {
        let rows = random.usize(1..if keys > 1_000 { 1_500 } else { 150 });
        let batch = (0..rows).map(|_| R::random(random, keys)).collect();
        stores.write(&mut model, batch).await;
    }
    stores.hold(&model, random).await;
    stores.count_alike().await;
    stores.clear(&model, random).await;
}

#[tokio::test]
async fn batches_one_after_another() {
    let Some(stores) = Stores::open().await else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..if is_long() { 200 } else { 6 } {
        one_after_another::<Bar>(&stores, &mut random).await;
        one_after_another::<OptionSnap>(&stores, &mut random).await;
        one_after_another::<Fundamentals>(&stores, &mut random).await;
        one_after_another::<News>(&stores, &mut random).await;
    }
}

/// Writes batches until every row has its answer, as a coordinator does.
async fn write_all<R: Random>(store: Store, batches: Arc<Vec<Vec<R>>>) {
    for rows in batches.iter() {
        let mut rows = rows.clone();
        while !rows.is_empty() {
            let report = store.sink::<R>().write(Batch::from(rows.clone())).await;
            if let Some(error) = &report.error {
                assert_eq!(error.kind(), mds_core::ErrorKind::Transient, "{error}");
            }
            let mut outcomes = report.outcomes.iter();
            rows.retain(|_| *outcomes.next().unwrap() == mds_core::RowOutcome::NotTried);
        }
    }
}

async fn side_by_side<R: Random>(stores: &Stores, random: &mut fastrand::Rng) {
    let keys = *random.choice(&[3, 40, 3_000]).unwrap();
    let mut writers = Vec::new();
    let mut model = Model::default();
    for _ in 0..2 {
        let batches: Vec<Vec<R>> = (0..random.usize(1..8))
            .map(|_| {
                let rows = random.usize(1..if keys > 1_000 { 1_500 } else { 150 });
                (0..rows).map(|_| R::random(random, keys)).collect()
            })
            .collect();
        for batch in &batches {
            model.write(batch);
        }
        writers.push(Arc::new(batches));
    }
    for (_, store) in &stores.stores {
        let write = |batches| tokio::spawn(write_all(store.clone(), batches));
        let tasks: Vec<_> = writers.iter().map(Arc::clone).map(write).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    stores.hold(&model, random).await;
    stores.clear(&model, random).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_side_by_side() {
    let Some(stores) = Stores::open().await else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..if is_long() { 200 } else { 6 } {
        side_by_side::<Bar>(&stores, &mut random).await;
        side_by_side::<OptionSnap>(&stores, &mut random).await;
        side_by_side::<Fundamentals>(&stores, &mut random).await;
        side_by_side::<News>(&stores, &mut random).await;
    }
}
