//! What a process takes from its machine without asking an argument: the clock and chance, replaced for the process
//! that runs a seed.
//!
//! The standard library seeds its hash maps, and tokio the order in which it wakes those that wait for the same thing,
//! from the system's `getrandom`; libraries such as the cache read the system's clock. The two functions below stand in
//! front of the C library's. Switched off (in the runner, which measures real time) they pass on to the kernel.
//!
//! Deliberately absent: thread safety beyond atomics. A seed runs in a process of its own with one thread.
#![expect(unsafe_code, reason = "functions of the C library are replaced by their names")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static SIMULATED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static CHANCE: AtomicU64 = AtomicU64::new(0);

/// The wall clock of every run begins there: 2024-01-01T00:00:00Z.
pub const EPOCH_MS: i64 = 1_704_067_200_000;

/// From now on, for the rest of the process, clock and chance are those of `seed`.
pub fn simulate(seed: u64) {
    CHANCE.store(seed ^ 0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    NANOSECONDS.store(0, Ordering::Relaxed);
    SIMULATED.store(true, Ordering::Relaxed);
}

/// What the clock shows from now on, since the run's beginning.
pub fn set_elapsed(elapsed: std::time::Duration) {
    NANOSECONDS.store(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn next_chance() -> u64 {
    let mut bits = CHANCE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Stands in front of the C library's function.
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if !SIMULATED.load(Ordering::Relaxed) {
        // SAFETY: passed on as it came.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as libc::ssize_t };
    }
    // SAFETY: the caller says that there is room.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next_chance().to_le_bytes()[..chunk.len()]);
    }
    length as libc::ssize_t
}

/// Stands in front of the C library's function.
///
/// # Safety
/// `time` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    if !SIMULATED.load(Ordering::Relaxed) {
        // SAFETY: passed on as it came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int };
    }
    let is_wall_clock = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    // The monotonic clock doesn't begin at 0: whoever subtracts from it stays above.
    let begun_ms = if is_wall_clock { EPOCH_MS } else { 1_000_000_000 };
    let nanoseconds = NANOSECONDS.load(Ordering::Relaxed) as i64 + begun_ms * 1_000_000;
    let shown = libc::timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 };
    // SAFETY: the caller says that it can be written to.
    unsafe { time.write(shown) };
    0
}
