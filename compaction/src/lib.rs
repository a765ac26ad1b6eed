//! Background jobs over stored data: the [`seal`](sealer), which folds a partition's log rows into its packed index,
//! [`checkpoint`]s of the sealed log in the bucket, the [expiry of producers](producer_expiry), [`retention`], [`merge`], log compaction ([`compact`]), the
//! [collection](collector) of what nothing refers to any more, and the [`sweeper`] of what was never committed. And the check
//! of all that ([`fsck`]), and what is made of a bucket alone ([`salvage`]), for operators.
//!
//! A job is a plan (a pure function of metadata), a transfer, and a swap: one metadata transaction that fails if its
//! ground changed. Jobs are safe to run twice, by any agent; which one does what is a hint ([`share`]).

mod again;
pub mod checkpoint;
pub mod collector;
pub mod compact;
pub mod facts;
pub mod fsck;
pub mod merge;
mod outputs;
mod pace;
pub mod producer_expiry;
mod ranges;
pub mod retention;
pub mod salvage;
pub mod sealer;
pub mod share;
pub mod sweeper;
#[cfg(test)]
mod testing;
pub mod turns;

use again::again;
