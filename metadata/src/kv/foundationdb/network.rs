//! The client library's network: one for a process, started once and stopped at the process's exit.
//!
//! The library's threads must not run while the process tears its globals down: [`stop_network`] is to be called before
//! the process exits. For exits that nobody prepares (a test's, `process::exit`), exit handlers do it. The C library runs
//! handlers and the destructors of globals in the reverse order of their registration, and the client library makes
//! globals as it goes, so a handler is registered anew with every store that is closed. The thread that exits has lost
//! its thread-locals by then, which the client library needs: so a thread of our own, the keeper, boots the network,
//! waits, and stops it when it is told to.

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use ::foundationdb::api::{FdbApiBuilder, NetworkAutoStop, NetworkBuilder};
use ::foundationdb::options::NetworkOption;
use parking_lot::Mutex;

use super::OpenError;

/// What is set once in a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkOptions {
    /// Certificates for clusters whose coordinators' addresses end in `:tls`.
    pub tls: TlsOptions,
    /// Where the client library writes its trace files; `None`: nowhere.
    pub trace_directory: Option<PathBuf>,
    /// Network threads of the client; 0 counts as 1. More than one needs `client_library`.
    pub client_threads: u32,
    /// The path of libfdb_c, which is loaded once more for each thread beyond the one that the process is linked
    /// with.
    pub client_library: Option<PathBuf>,
}

/// Certificates, as PEM files. What is `None` is looked for where FoundationDB's own variables (`FDB_TLS_...`) say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// The certificate chain.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The key's passphrase.
    pub key_password: Option<TlsPassword>,
    /// The certificate authorities that servers' certificates are checked against.
    pub authorities: Option<PathBuf>,
    /// What servers' certificates must say, in FoundationDB's own language, such as `Check.Valid=1,S.CN=fdb`.
    pub verify_peers: Option<String>,
}

/// A passphrase, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsPassword(pub String);

impl std::fmt::Debug for TlsPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What the network was started with, or why it couldn't be. It can't be tried a second time.
static BOOTED: OnceLock<Result<NetworkOptions, Refused>> = OnceLock::new();

/// Who stops the network.
static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

/// The thread that holds the network.
#[derive(Debug)]
struct Keeper {
    /// Dropped, it makes the thread stop the network and end.
    waits: SyncSender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Refused {
    option: Option<&'static str>,
    reason: String,
}

/// Starts the network unless it runs.
pub(super) fn boot(options: &NetworkOptions) -> Result<(), OpenError> {
    if options.client_threads > 1 && options.client_library.is_none() {
        let reason = "more than one needs the path of libfdb_c, to be loaded once more for each".to_owned();
        return Err(OpenError::Option { option: "the number of client threads", reason });
    }
    match BOOTED.get_or_init(|| start(options).map(|()| options.clone())) {
        Ok(booted) if booted == options => Ok(()),
        Ok(_) => Err(OpenError::NetworkDiffers),
        Err(Refused { option: Some(option), reason }) => {
            Err(OpenError::Option { option, reason: reason.clone() })
        }
        Err(Refused { option: None, reason }) => Err(OpenError::Network { reason: reason.clone() }),
    }
}

/// Stops the network, for good: every transaction of this process waits in vain from then on. To be called when the last
/// store was closed, before the process exits; does nothing where no store was ever opened, or the second time.
pub fn stop_network() {
    let keeper = KEEPER.lock().take();
    if let Some(keeper) = keeper {
        keeper.stop();
    }
}

fn start(options: &NetworkOptions) -> Result<(), Refused> {
    let refused = |error: ::foundationdb::FdbError| Refused { option: None, reason: error.to_string() };
    let mut builder = FdbApiBuilder::default().build().map_err(refused)?;
    for (name, option) in network_options(options)? {
        builder = set(builder, name, option)?;
    }
    *KEEPER.lock() = Some(Keeper::start(builder)?);
    stop_at_exit();
    Ok(())
}

impl Keeper {
    fn start(builder: NetworkBuilder) -> Result<Self, Refused> {
        let refused = |reason: String| Refused { option: None, reason };
        let (waits, waited) = sync_channel::<()>(1);
        let (tells, told) = sync_channel(1);
        let keep = move || match run(builder) {
            Ok(network) => {
                // Whoever started it waits for this.
                let _ = tells.send(Ok(()));
                // An error is the signal: nothing is ever sent.
                let _ = waited.recv();
                drop(network);
            }
            Err(error) => {
                let _ = tells.send(Err(error.to_string()));
            }
        };
        let thread = std::thread::Builder::new().name("foundationdb".to_owned()).spawn(keep);
        let thread = thread.map_err(|error| refused(error.to_string()))?;
        match told.recv() {
            Ok(Ok(())) => Ok(Self { waits, thread }),
            Ok(Err(reason)) => Err(refused(reason)),
            Err(_) => Err(refused("its thread ended".to_owned())),
        }
    }

    fn stop(self) {
        drop(self.waits);
        // If it panicked there is nothing left to stop.
        let _ = self.thread.join();
    }
}

fn set(
    builder: NetworkBuilder,
    name: &'static str,
    option: NetworkOption,
) -> Result<NetworkBuilder, Refused> {
    builder.set_option(option).map_err(|error| Refused { option: Some(name), reason: error.to_string() })
}

/// In the order in which FoundationDB wants them: the passphrase before the key.
fn network_options(options: &NetworkOptions) -> Result<Vec<(&'static str, NetworkOption)>, Refused> {
    let tls = &options.tls;
    let mut set = Vec::new();
    if let Some(password) = &tls.key_password {
        set.push(("the passphrase of the TLS key", NetworkOption::TLSPassword(password.0.clone())));
    }
    type Named<'a> = (&'static str, &'a Option<PathBuf>, fn(String) -> NetworkOption);
    let files: [Named<'_>; 5] = [
        ("the TLS certificate", &tls.certificate, NetworkOption::TLSCertPath),
        ("the TLS key", &tls.key, NetworkOption::TLSKeyPath),
        ("the TLS authorities", &tls.authorities, NetworkOption::TLSCaPath),
        ("the trace directory", &options.trace_directory, NetworkOption::TraceEnable),
        ("the client library", &options.client_library, NetworkOption::ExternalClientLibrary),
    ];
    for (name, path, option) in files {
        let Some(path) = path else { continue };
        let refused = |reason| Refused { option: Some(name), reason };
        // FoundationDB reads most of them later, and then says nothing.
        std::fs::metadata(path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        let path = path.to_str().ok_or_else(|| refused(format!("{} is not UTF-8", path.display())))?;
        set.push((name, option(path.to_owned())));
    }
    if let Some(pattern) = &tls.verify_peers {
        let pattern = pattern.clone().into_bytes();
        set.push(("the TLS verification pattern", NetworkOption::TLSVerifyPeers(pattern)));
    }
    if options.client_threads > 1 {
        let threads = i32::try_from(options.client_threads).unwrap_or(i32::MAX);
        set.push(("the number of client threads", NetworkOption::ClientThreadsPerVersion(threads)));
    }
    Ok(set)
}

#[expect(
    unsafe_code,
    reason = "the network must be stopped before the process exits, and is: see the module"
)]
fn run(builder: NetworkBuilder) -> Result<NetworkAutoStop, ::foundationdb::FdbError> {
    // SAFETY: what this returns has to be dropped before the process exits. The keeper's thread drops it when the exit
    // handler asks for it, and the handler waits for that.
    unsafe { builder.boot() }
}

#[expect(unsafe_code, reason = "a function of the C library, which is always there")]
pub(super) fn stop_at_exit() {
    // SAFETY: this is its declaration in the C standard (7.22.4.2), and it is safe to call with any function.
    unsafe extern "C" {
        safe fn atexit(handler: extern "C" fn()) -> c_int;
    }
    extern "C" fn stop() {
        stop_network();
    }
    assert_eq!(atexit(stop), 0, "an exit handler can be registered");
}
