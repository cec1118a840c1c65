//! Connections: few, kept, lent to one task at a time, and opened with care after an outage.
//!
//! - A session comes back only when it is at rest; one that does not come back is closed, and the
//!   server rolls back what it held.
//! - Tasks wait in line. Whoever is first gets the next session that comes back, or the right to
//!   open one; a task that goes away leaves its turn to the next.
//! - After a failed attempt only one task at a time may open sessions; each success doubles how
//!   many may (1, 2, 4, ...), so that a server that comes back is not run over. All who waited for
//!   a failed attempt are answered with its error: ten tasks do not knock at a closed door ten
//!   times.
//! - A server that is there and has no room for another session is no outage as long as we have
//!   one: the task waits for that.
//! - A session lives for half an hour, give or take a tenth, so that load spreads over the servers
//!   behind one name.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Opens and judges sessions.
pub(crate) trait Connector: Send + Sync + 'static {
    /// A session; dropped, it is closed at once.
    type Session: Send + 'static;
    /// Why there is none.
    type Error: Send + Sync + 'static;

    /// Opens a session. Dropped half-way it leaves nothing.
    fn open(&self) -> impl Future<Output = Result<Self::Session, Self::Error>> + Send;

    /// Whether a session that was kept can still be used.
    fn is_open(session: &Self::Session) -> bool;

    /// Whether the server is there and has no room for another session.
    fn has_no_room(error: &Self::Error) -> bool;

    /// Told when a session comes back at rest.
    fn rest(session: &Self::Session);

    /// Closes a session that is at rest.
    fn retire(session: Self::Session);
}

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Sessions at the same time.
    pub(crate) most: usize,
    /// How long a session is kept, give or take a tenth.
    pub(crate) lifetime: Duration,
    /// How long to wait for one of our own sessions while the server has no room for more.
    pub(crate) patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            most: 16,
            lifetime: Duration::from_secs(1_800),
            patience: Duration::from_secs(10),
        }
    }
}

/// The first and the longest pause before a server that had no room is asked for it again.
const NO_ROOM_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Why no session was lent.
#[derive(Debug)]
pub(crate) enum PoolError<E> {
    /// The attempt to open one failed: this task's, or the one that it waited for.
    Connect(Arc<E>),
    Closed,
}

/// Sessions with one server; cheap to clone.
pub(crate) struct Pool<C: Connector> {
    shared: Arc<Shared<C>>,
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

struct Shared<C: Connector> {
    connector: C,
    bounds: Bounds,
    state: Mutex<State<C>>,
}

struct State<C: Connector> {
    /// At rest, the one used last at the end.
    idle: Vec<Kept<C::Session>>,
    lent: usize,
    /// Tasks that are opening a session.
    opening: usize,
    /// How many tasks may open sessions at the same time.
    at_once: usize,
    no_room: Option<NoRoom>,
    line: VecDeque<oneshot::Sender<Turn<C>>>,
    is_closed: bool,
}

/// The server had no room for another session.
struct NoRoom {
    /// When it is asked again.
    until: Instant,
    pause: Duration,
}

struct Kept<S> {
    session: S,
    dies: Instant,
}

/// What a task gets that waited in line.
enum Turn<C: Connector> {
    Place(Place<C>),
    Failed(Arc<C::Error>),
}

/// A place among the sessions: one that is lent, or the right to open one. Given back when dropped.
struct Place<C: Connector> {
    shared: Arc<Shared<C>>,
    /// The session, while nobody works with it.
    kept: Option<Kept<C::Session>>,
    is_opening: bool,
    is_left: bool,
}

impl<C: Connector> Place<C> {
    /// Takes the place out of the counts, and puts a session that is in it back.
    fn leave(&mut self, state: &mut State<C>) {
        self.is_left = true;
        if self.is_opening {
            state.opening -= 1;
        } else {
            state.lent -= 1;
        }
        match self.kept.take() {
            Some(kept) if state.is_closed || !C::is_open(&kept.session) => {
                C::retire(kept.session);
            }
            Some(kept) => {
                C::rest(&kept.session);
                state.idle.push(kept);
            }
            None => {}
        }
    }
}

impl<C: Connector> Drop for Place<C> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        self.leave(&mut state);
        shared.serve(&mut state);
    }
}

impl<C: Connector> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Counts and lists are whole whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session at rest, or the right to open one, if there is either.
    fn place(self: &Arc<Self>, state: &mut State<C>) -> Option<Place<C>> {
        let now = Instant::now();
        let is_good = |kept: &mut Kept<C::Session>| kept.dies > now && C::is_open(&kept.session);
        // The one used last, so that the others can grow old.
        let mut kept = state.idle.pop();
        while let Some(old) = kept.take_if(|kept| !is_good(kept)) {
            C::retire(old.session);
            kept = state.idle.pop();
        }
        let has_room = state.no_room.as_ref().is_none_or(|n| n.until <= now);
        let is_opening = kept.is_none();
        if is_opening {
            let taken = state.lent + state.opening;
            if taken >= self.bounds.most || state.opening >= state.at_once || !has_room {
                return None;
            }
            state.opening += 1;
        } else {
            state.lent += 1;
        }
        Some(Place {
            shared: Arc::clone(self),
            kept,
            is_opening,
            is_left: false,
        })
    }

    /// Gives those who wait what there is.
    fn serve(self: &Arc<Self>, state: &mut State<C>) {
        while let Some(first) = state.line.front() {
            if first.is_closed() {
                state.line.pop_front();
                continue;
            }
            let Some(place) = self.place(state) else {
                return;
            };
            let unsent = match state.line.pop_front() {
                Some(first) => first.send(Turn::Place(place)).err(),
                None => Some(Turn::Place(place)),
            };
            // Whoever it was for has gone away this very moment.
            if let Some(Turn::Place(mut place)) = unsent {
                place.leave(state);
            }
        }
    }
}

impl<C: Connector> Pool<C> {
    pub(crate) fn new(connector: C, bounds: Bounds) -> Self {
        let state = State {
            idle: Vec::new(),
            lent: 0,
            opening: 0,
            at_once: bounds.most,
            no_room: None,
            line: VecDeque::new(),
            is_closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                connector,
                bounds,
                state: Mutex::new(state),
            }),
        }
    }

    /// Lends a session to `work`, which must hand it back at rest, or drop it.
    ///
    /// Dropped half-way, it closes the session that was lent.
    pub(crate) async fn with<V, F>(
        &self,
        work: impl FnOnce(C::Session) -> F,
    ) -> Result<V, PoolError<C::Error>>
    where
        F: Future<Output = (Option<C::Session>, V)>,
    {
        let (mut place, kept) = self.session().await?;
        let (back, value) = work(kept.session).await;
        let dies = kept.dies;
        place.kept = back.map(|session| Kept { session, dies });
        drop(place);
        Ok(value)
    }

    async fn session(&self) -> Result<(Place<C>, Kept<C::Session>), PoolError<C::Error>> {
        let mut place = self.turn(self.wait(false)?).await?;
        let mut gives_up = None;
        loop {
            if let Some(kept) = place.kept.take() {
                return Ok((place, kept));
            }
            let error = match self.shared.connector.open().await {
                Ok(session) => {
                    self.opened(&mut place);
                    let share = 0.9 + 0.2 * fastrand::f64();
                    let dies = Instant::now() + self.shared.bounds.lifetime.mul_f64(share);
                    return Ok((place, Kept { session, dies }));
                }
                Err(error) => error,
            };
            if !C::has_no_room(&error) || !self.has_others() {
                return Err(PoolError::Connect(self.failed(error)));
            }
            let patience = self.shared.bounds.patience;
            let gives_up = *gives_up.get_or_insert_with(|| Instant::now() + patience);
            self.no_room();
            // In line before the place is left, so that nobody comes between.
            let turn = self.wait(true)?;
            drop(place);
            place = tokio::time::timeout_at(gives_up, self.turn(turn))
                .await
                .map_err(|_| PoolError::Connect(Arc::new(error)))??;
        }
    }

    /// Gets in line; whoever had a turn already, at the front.
    fn wait(&self, is_back: bool) -> Result<oneshot::Receiver<Turn<C>>, PoolError<C::Error>> {
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(PoolError::Closed);
        }
        // Who has gone away is in nobody's way.
        state.line.retain(|waiting| !waiting.is_closed());
        let (sender, turn) = oneshot::channel();
        if is_back {
            state.line.push_front(sender);
        } else {
            state.line.push_back(sender);
        }
        self.shared.serve(&mut state);
        Ok(turn)
    }

    async fn turn(
        &self,
        turn: oneshot::Receiver<Turn<C>>,
    ) -> Result<Place<C>, PoolError<C::Error>> {
        match turn.await {
            Ok(Turn::Place(place)) => Ok(place),
            Ok(Turn::Failed(error)) => Err(PoolError::Connect(error)),
            Err(_) => Err(PoolError::Closed),
        }
    }

    /// A session was opened: it is lent now, and more tasks may open some.
    fn opened(&self, place: &mut Place<C>) {
        let mut state = self.shared.lock();
        place.is_opening = false;
        state.opening -= 1;
        state.lent += 1;
        state.at_once = (state.at_once * 2).min(self.shared.bounds.most);
        state.no_room = None;
        self.shared.serve(&mut state);
    }

    /// An attempt failed: those who wait are told.
    fn failed(&self, error: C::Error) -> Arc<C::Error> {
        let error = Arc::new(error);
        let mut state = self.shared.lock();
        state.at_once = 1;
        // They led to the same server.
        state
            .idle
            .drain(..)
            .for_each(|kept| C::retire(kept.session));
        for waiting in state.line.drain(..) {
            // Who has gone away needs no answer.
            drop(waiting.send(Turn::Failed(Arc::clone(&error))));
        }
        error
    }

    fn has_others(&self) -> bool {
        let state = self.shared.lock();
        state.lent > 0 || !state.idle.is_empty()
    }

    /// Nobody asks for another session for a while.
    fn no_room(&self) {
        let mut state = self.shared.lock();
        state.at_once = 1;
        let now = Instant::now();
        let pause = match &state.no_room {
            // Somebody who asked at the same time has said it already.
            Some(known) if known.until > now => return,
            Some(last) => (last.pause * 2).min(NO_ROOM_PAUSE.1),
            None => NO_ROOM_PAUSE.0,
        };
        let until = now + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        state.no_room = Some(NoRoom { until, pause });
        let shared = Arc::downgrade(&self.shared);
        drop(tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            if let Some(shared) = shared.upgrade() {
                let mut state = shared.lock();
                shared.serve(&mut state);
            }
        }));
    }

    /// Closes the sessions at rest; those at work are closed when they come back. Who waits is told.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        state
            .idle
            .drain(..)
            .for_each(|kept| C::retire(kept.session));
        state.line.clear();
    }
}

#[cfg(test)]
mod tests;
