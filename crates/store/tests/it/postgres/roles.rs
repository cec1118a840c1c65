//! What a role may not do, and what a schema lacks, is told before the first row.

use mds_core::{Bar, Kind, TenantId};
use mds_store::{IngestedFile, MissingRights, OpenOptions, Remembered, Store};

use super::{Database, Server};
use crate::support::{all, bar, write, write_new};

/// A new role of this database, and the URL of the database for it.
async fn role(database: &Database) -> (String, String) {
    let role = format!("{}_weak", database.name);
    database.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = database.text.replace("postgres@", &format!("{role}@"));
    (role, url)
}

async fn missing(url: &str) -> Vec<MissingRights> {
    let store = Store::open(&url.parse().unwrap(), OpenOptions::default())
        .await
        .unwrap();
    let missing = store.missing_rights().await.unwrap();
    store.close().await;
    missing
}

fn lacks(table: &str, rights: &[&str]) -> MissingRights {
    MissingRights {
        table: table.to_owned(),
        rights: rights.iter().map(|&right| right.to_owned()).collect(),
    }
}

#[tokio::test]
async fn the_rights_that_a_role_lacks_are_known() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    assert_eq!(missing(&database.text).await, []);

    let (role, url) = role(&database).await;
    let grant = format!("GRANT SELECT ON bars, news, mds_meta, mds_migrations TO {role}");
    database.run(&grant).await;
    assert_eq!(
        missing(&url).await,
        [
            lacks("bars", &["INSERT", "UPDATE"]),
            lacks("options_snap", &["INSERT", "SELECT", "UPDATE"]),
            lacks("fundamentals", &["INSERT", "SELECT", "UPDATE"]),
            lacks("news", &["INSERT", "UPDATE"]),
            lacks("tenants", &["INSERT"]),
            lacks("mds_meta", &["UPDATE"]),
            lacks("ingested_files", &["INSERT", "SELECT", "UPDATE"]),
        ]
    );
    let grants = format!(
        "GRANT INSERT, UPDATE, SELECT ON bars, options_snap, fundamentals, ingested_files TO {role}; \
         GRANT INSERT ON tenants TO {role}; GRANT UPDATE ON mds_meta TO {role}"
    );
    database.run(&grants).await;
    let rest = missing(&url).await;
    assert_eq!(rest, [lacks("news", &["INSERT", "UPDATE"])]);
}

/// Enough for an audit: what a file's rows have is looked up, and nothing is remembered.
#[tokio::test]
async fn a_role_that_may_only_read_can_look_up_a_file() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    let (role, url) = role(&database).await;
    let grant = format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}");
    database.run(&grant).await;
    let url = url.parse().unwrap();
    let store = Store::open(&url, OpenOptions::read_only()).await.unwrap();
    let file = IngestedFile {
        content_hash: [1; 32],
        kind: Kind::Bars,
        keys: [2; 32],
        reading: [3; 32],
        path: None,
        modified: 7,
        now: 9,
        max_rows: 1_000,
    };
    let found = store.look_up_file(&file).await.unwrap();
    assert_eq!((found.base, found.remembered), (7, Remembered::Nothing));
    assert_eq!(
        store.file_revision(&file).await.unwrap_err().code(),
        "42501"
    );
    store.close().await;
}

#[tokio::test]
async fn a_table_that_has_lost_its_key_takes_no_rows() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    database
        .run("ALTER TABLE bars DROP CONSTRAINT bars_pkey; ALTER TABLE news DROP CONSTRAINT news_pkey")
        .await;
    let opened = Store::open(&database.url, OpenOptions::default()).await;
    let error = opened.unwrap_err();
    assert_eq!(error.code(), "UNFIT_DATABASE");
    let text = error.to_string();
    for table in ["bars", "news"] {
        let told = format!("table {table} has no unique key (");
        assert!(text.contains(&told), "{text}");
    }
    assert!(!text.contains("options_snap"), "{text}");
    // Reading doubles nothing.
    let reader = Store::open(&database.url, OpenOptions::read_only()).await;
    assert!(reader.is_ok());
}

#[tokio::test]
async fn a_table_with_another_key_takes_no_rows() {
    let Some(server) = Server::find() else { return };
    for key in [
        "id",
        "ts, tenant_id, vendor, symbol, timeframe, revision",
        "ts, tenant_id, vendor, symbol",
    ] {
        let database = server.make("").await;
        drop(database.open().await);
        database
            .run(&format!(
                "ALTER TABLE bars DROP CONSTRAINT bars_pkey; ALTER TABLE bars ADD id bigserial; \
                 ALTER TABLE bars ADD PRIMARY KEY ({key})"
            ))
            .await;
        let opened = Store::open(&database.url, OpenOptions::default()).await;
        let text = opened.unwrap_err().to_string();
        let told = "table bars has no unique key (ts, tenant_id, vendor, symbol, timeframe) any \
                    more, so rows could be there twice; add it again as its primary key";
        assert!(text.contains(told), "{key}: {text}");
    }
}

#[tokio::test]
async fn the_key_may_be_in_another_order_and_have_columns_beside_it() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    database
        .run(
            "ALTER TABLE bars DROP CONSTRAINT bars_pkey; ALTER TABLE bars ADD id bigserial PRIMARY \
             KEY; CREATE UNIQUE INDEX ON bars (tenant_id, vendor, symbol, timeframe, ts DESC) \
             INCLUDE (close_price)",
        )
        .await;
    let rows = || (0..100).map(|minute| bar(minute, 1.0, 1)).collect();
    write_new(&database.open().await, rows()).await;
    let again = write(&database.open().await, rows()).await;
    assert!(again.error.is_none(), "{:?}", again.error);
    assert_eq!(all::<Bar>(&database.open().await).await.len(), 100);
}

#[tokio::test]
async fn a_table_that_was_altered_is_named_before_the_first_row() {
    let Some(server) = Server::find() else { return };
    for (change, told) in [
        (
            "ALTER TABLE bars RENAME TO bars_of_old",
            "table bars is gone; give it its name again, or restore it from a backup",
        ),
        (
            "ALTER TABLE options_snap DROP COLUMN delta",
            "table options_snap has lost its column delta; add it again: \
             ALTER TABLE options_snap ADD COLUMN delta double precision",
        ),
        (
            "ALTER TABLE fundamentals DROP COLUMN revision",
            "table fundamentals has lost its column revision; add it again: \
             ALTER TABLE fundamentals ADD COLUMN revision bigint NOT NULL DEFAULT 0",
        ),
        (
            "ALTER TABLE news RENAME TO n; CREATE VIEW news AS SELECT * FROM n",
            "news is no table any more and has no key; give the table its name again",
        ),
        (
            "DROP TABLE ingested_files",
            "table ingested_files is gone; give it its name again, or restore it from a backup",
        ),
    ] {
        let database = server.make("").await;
        drop(database.open().await);
        database.run(change).await;
        let opened = Store::open(&database.url, OpenOptions::default()).await;
        let error = opened.unwrap_err();
        assert_eq!(error.code(), "UNFIT_DATABASE", "{error}");
        let all = error.to_string();
        assert!(
            all.ends_with(&format!("nothing was changed:\n  - {told}")),
            "{all}"
        );
        // What migrates says the same, instead of that all is well.
        let migrate = |plan| Store::migrate(&database.url, OpenOptions::default(), plan);
        assert_eq!(migrate(true).await.unwrap().problems, [told]);
        assert_eq!(migrate(false).await.unwrap_err().to_string(), all);
    }
}

#[tokio::test]
async fn what_a_reader_does_not_need_may_be_missing() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    database
        .run("DROP TABLE ingested_files; ALTER TABLE options_snap DROP COLUMN delta")
        .await;
    let reader = Store::open(&database.url, OpenOptions::read_only()).await;
    assert_eq!(reader.unwrap().stats().await.unwrap().kinds.len(), 4);

    database.run("DROP TABLE news CASCADE").await;
    let opened = Store::open(&database.url, OpenOptions::read_only()).await;
    let all = opened.unwrap_err().to_string();
    assert!(
        all.ends_with(
            "\n  - table news is gone; give it its name again, or restore it from a backup"
        ),
        "{all}"
    );
}

#[tokio::test]
async fn a_role_that_row_security_binds_counts_the_rows_of_its_tenant() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let other = TenantId::from_u128(7);
    let of_other = Bar {
        tenant_id: other,
        ..bar(9, 1.0, 1)
    };
    write_new(
        &database.open().await,
        vec![bar(0, 1.0, 1), bar(1, 1.0, 1), of_other],
    )
    .await;
    let (role, url) = role(&database).await;
    let grant = format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}");
    database.run(&grant).await;
    let counted = |tenant_id| {
        let url = url.clone();
        async move {
            let options = OpenOptions {
                tenant_id,
                ..OpenOptions::read_only()
            };
            let store = Store::open(&url.parse().unwrap(), options).await.unwrap();
            let stats = store.stats().await.unwrap();
            (stats.kinds[0].rows, stats.freshness.len())
        }
    };
    assert_eq!(counted(TenantId::DEFAULT).await, (2, 1));
    assert_eq!(counted(other).await, (1, 1));
    // What the role itself is set to goes before.
    let set = format!("ALTER ROLE {role} SET app.tenant_id = '{other}'");
    database.run(&set).await;
    assert_eq!(counted(TenantId::DEFAULT).await, (1, 1));
}

#[tokio::test]
async fn a_plan_says_where_no_table_can_be_made() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let (role, url) = role(&database).await;
    let plan = |url: String| async move {
        let report = Store::migrate(&url.parse().unwrap(), OpenOptions::default(), true).await;
        report.unwrap().problems
    };
    assert_eq!(
        plan(url.clone()).await,
        [format!(
            "{role} may not make tables in the schema public; GRANT CREATE ON SCHEMA public TO \
             {role}, or migrate as a role that may"
        )]
    );
    assert_eq!(
        plan(format!("{url}?options=-csearch_path%3Dnowhere")).await,
        [format!(
            "no schema of the search_path of {role} is there, so that no table can be made"
        )]
    );
    assert_eq!(plan(database.text.clone()).await, [""; 0]);
}
