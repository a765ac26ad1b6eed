//! The network: connections between clients and agents, in memory.
//!
//! Each direction of a connection is a queue of pieces with the time at which each arrives: in order, late, cut into
//! other pieces than were written. What is cut is cut for both sides, or for one side at once and for the other when
//! it next says something. Between different connections nothing is in order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use penstock_agent::server::listener::{Listener, Stream};
use penstock_types::pause;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::agent::seam::Seam;
use crate::draw::Draw;
use crate::trace;

/// Bytes that a direction takes before its writer waits.
const CAPACITY: usize = 256 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// How the network is.
#[derive(Debug, Clone)]
pub struct Weather {
    /// How long a piece takes.
    pub latency: Range<Duration>,
    /// Of how many pieces one is late.
    pub late: f64,
    /// By how much.
    pub late_by: Range<Duration>,
    /// Of how many pieces one is the last: the connection is cut.
    pub cut: f64,
    /// Of how many reads one gets less than there is.
    pub piecemeal: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub fn fair() -> Self {
        let (latency, late_by) =
            (Duration::from_micros(200)..Duration::from_millis(2), Duration::ZERO..Duration::ZERO);
        Self { latency, late: 0.0, late_by, cut: 0.0, piecemeal: 0.0 }
    }
}

/// The network.
#[derive(Debug)]
pub struct Net {
    draw: Draw,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    listeners: BTreeMap<SocketAddr, Listening>,
    links: BTreeMap<u64, Link>,
    next_link: u64,
}

#[derive(Debug)]
struct Listening {
    seam: Arc<Seam>,
    queue: mpsc::Sender<(SimStream, SocketAddr)>,
}

#[derive(Debug)]
struct Link {
    agent: usize,
    pipes: [Weak<Pipe>; 2],
}

impl Net {
    /// A network without anybody.
    pub fn new(draw: Draw) -> Arc<Self> {
        let state = State {
            weather: Weather::fair(),
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
        };
        Arc::new(Self { draw, state: Mutex::new(state) })
    }

    /// The weather from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Listens for a life of an agent, instead of whoever listened there before.
    pub fn listen(self: &Arc<Self>, address: SocketAddr, seam: &Arc<Seam>) -> SimListener {
        let (queue, accepts) = mpsc::channel(BACKLOG);
        self.state.lock().listeners.insert(address, Listening { seam: Arc::clone(seam), queue });
        SimListener { address, accepts }
    }

    /// Connects a client to whoever listens at `address`.
    pub async fn connect(self: &Arc<Self>, client: IpAddr, address: SocketAddr) -> io::Result<SimStream> {
        let latency = self.latency();
        pause(latency * 2).await;
        let (ours, queued) = {
            let mut state = self.state.lock();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let Listening { seam, queue } = state.listeners.get(&address).ok_or_else(refused)?;
            if seam.is_dead() {
                return Err(refused());
            }
            let (seam, queue) = (Arc::clone(seam), queue.clone());
            let to_agent = Pipe::new(Arc::clone(self));
            let to_client = Pipe::new(Arc::clone(self));
            let number = state.next_link;
            state.next_link += 1;
            let peer = SocketAddr::new(client, 10_000 + (number % 50_000) as u16);
            let pipes = [Arc::downgrade(&to_agent), Arc::downgrade(&to_client)];
            state.links.insert(number, Link { agent: seam.agent(), pipes });
            if state.links.len().is_multiple_of(64) {
                state.links.retain(|_, link| link.pipes.iter().any(|pipe| pipe.strong_count() > 0));
            }
            let ours = SimStream::new(&to_client, &to_agent, None);
            let theirs = SimStream::new(&to_agent, &to_client, Some(seam));
            (ours, queue.try_send((theirs, peer)))
        };
        trace::count("connections");
        match queued {
            Ok(()) => Ok(ours),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Cuts connections of an agent: each with that probability.
    pub fn cut(&self, agent: usize, probability: f64) {
        let pipes: Vec<Arc<Pipe>> = {
            let state = self.state.lock();
            let of_agent =
                state.links.values().filter(|link| link.agent == agent && self.draw.chance(probability));
            of_agent.flat_map(|link| &link.pipes).filter_map(Weak::upgrade).collect()
        };
        pipes.iter().for_each(|pipe| pipe.reset());
    }

    /// Nobody listens for that life any more, and what it had is cut.
    pub fn forget(&self, seam: &Seam) {
        {
            let mut state = self.state.lock();
            state.listeners.retain(|_, listening| !std::ptr::eq(&*listening.seam, seam));
        }
        self.cut(seam.agent(), 2.0);
    }

    fn latency(&self) -> Duration {
        let weather = self.state.lock().weather.clone();
        let mut latency = self.draw.duration(weather.latency.clone());
        if self.draw.chance(weather.late) {
            trace::count("fault: late on the network");
            latency += self.draw.duration(weather.late_by);
        }
        latency
    }

    fn cuts(&self) -> bool {
        let cut = self.state.lock().weather.cut;
        self.draw.chance(cut)
    }

    fn piece(&self, most: usize) -> usize {
        let piecemeal = self.state.lock().weather.piecemeal;
        if most > 1 && self.draw.chance(piecemeal) { 1 + self.draw.index(most) } else { most }
    }
}

/// The address of an agent.
pub fn agent_address(agent: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + agent as u8)), 9092)
}

/// The address of a client.
pub fn client_address(client: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, (client / 250) as u8, (client % 250) as u8 + 1))
}

/// Where an agent's connections come from.
#[derive(Debug)]
pub struct SimListener {
    address: SocketAddr,
    accepts: mpsc::Receiver<(SimStream, SocketAddr)>,
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        match self.accepts.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct SimStream {
    read: SimRead,
    write: SimWrite,
}

impl SimStream {
    fn new(read: &Arc<Pipe>, write: &Arc<Pipe>, seam: Option<Arc<Seam>>) -> Self {
        let read = SimRead { pipe: Arc::clone(read), timer: None };
        Self { read, write: SimWrite { pipe: Arc::clone(write), seam } }
    }
}

impl Stream for SimStream {
    type Read = SimRead;
    type Write = SimWrite;

    fn split(self) -> (SimRead, SimWrite) {
        (self.read, self.write)
    }
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    net: Arc<Net>,
    state: Mutex<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last_at: Option<Instant>,
    /// The writer has said its last.
    ended: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl PipeState {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Pipe {
    fn new(net: Arc<Net>) -> Arc<Self> {
        Arc::new(Self { net, state: Mutex::default() })
    }

    fn reset(&self) {
        let mut state = self.state.lock();
        if !state.reset {
            state.reset = true;
            state.pieces.clear();
            state.wake();
        }
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.wake();
    }
}

/// What one side reads.
#[derive(Debug)]
pub struct SimRead {
    pipe: Arc<Pipe>,
    timer: Option<Pin<Box<Sleep>>>,
}

#[expect(clippy::disallowed_methods, reason = "the time at which a piece arrives")]
fn arrival(at: Instant) -> Sleep {
    tokio::time::sleep_until(at)
}

impl AsyncRead for SimRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let mut state = this.pipe.state.lock();
            if state.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let Some((at, piece)) = state.pieces.front_mut() else {
                if state.ended {
                    return Poll::Ready(Ok(()));
                }
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if *at > Instant::now() {
                let at = *at;
                state.reader = Some(cx.waker().clone());
                drop(state);
                let timer = this.timer.get_or_insert_with(|| Box::pin(arrival(at)));
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
                std::task::ready!(timer.as_mut().poll(cx));
                continue;
            }
            let most = this.pipe.net.piece(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece[..most]);
            piece.advance(most);
            if piece.is_empty() {
                state.pieces.pop_front();
            }
            state.bytes -= most;
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl Drop for SimRead {
    fn drop(&mut self) {
        // What is still written to it is answered with a reset.
        self.pipe.reset();
    }
}

/// What one side writes.
#[derive(Debug)]
pub struct SimWrite {
    pipe: Arc<Pipe>,
    seam: Option<Arc<Seam>>,
}

impl AsyncWrite for SimWrite {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.state.lock();
        if state.reset || state.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.bytes >= CAPACITY {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let operation = match &self.seam {
            Some(seam) => match seam.operation("socket") {
                Some(operation) => Some(operation),
                None => return Poll::Pending,
            },
            None => None,
        };
        let taken = bytes.len().min(CAPACITY);
        if self.pipe.net.cuts() {
            trace::count("fault: connection cut");
            drop(state);
            self.pipe.reset();
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let at = Instant::now() + self.pipe.net.latency();
        let at = state.last_at.map_or(at, |last| last.max(at));
        state.last_at = Some(at);
        state.pieces.push_back((at, Bytes::copy_from_slice(&bytes[..taken])));
        state.bytes += taken;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        drop(state);
        if let Some(operation) = operation
            && !operation.done()
        {
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimWrite {
    fn drop(&mut self) {
        self.pipe.end();
    }
}
