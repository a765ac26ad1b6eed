//! The registration of this agent and its knowledge of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_metadata::agents::{Agents, RegisterError, RenewError, Wanted};
use penstock_metadata::keys::agent::{AgentRow, Phase};
use penstock_metadata::kv::{StoreError, Watch};
use penstock_metadata::members::{Look, Observer};
use penstock_metadata::now::TimeError;
use penstock_types::{Clock, NodeId, Randomness, TimestampMs, pause, pause_until};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::membership::Membership;
use super::patience::Patience;
use super::placement;

/// Renewals in a lease.
const RENEWALS: u32 = 4;
/// Looks at an id that is held, in its lease.
const LOOKS: u32 = 4;
/// The pause after a failure of the store, of the lease at most.
const PAUSES: u32 = 16;
/// How long a change of phase may take to reach the store.
const CHANGES_WITHIN: Duration = Duration::from_secs(3);
/// Looks that a flood of changes of the membership causes are no closer together.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What this agent's membership is made of.
#[derive(Debug)]
pub struct ClusterParts {
    /// The agents in the metadata store.
    pub agents: Agents,
    /// What this one registers as.
    pub wanted: Wanted,
    /// The wall clock: a voice among those that jobs take for now.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for sessions.
    pub randomness: Arc<dyn Randomness>,
}

/// Why an agent could not join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store failed.
    #[error("the agent can't be registered: {0}")]
    Store(#[from] StoreError),
    /// The metadata was restored or moved since the agent read it.
    #[error("{0}")]
    Superseded(RegisterError),
    /// Somebody else has its id and goes on having it.
    #[error(
        "node id {node} belongs to another agent, at {by}, that is alive: give each agent a name or number of its own"
    )]
    Held {
        /// The id.
        node: NodeId,
        /// The other's address.
        by: String,
    },
}

#[derive(Debug)]
struct State {
    session: u64,
    /// The session of a registration whose outcome isn't known.
    next_session: Option<u64>,
    /// Leases that began behind one that had ended.
    term: u64,
    phase: Phase,
    lease_until: Instant,
    observer: Observer,
    /// What the clocks of the live agents showed, when this agent first saw it.
    clocks: BTreeMap<NodeId, SeenClock>,
}

/// What another agent's clock showed at a renewal.
#[derive(Debug, Clone, Copy)]
struct SeenClock {
    renewal: (u64, u64),
    shown_ms: TimestampMs,
    at: Instant,
}

impl SeenClock {
    /// What it shows now, about: late by as much as it took to be seen.
    fn now_ms(&self) -> TimestampMs {
        let passed = i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.shown_ms.saturating_add(passed)
    }
}

/// This agent's registration.
#[derive(Debug)]
pub struct Cluster {
    agents: Agents,
    wanted: Wanted,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    node: NodeId,
    started: Instant,
    state: Mutex<State>,
    membership: watch::Sender<Arc<Membership>>,
    phase_changed: Notify,
}

impl Cluster {
    /// Registers, and waits for the lease of a former agent of the same name or number to end, and for a store that
    /// does not answer, at most a minute. Nobody is told of this agent before [`Cluster::serve`].
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn join(parts: ClusterParts) -> Result<Arc<Self>, JoinError> {
        let ClusterParts { agents, mut wanted, clock, randomness } = parts;
        let session = randomness.next_u64();
        let started = Instant::now();
        let mut observer = Observer::default();
        // Pauses between looks at an id that is held. Time in which this process stood still is none of them.
        let mut watched = Duration::ZERO;
        let mut patience = Patience::new();
        let node = loop {
            let look = match agents.look().await {
                Ok(look) => look,
                Err(error) => {
                    patience.bear(error).await?;
                    continue;
                }
            };
            observer.observe(started.elapsed(), &look);
            let is_dead = |node, row: &AgentRow| observer.is_dead(node, row);
            match agents.register(session, &wanted, clock.now_ms(), &is_dead).await {
                Ok(node) => break node,
                // It may have happened: the session finds it.
                Err(RegisterError::Store(error)) => patience.bear(error).await?,
                Err(superseded @ RegisterError::Superseded { .. }) => {
                    return Err(JoinError::Superseded(superseded));
                }
                Err(RegisterError::Held { node, by, lease }) => {
                    // It renews itself four times in a lease: an agent that is alive shows within two.
                    if penstock_types::planted!("held-id-by-the-clock") {
                        watched = started.elapsed();
                    }
                    if watched > lease * 2 {
                        return Err(JoinError::Held { node, by });
                    }
                    tracing::info!(%node, by, ?lease, "waiting for the lease of a former agent to end");
                    pause(lease / LOOKS).await;
                    watched += lease / LOOKS;
                }
            }
        };
        wanted.node = Some(node);
        let (begun, look) = loop {
            let begun = Instant::now();
            match agents.renew(node, session, Phase::Starting, clock.now_ms()).await {
                Ok((look, _)) => break (begun, look),
                Err(RenewError::Store(error)) => patience.bear(error).await?,
                Err(RenewError::Lost) => {
                    return Err(JoinError::Held { node, by: "an unknown address".to_owned() });
                }
            }
        };
        let rows = observer.observe(started.elapsed(), &look);
        let membership = Arc::new(Membership::new(node, true, &rows));
        let state = State {
            session,
            next_session: None,
            term: 0,
            phase: Phase::Starting,
            lease_until: begun + wanted.lease,
            observer,
            clocks: BTreeMap::new(),
        };
        Ok(Arc::new(Self {
            agents,
            wanted,
            clock,
            randomness,
            node,
            started,
            state: Mutex::new(state),
            membership: watch::Sender::new(membership),
            phase_changed: Notify::new(),
        }))
    }

    /// This agent's id, for as long as it lives.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The live agents as last seen.
    pub fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership.borrow())
    }

    /// Tells when the membership is another.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Membership>> {
        self.membership.subscribe()
    }

    /// Whether this agent's lease holds now.
    pub fn holds_lease(&self) -> bool {
        Instant::now() < self.state.lock().lease_until
    }

    /// How often the lease has begun anew behind one that had ended.
    pub fn term(&self) -> u64 {
        self.state.lock().term
    }

    /// What the clocks of the live agents show now, as far as their renewals tell; this agent's own is among them.
    pub fn clocks(&self) -> Vec<TimestampMs> {
        let state = self.state.lock();
        let others = state.clocks.iter().filter(|(node, _)| **node != self.node);
        let mut clocks: Vec<TimestampMs> = others.map(|(_, seen)| seen.now_ms()).collect();
        clocks.push(self.clock.now_ms());
        clocks
    }

    /// An operator says that the clocks are right: records expire by what they show from now on.
    ///
    /// # Errors
    /// See [`TimeError`].
    pub async fn accept_clocks(&self) -> Result<TimestampMs, TimeError> {
        self.agents.accept_clocks(&self.clocks()).await
    }

    /// How much of the lease is left.
    pub fn lease_left(&self) -> Duration {
        self.state.lock().lease_until.saturating_duration_since(Instant::now())
    }

    /// For how long the others gave no sign of life while this agent looked.
    pub fn silent_for(&self) -> BTreeMap<NodeId, Duration> {
        self.state.lock().observer.silent_for()
    }

    /// Whether this agent coordinates `group` now.
    pub fn coordinates(&self, group: &str) -> bool {
        let is_chosen = placement::coordinator(&self.membership.borrow(), group)
            .is_some_and(|chosen| chosen.node == self.node);
        is_chosen && self.holds_lease()
    }

    /// Whether clients that come here are to go elsewhere: the agent drains or has no lease, and others serve.
    pub fn sends_away(&self) -> bool {
        self.membership.borrow().sends_away()
    }

    /// From now on clients are told of this agent.
    pub async fn serve(&self) {
        self.change_phase(Phase::Serving).await;
    }

    /// From now on clients are told of others, if there are any; idempotent. Returns once the store says so, or could
    /// not be reached within three seconds.
    pub async fn drain(&self) {
        self.change_phase(Phase::Draining).await;
    }

    async fn change_phase(&self, phase: Phase) {
        self.state.lock().phase = phase;
        let mut memberships = self.subscribe();
        self.phase_changed.notify_one();
        let shown = memberships.wait_for(|membership| membership.own_phase() == Some(phase));
        if tokio::time::timeout(CHANGES_WITHIN, shown).await.is_err() {
            tracing::warn!(
                phase = phase.word(),
                "the metadata store was not told of this agent's phase in time"
            );
        }
    }

    /// Gives the id up, after [`Cluster::run`] has ended.
    pub async fn leave(&self) {
        let session = {
            let mut state = self.state.lock();
            state.lease_until = Instant::now();
            state.session
        };
        let left = tokio::time::timeout(CHANGES_WITHIN, self.agents.release(self.node, session)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(node = %self.node, "the agent's id could not be given up; its lease ends by itself");
        }
    }

    /// Renews the lease and looks at the others, until `stop`. Ends by itself only if this agent's id is somebody
    /// else's: then it must not go on.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let lease = self.wanted.lease;
        let mut renew_at = Instant::now();
        loop {
            let begun = Instant::now();
            let phase = self.state.lock().phase;
            let is_due = begun >= renew_at || self.membership.borrow().own_phase() != Some(phase);
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                looked = self.look(is_due, phase, begun) => looked,
            };
            let changed: Watch = match looked {
                Ok(watch) => {
                    if is_due {
                        renew_at = begun + lease / RENEWALS;
                    }
                    watch
                }
                Err(RenewError::Lost) => match self.register_again().await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::error!(%error, "this agent has lost its id");
                        return;
                    }
                },
                Err(RenewError::Store(error)) => {
                    tracing::debug!(%error, "the agents' rows can't be read now");
                    self.notice_lapse();
                    let wait = pause(lease / PAUSES);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = wait => continue,
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.phase_changed.notified() => {}
                // A watch that failed or fired: look again, but not in a rush.
                _ = changed => pause(LOOK_PAUSE).await,
                () = pause_until(renew_at) => {}
            }
        }
    }

    async fn look(&self, renew: bool, phase: Phase, begun: Instant) -> Result<Watch, RenewError> {
        let session = self.state.lock().session;
        let (look, watch) = if renew {
            let renewed = self.agents.renew(self.node, session, phase, self.clock.now_ms()).await?;
            let mut state = self.state.lock();
            if Instant::now() >= state.lease_until {
                // Nobody may have noticed that it had ended: this process was paused, too.
                state.term += 1;
            }
            state.lease_until = begun + self.wanted.lease;
            renewed
        } else {
            self.agents.look_and_watch().await.map_err(RenewError::Store)?
        };
        self.publish(&look);
        Ok(watch)
    }

    fn publish(&self, look: &Look) {
        let rows = {
            let mut state = self.state.lock();
            let mut rows = state.observer.observe(self.started.elapsed(), look);
            // Whatever its row says, this agent is here.
            if let Some(own) = look.rows.get(&self.node) {
                rows.insert(self.node, own.clone());
            }
            see_clocks(&mut state.clocks, &rows);
            rows
        };
        if !rows.contains_key(&self.node) {
            return;
        }
        let membership = Membership::new(self.node, self.holds_lease(), &rows).in_term(self.term());
        self.publish_if_other(membership);
    }

    fn publish_if_other(&self, membership: Membership) {
        self.membership.send_if_modified(|last| {
            let is_other = **last != membership;
            if is_other {
                let ids: Vec<i32> = membership.serving().iter().map(|member| member.node.get()).collect();
                tracing::info!(serving = ?ids, alive = membership.all().len(), "the cluster's agents have changed");
                *last = Arc::new(membership);
            }
            is_other
        });
    }

    /// Tells when the lease has ended without a renewal.
    fn notice_lapse(&self) {
        let known = self.membership();
        if known.leased && !self.holds_lease() {
            tracing::warn!(
                "the lease has ended: clients are sent to other agents until the metadata store answers"
            );
            self.publish_if_other(known.lapsed());
        }
    }

    /// Somebody cleared or took the row: the same id under a new session, if it is free.
    async fn register_again(&self) -> Result<(), JoinError> {
        self.notice_lapse();
        // The same until it is settled: an attempt that failed may have happened.
        let fresh = self.randomness.next_u64();
        let session = *self.state.lock().next_session.get_or_insert(fresh);
        // Nobody was watched: only an absent row, or one long dead, is free.
        let registered =
            self.agents.register(session, &self.wanted, self.clock.now_ms(), &|_, _| false).await;
        match registered {
            Ok(_) => {
                tracing::warn!(node = %self.node, "the registration was gone and has been renewed");
                let mut state = self.state.lock();
                state.session = session;
                state.next_session = None;
                Ok(())
            }
            Err(RegisterError::Held { node, by, .. }) => Err(JoinError::Held { node, by }),
            Err(superseded @ RegisterError::Superseded { .. }) => Err(JoinError::Superseded(superseded)),
            Err(RegisterError::Store(error)) => {
                tracing::debug!(%error, "registering again has failed");
                pause(self.wanted.lease / PAUSES).await;
                Ok(())
            }
        }
    }
}

/// Keeps the clocks of the agents with these rows, which are all alive.
fn see_clocks(clocks: &mut BTreeMap<NodeId, SeenClock>, rows: &BTreeMap<NodeId, AgentRow>) {
    clocks.retain(|node, _| rows.contains_key(node));
    for (node, row) in rows {
        let renewal = (row.session, row.renewals);
        if clocks.get(node).is_none_or(|seen| seen.renewal != renewal) {
            clocks.insert(*node, SeenClock { renewal, shown_ms: row.clock_ms, at: Instant::now() });
        }
    }
}
