//! Standard output and standard error that nobody reads any more.

use std::process::Stdio;

use rusqlite::Connection;

use crate::run::Place;

#[test]
fn a_closed_standard_error_changes_nothing_but_the_messages() {
    let place = Place::new();
    place.write(
        "bars.csv",
        "vendor,symbol,timeframe,ts,close_price\nv,S,1d,2024-11-01T00:00:00Z,1\n",
    );
    place.run(&["migrate"]).code(0);
    // Every write fails, and is told on standard error.
    Connection::open(place.path("market.db"))
        .and_then(|shell| shell.execute_batch("DROP TABLE bars_data"))
        .unwrap();
    let mut child = place
        .command(&["ingest", "bars", "bars.csv", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let last = String::from_utf8(output.stdout).unwrap();
    assert!(
        last.starts_with(r#"{"read":1,"written":0,"superseded":0,"dead_lettered":1,"#),
        "{last}"
    );
}
