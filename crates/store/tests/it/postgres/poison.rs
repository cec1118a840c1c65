//! One bad row costs one row, and few statements.

use mds_core::{Bar, News, RowOutcome, Timestamp};
use mds_store::{OpenOptions, Query, Store, StoredRecord};
use tokio_postgres::Client;

use super::cluster::Cluster;
use crate::support::{MINUTE, START, bar, is_long, seed, write};

/// A server that writes down every statement that it executes.
struct Counted {
    cluster: Cluster,
    shell: Client,
    store: Store,
}

impl Counted {
    async fn start(database: &str, options: &str) -> Option<Self> {
        let cluster = Cluster::start(&[
            "log_statement = all",
            "log_parameter_max_length = 0",
            "log_line_prefix = ''",
        ])?;
        let admin = cluster.shell("postgres").await;
        admin
            .batch_execute(&format!("CREATE DATABASE {database} {options}"))
            .await
            .unwrap();
        let store = Store::open(&cluster.url(database), OpenOptions::default())
            .await
            .unwrap();
        let shell = cluster.shell(database).await;
        Some(Self {
            cluster,
            shell,
            store,
        })
    }

    /// Statements that came to the server until now: all, and those that carry rows.
    fn statements(&self) -> (usize, usize) {
        let log = self.cluster.log();
        let mut counts = (0, 0);
        for line in log.lines() {
            let carries_rows = line.starts_with("LOG:  execute ");
            counts.0 += usize::from(carries_rows || line.starts_with("LOG:  statement: "));
            counts.1 += usize::from(carries_rows);
        }
        counts
    }

    /// Writes rows in batches; answers the positions of the refused ones with what is said of them,
    /// and how many statements it took.
    async fn write<R: StoredRecord>(
        &self,
        rows: &[R],
        batch: usize,
    ) -> (Vec<(usize, String, String)>, (usize, usize)) {
        let before = self.statements();
        let mut refused = Vec::new();
        for (number, part) in rows.chunks(batch).enumerate() {
            let report = write(&self.store, part.to_vec()).await;
            assert!(report.error.is_none(), "{:?}", report.error);
            for (place, outcome) in report.outcomes.into_iter().enumerate() {
                match outcome {
                    RowOutcome::Written => {}
                    RowOutcome::Rejected { code, reason } => {
                        refused.push((number * batch + place, code, reason));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let after = self.statements();
        (refused, (after.0 - before.0, after.1 - before.1))
    }
}

/// What is wrong with the poison rows, and how it shows.
struct Case<R> {
    good: fn(usize) -> R,
    poison: fn(&mut R),
    code: &'static str,
    says: &'static [&'static str],
    /// Older revisions of the rows are stored.
    replaces: bool,
    /// The server says enough to suspect a row; else it is searched for.
    is_named: bool,
}

fn good_bar(place: usize) -> Bar {
    bar(i64::try_from(place).unwrap(), 1.0, 1)
}

fn good_news(place: usize) -> News {
    News {
        vendor: "v".into(),
        published_at: Timestamp::from_micros(START + i64::try_from(place).unwrap() * MINUTE),
        id: "1".into(),
        revision: 1,
        ..News::default()
    }
}

/// The extra statements that `k` poison rows may take: `k * log2(batch) + batches`.
fn bound(k: usize, batch: usize, batches: usize) -> usize {
    let as_float = |count: usize| f64::from(u32::try_from(count).unwrap());
    let extra = as_float(k) * as_float(batch).log2();
    batches + format!("{extra:.0}").parse::<usize>().unwrap()
}

impl<R: StoredRecord> Case<R> {
    async fn costs_k_rows(&self, counted: &Counted, count: usize) {
        let mut random = fastrand::Rng::with_seed(seed());
        for batch in [5_000, 500] {
            let good = self.rows(counted, count).await;
            let (refused, clean) = counted.write(&good, batch).await;
            assert_eq!(refused, []);
            for k in [1, 10, 100] {
                let mut rows = self.rows(counted, count).await;
                let mut bad: Vec<usize> = (0..count).collect();
                random.shuffle(&mut bad);
                bad.truncate(k);
                bad.sort_unstable();
                for place in &bad {
                    (self.poison)(&mut rows[*place]);
                }
                let (refused, spent) = counted.write(&rows, batch).await;
                self.are(&refused, &bad);
                let kept = count - if self.replaces { 0 } else { k };
                let query = Query::default();
                assert_eq!(counted.store.count::<R>(query).await.unwrap(), kept as u64);
                let bound = bound(k, batch, count / batch);
                // What is searched for takes a savepoint as well, which is not counted, and up to
                // two looks more.
                let (spent, allowed) = if self.is_named {
                    (spent.0, clean.0 + bound)
                } else {
                    (spent.1, clean.1 + bound + 2 * k)
                };
                eprintln!(
                    "{}: {k} in {count} by {batch}: {spent} of {allowed}",
                    self.code
                );
                assert!(spent <= allowed, "{spent} > {allowed}");
            }
        }
    }

    /// Rows that are good, and of which older ones are stored if the case wants it.
    async fn rows(&self, counted: &Counted, count: usize) -> Vec<R> {
        counted.clear::<R>().await;
        let mut rows: Vec<R> = (0..count).map(self.good).collect();
        if self.replaces {
            counted.write(&rows, 5_000).await;
            for row in &mut rows {
                row.set_revision(2);
            }
        }
        rows
    }

    /// Exactly the bad ones were refused, and the reason is one.
    fn are(&self, refused: &[(usize, String, String)], bad: &[usize]) {
        let places: Vec<_> = refused.iter().map(|(place, ..)| *place).collect();
        assert_eq!(places, bad);
        for (_, code, reason) in refused {
            assert_eq!(code, self.code);
            for part in self.says {
                assert!(reason.contains(part), "{reason}");
            }
        }
    }
}

impl Counted {
    async fn clear<R: StoredRecord>(&self) {
        let sql = format!("TRUNCATE {}", R::KIND.table());
        self.shell.batch_execute(&sql).await.unwrap();
    }
}

fn rows() -> usize {
    if is_long() { 100_000 } else { 20_000 }
}

#[tokio::test]
async fn k_rows_against_a_check() {
    let Some(counted) = Counted::start("checks", "").await else {
        return;
    };
    counted
        .shell
        .batch_execute("ALTER TABLE bars ADD CONSTRAINT no_13 CHECK (close_price <> 13)")
        .await
        .unwrap();
    let case = Case {
        good: good_bar,
        poison: |row: &mut Bar| row.close_price = Some(13.0),
        code: "23514",
        says: &["constraint no_13", "table bars"],
        replaces: false,
        is_named: true,
    };
    // The figure that is promised, whatever the time it takes.
    case.costs_k_rows(&counted, 100_000).await;
    let newer = Case {
        replaces: true,
        ..case
    };
    newer.costs_k_rows(&counted, rows()).await;
}

#[tokio::test]
async fn k_rows_that_nobody_names() {
    let Some(counted) = Counted::start("triggers", "").await else {
        return;
    };
    counted
        .shell
        .batch_execute(
            "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF new.close_price = 13 THEN RAISE EXCEPTION 'no 13 here'; END IF; \
             RETURN new; END $$; \
             CREATE TRIGGER guard BEFORE UPDATE ON bars \
             FOR EACH ROW EXECUTE FUNCTION guard()",
        )
        .await
        .unwrap();
    let case = Case {
        good: good_bar,
        poison: |row: &mut Bar| row.close_price = Some(13.0),
        code: "P0001",
        says: &["no 13 here"],
        replaces: true,
        is_named: false,
    };
    case.costs_k_rows(&counted, rows()).await;
}

#[tokio::test]
async fn k_rows_out_of_range() {
    let Some(counted) = Counted::start("ranges", "").await else {
        return;
    };
    counted
        .shell
        .batch_execute("ALTER TABLE bars ALTER volume TYPE numeric(12, 3)")
        .await
        .unwrap();
    let case = Case {
        good: good_bar,
        poison: |row: &mut Bar| row.volume = Some(1e12),
        code: "22003",
        says: &["numeric field overflow", "precision 12, scale 3"],
        // Only columns of our own types are copied into: the greatest number is suspected.
        replaces: false,
        is_named: true,
    };
    case.costs_k_rows(&counted, rows()).await;
}

#[tokio::test]
async fn k_rows_that_the_encoding_does_not_have() {
    let options = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    let Some(counted) = Counted::start("encodings", options).await else {
        return;
    };
    let case = Case {
        good: good_news,
        poison: |row: &mut News| row.title = Some("\u{4e0a}".to_owned()),
        code: "22P05",
        says: &["has no equivalent in encoding \"LATIN1\"", "column title"],
        replaces: false,
        is_named: true,
    };
    case.costs_k_rows(&counted, rows()).await;
}
