//! The network faces of the market data store: rows in over HTTP, and what Prometheus scrapes.
//!
//! This crate is *not* a place for the write path: it reads what producers send, hands it in to a
//! coordinator, and says what became of it; it decides nothing about records.
//!
//! | module | is |
//! |---|---|
//! | `listen` | connections: how many, how slow, how they end |
//! | `app` | what requests share, and which path leads where |
//! | `lane` | one kind's way into the store |
//! | `intake` | `POST /v1/KIND` |
//! | `pressure` | how full the queues are, how fast they drain, what a producer had better do |
//! | `health` | `/livez`, `/readyz` |
//! | [`metrics`] | `/metrics` |
//! | `problem` | every reason why a request is not done |

mod app;
mod health;
mod intake;
mod lane;
mod listen;
pub mod metrics;
mod pressure;
mod problem;

pub use app::{App, AppOptions, Limits};
pub use intake::Tickets;
pub use lane::{Lane, Lanes, MarketRecord, Revisions};
pub use listen::{ListenOptions, serve};
