//! FoundationDB over TLS: certificates of an authority of the test's own. The client library takes its certificates
//! once in a process, so this test runs itself again as each of its clients.
#![cfg(feature = "foundationdb")]

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use penstock_metadata::kv::foundationdb::{
    FoundationDbOptions, FoundationDbStore, NetworkOptions, TlsOptions,
};
use penstock_metadata::kv::{Isolation, Priority, Store, StoreError, WriteConflict};

#[path = "support/fdbserver.rs"]
mod fdbserver;

use fdbserver::{FdbServer, answers, runtime};

const NAME: &str = "clients_of_the_right_authority_are_served_and_others_told";
/// Set for the runs as a client: the cluster file, the directory of certificates, and the authority to trust.
const CLIENT: &str = "PENSTOCK_TEST_TLS_CLIENT";

#[test]
fn clients_of_the_right_authority_are_served_and_others_told() {
    if let Some(settings) = std::env::var_os(CLIENT) {
        return client(settings.to_str().expect("text"));
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    if let Err(reason) = make_certificates(directory.path()) {
        return println!("skipped: foundationdb, TLS: {reason}");
    }
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let certificates = [
        ("--tls-certificate-file", path("server.pem")),
        ("--tls-key-file", path("server.key")),
        ("--tls-ca-file", path("ours.pem")),
    ];
    let certificates: Vec<String> =
        certificates.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let server = match FdbServer::start_with_tls(&certificates) {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, TLS: {reason}"),
    };
    let cluster_file = server.cluster_file();
    for authority in ["ours", "theirs"] {
        let settings =
            [cluster_file.to_str().expect("text"), directory.path().to_str().expect("text"), authority];
        let run = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", NAME, "--nocapture"])
            .env(CLIENT, settings.join("\n"))
            .output()
            .expect("it runs");
        assert!(run.status.success(), "a client that trusts {authority}: {}", told(&run));
        assert!(told(&run).contains("1 passed"), "the client ran: {}", told(&run));
    }
}

fn told(run: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
}

/// A client with a certificate of the server's authority, that trusts `ours` or `theirs`.
fn client(settings: &str) {
    let mut settings = settings.lines();
    let mut setting = || settings.next().expect("a setting");
    let (cluster_file, directory, authority) = (setting(), Path::new(setting()), setting());
    let tls = TlsOptions {
        certificate: Some(directory.join("client.pem")),
        key: Some(directory.join("client.key")),
        authorities: Some(directory.join(format!("{authority}.pem"))),
        ..TlsOptions::default()
    };
    let options = FoundationDbOptions {
        network: NetworkOptions { tls, ..NetworkOptions::default() },
        ..FoundationDbOptions::new(cluster_file.into())
    };
    let store = FoundationDbStore::open(&options).expect("the store opens");
    runtime().block_on(async {
        if authority == "ours" {
            answers(&*store).await;
            let mut transaction = store.begin(Priority::Default);
            transaction.set(b"a", b"by TLS", WriteConflict::Yes);
            transaction.commit().await.expect("a commit");
            let read = store.begin(Priority::Default).get(b"a", Isolation::Snapshot).await;
            assert_eq!(read.expect("a read").as_deref(), Some(&b"by TLS"[..]));
            return;
        }
        let begun = tokio::time::Instant::now();
        let refused = store.begin(Priority::Default).read_version().await.expect_err("a stranger");
        assert!(begun.elapsed() < options.timeout + Duration::from_secs(5), "in time");
        assert!(refused.is_retryable(), "certificates can be renewed while agents run");
        let StoreError::Unavailable { reason } = refused else { panic!("{refused}") };
        assert!(reason.contains("TLS") && reason.contains("authorities"), "{reason}");
    });
}

/// Two authorities, `ours` and `theirs`, and certificates of a server and a client of ours.
fn make_certificates(directory: &Path) -> Result<(), String> {
    for authority in ["ours", "theirs"] {
        let (key, pem) = (format!("{authority}.key"), format!("{authority}.pem"));
        let name = format!("/CN={authority}");
        openssl(
            directory,
            &[
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &name, "-keyout",
                &key, "-out", &pem,
            ],
        )?;
    }
    for name in ["server", "client"] {
        let (key, request, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let subject = format!("/CN={name}");
        openssl(
            directory,
            &[
                "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out",
                &request,
            ],
        )?;
        openssl(
            directory,
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ours.pem",
                "-CAkey",
                "ours.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-out",
                &pem,
            ],
        )?;
    }
    Ok(())
}

fn openssl(directory: &Path, arguments: &[&str]) -> Result<(), String> {
    match Command::new("openssl").args(arguments).current_dir(directory).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => panic!("openssl {arguments:?}: {}", told(&output)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("there is no openssl on PATH".to_owned()),
        Err(error) => panic!("openssl: {error}"),
    }
}
