use std::io::Write;

use super::*;
use crate::kv::{Transaction, WriteConflict};

fn open_with(text: &str) -> Result<String, OpenError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    cluster_file(&FoundationDbOptions::new(file.path().to_owned())).map(|(path, _)| path)
}

#[test]
fn cluster_files_are_looked_at_before_use() {
    for text in [
        "local:abcdefgh@127.0.0.1:4690",
        "# made by hand\n\nmy_cluster:A1b2@10.0.0.1:4500:tls,10.0.0.2:4500:tls,[::1]:4500\n",
        "fdb:id@fdb-coordinator.example.org:4500\n",
    ] {
        let path = open_with(text).expect("a connection string");
        assert!(path.starts_with('/'), "{path}");
    }
    for text in
        ["", "\n# nothing\n", "127.0.0.1:4690", "a:b@", "a-b:c@h:1", ":b@h:1", "a:@h:1", "a:b@h:1\nc:d@h:1"]
    {
        let refused = open_with(text).expect_err(text);
        assert!(matches!(refused, OpenError::ClusterFile { .. }), "{refused}");
    }
    let absent = FoundationDbOptions::new(PathBuf::from("/nonexistent/fdb.cluster"));
    let refused = FoundationDbStore::open(&absent).expect_err("no file");
    assert!(refused.to_string().contains("/nonexistent/fdb.cluster"), "{refused}");
}

#[test]
fn options_are_checked_before_the_network_starts() {
    let mut options = FoundationDbOptions::new(PathBuf::from("/nonexistent/fdb.cluster"));
    options.tag = Some("a tag that is too long".to_owned());
    assert!(matches!(FoundationDbStore::open(&options), Err(OpenError::Option { .. })));
    let threads = NetworkOptions { client_threads: 2, ..NetworkOptions::default() };
    assert!(matches!(network::boot(&threads), Err(OpenError::Option { .. })));
}

#[test]
fn passphrases_are_not_shown() {
    let tls =
        TlsOptions { key_password: Some(network::TlsPassword("hush".to_owned())), ..TlsOptions::default() };
    assert!(!format!("{tls:?}").contains("hush"));
}

/// No transaction that this side lets through is refused by FoundationDB as too large.
#[tokio::test]
async fn sizes_are_never_counted_too_low() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    // Nobody needs to answer there: sizes are the client's business.
    file.write_all(b"test:nobody@127.0.0.1:1").expect("written");
    let store =
        FoundationDbStore::open(&FoundationDbOptions::new(file.path().to_owned())).expect("the store opens");
    let begin = || FoundationDbTransaction::begin(Arc::clone(&store.shared), Priority::Default);
    let key = vec![b'k'; 30];
    let range = || vec![b'a'; 20]..vec![b'b'; 25];
    let value = [7u8; 50];
    type Operation<'a> = (&'a str, Box<dyn Fn(&mut FoundationDbTransaction) + 'a>);
    for conflict in [WriteConflict::Yes, WriteConflict::No] {
        let operations: [Operation<'_>; 9] = [
            ("set", Box::new(|t| t.set(&key, &value, conflict))),
            ("stamped key", Box::new(|t| t.set_stamped_key(&key, b"suffix", &value, conflict))),
            ("stamped value", Box::new(|t| t.set_stamped_value(&key, &value, 3, conflict))),
            ("add", Box::new(|t| t.atomic_add(&key, 1, conflict))),
            ("max", Box::new(|t| t.atomic_max(&key, 1, conflict))),
            ("clear", Box::new(|t| t.clear(&key, conflict))),
            ("clear range", Box::new(|t| t.clear_range(range(), conflict))),
            ("read conflict", Box::new(|t| t.add_read_conflict(range()))),
            ("write conflict", Box::new(|t| t.add_write_conflict(range()))),
        ];
        for (name, operation) in operations {
            let mut transaction = begin();
            for _ in 0..10 {
                operation(&mut transaction);
            }
            let (ours, theirs) = (transaction.size(), transaction.native_size().await);
            assert!(ours >= theirs, "{name}, {conflict:?}: {ours} bytes here, {theirs} there");
            // Its estimate leaves clears out; the commit counts them.
            let near = theirs == 0 || ours < 3 * theirs + 100;
            assert!(near, "{name}, {conflict:?}: {ours} bytes here, {theirs} there");
        }
    }
}
