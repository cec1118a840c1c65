//! Compares ways to lay bars out in SQLite: writes in time order, writes symbol by symbol, reads of
//! one symbol (1,000 bars). The numbers in `docs/adr/0001-sqlite-layout.md` come from here.
//!
//! ```sh
//! cargo run --release -p mds-store --example layouts -- [DIR [WIDTH...]]
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

type Failure = Box<dyn std::error::Error>;

const SYMBOLS: i64 = 1_000;
const MINUTES: i64 = 1_000;
const ROWS_PER_TRANSACTION: usize = 500;
const READS: usize = 100;
const ROUNDS: usize = 5;
const MINUTE: i64 = 60_000_000;
const FIRST: i64 = 1_730_419_200_000_000;

#[derive(Clone, Copy)]
enum Layout {
    /// `(bucket, series_id, ts)`, so many minutes a bucket.
    Bucket(i64),
    /// `(ts, series_id)`.
    TimeFirst,
    /// `(ts, series_id)` and an index on `(series_id, ts)`.
    TimeFirstAndIndex,
    /// `(series_id, ts)`.
    SeriesFirst,
    /// A rowid table and a unique index on `(series_id, ts)`.
    Rowid,
}

impl Layout {
    fn name(self) -> String {
        match self {
            Self::Bucket(minutes) => format!("bucket of {minutes}"),
            Self::TimeFirst => "time first".to_owned(),
            Self::TimeFirstAndIndex => "time first + index".to_owned(),
            Self::SeriesFirst => "series first".to_owned(),
            Self::Rowid => "rowid + index".to_owned(),
        }
    }

    fn schema(self) -> String {
        let columns = "bucket INTEGER NOT NULL, series_id INTEGER NOT NULL, ts INTEGER NOT NULL,
            open_price REAL, high_price REAL, low_price REAL, close_price REAL, volume REAL,
            provisional INTEGER NOT NULL, revision INTEGER NOT NULL";
        // Layouts without buckets do not pay for the column.
        let plain = columns.replace("bucket INTEGER NOT NULL, ", "");
        match self {
            Self::Bucket(_) => format!(
                "CREATE TABLE d ({columns}, PRIMARY KEY (bucket, series_id, ts)) STRICT, WITHOUT ROWID"
            ),
            Self::TimeFirst => {
                format!(
                    "CREATE TABLE d ({plain}, PRIMARY KEY (ts, series_id)) STRICT, WITHOUT ROWID"
                )
            }
            Self::TimeFirstAndIndex => format!(
                "CREATE TABLE d ({plain}, PRIMARY KEY (ts, series_id)) STRICT, WITHOUT ROWID;
                 CREATE INDEX i ON d (series_id, ts)"
            ),
            Self::SeriesFirst => {
                format!(
                    "CREATE TABLE d ({plain}, PRIMARY KEY (series_id, ts)) STRICT, WITHOUT ROWID"
                )
            }
            Self::Rowid => format!("CREATE TABLE d ({plain}, UNIQUE (series_id, ts)) STRICT"),
        }
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -65_536)?;
    conn.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    Ok(conn)
}

#[expect(clippy::cast_precision_loss, reason = "made-up prices")]
fn write(conn: &Connection, layout: Layout, rows: &[(i64, i64)]) -> rusqlite::Result<Duration> {
    let bucket = matches!(layout, Layout::Bucket(_));
    let minutes = if let Layout::Bucket(minutes) = layout {
        minutes
    } else {
        1
    };
    let sql = if bucket {
        "INSERT INTO d VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
    } else {
        "INSERT INTO d VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
    };
    let started = Instant::now();
    let mut insert = conn.prepare(sql)?;
    for part in rows.chunks(ROWS_PER_TRANSACTION) {
        let mut part = part.to_vec();
        part.sort_unstable_by_key(|(series, minute)| match layout {
            Layout::Bucket(minutes) => (minute / minutes, *series, *minute),
            Layout::TimeFirst | Layout::TimeFirstAndIndex => (*minute, *series, 0),
            Layout::SeriesFirst | Layout::Rowid => (*series, *minute, 0),
        });
        conn.execute_batch("BEGIN IMMEDIATE")?;
        for (series, minute) in part {
            let ts = FIRST + minute * MINUTE;
            let close = 100.0 + ((series * 7_919 + minute * 104_729) % 10_007) as f64 / 10_007.0;
            let mut first = 1;
            if bucket {
                insert.raw_bind_parameter(1, ts.div_euclid(minutes * MINUTE))?;
                first = 2;
            }
            insert.raw_bind_parameter(first, series)?;
            insert.raw_bind_parameter(first + 1, ts)?;
            for (at, value) in [close - 0.25, close + 0.5, close - 0.5, close, 1_234.0]
                .into_iter()
                .enumerate()
            {
                insert.raw_bind_parameter(first + 2 + at, value)?;
            }
            insert.raw_bind_parameter(first + 7, 0)?;
            insert.raw_bind_parameter(first + 8, ts)?;
            insert.raw_execute()?;
        }
        conn.execute_batch("COMMIT")?;
    }
    Ok(started.elapsed())
}

/// All bars of one symbol, in the order of time.
fn read(conn: &Connection, layout: Layout, series: i64) -> rusqlite::Result<usize> {
    let columns =
        "ts, open_price, high_price, low_price, close_price, volume, provisional, revision";
    let (start, end) = (FIRST, FIRST + MINUTES * MINUTE);
    let mut found = 0;
    let mut take = |row: &rusqlite::Row<'_>| -> rusqlite::Result<()> {
        let (_, _): (i64, f64) = (row.get(0)?, row.get(4)?);
        found += 1;
        Ok(())
    };
    if let Layout::Bucket(minutes) = layout {
        let width = minutes * MINUTE;
        let mut select = conn.prepare_cached(&format!(
            "SELECT {columns} FROM d WHERE bucket = ?1 AND series_id = ?2 AND ts >= ?3 AND ts < ?4"
        ))?;
        for bucket in start.div_euclid(width)..=(end - 1).div_euclid(width) {
            let mut rows = select.query(params![bucket, series, start, end])?;
            while let Some(row) = rows.next()? {
                take(row)?;
            }
        }
    } else {
        let mut select = conn.prepare_cached(&format!(
            "SELECT {columns} FROM d WHERE series_id = ?1 AND ts >= ?2 AND ts < ?3 ORDER BY ts"
        ))?;
        let mut rows = select.query(params![series, start, end])?;
        while let Some(row) = rows.next()? {
            take(row)?;
        }
    }
    Ok(found)
}

fn with_file<V>(dir: &Path, work: impl FnOnce(&Path) -> Result<V, Failure>) -> Result<V, Failure> {
    let path = dir.join(format!("layout-{}.db", fastrand::u64(..)));
    let result = work(&path);
    for suffix in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{suffix}", path.display()));
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    result
}

/// Rows a second by time and by symbol, bytes a row, milliseconds a read.
#[derive(Clone, Debug, Default)]
struct Figures {
    by_time: Vec<f64>,
    by_symbol: Vec<f64>,
    bytes: f64,
    reads: Vec<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for display")]
fn measure(dir: &Path, layout: Layout, figures: &mut Figures) -> Result<(), Failure> {
    let by_time: Vec<_> = (0..MINUTES)
        .flat_map(|minute| (0..SYMBOLS).map(move |series| (series, minute)))
        .collect();
    let by_symbol: Vec<_> = (0..SYMBOLS)
        .flat_map(|series| (0..MINUTES).map(move |minute| (series, minute)))
        .collect();
    let rows = by_time.len() as f64;
    with_file(dir, |path| {
        let conn = open(path)?;
        conn.execute_batch(&layout.schema())?;
        let took = write(&conn, layout, &by_time)?;
        figures.by_time.push(rows / took.as_secs_f64());
        conn.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
        drop(conn);
        figures.bytes = std::fs::metadata(path)?.len() as f64 / rows;
        let conn = open(path)?;
        conn.pragma_update(None, "cache_size", -16_384)?;
        let random = &mut fastrand::Rng::with_seed(7);
        let reads = if matches!(layout, Layout::TimeFirst) {
            5
        } else {
            READS
        };
        for _ in 0..reads {
            let started = Instant::now();
            let found = read(&conn, layout, random.i64(0..SYMBOLS))?;
            assert_eq!(i64::try_from(found)?, MINUTES);
            figures.reads.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    })?;
    with_file(dir, |path| {
        let conn = open(path)?;
        conn.execute_batch(&layout.schema())?;
        let took = write(&conn, layout, &by_symbol)?;
        figures.by_symbol.push(rows / took.as_secs_f64());
        Ok(())
    })
}

/// The value below which `percent` of the values lie.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent / 100]
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let mut layouts = vec![
        Layout::Bucket(4),
        Layout::Bucket(8),
        Layout::Bucket(16),
        Layout::Bucket(32),
        Layout::Bucket(64),
        Layout::TimeFirst,
        Layout::TimeFirstAndIndex,
        Layout::SeriesFirst,
        Layout::Rowid,
    ];
    // Widths of buckets to measure alone.
    let widths: Vec<_> = std::env::args().skip(2).collect();
    if !widths.is_empty() {
        layouts.clear();
        for width in widths {
            layouts.push(Layout::Bucket(width.parse()?));
        }
    }
    let mut all = vec![Figures::default(); layouts.len()];
    for round in 0..ROUNDS {
        for (layout, figures) in layouts.iter().zip(&mut all) {
            // The layouts that are slow by an order of magnitude get one round.
            if round == 0 || matches!(layout, Layout::Bucket(_)) {
                measure(&dir, *layout, figures)?;
            }
        }
    }
    println!("layout                by time  by symbol  B/row  p50 ms  p95 ms");
    for (layout, figures) in layouts.iter().zip(&all) {
        println!(
            "{:20} {:8.0} {:10.0} {:6.1} {:7.2} {:7.2}",
            layout.name(),
            percentile(&figures.by_time, 50),
            percentile(&figures.by_symbol, 50),
            figures.bytes,
            percentile(&figures.reads, 50),
            percentile(&figures.reads, 95),
        );
    }
    Ok(())
}
