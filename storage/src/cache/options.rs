//! The cache's bounds. The agent fills these from its configuration.

use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// The cache's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Budget of what this agent wrote and of what readers near the end of the log loaded.
    pub tail_bytes: u64,
    /// Budget of what lagging readers loaded.
    pub lagging_bytes: u64,
    /// The size of a block; what is loaded is made of whole ones. 4 KiB to 16 MiB.
    pub block_bytes: u64,
    /// The largest request of a reader near the end of the log: missing neighbours are loaded together.
    pub tail_load_bytes: u64,
    /// The size of a lagging reader's requests.
    pub lagging_load_bytes: u64,
    /// How far ahead of a lagging reader is loaded; 0 for not at all.
    pub readahead_bytes: u64,
    /// Bytes of the loads under way for readers near the end of the log.
    pub tail_loading_bytes: u64,
    /// Bytes of the loads under way for lagging readers, readahead included.
    pub lagging_loading_bytes: u64,
    /// Blocks that are being loaded or wait for it; a read that needs more is refused.
    pub most_blocks_loading: usize,
    /// One load is given up after this long, its waiting for others included.
    pub load_timeout: Duration,
    /// Chunks of a written object that are shorter are copied together instead of pinning the buffer of the request
    /// that they came in, and costing a handle each. Copying costs about 0.4 CPU-seconds a GiB.
    pub copy_chunks_below: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            tail_bytes: 256 * MIB,
            lagging_bytes: 64 * MIB,
            block_bytes: MIB,
            tail_load_bytes: 8 * MIB,
            lagging_load_bytes: 8 * MIB,
            readahead_bytes: 8 * MIB,
            tail_loading_bytes: 32 * MIB,
            lagging_loading_bytes: 32 * MIB,
            most_blocks_loading: 4096,
            load_timeout: Duration::from_secs(20),
            copy_chunks_below: 4 * 1024,
        }
    }
}

impl CacheOptions {
    /// Whether the bounds make sense together; says what doesn't.
    pub fn check(&self) -> Result<(), String> {
        if !(4096..=16 * MIB).contains(&self.block_bytes) {
            return Err(format!("a block of {} bytes isn't between 4 KiB and 16 MiB", self.block_bytes));
        }
        let window = self.readahead_bytes.saturating_add(self.lagging_load_bytes);
        if self.readahead_bytes > 0 && self.lagging_bytes < window {
            return Err(format!(
                "lagging readers' {} bytes don't hold what one reads ahead",
                self.lagging_bytes
            ));
        }
        if self.lagging_loading_bytes < self.lagging_load_bytes {
            return Err(format!(
                "{} bytes of loads don't hold one of a lagging reader",
                self.lagging_loading_bytes
            ));
        }
        let blocks = (self.tail_load_bytes.max(self.lagging_load_bytes) / self.block_bytes) as usize;
        if self.most_blocks_loading < blocks.max(1) {
            return Err(format!("{} blocks don't hold one request", self.most_blocks_loading));
        }
        Ok(())
    }

    /// How many blocks `bytes` are, at least one.
    pub(super) fn blocks_in(&self, bytes: u64) -> u32 {
        u32::try_from(bytes / self.block_bytes).unwrap_or(u32::MAX).clamp(1, 1 << 20)
    }

    /// The number of the first block that begins at or behind `end`.
    pub(super) fn blocks_until(&self, end: u64) -> u32 {
        u32::try_from(end.div_ceil(self.block_bytes)).unwrap_or(u32::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_nonsense_does_not() {
        let fine = CacheOptions::default();
        assert_eq!(fine.check(), Ok(()));
        for wrong in [
            CacheOptions { block_bytes: 0, ..fine },
            CacheOptions { block_bytes: 1 << 40, ..fine },
            CacheOptions { lagging_bytes: MIB, ..fine },
            CacheOptions { lagging_loading_bytes: MIB, ..fine },
            CacheOptions { most_blocks_loading: 7, ..CacheOptions::default() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        CacheOptions { lagging_bytes: 0, readahead_bytes: 0, ..fine }
            .check()
            .expect("no budget, no readahead");
    }
}
