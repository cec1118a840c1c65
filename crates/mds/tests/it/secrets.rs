//! The password of a server is shown nowhere: not on the terminal, not in a file, not in a metric,
//! not to the server's other users.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::contract::Database;
use crate::process::Running;
use crate::run::Place;

/// The password, with characters that a URL has to escape.
const SECRET: &str = "c4nary%2Fp%40ss";
/// A part of it that stays as it is in every spelling.
const CANARY: &str = "c4nary";

/// Where a password comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    Flag,
    Store,
    Dsn,
    Config,
    EnvFile,
    Parameter,
    Password,
    Passfile,
}

const PLACES: [From; 8] = [
    From::Flag,
    From::Store,
    From::Dsn,
    From::Config,
    From::EnvFile,
    From::Parameter,
    From::Password,
    From::Passfile,
];

/// What is run; the last three while the program has something to say.
const COMMANDS: [&[&str]; 17] = [
    &["config", "show"],
    &["config", "check"],
    &["migrate", "--plan"],
    &["migrate"],
    &["health"],
    &["stats"],
    &["latest"],
    &["latest", "S"],
    &["query", "bars", "--symbol", "S"],
    &["export", "bars", "--out", "out.ndjson"],
    &["delete", "bars", "--symbol", "NOBODY", "--yes"],
    &["dlq", "list"],
    &["dlq", "replay"],
    &[
        "ingest",
        "bars",
        "bad.csv",
        "--vendor",
        "v",
        "--timeframe",
        "1m",
    ],
    &[
        "-vvv",
        "ingest",
        "bars",
        "bars.csv",
        "--vendor",
        "v",
        "--timeframe",
        "1m",
    ],
    &[
        "ingest",
        "bars",
        "bars.csv",
        "--vendor",
        "v",
        "--timeframe",
        "1m",
        "--json",
    ],
    &[
        "ingest",
        "bars",
        "bars.csv",
        "--max-outage",
        "1s",
        "--vendor",
        "v",
        "--timeframe",
        "1m",
    ],
];

const BARS: &str = "symbol,ts,close_price\nS,2024-11-01T00:00:00Z,1.5\nS,2024-11-01T00:01:00Z,13\n";

/// Runs every command with the password in one place; all that was shown or written.
fn shown(from: From, address: &str) -> String {
    let place = Place::new();
    place.write("bars.csv", BARS);
    place.write("bad.csv", "symbol,ts,close_price\nS,yesterday,1.5\n");
    let (user, rest) = address.split_once('@').unwrap();
    let with = format!("{user}:{SECRET}@{rest}");
    let (mut flags, mut env) = (Vec::new(), Vec::new());
    // What holds the password and is no output.
    let mut own = vec!["bars.csv", "bad.csv"];
    match from {
        From::Flag => flags = vec!["--store".to_owned(), with],
        From::Store => env.push(("MDS_STORE", with)),
        From::Dsn => env.push(("MDS_DSN", with)),
        From::Config => {
            place.write("mds.toml", &format!("store = \"{with}\"\n"));
            own.push("mds.toml");
        }
        From::EnvFile => {
            place.write(".env", &format!("MDS_STORE={with}\n"));
            own.push(".env");
        }
        From::Parameter => {
            let sign = if address.contains('?') { '&' } else { '?' };
            env.push(("MDS_STORE", format!("{address}{sign}password={SECRET}")));
        }
        From::Password => {
            env.push(("MDS_STORE", address.to_owned()));
            env.push(("PGPASSWORD", SECRET.to_owned()));
        }
        From::Passfile => {
            place.write("pgpass", &format!("*:*:*:*:{SECRET}\n"));
            own.push("pgpass");
            let file = place.path("pgpass").display().to_string();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&file, private).unwrap();
            env.push(("MDS_STORE", address.to_owned()));
            env.push(("PGPASSFILE", file));
        }
    }
    let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut all = String::new();
    for command in COMMANDS {
        let outcome = place.run_with_env(&[command, &flags].concat(), &env);
        _ = writeln!(all, "{command:?}: {}{}", outcome.stdout, outcome.stderr);
    }
    files(&place.path(""), &own, &mut all);
    all
}

/// The content of all files of a folder, but some.
fn files(folder: &Path, but: &[&str], all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            files(&path, &[], all);
        } else if !but.contains(&name) {
            let bytes = fs::read(&path).unwrap();
            _ = writeln!(all, "{name}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_shown_nowhere() {
    let Some(database) = Database::make().await else {
        return;
    };
    database
        .run("CREATE TABLE was (who text); INSERT INTO was VALUES ('there')")
        .await;
    let good = database.url.clone();
    let (server, _) = good.rsplit_once('/').unwrap();
    let nobody = good.replace("postgres@", "nobody_of_that_name@");
    let dead = good.rsplit_once(':').unwrap().0;
    let addresses = [
        (good.clone(), true),
        (format!("{server}/gone"), false),
        (nobody, false),
        (format!("{dead}:1/postgres"), false),
        (format!("{good}?sslmode=require"), false),
        (format!("{good}?sslmode=perhaps"), false),
        (format!("{good}?nonsense=1"), false),
        (format!("{dead}:port/postgres"), false),
    ];
    for (address, is_good) in &addresses {
        // Where nobody answers, one place is like another.
        let places = if *is_good { &PLACES[..] } else { &PLACES[..6] };
        for from in places {
            let all = shown(*from, address);
            assert!(!all.contains(CANARY), "{from:?} {address}:\n{all}");
            // It was not silence that kept it.
            assert!(all.contains("postgres"), "{from:?} {address}:\n{all}");
        }
    }
    let sql = "SELECT count(*) FROM bars";
    let count: i64 = database.shell.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(count, 2, "the good address was one");
}

/// A port that nobody uses.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_in_metrics_nor_to_the_other_users_of_the_server() {
    let Some(database) = Database::make().await else {
        return;
    };
    let place = Place::new();
    let metrics = format!("127.0.0.1:{}", free_port());
    let url = database.url.replace('@', &format!(":{SECRET}@"));
    let args = [
        "ingest",
        "bars",
        "-",
        "--vendor",
        "v",
        "--timeframe",
        "1m",
        "--metrics",
        &metrics,
        "--format",
        "csv",
        "--map",
        "symbol=symbol",
        "--map",
        "ts=ts",
        "--map",
        "close_price=close_price",
    ];
    let mut command = place.command(&args);
    command.env("MDS_STORE", &url);
    let mut running = Running::new(&mut command);
    running.write(BARS);
    // The rows are there as soon as a batch is full or has waited.
    let sql = "SELECT count(*) FROM pg_class WHERE relname = 'bars'";
    while database
        .shell
        .query_one(sql, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {}
    let rows = "SELECT count(*) FROM bars";
    while database
        .shell
        .query_one(rows, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        < 2
    {}
    let mut page = String::new();
    let mut stream = TcpStream::connect(&metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("mds_coord_items_submitted_total"), "{page}");
    assert!(!page.contains(CANARY), "{page}");
    let sessions = "SELECT string_agg(a::text, E'\\n') FROM pg_stat_activity AS a \
         WHERE datname = current_database()";
    let seen: String = database
        .shell
        .query_one(sessions, &[])
        .await
        .unwrap()
        .get(0);
    assert!(seen.contains(",mds,"), "{seen}");
    assert!(!seen.contains(CANARY), "{seen}");
    running.close_stdin();
    let outcome = running.outcome().code(0);
    assert!(!format!("{outcome:?}").contains(CANARY));
}
