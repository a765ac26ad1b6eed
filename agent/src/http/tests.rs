use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::{Metrics, definitions};

async fn get_path(address: std::net::SocketAddr, path: &str) -> String {
    send(address, &format!("GET {path}"), "").await
}

async fn send(address: std::net::SocketAddr, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer is text");
    answer
}

#[tokio::test]
async fn health_and_metrics_are_served_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut metrics = Metrics::default();
    metrics.value(definitions::READY, || 1.0);
    let readiness = Arc::new(Readiness::default());
    let (sender, mut asked) = tokio::sync::mpsc::channel(4);
    let turns = Turns::new("tidy", "tidies up");
    let state = HttpState {
        metrics: Arc::new(metrics),
        readiness: Arc::clone(&readiness),
        broker: Weak::new(),
        controls: Controls { sender, can_abort: false },
        jobs: Arc::new([Arc::clone(&turns)]),
    };
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, state, stop.clone().cancelled_owned()));

    assert!(get_path(address, "/health/live").await.starts_with("HTTP/1.1 200"));
    let starting = get_path(address, "/health/ready").await;
    assert!(starting.starts_with("HTTP/1.1 503") && starting.contains("starting: opening"), "{starting}");

    let randomness = Arc::new(penstock_types::SeededRandomness::new(1));
    readiness.ready(penstock_metadata::kv::memory::MemoryStore::new(randomness));
    assert!(get_path(address, "/health/ready").await.starts_with("HTTP/1.1 200"));
    let metrics = get_path(address, "/metrics").await;
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("penstock_ready 1.0\n") && metrics.contains("# EOF"), "{metrics}");
    assert!(get_path(address, "/").await.contains("/health/ready"));
    assert!(get_path(address, "/nothing").await.starts_with("HTTP/1.1 404"));

    assert!(get_path(address, "/admin/drain").await.starts_with("HTTP/1.1 405"), "a link drains nobody");
    let cross = send(address, "POST /admin/drain", "Origin: http://elsewhere\r\n").await;
    assert!(cross.starts_with("HTTP/1.1 403"), "{cross}");
    assert!(send(address, "POST /admin/abort", "").await.starts_with("HTTP/1.1 404"));
    assert!(asked.try_recv().is_err());
    assert!(send(address, "POST /admin/drain", "").await.starts_with("HTTP/1.1 202"));
    assert_eq!(asked.try_recv(), Ok(Control::Drain));
    assert!(get_path(address, "/cluster").await.starts_with("HTTP/1.1 503"), "no services, no report");

    assert!(get_path(address, "/jobs").await.contains(r#""name":"tidy""#));
    let cross = send(address, "POST /admin/jobs/tidy/pause", "Origin: http://elsewhere\r\n").await;
    assert!(cross.starts_with("HTTP/1.1 403"), "{cross}");
    assert!(send(address, "POST /admin/jobs/tidy/pause?seconds=90", "").await.starts_with("HTTP/1.1 200"));
    assert!(turns.status().paused_for.is_some_and(|left| left.as_secs() >= 60));
    assert!(send(address, "POST /admin/jobs/tidy/resume", "").await.starts_with("HTTP/1.1 200"));
    assert!(turns.status().paused_for.is_none());
    let ran = send(address, "POST /admin/jobs/tidy/run", "").await;
    assert!(ran.starts_with("HTTP/1.1 202") && ran.contains(r#""turn":1"#), "{ran}");
    assert!(turns.next(std::time::Duration::from_secs(3_600)).await.is_asked());
    assert!(send(address, "POST /admin/jobs/tidy/up", "").await.starts_with("HTTP/1.1 404"));
    assert!(send(address, "POST /admin/jobs/untidy/run", "").await.starts_with("HTTP/1.1 404"));

    readiness.draining();
    let draining = get_path(address, "/health/ready").await;
    assert!(draining.starts_with("HTTP/1.1 503") && draining.contains("draining"), "{draining}");
    stop.cancel();
    server.await.expect("the server doesn't panic").expect("the server ends well");
}
