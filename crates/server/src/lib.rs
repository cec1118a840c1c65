//! The network faces of the market data store: rows in and out over HTTP, and what Prometheus scrapes.
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
//! | `pressure` | how full the queues are, how fast they drain, what a producer had better do; told when asked, by streams and to a webhook |
//! | `reads` | `GET /v1/KIND`, `/v1/latest`, `/v1/stats` |
//! | `books` | what a daemon says of itself and its store |
//! | `health` | `/livez`, `/readyz` |
//! | [`metrics`] | `/metrics` |
//! | `problem` | every reason why a request is not done |

mod app;
mod books;
mod health;
mod intake;
mod lane;
mod listen;
pub mod metrics;
mod pressure;
mod problem;
mod reads;

pub use app::{App, AppOptions, Limits};
pub use books::{books, counts, holdings};
pub use intake::Tickets;
pub use lane::{Lane, Lanes, MarketRecord, Revisions};
pub use listen::{ListenOptions, serve};
pub use pressure::webhook::{Webhook, WebhookChoice, WebhookError, WebhookOptions};
pub use reads::prices::write as write_prices;
