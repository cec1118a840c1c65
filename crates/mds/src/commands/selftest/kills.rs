//! The producer: hands rows to a process, notes each acknowledgement, kills the process, starts the
//! next one on the same folder, and in the end compares the store with its notes.
//!
//! What is handed in and not acknowledged is handed in again, as a producer does. So in the end every
//! row was acknowledged, and must be in the store exactly once.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Trial;
use super::life::{Heard, Life, STORE};
use super::report::Kills;
use super::witness::Witness;

/// Rows that are handed in and not answered: more than the process has under way, so that a kill
/// always comes before the last answer.
const OUTSTANDING: usize = 4_000;
/// A life ends after one of so many answers, and up to so much later.
const ANSWERS: u32 = 200;
const LINGER: Duration = Duration::from_millis(3);
/// How much slower a slow store is.
const DELAY: Duration = Duration::from_millis(50);
/// Starts in a row that may fail.
const PATIENCE: u32 = 3;
/// Rows in a row that may be refused: more than any single failure of the disk costs.
const REFUSALS: u32 = 10 * 4_000;

/// How a life goes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    is_locked: bool,
    delay: Duration,
    answers: u32,
    linger: Duration,
}

impl Plan {
    fn new(random: &mut fastrand::Rng, is_first: bool) -> Self {
        let kind = random.u8(0..4);
        let linger = random.u32(0..u32::try_from(LINGER.as_micros()).unwrap_or(1));
        Self {
            // The first one makes the store.
            is_locked: kind == 0 && !is_first,
            delay: if kind == 1 { DELAY } else { Duration::ZERO },
            answers: random.u32(1..=ANSWERS),
            linger: Duration::from_micros(linger.into()),
        }
    }
}

/// How a life ended.
enum End {
    Killed,
    /// It never took a row, and what it said.
    NotStarted(String),
}

struct Producer<'a> {
    trial: &'a Trial,
    dir: PathBuf,
    witness: Witness,
    report: &'a mut Kills,
    /// The next row that was never handed in.
    next: u64,
    /// Handed in, not acknowledged, and to be handed in again.
    again: VecDeque<u64>,
    /// Handed to the process that lives, and not answered.
    outstanding: BTreeSet<u64>,
    /// Refused since the last one that was acknowledged.
    refusals: u32,
    /// Acknowledged, and not in the store when it was looked at last.
    unseen: BTreeSet<u64>,
}

/// Kills as often as the trial says.
pub(super) fn run(trial: &Trial, dir: &Path, report: &mut Kills) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(trial.seed);
    let mut producer = Producer {
        trial,
        dir: dir.to_path_buf(),
        witness: Witness::new(dir.join(STORE)),
        report,
        next: 0,
        again: VecDeque::new(),
        outstanding: BTreeSet::new(),
        refusals: 0,
        unseen: BTreeSet::new(),
    };
    let (mut kills, mut failures) = (0, 0);
    while kills < trial.kills && !trial.is_over() {
        let plan = Plan::new(&mut random, producer.next == 0);
        match producer.life(plan)? {
            End::Killed => (kills, failures) = (kills + 1, 0),
            End::NotStarted(why) => {
                producer.report.failed_starts += 1;
                failures += 1;
                if failures >= PATIENCE {
                    bail!("the process does not start: {why}");
                }
            }
        }
    }
    if trial.is_stopped() {
        return Ok(());
    }
    producer.last_life()?;
    producer.compare()
}

impl Producer<'_> {
    /// A life from its start to its kill.
    fn life(&mut self, plan: Plan) -> anyhow::Result<End> {
        let lock = plan.is_locked.then(|| self.witness.lock()).transpose()?;
        let mut life = Life::start(&self.dir, self.trial.queue, plan.delay)?;
        if life.hear(self.trial) != Heard::Ready {
            life.kill()?;
            return Ok(End::NotStarted(life.complaint()));
        }
        self.hand_in(&life);
        let mut answers = 0;
        while answers < plan.answers {
            match life.hear(self.trial) {
                Heard::Acknowledged(number) => {
                    self.acknowledged(number)?;
                    answers += 1;
                }
                other => self.other(other, &life)?,
            }
            self.hand_in(&life);
        }
        std::thread::sleep(plan.linger);
        life.kill()?;
        loop {
            match life.hear(self.trial) {
                Heard::End => break,
                Heard::Acknowledged(number) => self.acknowledged(number)?,
                other => self.other(other, &life)?,
            }
        }
        life.end()?;
        drop(lock);
        self.killed(plan)?;
        Ok(End::Killed)
    }

    /// Keeps the process in rows: first those that were not acknowledged before.
    fn hand_in(&mut self, life: &Life) {
        while self.outstanding.len() < OUTSTANDING {
            let number = self.again.pop_front().unwrap_or_else(|| {
                self.next += 1;
                self.next - 1
            });
            self.outstanding.insert(number);
            life.send(number);
        }
    }

    fn acknowledged(&mut self, number: u64) -> anyhow::Result<()> {
        if !self.outstanding.remove(&number) {
            bail!("row {number} was acknowledged and never handed in, or twice");
        }
        self.report.acknowledged += 1;
        self.refusals = 0;
        self.unseen.insert(number);
        Ok(())
    }

    fn other(&mut self, heard: Heard, life: &Life) -> anyhow::Result<()> {
        match heard {
            Heard::Refused(number, why) if self.outstanding.remove(&number) => {
                self.report.refused += 1;
                self.refusals += 1;
                if self.refusals > REFUSALS {
                    bail!(
                        "the process takes no rows ({why}): {}; the test needs a disk with room",
                        life.complaint()
                    );
                }
                self.again.push_back(number);
                Ok(())
            }
            Heard::End => bail!("the process ended by itself: {}", life.complaint()),
            Heard::Stopped => bail!("it was stopped"),
            Heard::Silence => bail!("the process hangs: {}", life.complaint()),
            other => bail!("the process said something odd: {other:?}"),
        }
    }

    /// Takes down what the kill has met.
    fn killed(&mut self, plan: Plan) -> anyhow::Result<()> {
        self.report.killed += 1;
        if plan.is_locked {
            self.report.locked += 1;
        }
        if !self.outstanding.is_empty() {
            self.report.between += 1;
        }
        self.again.extend(std::mem::take(&mut self.outstanding));
        self.look()?;
        let backlog = self.unseen.len() as u64;
        if backlog > 0 {
            self.report.with_backlog += 1;
            self.report.largest_backlog = self.report.largest_backlog.max(backlog);
        }
        Ok(())
    }

    /// Forgets what is in the store by now.
    fn look(&mut self) -> anyhow::Result<()> {
        if let Some(first) = self.unseen.first() {
            for seen in self.witness.rows(*first)? {
                if let Some(number) = seen.number {
                    self.unseen.remove(&number);
                }
            }
        }
        Ok(())
    }

    /// Hands in what was not acknowledged, and lets the process bring everything into the store.
    fn last_life(&mut self) -> anyhow::Result<()> {
        let mut life = Life::start(&self.dir, self.trial.queue, Duration::ZERO)?;
        if life.hear(self.trial) != Heard::Ready {
            self.report.failed_starts += 1;
            bail!("the process does not start: {}", life.complaint());
        }
        while let Some(number) = self.again.pop_front() {
            self.outstanding.insert(number);
            life.send(number);
        }
        while !self.outstanding.is_empty() {
            match life.hear(self.trial) {
                Heard::Acknowledged(number) => self.acknowledged(number)?,
                Heard::Refused(number, why) => bail!("row {number} is refused: {why}"),
                other => self.other(other, &life)?,
            }
        }
        life.close();
        match life.hear(self.trial) {
            Heard::Done => {}
            other => self.other(other, &life)?,
        }
        if !life.end()? {
            bail!("the process did not end well: {}", life.complaint());
        }
        Ok(())
    }

    /// Compares the store with what was acknowledged: everything up to the last number.
    fn compare(&mut self) -> anyhow::Result<()> {
        let next = usize::try_from(self.next).context("too many rows")?;
        let mut times = vec![0_u32; next];
        for seen in self.witness.rows(0)? {
            let place = seen.number.and_then(|n| usize::try_from(n).ok());
            match place.and_then(|n| times.get_mut(n)) {
                None => self.report.strange += 1,
                Some(times) => {
                    *times += 1;
                    self.report.changed += u64::from(!seen.is_right);
                }
            }
        }
        for times in times {
            match times {
                0 => self.report.missing += 1,
                1 => self.report.stored += 1,
                _ => self.report.doubled += 1,
            }
        }
        self.witness.check()
    }
}
