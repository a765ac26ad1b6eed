//! Incremental fetch sessions (KIP-227): what a consumer fetches is remembered, so that a request names only what
//! changes and an answer only what has news. Pure; bounded in sessions and in partitions.

use std::collections::{BTreeMap, HashMap};

use penstock_types::TopicId;

/// How a client names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// Up to Fetch 12.
    Name(String),
    /// From Fetch 13 on.
    Id(TopicId),
}

/// How a client names a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic: TopicKey,
    /// The partition.
    pub partition: i32,
}

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// From which offset on.
    pub offset: i64,
    /// Bytes.
    pub max_bytes: i32,
    /// The leader epoch that it believes in; -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch of its last record; -1 for none.
    pub last_fetched_epoch: i32,
}

/// What an answer says about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// The high watermark; -1 with an error.
    pub high_watermark: i64,
    /// The log start offset; -1 with an error.
    pub log_start: i64,
    /// Whether there are records.
    pub has_records: bool,
    /// Whether it is an error.
    pub is_error: bool,
}

/// Why a session can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is no such session (any more).
    #[error("there is no such fetch session")]
    NotFound,
    /// A request was lost or doubled.
    #[error("the fetch session is at another epoch")]
    InvalidEpoch,
    /// The session names topics the other way.
    #[error("the fetch session names topics the other way")]
    TopicIds,
}

/// A request's session fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRequest {
    /// 0 for none.
    pub id: i32,
    /// 0 to begin one, -1 to end it or for none.
    pub epoch: i32,
}

/// What a request fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchContext {
    /// The session of the answer; 0 for none.
    pub session: i32,
    /// Whether the answer names only what has news.
    pub incremental: bool,
    /// The partitions, in the order in which they get their share.
    pub partitions: Vec<(PartitionKey, Wanted)>,
}

#[derive(Debug)]
struct Partition {
    key: PartitionKey,
    wanted: Wanted,
    high_watermark: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    used: u64,
    next_order: u64,
    order: HashMap<PartitionKey, u64>,
    partitions: BTreeMap<u64, Partition>,
}

impl Session {
    fn put(&mut self, key: PartitionKey, wanted: Wanted) {
        if let Some(partition) = self.order.get(&key).and_then(|order| self.partitions.get_mut(order)) {
            if !penstock_types::planted!("session-keeps-old-offset") {
                partition.wanted = wanted;
            }
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.order.insert(key.clone(), order);
        self.partitions.insert(order, Partition { key, wanted, high_watermark: -1, log_start: -1 });
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(order) = self.order.remove(key) {
            self.partitions.remove(&order);
        }
    }

    /// Remembers what is told; says whether it has to be.
    fn tell(&mut self, key: &PartitionKey, news: &News, rotates: bool) -> bool {
        let Some(order) = self.order.get(key).copied() else { return true };
        let Some(partition) = self.partitions.get_mut(&order) else { return true };
        let changed =
            partition.high_watermark != news.high_watermark || partition.log_start != news.log_start;
        partition.high_watermark = if news.is_error { -1 } else { news.high_watermark };
        partition.log_start = news.log_start;
        if news.has_records
            && rotates
            && let Some(partition) = self.partitions.remove(&order)
        {
            // What got its share goes behind the others.
            self.order.insert(partition.key.clone(), self.next_order);
            self.partitions.insert(self.next_order, partition);
            self.next_order += 1;
        }
        let has_records = news.has_records && !penstock_types::planted!("session-forgets-news");
        changed || has_records || news.is_error
    }
}

/// The sessions of an agent.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    most_partitions: usize,
    partitions: usize,
    uses: u64,
    evictions: u64,
    sessions: HashMap<i32, Session>,
}

impl FetchSessions {
    /// At most `slots` sessions with `most_partitions` together.
    pub fn new(slots: usize, most_partitions: usize) -> Self {
        Self { slots, most_partitions, partitions: 0, uses: 0, evictions: 0, sessions: HashMap::new() }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Partitions of all sessions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Sessions that gave way to others, or grew too large, so far.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What a request fetches. `new_id` is a positive number for the session that it may begin; `by_id` says how it
    /// names topics.
    pub fn begin(
        &mut self,
        request: SessionRequest,
        named: Vec<(PartitionKey, Wanted)>,
        forgotten: &[PartitionKey],
        by_id: bool,
        new_id: i32,
    ) -> Result<FetchContext, SessionError> {
        if request.epoch > 0 {
            return self.resume(request, named, forgotten, by_id);
        }
        self.remove(request.id);
        let mut context = FetchContext { session: 0, incremental: false, partitions: named };
        if request.epoch == 0 && !context.partitions.is_empty() && self.make_room(context.partitions.len()) {
            context.session = self.free_id(new_id);
            self.uses += 1;
            let mut session = Session {
                epoch: 1,
                by_id,
                used: self.uses,
                next_order: 0,
                order: HashMap::new(),
                partitions: BTreeMap::new(),
            };
            for (key, wanted) in &context.partitions {
                session.put(key.clone(), *wanted);
            }
            self.partitions += session.partitions.len();
            self.sessions.insert(context.session, session);
        }
        Ok(context)
    }

    fn resume(
        &mut self,
        request: SessionRequest,
        named: Vec<(PartitionKey, Wanted)>,
        forgotten: &[PartitionKey],
        by_id: bool,
    ) -> Result<FetchContext, SessionError> {
        self.uses += 1;
        let session = self.sessions.get_mut(&request.id).ok_or(SessionError::NotFound)?;
        if session.by_id != by_id {
            return Err(SessionError::TopicIds);
        }
        if session.epoch != request.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        let before = session.partitions.len();
        named.into_iter().for_each(|(key, wanted)| session.put(key, wanted));
        forgotten.iter().for_each(|key| session.forget(key));
        session.used = self.uses;
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        let partitions: Vec<_> =
            session.partitions.values().map(|partition| (partition.key.clone(), partition.wanted)).collect();
        self.partitions = self.partitions - before + partitions.len();
        if partitions.is_empty() || self.partitions > self.most_partitions {
            self.evictions += u64::from(!partitions.is_empty());
            self.remove(request.id);
            return Ok(FetchContext { session: 0, incremental: false, partitions });
        }
        Ok(FetchContext { session: request.id, incremental: true, partitions })
    }

    /// Remembers what the answer to `context` tells of each partition, in the context's order; says of each whether
    /// the answer has to name it.
    pub fn tell(&mut self, context: &FetchContext, news: &[News]) -> Vec<bool> {
        let session = self.sessions.get_mut(&context.session);
        let Some(session) = session else { return vec![true; news.len()] };
        // As in Kafka, a full fetch leaves its partitions in the order in which it named them.
        let rotates = context.incremental;
        let told =
            context.partitions.iter().zip(news).map(|((key, _), news)| session.tell(key, news, rotates));
        let told: Vec<bool> = told.collect();
        if context.incremental { told } else { vec![true; news.len()] }
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// The least recently used sessions give way to a new one.
    fn make_room(&mut self, partitions: usize) -> bool {
        if self.slots == 0 || partitions > self.most_partitions {
            return false;
        }
        while self.sessions.len() >= self.slots || self.partitions + partitions > self.most_partitions {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
            let Some(oldest) = oldest else { return false };
            self.remove(oldest);
            self.evictions += 1;
        }
        true
    }

    fn free_id(&self, wanted: i32) -> i32 {
        let mut id = wanted.max(1);
        while self.sessions.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: TopicKey::Name("t".to_owned()), partition }
    }

    fn wanted(offset: i64) -> Wanted {
        Wanted { offset, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn news(high_watermark: i64, has_records: bool) -> News {
        News { high_watermark, log_start: 0, has_records, is_error: false }
    }

    fn request(id: i32, epoch: i32) -> SessionRequest {
        SessionRequest { id, epoch }
    }

    fn order(context: &FetchContext) -> Vec<i32> {
        context.partitions.iter().map(|(key, _)| key.partition).collect()
    }

    #[test]
    fn an_incremental_answer_tells_only_news_and_rotates() {
        let mut sessions = FetchSessions::new(10, 100);
        let named = vec![(key(0), wanted(0)), (key(1), wanted(0))];
        let full = sessions.begin(request(0, 0), named, &[], false, 7).expect("session");
        assert_eq!((full.session, full.incremental), (7, false));
        assert_eq!(sessions.tell(&full, &[news(5, true), news(0, false)]), [true, true]);
        let next = sessions.begin(request(7, 1), vec![(key(0), wanted(5))], &[], false, 8).expect("session");
        assert!(next.incremental);
        assert_eq!(order(&next), [0, 1], "a full fetch changes no order");
        assert_eq!(sessions.tell(&next, &[news(5, true), news(0, false)]), [true, false]);
        let next = sessions.begin(request(7, 2), vec![], &[], false, 8).expect("session");
        assert_eq!(order(&next), [1, 0], "what had records goes behind");
        assert_eq!(sessions.tell(&next, &[news(0, false), news(5, false)]), [false, false]);
        let next = sessions.begin(request(7, 3), vec![], &[key(1)], false, 8).expect("session");
        assert_eq!(order(&next), [0]);
        assert_eq!(sessions.tell(&next, &[news(6, false)]), [true], "the end moved");
    }

    #[test]
    fn epochs_and_names_are_checked() {
        let mut sessions = FetchSessions::new(10, 100);
        let named = || vec![(key(0), wanted(0))];
        let session = sessions.begin(request(0, 0), named(), &[], false, 3).expect("session").session;
        assert_eq!(sessions.begin(request(99, 1), vec![], &[], false, 1), Err(SessionError::NotFound));
        assert_eq!(
            sessions.begin(request(session, 2), vec![], &[], false, 1),
            Err(SessionError::InvalidEpoch)
        );
        assert_eq!(sessions.begin(request(session, 1), vec![], &[], true, 1), Err(SessionError::TopicIds));
        let closed = sessions.begin(request(session, -1), named(), &[], false, 1).expect("no session");
        assert_eq!(closed.session, 0);
        assert!(sessions.is_empty());
    }

    #[test]
    fn sessions_and_partitions_are_bounded() {
        let mut sessions = FetchSessions::new(2, 5);
        for id in 1..=3 {
            let named = vec![(key(0), wanted(0)), (key(1), wanted(0))];
            let context = sessions.begin(request(0, 0), named, &[], false, id).expect("session");
            assert_eq!(context.session, id);
        }
        assert_eq!(sessions.len(), 2);
        assert_eq!(sessions.begin(request(1, 1), vec![], &[], false, 9), Err(SessionError::NotFound));
        let many = (0..6).map(|partition| (key(partition), wanted(0))).collect();
        assert_eq!(sessions.begin(request(0, 0), many, &[], false, 4).expect("none").session, 0);
        assert_eq!((sessions.partitions(), sessions.evictions()), (4, 1));
    }
}
