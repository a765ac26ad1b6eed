//! A seed in a process of its own: forked, so that each begins from the same state, and that a panic, a hang or a leak
//! is that seed's matter.
//!
//! Invariant: whoever forks has one thread.
#![expect(unsafe_code, reason = "fork, pipes and signals are the C library's")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// A child that runs something.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    pipe: File,
    begun: Instant,
    said: Vec<u8>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What it wrote.
    pub said: Vec<u8>,
    /// Why it did not end as it should, if so.
    pub died: Option<String>,
    /// Real time.
    pub took: Duration,
}

/// The real time.
#[expect(clippy::disallowed_methods, reason = "what seeds cost is measured in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Runs `work` in a child: it is given what the parent reads.
pub fn spawn(work: impl FnOnce(File)) -> std::io::Result<Child> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both were just opened, and nobody else has them.
    let (read, write) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    let _ = std::io::stdout().flush();
    // SAFETY: there is one thread, so no lock is held by another one.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            drop(read);
            work(write);
            let _ = std::io::stdout().flush();
            // SAFETY: ends the child without running what the parent registered.
            unsafe { libc::_exit(0) }
        }
        pid => {
            drop(write);
            Ok(Child { pid, pipe: read, begun: now(), said: Vec::new() })
        }
    }
}

/// Ends this process at once.
pub fn leave(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// Waits until one of `children` ends, takes it out and says how; one that takes longer than `most` is killed.
pub fn wait_any(children: &mut Vec<Child>, most: Duration) -> std::io::Result<(usize, Ended)> {
    loop {
        let mut polled: Vec<libc::pollfd> = children
            .iter()
            .map(|child| libc::pollfd { fd: child.pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: as many as are given.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 500) };
        for index in 0..children.len() {
            let child = &mut children[index];
            let took = child.begun.elapsed();
            if took > most {
                // SAFETY: it is a child of ours that was not waited for.
                unsafe { libc::kill(child.pid, libc::SIGKILL) };
                let mut child = children.remove(index);
                let _ = child.end();
                let died = Some(format!("took longer than {most:?} of real time"));
                return Ok((index, Ended { said: child.said, died, took }));
            }
            if polled[index].revents == 0 {
                continue;
            }
            let mut some = [0; 65_536];
            match child.pipe.read(&mut some)? {
                0 => {
                    let mut child = children.remove(index);
                    let died = child.end();
                    return Ok((index, Ended { said: child.said, died, took }));
                }
                count => child.said.extend_from_slice(&some[..count]),
            }
        }
    }
}

impl Child {
    fn end(&mut self) -> Option<String> {
        let mut status = 0;
        // SAFETY: it is a child of ours that was not waited for.
        unsafe { libc::waitpid(self.pid, &mut status, 0) };
        if libc::WIFEXITED(status) {
            let code = libc::WEXITSTATUS(status);
            return (code != 0).then(|| format!("ended with code {code}"));
        }
        Some(format!("ended by signal {}", libc::WTERMSIG(status)))
    }
}
