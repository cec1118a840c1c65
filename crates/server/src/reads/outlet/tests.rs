//! Readers of all speeds, by virtual time.

use http_body_util::BodyExt as _;
use tokio::time::sleep;

use super::*;

fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1))
}

fn open(places: &Arc<Semaphore>) -> (Outlet, Body, Cut) {
    let place = Arc::clone(places).try_acquire_owned().unwrap();
    let cut = Cut::default();
    let (outlet, body) = Outlet::open(place, Some(cut.clone()));
    (outlet, body, cut)
}

fn bytes(count: usize) -> Bytes {
    let byte = |i: usize| u8::try_from(i % 251).unwrap();
    (0..count).map(byte).collect::<Vec<u8>>().into()
}

async fn send(mut outlet: Outlet, text: Bytes) -> Result<(), Gone> {
    outlet.put(text).await?;
    outlet.finish().await
}

/// Reads to the good end, with a pause before each piece is taken.
async fn read(mut body: Body, pause: Duration) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        sleep(pause).await;
        read.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    read
}

#[tokio::test(start_paused = true)]
async fn what_was_put_comes_out_and_the_place_is_free() {
    let places = places();
    let (outlet, body, _) = open(&places);
    let text = bytes(1_000_000);
    let sending = tokio::spawn(send(outlet, text.clone()));
    assert!(read(body, Duration::ZERO).await == text);
    sending.await.unwrap().unwrap();
    assert_eq!(places.available_permits(), 1);
}

/// The pieces that it has taken and not given back are those of a connection whose buffers are full.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_is_cut_off_and_holds_nothing() {
    let places = places();
    let (outlet, mut body, cut) = open(&places);
    let started = Instant::now();
    let sending = tokio::spawn(send(outlet, bytes(1_000_000)));
    let first = body.frame().await.unwrap().unwrap();
    assert!(sending.await.unwrap().is_err());
    assert!(started.elapsed() >= GRACE && started.elapsed() < 2 * GRACE);
    cut.happens().await;
    assert_eq!(places.available_permits(), 1);
    drop(first);
    // Whatever is still read of it does not end well.
    assert!(body.collect().await.is_err());
}

/// An answer that fits into what may be handed out at once is waited for as well.
#[tokio::test(start_paused = true)]
async fn a_short_answer_that_nobody_takes_is_cut_off_too() {
    let places = places();
    let (outlet, _body, cut) = open(&places);
    assert!(send(outlet, bytes(10)).await.is_err());
    cut.happens().await;
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_served_to_the_end() {
    let places = places();
    let (outlet, body, _) = open(&places);
    let text = bytes(8 << 20);
    let sending = tokio::spawn(send(outlet, text.clone()));
    // Just the rate that is asked for.
    assert!(read(body, Duration::from_secs(2)).await == text);
    sending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn having_read_fast_earns_no_long_rest() {
    let places = places();
    let (outlet, mut body, cut) = open(&places);
    let started = Instant::now();
    let sending = tokio::spawn(send(outlet, bytes(20 << 20)));
    for _ in 0..200 {
        body.frame().await.unwrap().unwrap();
    }
    assert!(sending.await.unwrap().is_err());
    assert_eq!(started.elapsed().as_secs(), 60);
    cut.happens().await;
    assert_eq!(places.available_permits(), 1);
}

/// Nobody keeps a snapshot of the store for ever, however steadily they read.
#[tokio::test(start_paused = true)]
async fn no_answer_waits_longer_than_the_longest() {
    let places = places();
    let (mut outlet, mut body, cut) = open(&places);
    let endless = async move { while outlet.put(bytes(1 << 20)).await.is_ok() {} };
    let sending = tokio::spawn(endless);
    let started = Instant::now();
    while let Some(Ok(_)) = body.frame().await {
        sleep(Duration::from_secs(2)).await;
    }
    assert!(started.elapsed() >= MOST && started.elapsed() < MOST + GRACE);
    cut.happens().await;
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_end_does_not_end_well() {
    let (mut outlet, body, _) = open(&places());
    outlet.put(bytes(100)).await.unwrap();
    drop(outlet);
    assert!(body.collect().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_reader_that_is_gone() {
    let places = places();
    let (outlet, body, _) = open(&places);
    let started = Instant::now();
    drop(body);
    outlet.gone().await;
    assert!(send(outlet, bytes(1_000_000)).await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(places.available_permits(), 1);
}
