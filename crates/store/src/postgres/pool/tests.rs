//! The pool with sessions that lead nowhere, in virtual time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a fake server does with those who knock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Welcomes,
    Refuses,
    HasNoRoom,
}

struct Fake {
    mood: Mutex<Mood>,
    /// How long opening takes.
    takes: Duration,
    /// Sessions beyond it are refused for want of room.
    room: AtomicUsize,
    attempts: AtomicUsize,
    opening: AtomicUsize,
    most_opening: AtomicUsize,
    alive: Arc<AtomicUsize>,
    most_alive: AtomicUsize,
    retired: Arc<AtomicUsize>,
}

struct Session {
    number: usize,
    is_dead: AtomicBool,
    alive: Arc<AtomicUsize>,
    retired: Arc<AtomicUsize>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts who is opening, also where that is given up.
struct Knock<'a>(&'a AtomicUsize);

impl Drop for Knock<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn new(takes: Duration) -> Self {
        Self {
            mood: Mutex::new(Mood::Welcomes),
            takes,
            room: AtomicUsize::new(usize::MAX),
            attempts: AtomicUsize::new(0),
            opening: AtomicUsize::new(0),
            most_opening: AtomicUsize::new(0),
            alive: Arc::default(),
            most_alive: AtomicUsize::new(0),
            retired: Arc::default(),
        }
    }
}

impl Connector for Arc<Fake> {
    type Session = Session;
    type Error = Mood;

    async fn open(&self) -> Result<Session, Mood> {
        let number = self.attempts.fetch_add(1, Ordering::SeqCst);
        let opening = self.opening.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_opening.fetch_max(opening, Ordering::SeqCst);
        let _knock = Knock(&self.opening);
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let mood = *self.mood.lock().unwrap();
        let is_full = self.alive.load(Ordering::SeqCst) >= self.room.load(Ordering::SeqCst);
        match mood {
            Mood::Welcomes if is_full => return Err(Mood::HasNoRoom),
            Mood::Welcomes => {}
            refusal => return Err(refusal),
        }
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_alive.fetch_max(alive, Ordering::SeqCst);
        Ok(Session {
            number,
            is_dead: AtomicBool::new(false),
            alive: Arc::clone(&self.alive),
            retired: Arc::clone(&self.retired),
        })
    }

    fn is_open(session: &Session) -> bool {
        !session.is_dead.load(Ordering::SeqCst)
    }

    fn has_no_room(error: &Mood) -> bool {
        *error == Mood::HasNoRoom
    }

    fn rest(_: &Session) {}

    fn retire(session: Session) {
        session.retired.fetch_add(1, Ordering::SeqCst);
    }
}

type FakePool = Pool<Arc<Fake>>;

fn pool(takes: Duration, most: usize) -> (Arc<Fake>, FakePool) {
    let fake = Arc::new(Fake::new(takes));
    let bounds = Bounds {
        most,
        ..Bounds::default()
    };
    (Arc::clone(&fake), Pool::new(fake, bounds))
}

impl FakePool {
    /// Holds a session for a while; answers with its number.
    async fn hold(&self, time: Duration) -> Result<usize, PoolError<Mood>> {
        self.with(|session| async move {
            tokio::time::sleep(time).await;
            let number = session.number;
            (Some(session), number)
        })
        .await
    }

    fn counts(&self) -> (usize, usize, usize, usize) {
        let state = self.shared.lock();
        let waiting = state.line.iter().filter(|w| !w.is_closed()).count();
        (state.idle.len(), state.lent, state.opening, waiting)
    }
}

fn is_refused<V>(result: Result<V, PoolError<Mood>>) -> bool {
    matches!(result, Err(PoolError::Connect(mood)) if *mood == Mood::Refuses)
}

/// Runs `tasks` uses at once.
async fn at_once(
    pool: &FakePool,
    tasks: usize,
    time: Duration,
) -> Vec<Result<usize, PoolError<Mood>>> {
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.hold(time).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test(start_paused = true)]
async fn sessions_are_kept_and_the_last_used_is_lent_first() {
    let (fake, pool) = pool(SECOND, 4);
    assert!(at_once(&pool, 10, SECOND).await.iter().all(Result::is_ok));
    assert_eq!(fake.attempts.load(Ordering::SeqCst), 4);
    let first = pool.hold(SECOND).await.unwrap();
    assert_eq!(pool.hold(SECOND).await.unwrap(), first);
    assert_eq!(pool.counts(), (4, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_old_session_is_replaced_and_no_two_grow_old_together() {
    let (fake, pool) = pool(Duration::ZERO, 16);
    let mut ages = Vec::new();
    for _ in 0..50 {
        let born = Instant::now();
        let number = pool.hold(Duration::ZERO).await.unwrap();
        while pool.hold(SECOND).await.unwrap() == number {}
        ages.push((Instant::now() - born).as_secs());
        pool.shared.lock().idle.clear();
    }
    assert!(
        ages.iter().all(|age| (1_620..=1_982).contains(age)),
        "{ages:?}"
    );
    ages.sort_unstable();
    ages.dedup();
    assert!(ages.len() > 30, "{ages:?}");
    assert!(fake.retired.load(Ordering::SeqCst) >= 50);
}

#[tokio::test(start_paused = true)]
async fn one_task_knocks_after_an_outage_and_all_who_wait_hear_the_answer() {
    let (fake, pool) = pool(5 * SECOND, 16);
    *fake.mood.lock().unwrap() = Mood::Refuses;
    assert!(is_refused(pool.hold(SECOND).await));
    // Ten tasks are told after one attempt, not after ten.
    let begin = Instant::now();
    let results = at_once(&pool, 10, SECOND).await;
    assert!(results.into_iter().all(is_refused));
    assert_eq!(begin.elapsed(), 5 * SECOND);
    assert_eq!(fake.attempts.load(Ordering::SeqCst), 2);
    // Slowly when it is back: 1, 2, 4 at once.
    *fake.mood.lock().unwrap() = Mood::Welcomes;
    let begin = Instant::now();
    let results = at_once(&pool, 7, 60 * SECOND).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(begin.elapsed(), (3 * 5 + 60) * SECOND);
    assert_eq!(fake.most_opening.load(Ordering::SeqCst), 4);
    assert_eq!(pool.counts(), (7, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_drops_the_sessions_that_led_to_the_same_server() {
    let (fake, pool) = pool(2 * SECOND, 16);
    at_once(&pool, 3, SECOND).await;
    *fake.mood.lock().unwrap() = Mood::Refuses;
    // Three work with what there is and are done before the attempt of the fourth fails.
    let results = at_once(&pool, 4, SECOND).await;
    assert_eq!(results.into_iter().filter(Result::is_err).count(), 1);
    assert_eq!(fake.alive.load(Ordering::SeqCst), 0);
    assert_eq!(pool.counts(), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_session_is_not_lent_again() {
    let (fake, pool) = pool(Duration::ZERO, 16);
    at_once(&pool, 3, SECOND).await;
    for kept in &pool.shared.lock().idle {
        kept.session.is_dead.store(true, Ordering::SeqCst);
    }
    assert_eq!(pool.hold(SECOND).await.unwrap(), 3);
    assert_eq!(fake.alive.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_room_makes_tasks_wait_for_the_sessions_that_there_are() {
    let (fake, pool) = pool(Duration::ZERO, 16);
    fake.room.store(2, Ordering::SeqCst);
    let results = at_once(&pool, 100, SECOND).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(fake.most_alive.load(Ordering::SeqCst), 2);
    // 50 seconds in which the server was asked for more only now and then.
    let attempts = fake.attempts.load(Ordering::SeqCst);
    assert!(attempts <= 16, "{attempts}");
    // Room again: it is found by itself.
    fake.room.store(16, Ordering::SeqCst);
    tokio::time::sleep(60 * SECOND).await;
    at_once(&pool, 100, SECOND).await;
    assert!(fake.most_alive.load(Ordering::SeqCst) > 8);
    assert_eq!(pool.counts().1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_room_for_anyone_is_an_outage() {
    let (fake, pool) = pool(Duration::ZERO, 16);
    fake.room.store(0, Ordering::SeqCst);
    let begin = Instant::now();
    let failed = |r: Result<usize, PoolError<Mood>>| matches!(r, Err(PoolError::Connect(mood)) if *mood == Mood::HasNoRoom);
    assert!(failed(pool.hold(SECOND).await));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    // And so it is while the only session is not given back.
    fake.room.store(1, Ordering::SeqCst);
    let holder = pool.clone();
    let reader = tokio::spawn(async move { holder.hold(3_600 * SECOND).await });
    tokio::task::yield_now().await;
    let begin = Instant::now();
    assert!(failed(pool.hold(SECOND).await));
    assert_eq!(begin.elapsed(), 10 * SECOND);
    assert!(reader.await.unwrap().is_ok());
    assert_eq!(pool.counts(), (1, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_tells_those_who_wait_and_ends_sessions_as_they_come_back() {
    let (fake, pool) = pool(Duration::ZERO, 1);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.hold(SECOND).await })
        })
        .collect();
    while pool.counts() != (0, 1, 0, 2) {
        tokio::task::yield_now().await;
    }
    pool.close();
    let mut ended = Vec::new();
    for task in tasks {
        ended.push(match task.await.unwrap() {
            Ok(number) => number.to_string(),
            Err(PoolError::Closed) => "closed".to_owned(),
            Err(other) => format!("{other:?}"),
        });
    }
    assert_eq!(ended, ["0", "closed", "closed"]);
    assert_eq!(fake.alive.load(Ordering::SeqCst), 0);
    assert_eq!(fake.retired.load(Ordering::SeqCst), 1);
    assert!(matches!(pool.hold(SECOND).await, Err(PoolError::Closed)));
}

/// Tasks come, go away at any moment, and give sessions back or not, while the server is there or
/// not. Afterwards nothing is counted that is not there, and everybody is served.
async fn comes_and_goes(seed: u64) {
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let chance = |below: u64| random.lock().unwrap().u64(0..below);
    let most = random.lock().unwrap().usize(1..6);
    let (fake, pool) = pool(Duration::from_millis(chance(3)), most);
    let mut tasks = Vec::new();
    for _ in 0..chance(200) {
        let (pool, ends) = (pool.clone(), chance(4));
        let time = Duration::from_millis(chance(10));
        let task = tokio::spawn(async move {
            let work = |session: Session| async move {
                tokio::time::sleep(time).await;
                session.is_dead.store(ends == 1, Ordering::SeqCst);
                (Some(session).filter(|_| ends != 0), ())
            };
            // An answer of any kind.
            drop(pool.with(work).await);
        });
        match chance(4) {
            0 => task.abort(),
            1 => {
                tokio::time::sleep(Duration::from_millis(chance(5))).await;
                task.abort();
            }
            2 => tokio::task::yield_now().await,
            _ => {}
        }
        tasks.push(task);
        if chance(10) == 0 {
            let moods = [Mood::Welcomes, Mood::Refuses, Mood::HasNoRoom];
            let mood = random.lock().unwrap().choice(moods);
            *fake.mood.lock().unwrap() = mood.unwrap();
        }
    }
    for task in tasks {
        drop(
            tokio::time::timeout(3_600 * SECOND, task)
                .await
                .expect("a task hangs"),
        );
    }
    let (idle, lent, opening, line) = pool.counts();
    assert_eq!((lent, opening, line), (0, 0, 0), "seed {seed}");
    assert_eq!(fake.alive.load(Ordering::SeqCst), idle, "seed {seed}");
    assert_eq!(fake.opening.load(Ordering::SeqCst), 0, "seed {seed}");
    assert!(
        fake.most_alive.load(Ordering::SeqCst) <= pool.shared.bounds.most,
        "seed {seed}"
    );
    *fake.mood.lock().unwrap() = Mood::Welcomes;
    tokio::time::sleep(60 * SECOND).await;
    let results = tokio::time::timeout(3_600 * SECOND, at_once(&pool, 20, SECOND)).await;
    assert!(
        results.expect("a task hangs").iter().all(Result::is_ok),
        "seed {seed}"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_and_goes_nothing_leaks_and_nobody_waits_for_ever() {
    let one = std::env::var("MDS_SEED").ok().and_then(|s| s.parse().ok());
    for seed in one.map_or(0..2_000, |seed: u64| seed..seed + 1) {
        comes_and_goes(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_real_threads_nobody_waits_for_ever() {
    let (_, pool) = pool(Duration::ZERO, 3);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for turn in 0..2_000_u64 {
                    let work = |session| async move {
                        tokio::task::yield_now().await;
                        (Some(session), ())
                    };
                    if turn % 3 == 0 {
                        // Goes away while it waits, or while it works.
                        let one_look = std::future::ready(());
                        tokio::select! {
                            _ = pool.with(work) => {}
                            () = async { one_look.await; tokio::task::yield_now().await } => {}
                        }
                    } else {
                        pool.with(work).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        // A generous guard against a hang, no limit of speed.
        let guard = tokio::time::timeout(300 * SECOND, task).await;
        guard.expect("a task hangs").unwrap();
    }
    let (idle, lent, opening, line) = pool.counts();
    assert_eq!((lent, opening, line), (0, 0, 0));
    assert!(idle <= 3);
}
