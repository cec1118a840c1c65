//! The write path: queue, workers, retries, circuit breaker and dead letters.

pub mod dead_letter;
