//! Background jobs over stored data: the [`seal`](sealer), which folds a partition's log rows into its packed index,
//! [`checkpoint`]s of the sealed log in the bucket, and the [expiry of producers](producer_expiry).
//!
//! A job is a plan (a pure function of metadata), a transfer, and a swap: one metadata transaction that fails if its
//! ground changed. Jobs are safe to run twice, by any agent; which one does what is a hint ([`share`]).

pub mod checkpoint;
pub mod producer_expiry;
pub mod sealer;
pub mod share;
