//! The server over real sockets, with handlers that do what the request says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::api::Routed;
use crate::api::context::RequestContext;
use crate::wire::{FrameDeadline, RequestHeader};

/// Everything here is done in far less time, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first byte of a request says what becomes of it; the second names the gate that it waits for.
#[derive(Debug, Default)]
struct Obedient {
    gates: Mutex<HashMap<u8, watch::Sender<bool>>>,
    routed: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Obedient {
    fn gate(&self, name: u8) -> watch::Sender<bool> {
        self.gates.lock().entry(name).or_insert_with(|| watch::channel(false).0).clone()
    }

    fn open(&self, name: u8) {
        self.gate(name).send_replace(true);
    }
}

impl Service for Obedient {
    fn examine(&self, header: &RequestHeader<'_>, body: &[u8]) -> Result<Examined, Refusal> {
        if header.api_key != 12 || body.is_empty() {
            return Err(Refusal::UnknownApi { key: header.api_key });
        }
        Ok(Examined::Fit { decoded_bytes: 100 })
    }

    fn route(&self, _key: i16, context: RequestContext, body: Bytes) -> Result<Routed, Refusal> {
        self.routed.fetch_add(1, SeqCst);
        let (order, gate) = (body[0], body.get(1).copied().unwrap_or(0));
        let mut opened = self.gate(gate).subscribe();
        let drops = CountDrop(Arc::clone(&self.dropped));
        let echo = async move {
            opened.wait_for(|open| *open).await.expect("the gate outlives the test");
            drop(drops);
            Answer::from_frame(&context, Frame::from_body(&context, 0, [body]))
        };
        Ok(match order {
            b'i' => Routed::InOrder(Box::pin(echo)),
            b'l' => Routed::Admit(Box::pin(async { PendingAnswer::Later(Box::pin(echo)) })),
            b'w' => Routed::Concurrent(Box::pin(echo)),
            b'n' => Routed::Admit(Box::pin(async { PendingAnswer::Ready(Answer::Nothing) })),
            b'c' => Routed::Admit(Box::pin(async { PendingAnswer::Ready(Answer::Close) })),
            b'p' => Routed::InOrder(Box::pin(async { panic!("as told") })),
            _ => return Err(Refusal::UnknownApi { key: 12 }),
        })
    }
}

struct Running {
    address: SocketAddr,
    service: Arc<Obedient>,
    stats: Arc<ServerStats>,
    stop: CancellationToken,
    task: JoinHandle<Stopped>,
}

impl Running {
    fn start(limits: Limits) -> Self {
        let listener = listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = Listener::local_addr(&listener).expect("bound");
        let (service, stats, stop) =
            (Arc::new(Obedient::default()), Arc::new(ServerStats::default()), CancellationToken::new());
        // Gate 0 is open.
        service.open(0);
        let task = tokio::spawn(run::<TcpListener, _>(
            listener,
            Arc::clone(&service),
            limits,
            Arc::clone(&stats),
            stop.clone(),
        ));
        Self { address, service, stats, stop, task }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.expect("the server listens"))
    }

    async fn stop(self) -> Stopped {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("in time").expect("no panic")
    }

    fn closed(&self, why: Closed) -> u64 {
        let closed = self.stats.snapshot().closed;
        closed.into_iter().find(|(label, _)| *label == why.label()).expect("a reason").1
    }

    async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            penstock_types::pause(Duration::from_millis(2)).await;
        }
    }
}

struct Client(TcpStream);

fn request(number: i32, body: &[u8]) -> Vec<u8> {
    let head = [&[0, 12, 0, 0][..], &number.to_be_bytes(), &[0, 2, b'm', b'e']].concat();
    [&((head.len() + body.len()) as i32).to_be_bytes(), &head[..], body].concat()
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the server reads");
    }

    /// The next answer's number and body; `None` at the end.
    async fn receive(&mut self) -> Option<(i32, Vec<u8>)> {
        timeout(PATIENCE, async {
            let length = self.0.read_u32().await.ok()?;
            let number = self.0.read_i32().await.expect("a whole answer");
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).await.expect("a whole answer");
            Some((number, body))
        })
        .await
        .expect("an answer or the end in time")
    }
}

fn quick() -> Limits {
    Limits { drain: Duration::from_millis(300), ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Running::start(quick());
    let mut client = server.connect().await;
    let orders: [&[u8]; 7] = [b"l\x01", b"w\x02", b"l\x03", b"i\x00", b"n", b"w\x04", b"i\x00"];
    let pipelined: Vec<u8> =
        orders.iter().zip(0..).flat_map(|(body, number)| request(number, body)).collect();
    client.send(&pipelined).await;
    server.until("all requests are started", |server| server.service.routed.load(SeqCst) == 7).await;
    for gate in [4, 3, 2, 1] {
        server.service.open(gate);
    }
    for (body, number) in orders.iter().zip(0..) {
        if body[0] != b'n' {
            assert_eq!(client.receive().await, Some((number, body.to_vec())));
        }
    }
    assert_eq!(server.stop().await, Stopped { cut_off: 0 });
}

/// A request that is answered in order holds back those behind it.
#[tokio::test]
async fn requests_in_order_wait_for_one_another() {
    let server = Running::start(quick());
    let mut client = server.connect().await;
    client.send(&[request(1, b"i\x01"), request(2, b"i\x00")].concat()).await;
    server.until("the first is started", |server| server.service.routed.load(SeqCst) == 1).await;
    penstock_types::pause(Duration::from_millis(50)).await;
    assert_eq!(server.service.routed.load(SeqCst), 1);
    server.service.open(1);
    assert_eq!(client.receive().await.map(|answer| answer.0), Some(1));
    assert_eq!(client.receive().await.map(|answer| answer.0), Some(2));
}

#[tokio::test]
async fn no_more_requests_are_read_than_may_be_in_flight() {
    let server = Running::start(Limits { in_flight: 4, ..quick() });
    let mut client = server.connect().await;
    let many: Vec<u8> = (0..100).flat_map(|number| request(number, b"l\x01")).collect();
    client.send(&many).await;
    server.until("four are started", |server| server.service.routed.load(SeqCst) == 4).await;
    penstock_types::pause(Duration::from_millis(50)).await;
    assert_eq!(server.service.routed.load(SeqCst), 4);
    server.service.open(1);
    for number in 0..100 {
        assert_eq!(client.receive().await.map(|answer| answer.0), Some(number));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_open_requests_along() {
    let server = Running::start(quick());
    let mut client = server.connect().await;
    client.send(&[request(1, b"w\x01"), request(2, b"w\x01"), request(3, b"l\x01")].concat()).await;
    server.until("all are started", |server| server.service.routed.load(SeqCst) == 3).await;
    assert_eq!(server.service.dropped.load(SeqCst), 0);
    drop(client);
    server.until("all are dropped", |server| server.service.dropped.load(SeqCst) == 3).await;
    server.until("the end is counted", |server| server.closed(Closed::ByClient) == 1).await;
    assert_eq!(server.stats.snapshot().connections, 0);
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection_behind_the_answers_before() {
    let garbage: [&[u8]; 5] = [
        &[0xFF; 4],
        &[0x7F, 0xFF, 0xFF, 0xFF],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
    ];
    let server = Running::start(quick());
    for (bytes, round) in garbage.iter().zip(1..) {
        let mut client = server.connect().await;
        client.send(&[&request(1, b"l\x00")[..], bytes].concat()).await;
        assert_eq!(client.receive().await.map(|answer| answer.0), Some(1));
        assert_eq!(client.receive().await, None);
        server.until("it is counted", |server| server.closed(Closed::Refused) == round).await;
    }
    let mut client = server.connect().await;
    // What stands behind it and is never answered doesn't keep it open.
    let behind = [request(3, b"l\x02"), request(4, b"i\x00")].concat();
    client.send(&[request(1, b"l\x01"), request(2, b"c"), behind].concat()).await;
    server.until("the end was asked for", |server| server.service.routed.load(SeqCst) == 9).await;
    server.service.open(1);
    assert_eq!(client.receive().await.map(|answer| answer.0), Some(1));
    assert_eq!(client.receive().await, None);
    server.until("it is counted", |server| server.closed(Closed::ByHandler) == 1).await;
}

#[tokio::test]
async fn slow_and_idle_clients_are_closed() {
    let frame = FrameDeadline {
        base: Duration::from_millis(150),
        slowest_bytes_per_second: 1 << 30,
        ..FrameDeadline::default()
    };
    let server = Running::start(Limits { idle: Duration::from_millis(300), frame, ..quick() });
    let mut idle = server.connect().await;
    let mut slow = server.connect().await;
    let mut busy = server.connect().await;
    busy.send(&request(7, b"w\x01")).await;
    slow.send(&request(1, b"i\x00")[..6]).await;
    assert_eq!(slow.receive().await, None);
    assert_eq!(server.closed(Closed::Idle), 0);
    assert_eq!(idle.receive().await, None);
    server
        .until("both are counted", |server| {
            server.closed(Closed::Idle) == 1 && server.closed(Closed::SlowFrame) == 1
        })
        .await;
    // A request that takes longer than a client may be idle.
    penstock_types::pause(Duration::from_millis(300)).await;
    server.service.open(1);
    assert_eq!(busy.receive().await.map(|answer| answer.0), Some(7));
    assert_eq!(busy.receive().await, None);
}

/// A client that doesn't take its answers is closed, and makes the server hold no more than has begun.
#[tokio::test]
async fn a_client_that_takes_no_answers_is_closed() {
    let server = Running::start(Limits { idle: Duration::from_millis(300), ..quick() });
    let mut client = server.connect().await;
    let large = [b"i\x00", &vec![b'x'; 1 << 20][..]].concat();
    let writing = tokio::spawn(async move {
        for number in 0..100 {
            if client.0.write_all(&request(number, &large)).await.is_err() {
                break;
            }
        }
        client
    });
    server.until("it is closed", |server| server.closed(Closed::Idle) == 1).await;
    assert!(server.service.routed.load(SeqCst) < 90);
    drop(timeout(PATIENCE, writing).await.expect("the client notices").expect("no panic"));
}

#[tokio::test]
async fn connections_are_bounded() {
    let server = Running::start(Limits { connections: 50, ..quick() });
    let mut clients = Vec::new();
    for number in 0..50 {
        let mut client = server.connect().await;
        client.send(&request(number, b"i\x00")).await;
        assert_eq!(client.receive().await.map(|answer| answer.0), Some(number));
        clients.push(client);
    }
    assert_eq!(server.connect().await.receive().await, None);
    assert_eq!((server.closed(Closed::TooMany), server.stats.snapshot().connections), (1, 50));
    drop(clients.pop());
    server.until("a place is free", |server| server.stats.snapshot().connections == 49).await;
    let mut client = server.connect().await;
    client.send(&request(1, b"i\x00")).await;
    assert!(client.receive().await.is_some());
}

#[tokio::test]
async fn connections_of_an_address_are_bounded() {
    let local = "127.0.0.1".parse().expect("an address");
    let per_address = AddressLimits { each: 0, overrides: [(local, 3)].into() };
    let server = Running::start(Limits { per_address, ..quick() });
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = server.connect().await;
        client.send(&request(number, b"i\x00")).await;
        assert_eq!(client.receive().await.map(|answer| answer.0), Some(number));
        clients.push(client);
    }
    assert_eq!(server.connect().await.receive().await, None);
    assert_eq!((server.closed(Closed::TooManyOfAddress), server.closed(Closed::TooMany)), (1, 0));
    drop(clients.pop());
    server.until("a place is free", |server| server.stats.snapshot().connections == 2).await;
    let mut client = server.connect().await;
    client.send(&request(1, b"i\x00")).await;
    assert!(client.receive().await.is_some());

    let server =
        Running::start(Limits { per_address: AddressLimits { each: 0, overrides: [].into() }, ..quick() });
    assert_eq!(server.connect().await.receive().await, None);
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Forty clients announce 100 MiB each and send a little of it: nobody's memory is taken, and when their time is up
/// they are closed.
#[tokio::test]
async fn announced_frames_take_no_memory() {
    let frame = FrameDeadline {
        base: Duration::from_millis(200),
        slowest_bytes_per_second: u32::MAX,
        ..FrameDeadline::default()
    };
    let server = Running::start(Limits { frame, ..quick() });
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = server.connect().await;
        client.send(&(100_i32 << 20).to_be_bytes()).await;
        client.send(&[1; 1000]).await;
        clients.push(client);
    }
    let mut honest = server.connect().await;
    honest.send(&request(5, b"i\x00")).await;
    assert_eq!(honest.receive().await.map(|answer| answer.0), Some(5));
    assert!(resident_bytes() < before + (64 << 20), "{} MiB", (resident_bytes() - before) >> 20);
    server.until("all claims ran out", |server| server.closed(Closed::SlowFrame) == 40).await;
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    let server = Running::start(quick());
    let client = server.connect().await;
    let body: Vec<u8> =
        [b"w\x00".to_vec(), (0..30_000_000_u32).map(|at| ((at * 7) >> 3) as u8).collect()].concat();
    let (sent, number) = (request(3, &body), 3);
    let (mut read, mut write) = client.0.split();
    let writing = async { write.write_all(&sent.repeat(3)).await.expect("written") };
    let reading = async {
        for _ in 0..3 {
            let mut answer = vec![0; 8 + body.len()];
            read.read_exact(&mut answer).await.expect("a whole answer");
            assert_eq!(answer[4..8], i32::to_be_bytes(number));
            assert!(answer[8..] == body);
        }
    };
    timeout(PATIENCE, async { tokio::join!(writing, reading) }).await.expect("in time");
}

#[tokio::test]
async fn open_requests_are_answered_when_the_server_stops() {
    let server = Running::start(Limits { drain: PATIENCE, ..Limits::default() });
    let (mut client, mut idle) = (server.connect().await, server.connect().await);
    client.send(&[request(1, b"l\x01"), request(2, b"w\x01")].concat()).await;
    idle.send(&request(0, b"i\x00")).await;
    assert!(idle.receive().await.is_some());
    server.until("both are started", |server| server.service.routed.load(SeqCst) == 3).await;
    server.stop.cancel();
    assert_eq!(idle.receive().await, None);
    client.send(&request(3, b"i\x00")).await;
    server.service.open(1);
    assert_eq!(client.receive().await.map(|answer| answer.0), Some(1));
    assert_eq!(client.receive().await.map(|answer| answer.0), Some(2));
    assert_eq!(client.receive().await, None);
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.service.routed.load(SeqCst), 3);
    assert_eq!(server.stop().await, Stopped { cut_off: 0 });
}

#[tokio::test]
async fn a_stop_is_bounded() {
    let server = Running::start(quick());
    let mut clients = Vec::new();
    for body in [b"i\x01", b"l\x01", b"w\x01"] {
        let mut client = server.connect().await;
        client.send(&request(1, body)).await;
        clients.push(client);
    }
    server.until("all are started", |server| server.service.routed.load(SeqCst) == 3).await;
    let start = Instant::now();
    let stats = Arc::clone(&server.stats);
    assert_eq!(server.stop().await, Stopped { cut_off: 0 });
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(stats.snapshot().connections, 0);
    for mut client in clients {
        assert_eq!(client.receive().await, None);
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_not_survived() {
    let server = Running::start(quick());
    let mut client = server.connect().await;
    client.send(&request(1, b"p")).await;
    let ended = timeout(PATIENCE, server.task).await.expect("in time");
    assert!(ended.expect_err("it panicked").is_panic());
}
