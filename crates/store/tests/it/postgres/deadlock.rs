//! Writers that meet at the same keys never wait for each other in a circle.

use mds_core::{Bar, Batch, ErrorKind, RowOutcome, Sink as _, TenantId};
use mds_store::LockOrder::{self, AsTheyCome, Keys};
use mds_store::{OpenOptions, Query, Store};

use super::{Database, Server};
use crate::support::{all, bar, is_long};

/// What the two writers hand in.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Rows of a batch, which are all the keys that there are.
    rows: i64,
    batches: i64,
    tenants: u128,
    /// The keys are new in each batch.
    fresh: bool,
    /// Keys that only every second batch has, so that rows are inserted beside others that are
    /// replaced.
    holes: bool,
}

impl Shape {
    fn batch(self, number: i64, backwards: bool) -> Vec<Bar> {
        let first = if self.fresh { number * self.rows } else { 0 };
        let mut rows: Vec<Bar> = (0..self.rows)
            .filter(|key| !self.holes || (key + number) % 3 != 0)
            .map(|key| {
                let tenant = u128::from(key.unsigned_abs()) % self.tenants + 1;
                Bar {
                    tenant_id: TenantId::from_u128(tenant),
                    // Each newer than all before, and the two writers by turns.
                    ..bar(first + key, 1.0, 2 * number + i64::from(backwards) + 1)
                }
            })
            .collect();
        if backwards {
            rows.reverse();
        }
        rows
    }
}

/// Writes all batches; answers how often the server broke a circle.
async fn write_all(store: Store, shape: Shape, backwards: bool) -> u32 {
    let mut deadlocks = 0;
    for number in 0..shape.batches {
        let mut rows = shape.batch(number, backwards);
        while !rows.is_empty() {
            let report = store.sink::<Bar>().write(Batch::from(rows.clone())).await;
            if let Some(error) = &report.error {
                assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
                deadlocks += u32::from(error.code() == "40P01");
            }
            let mut outcomes = report.outcomes.iter();
            rows.retain(|_| *outcomes.next().unwrap() == RowOutcome::NotTried);
        }
    }
    deadlocks
}

/// Two writers at the same keys, one of them backwards; answers what they and the server counted.
async fn meet(database: &Database, shape: Shape, lock_order: LockOrder) -> (u32, i64) {
    let options = OpenOptions {
        lock_order,
        ..OpenOptions::default()
    };
    let open = || Store::open(&database.url, options.clone());
    let (one, other) = (open().await.unwrap(), open().await.unwrap());
    let one = tokio::spawn(write_all(one, shape, false));
    let other = tokio::spawn(write_all(other, shape, true));
    let told = one.await.unwrap() + other.await.unwrap();
    let sql = "SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database \
         WHERE datname = current_database()";
    let counted = database.shell.query_one(sql, &[]).await.unwrap().get(1);
    (told, counted)
}

async fn database(server: &Server) -> Database {
    let database = server.make("").await;
    drop(database.open().await);
    // A circle is found at once.
    let sql = "SET deadlock_timeout = '5ms'";
    database
        .run(&format!("ALTER DATABASE {} {sql}", database.name))
        .await;
    database
}

const SHAPES: [Shape; 5] = [
    // Merged.
    Shape {
        rows: 40,
        batches: 1_000,
        tenants: 1,
        fresh: false,
        holes: false,
    },
    // Some inserted, some replaced, by one statement; then all again without the holes.
    Shape {
        rows: 60,
        batches: 500,
        tenants: 1,
        fresh: false,
        holes: true,
    },
    // Compared, and replaced where they are.
    Shape {
        rows: 200,
        batches: 500,
        tenants: 1,
        fresh: false,
        holes: false,
    },
    // Copied by both at the same time.
    Shape {
        rows: 100,
        batches: 300,
        tenants: 1,
        fresh: true,
        holes: false,
    },
    // One transaction a tenant.
    Shape {
        rows: 300,
        batches: 200,
        tenants: 3,
        fresh: false,
        holes: true,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_at_the_same_keys_in_opposite_order_never_deadlock() {
    let Some(server) = Server::find() else { return };
    for shape in SHAPES {
        let database = database(&server).await;
        let short = i64::from(!is_long()) * 9 + 1;
        let shape = Shape {
            batches: shape.batches / short,
            ..shape
        };
        let deadlocks = meet(&database, shape, Keys).await;
        assert_eq!(deadlocks, (0, 0), "{shape:?}");
        let rows = all::<Bar>(&database.open().await).await;
        let keys = shape.rows * if shape.fresh { shape.batches } else { 1 };
        assert_eq!(i64::try_from(rows.len()), Ok(keys), "{shape:?}");
    }
}

/// A server that takes its time with each row, so that two writers surely meet in the middle.
const SLOW: &str = "CREATE FUNCTION think() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(0.001); RETURN new; END $$; \
     CREATE TRIGGER think BEFORE INSERT ON bars FOR EACH ROW EXECUTE FUNCTION think()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_order_of_keys_they_do() {
    let Some(server) = Server::find() else { return };
    for (fresh, order) in [
        (false, AsTheyCome),
        (false, Keys),
        (true, AsTheyCome),
        (true, Keys),
    ] {
        let database = database(&server).await;
        database.run(SLOW).await;
        let shape = Shape {
            rows: if fresh { 100 } else { 40 },
            batches: 10,
            tenants: 1,
            fresh,
            holes: false,
        };
        let (told, counted) = meet(&database, shape, order).await;
        // The hint that the server counts comes later than the word that it sends.
        assert_eq!(told > 0, order == AsTheyCome, "{shape:?}: {told}");
        assert!(told > 0 || counted == 0, "{shape:?}: {counted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_beside_a_writer_never_deadlocks() {
    let Some(server) = Server::find() else { return };
    let database = database(&server).await;
    let store = database.open().await;
    // Stored the other way round than their keys are.
    for row in SHAPES[0].batch(0, true) {
        crate::support::write_new(&store, vec![row]).await;
    }
    let slow = SLOW.replace("INSERT ON", "INSERT OR DELETE ON");
    database
        .run(&slow.replace("new;", "coalesce(new, old);"))
        .await;
    let shape = Shape {
        batches: 10,
        ..SHAPES[0]
    };
    let writer = tokio::spawn(write_all(store.clone(), shape, true));
    while !writer.is_finished() {
        store.delete::<Bar>(Query::default()).await.unwrap();
    }
    assert_eq!(writer.await.unwrap(), 0);
}
