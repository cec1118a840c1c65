//! Classes 22, 23, 44, 54000 and P0001: the server refuses a row, and its neighbours are written.
//!
//! Each error is provoked on each way by which a row comes into a table: copied, inserted by a
//! merge, put in the place of an older one.

use mds_core::{Bar, News, RowOutcome, Timestamp};
use mds_store::StoredRecord;

use crate::postgres::{Database, Server};
use crate::support::{MINUTE, START, all, bar, write, write_new};

/// What makes the server refuse a row.
struct Case<R> {
    /// Rows that are there before.
    resident: Vec<R>,
    /// A row that the server takes: its minute and its revision.
    good: fn(i64, i64) -> R,
    poison: fn(&mut R),
    code: &'static str,
    /// What the reason tells a person.
    says: &'static [&'static str],
}

fn bars(code: &'static str, poison: fn(&mut Bar), says: &'static [&'static str]) -> Case<Bar> {
    Case {
        resident: Vec::new(),
        good: |minute, revision| {
            // A close of its own for each, far from what the tests refuse.
            bar(
                minute,
                1_000.0 + f64::from(i32::try_from(minute).unwrap()),
                revision,
            )
        },
        poison,
        code,
        says,
    }
}

fn news(code: &'static str, poison: fn(&mut News), says: &'static [&'static str]) -> Case<News> {
    Case {
        resident: Vec::new(),
        good: |minute, revision| News {
            vendor: "v".into(),
            published_at: Timestamp::from_micros(START + minute * MINUTE),
            id: "1".into(),
            title: Some("Up".to_owned()),
            revision,
            ..News::default()
        },
        poison,
        code,
        says,
    }
}

const fn thirteen(row: &mut Bar) {
    row.close_price = Some(13.0);
}

impl<R: StoredRecord> Case<R> {
    /// Writes batches with one poison row, by every way, into a store that `sql` has changed.
    async fn costs_one_row(self, sql: &str) {
        if let Some(server) = Server::find() {
            self.costs_one_row_in(&server.make("").await, sql).await;
        }
    }

    async fn costs_one_row_in(self, database: &Database, sql: &str) {
        let store = database.open().await;
        let mut expected = self.resident.clone();
        if !expected.is_empty() {
            write_new(&store, expected.clone()).await;
        }
        database.run(sql).await;
        for (way, first, rows, revision) in [
            ("copied", 0, 100, 1),
            ("inserted", 1_000, 10, 1),
            ("replaced", 0, 100, 2),
        ] {
            let mut batch: Vec<R> = (first..first + rows)
                .map(|minute| (self.good)(minute, revision))
                .collect();
            (self.poison)(&mut batch[7]);
            let report = write(&store, batch.clone()).await;
            assert!(report.error.is_none(), "{way}: {:?}", report.error);
            for (place, outcome) in report.outcomes.iter().enumerate() {
                if place == 7 {
                    self.refused(way, outcome);
                } else {
                    assert_eq!(*outcome, RowOutcome::Written, "{way}, row {place}");
                }
            }
            batch.remove(7);
            expected.retain(|old: &R| !batch.iter().any(|new| new.key_cmp(old).is_eq()));
            expected.extend(batch);
            expected.sort_by(R::key_cmp);
            assert_eq!(all::<R>(&store).await, expected, "{way}");
        }
        store.close().await;
    }

    fn refused(&self, way: &str, outcome: &RowOutcome) {
        let RowOutcome::Rejected { code, reason } = outcome else {
            panic!("{way}: {outcome:?}");
        };
        assert_eq!(code, self.code, "{way}: {reason}");
        for part in self.says {
            assert!(reason.contains(part), "{way}: {reason}");
        }
    }
}

#[tokio::test]
async fn check_23514() {
    let says = &[
        "violates check constraint",
        "constraint no_13",
        "table bars",
    ];
    bars("23514", thirteen, says)
        .costs_one_row("ALTER TABLE bars ADD CONSTRAINT no_13 CHECK (close_price <> 13)")
        .await;
}

#[tokio::test]
async fn check_of_a_domain_23514() {
    bars(
        "23514",
        |row| row.open_price = Some(13.0),
        &["constraint no_13"],
    )
    .costs_one_row(
        "CREATE DOMAIN price AS double precision CONSTRAINT no_13 CHECK (value <> 13); \
             ALTER TABLE bars ALTER open_price TYPE price",
    )
    .await;
}

#[tokio::test]
async fn not_null_23502() {
    let says = &["violates not-null constraint", "column close_price"];
    bars("23502", |row| row.close_price = None, says)
        .costs_one_row("ALTER TABLE bars ALTER close_price SET NOT NULL")
        .await;
}

#[tokio::test]
async fn foreign_key_23503() {
    // One that is checked at COMMIT names no row of itself.
    for deferred in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let says = &["constraint known_lot", "Key (volume)=(7) is not present"];
        bars("23503", |row| row.volume = Some(7.0), says)
            .costs_one_row(&format!(
                "CREATE TABLE lots (size double precision PRIMARY KEY); \
                 ALTER TABLE bars ADD CONSTRAINT known_lot FOREIGN KEY (volume) \
                 REFERENCES lots {deferred}"
            ))
            .await;
    }
}

#[tokio::test]
async fn another_unique_key_23505() {
    for deferred in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let says = &[
            "constraint one_close",
            "Key (close_price)=(13) already exists",
        ];
        let case = Case {
            resident: vec![bar(-1, 13.0, 1)],
            ..bars("23505", thirteen, says)
        };
        case.costs_one_row(&format!(
            "ALTER TABLE bars ADD CONSTRAINT one_close UNIQUE (close_price) {deferred}"
        ))
        .await;
    }
}

#[tokio::test]
async fn exclusion_23p01() {
    let case = Case {
        resident: vec![bar(-1, 13.0, 1)],
        ..bars(
            "23P01",
            thirteen,
            &["constraint one_close", "conflicts with existing key"],
        )
    };
    case.costs_one_row(
        "ALTER TABLE bars ADD CONSTRAINT one_close EXCLUDE USING btree (close_price WITH =)",
    )
    .await;
}

#[tokio::test]
async fn out_of_range_of_a_narrower_column_22003() {
    for (ty, says) in [
        ("integer", &["integer out of range"][..]),
        ("bigint", &["bigint out of range"]),
        ("real", &["value out of range: overflow"]),
        (
            "numeric(8,2)",
            &["numeric field overflow", "precision 8, scale 2"],
        ),
    ] {
        bars("22003", |row| row.volume = Some(1e300), says)
            .costs_one_row(&format!("ALTER TABLE bars ALTER volume TYPE {ty}"))
            .await;
    }
}

#[tokio::test]
async fn too_long_for_a_narrower_column_22001() {
    let long = |row: &mut News| row.title = Some("Up and away".to_owned());
    news(
        "22001",
        long,
        &["value too long for type character varying(10)"],
    )
    .costs_one_row("ALTER TABLE news ALTER title TYPE varchar(10)")
    .await;
}

#[tokio::test]
async fn a_character_that_the_database_does_not_have_22p05() {
    let Some(server) = Server::find() else { return };
    let options = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    let database = server.make(options).await;
    let chinese = |row: &mut News| row.title = Some("\u{4e0a}".to_owned());
    news(
        "22P05",
        chinese,
        &["has no equivalent in encoding \"LATIN1\""],
    )
    .costs_one_row_in(&database, "SELECT")
    .await;
}

/// What a trigger of the user does with the row `new`.
fn trigger(table: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; \
         CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON {table} \
         FOR EACH ROW EXECUTE FUNCTION guard()"
    )
}

#[tokio::test]
async fn a_trigger_raises_p0001() {
    let body = "IF new.close_price = 13 THEN RAISE EXCEPTION 'no 13 here'; END IF; RETURN new;";
    bars("P0001", thirteen, &["no 13 here"])
        .costs_one_row(&trigger("bars", body))
        .await;
}

#[tokio::test]
async fn a_trigger_cannot_read_a_text_22007_22p02() {
    for (ty, code, says) in [
        (
            "timestamptz",
            "22007",
            "invalid input syntax for type timestamp",
        ),
        (
            "integer",
            "22P02",
            "invalid input syntax for type integer: \"soon\"",
        ),
    ] {
        let body = format!("PERFORM new.url::{ty}; RETURN new;");
        let mut case = news(code, |row| row.url = Some("soon".to_owned()), &[]);
        let says = [says];
        case.says = Box::leak(Box::new(says));
        case.costs_one_row(&trigger("news", &body)).await;
    }
}

#[tokio::test]
async fn a_check_divides_by_zero_22012() {
    bars("22012", |row| row.volume = Some(0.0), &["division by zero"])
        .costs_one_row("ALTER TABLE bars ADD CHECK (1 / volume > 0)")
        .await;
}

#[tokio::test]
async fn a_check_option_of_a_view_44000() {
    let sql = "CREATE TABLE copies (close double precision); \
         CREATE VIEW checked AS SELECT * FROM copies WHERE close <> 13 WITH CHECK OPTION;";
    let body = "INSERT INTO checked VALUES (new.close_price); RETURN new;";
    bars(
        "44000",
        thirteen,
        &["violates check option for view \"checked\""],
    )
    .costs_one_row(&format!("{sql} {}", trigger("bars", body)))
    .await;
}

#[tokio::test]
async fn a_key_that_no_index_can_hold_54000() {
    let long = |row: &mut Bar| {
        // At random, since a text that repeats itself is stored compressed.
        let mut random = fastrand::Rng::with_seed(7);
        row.symbol = (0..9_000)
            .map(|_| random.uppercase())
            .collect::<String>()
            .as_str()
            .into();
    };
    bars(
        "54000",
        long,
        &["index row requires 9048 bytes, maximum size is 8191"],
    )
    .costs_one_row("SELECT")
    .await;
}

#[tokio::test]
async fn a_trigger_that_leaves_a_row_out() {
    let body = "IF new.close_price = 13 THEN RETURN NULL; END IF; RETURN new;";
    bars(
        "IGNORED",
        thirteen,
        &["a trigger or a rule of the database left the row out"],
    )
    .costs_one_row(&trigger("bars", body))
    .await;
}
