//! The network faces of the market data store. So far one: the metrics that Prometheus scrapes.
//!
//! This crate is *not* a place for the write path: it shows what a coordinator says and hands in
//! what producers send, and decides nothing about records.

pub mod metrics;
