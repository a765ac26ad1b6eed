//! The machine's answers, case by case: Kafka's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_config::GroupOptions;
use uuid::Uuid;

use super::*;

/// Drives a machine by hand.
pub(super) struct Driver {
    pub(super) group: ClassicGroup,
    pub(super) options: Arc<GroupOptions>,
    pub(super) now: Now,
    pub(super) next: u64,
    pub(super) last_store: Option<Store>,
}

pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&(topics.len() as u32).to_be_bytes());
    for topic in topics {
        bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
    }
    Bytes::from(bytes)
}

pub(super) fn join(member_id: &str, fresh: u128) -> JoinCall {
    JoinCall {
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(&["t"]))],
        requires_known_member_id: true,
        supports_skipping_assignment: true,
        fresh_id: Uuid::from_u128(fresh),
    }
}

pub(super) fn sync(member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncCall {
    SyncCall {
        generation,
        member_id: member_id.to_owned(),
        instance_id: None,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: assignments
            .iter()
            .map(|(id, assignment)| ((*id).to_owned(), Bytes::copy_from_slice(assignment.as_bytes())))
            .collect(),
    }
}

impl Driver {
    pub(super) fn new(options: GroupOptions) -> Self {
        let options = Arc::new(options);
        let now = Now { tick: Duration::from_secs(1), wall_ms: 1_000 };
        Self { group: ClassicGroup::new(Arc::clone(&options)), options, now, next: 0, last_store: None }
    }

    pub(super) fn prompt() -> Self {
        Self::new(GroupOptions { initial_rebalance_delay: Duration::ZERO, ..GroupOptions::default() })
    }

    fn run(&mut self, event: impl FnOnce(&mut ClassicGroup, Now, &mut Effects)) -> Vec<(CallId, Reply)> {
        let mut effects = Effects::default();
        event(&mut self.group, self.now, &mut effects);
        self.last_store = effects.store;
        effects.replies
    }

    pub(super) fn join(&mut self, join: JoinCall) -> (CallId, Vec<(CallId, Reply)>) {
        let call = CallId(self.next);
        self.next += 1;
        (call, self.run(|group, now, effects| group.join(now, call, join, effects)))
    }

    pub(super) fn sync(&mut self, sync: SyncCall) -> (CallId, Vec<(CallId, Reply)>) {
        let call = CallId(self.next);
        self.next += 1;
        (call, self.run(|group, now, effects| group.sync(now, call, sync, effects)))
    }

    pub(super) fn advance(&mut self, by: Duration) -> Vec<(CallId, Reply)> {
        self.now.tick += by;
        self.now.wall_ms += by.as_millis() as i64;
        self.run(ClassicGroup::tick)
    }

    pub(super) fn leave(&mut self, leaving: &[LeaveCall]) -> (Vec<LeaveOutcome>, Vec<(CallId, Reply)>) {
        let mut outcomes = Vec::new();
        let replies = self.run(|group, now, effects| outcomes = group.leave(now, leaving, effects));
        (outcomes, replies)
    }

    /// One member, stable.
    fn stable(&mut self) -> String {
        let id = self.required_id(1);
        let (_, replies) = self.join(join(&id, 0));
        let answer = joined(&replies[0].1);
        assert_eq!((answer.error, answer.leader.as_str()), (None, id.as_str()));
        let (_, replies) = self.sync(sync(&id, answer.generation, &[(&id, "all")]));
        assert_eq!(synced(&replies[0].1).assignment, "all");
        assert_eq!(self.group.state(), State::Stable);
        id
    }

    fn required_id(&mut self, fresh: u128) -> String {
        let (_, replies) = self.join(join("", fresh));
        let answer = joined(&replies[0].1);
        assert_eq!(answer.error, Some(Refusal::MemberIdRequired));
        answer.member_id.clone()
    }
}

pub(super) fn joined(reply: &Reply) -> &JoinAnswer {
    match reply {
        Reply::Join(answer) => answer,
        Reply::Sync(answer) => panic!("not a JoinGroup's answer: {answer:?}"),
    }
}

pub(super) fn synced(reply: &Reply) -> &SyncAnswer {
    match reply {
        Reply::Sync(answer) => answer,
        Reply::Join(answer) => panic!("not a SyncGroup's answer: {answer:?}"),
    }
}

fn as_static(mut call: JoinCall, instance: &str) -> JoinCall {
    call.instance_id = Some(instance.to_owned());
    call
}

#[test]
fn a_new_member_is_given_an_id_and_joins_with_it() {
    let mut driver = Driver::prompt();
    let id = driver.required_id(7);
    assert_eq!(id, format!("client-{}", Uuid::from_u128(7)));
    assert_eq!(driver.last_store, Some(Store::New), "the group exists from now on");
    let (_, replies) = driver.join(join(&id, 0));
    assert_eq!(driver.last_store, Some(Store::Snapshot), "a generation is stored before it is told");
    let answer = joined(&replies[0].1);
    assert_eq!((answer.generation, answer.protocol_name.as_deref()), (1, Some("range")));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(driver.group.state(), State::CompletingRebalance);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut driver = Driver::new(GroupOptions::default());
    let mut first = join("", 1);
    first.requires_known_member_id = false;
    let mut second = JoinCall { fresh_id: Uuid::from_u128(2), ..first.clone() };
    second.rebalance_timeout = Duration::from_secs(1);
    let (first, replies) = driver.join(first);
    assert!(replies.is_empty());
    assert!(driver.advance(Duration::from_millis(2_999)).is_empty());
    let (second, replies) = driver.join(second);
    assert!(replies.is_empty());
    assert!(driver.advance(Duration::from_millis(1)).is_empty(), "somebody came: another delay");
    let replies = driver.advance(Duration::from_secs(3));
    assert_eq!(replies.iter().map(|(call, _)| *call).collect::<Vec<_>>(), [first, second]);
    assert!(replies.iter().all(|(_, reply)| joined(reply).generation == 1));
    let leaders = replies.iter().filter(|(_, reply)| !joined(reply).members.is_empty()).count();
    assert_eq!(leaders, 1, "only the leader learns of the members");
}

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut driver = Driver::prompt();
    let first = driver.stable();
    let second = driver.required_id(2);
    let (waiting, replies) = driver.join(join(&second, 0));
    assert!(replies.is_empty());
    let beat = driver.group.heartbeat(driver.now, &first, None, 1);
    assert_eq!(beat, Err(Refusal::RebalanceInProgress));
    let (again, replies) = driver.join(join(&first, 0));
    assert_eq!(replies.len(), 2);
    assert!(
        replies.iter().any(|(call, _)| *call == waiting) && replies.iter().any(|(call, _)| *call == again)
    );
    let (follower, replies) = driver.sync(sync(&second, 2, &[]));
    assert!(replies.is_empty());
    let wrong = SyncCall { protocol_name: Some("sticky".to_owned()), ..sync(&first, 2, &[]) };
    assert_eq!(synced(&driver.sync(wrong).1[0].1).error, Some(Refusal::InconsistentGroupProtocol));
    assert_eq!(synced(&driver.sync(sync(&first, 1, &[])).1[0].1).error, Some(Refusal::IllegalGeneration));
    assert_eq!(synced(&driver.sync(sync("nobody", 2, &[])).1[0].1).error, Some(Refusal::UnknownMemberId));
    let commit = driver.group.validate_commit(driver.now, &first, None, 2);
    assert_eq!(commit, Err(Refusal::RebalanceInProgress), "no commits before the assignment");
    let (_, replies) = driver.sync(sync(&first, 2, &[(&second, "right"), ("stranger", "x")]));
    assert_eq!(driver.last_store, Some(Store::Snapshot));
    let right = replies.iter().find(|(call, _)| *call == follower).expect("the follower's answer");
    assert_eq!(synced(&right.1).assignment, "right");
    assert_eq!(driver.group.state(), State::Stable);
    // A follower that joins again unchanged learns the generation; the leader begins another.
    let (_, replies) = driver.join(join(&second, 0));
    assert_eq!(joined(&replies[0].1).generation, 2);
    assert_eq!(driver.group.state(), State::Stable);
    let (_, replies) = driver.join(join(&first, 0));
    assert!(replies.is_empty());
    assert_eq!(driver.group.state(), State::PreparingRebalance);
    assert_eq!(
        driver.group.validate_commit(driver.now, &second, None, 2),
        Ok(Some(2)),
        "it may still commit"
    );
}

#[test]
fn who_does_not_join_again_is_left_behind() {
    let mut driver = Driver::prompt();
    let first = driver.stable();
    let second = driver.required_id(2);
    driver.join(join(&second, 0));
    for _ in 0..11 {
        driver.advance(Duration::from_secs(5));
        let _ = driver.group.heartbeat(driver.now, &first, None, 1);
    }
    let replies = driver.advance(Duration::from_secs(5));
    let answer = joined(&replies[0].1);
    assert_eq!((answer.leader.as_str(), answer.members.len()), (second.as_str(), 1));
    assert_eq!(driver.group.heartbeat(driver.now, &first, None, 1), Err(Refusal::UnknownMemberId));
}

#[test]
fn who_is_silent_is_removed_and_an_empty_group_keeps_its_generation_growing() {
    let mut driver = Driver::prompt();
    let id = driver.stable();
    driver.advance(Duration::from_millis(9_999));
    assert_eq!(driver.group.heartbeat(driver.now, &id, None, 1), Ok(()));
    driver.advance(Duration::from_millis(9_999));
    assert_eq!(driver.group.state(), State::Stable);
    driver.advance(Duration::from_millis(1));
    assert_eq!((driver.group.state(), driver.group.generation()), (State::Empty, 2));
    assert_eq!(driver.last_store, Some(Store::Snapshot));
    assert_eq!(driver.group.heartbeat(driver.now, &id, None, 2), Err(Refusal::UnknownMemberId));
    assert_eq!(joined(&driver.join(join(&id, 0)).1[0].1).error, Some(Refusal::UnknownMemberId));
}

#[test]
fn who_does_not_ask_for_its_assignment_is_removed() {
    let mut driver = Driver::prompt();
    let id = driver.required_id(1);
    driver.join(join(&id, 0));
    for _ in 0..11 {
        driver.advance(Duration::from_secs(5));
        assert_eq!(driver.group.heartbeat(driver.now, &id, None, 1), Ok(()));
    }
    driver.advance(Duration::from_secs(5));
    assert_eq!(driver.group.state(), State::Empty);
}

#[test]
fn leaving_hands_the_lead_on() {
    let mut driver = Driver::prompt();
    let first = driver.stable();
    let second = driver.required_id(2);
    driver.join(join(&second, 0));
    driver.join(join(&first, 0));
    driver.sync(sync(&first, 2, &[]));
    driver.sync(sync(&second, 2, &[]));
    let leave = |id: &str| LeaveCall { member_id: id.to_owned(), instance_id: None };
    let (outcomes, _) = driver.leave(&[leave(&first), leave("nobody")]);
    assert_eq!(outcomes, [Ok(()), Err(Refusal::UnknownMemberId)]);
    let (_, replies) = driver.join(join(&second, 0));
    assert_eq!(joined(&replies[0].1).leader, second);
    assert_eq!(joined(&replies[0].1).generation, 3);
    let (outcomes, _) = driver.leave(&[leave(&second)]);
    assert_eq!((outcomes, driver.group.state()), (vec![Ok(())], State::Empty));
    assert_eq!(driver.group.generation(), 4);
}

#[test]
fn a_static_member_takes_its_place_again_without_a_rebalance() {
    let mut driver = Driver::prompt();
    let (_, replies) = driver.join(as_static(join("", 1), "i"));
    let old = joined(&replies[0].1).member_id.clone();
    assert_eq!(old, format!("i-{}", Uuid::from_u128(1)));
    driver.sync(SyncCall { instance_id: Some("i".to_owned()), ..sync(&old, 1, &[(&old, "mine")]) });
    let (_, replies) = driver.join(as_static(join("", 2), "i"));
    let answer = joined(&replies[0].1);
    let new = answer.member_id.clone();
    assert_eq!((answer.error, answer.generation, answer.skip_assignment), (None, 1, true));
    assert_eq!((answer.leader.as_str(), answer.members.len()), (new.as_str(), 1));
    assert_eq!(driver.last_store, Some(Store::Snapshot));
    let (_, replies) = driver.sync(sync(&new, 1, &[]));
    assert_eq!(synced(&replies[0].1).assignment, "mine");
    assert_eq!(driver.group.heartbeat(driver.now, &old, Some("i"), 1), Err(Refusal::FencedInstanceId));
    assert_eq!(driver.group.heartbeat(driver.now, &old, None, 1), Err(Refusal::UnknownMemberId));
    assert_eq!(driver.group.heartbeat(driver.now, &new, Some("j"), 1), Err(Refusal::UnknownMemberId));
    let (_, replies) = driver.join(as_static(join(&old, 3), "i"));
    assert_eq!(joined(&replies[0].1).error, Some(Refusal::FencedInstanceId));
    // Before version 9 a leader can't be told to skip: it is told of the leader that was.
    let old_client = JoinCall { supports_skipping_assignment: false, ..as_static(join("", 4), "i") };
    let (_, replies) = driver.join(old_client);
    let answer = joined(&replies[0].1);
    assert_eq!(
        (answer.leader.as_str(), answer.members.len(), answer.skip_assignment),
        (new.as_str(), 0, false)
    );
    // An operator removes it by its instance id.
    let remove = LeaveCall { member_id: String::new(), instance_id: Some("i".to_owned()) };
    assert_eq!(driver.leave(&[remove]).0, [Ok(())]);
    assert_eq!(driver.group.state(), State::Empty);
}

#[test]
fn a_static_member_that_is_replaced_while_it_waits_is_fenced() {
    let mut driver = Driver::new(GroupOptions::default());
    let (waiting, _) = driver.join(as_static(join("", 1), "i"));
    let (_, replies) = driver.join(as_static(join("", 2), "i"));
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].0, joined(&replies[0].1).error), (waiting, Some(Refusal::FencedInstanceId)));
    let replies = driver.advance(Duration::from_secs(3));
    assert_eq!(joined(&replies[0].1).members.len(), 1);
}

#[test]
fn assignors_are_voted_for_and_must_be_shared() {
    let mut driver = Driver::new(GroupOptions::default());
    let with = |names: &[&str], fresh| JoinCall {
        protocols: names.iter().map(|name| ((*name).to_owned(), subscription(&["t"]))).collect(),
        requires_known_member_id: false,
        ..join("", fresh)
    };
    driver.join(with(&["a", "b", "c"], 1));
    driver.join(with(&["c", "b"], 2));
    driver.join(with(&["c", "b", "a"], 3));
    for call in [with(&["a"], 4), JoinCall { protocol_type: "connect".to_owned(), ..with(&["b"], 5) }] {
        let (_, replies) = driver.join(call);
        assert_eq!(joined(&replies[0].1).error, Some(Refusal::InconsistentGroupProtocol));
    }
    driver.advance(Duration::from_secs(3));
    let replies = driver.advance(Duration::from_secs(3));
    assert!(replies.iter().all(|(_, reply)| joined(reply).protocol_name.as_deref() == Some("c")));
    assert_eq!(replies.len(), 3);
}

#[test]
fn a_call_that_is_out_of_bounds_is_refused() {
    let mut driver = Driver::new(GroupOptions {
        max_size: 1,
        initial_rebalance_delay: Duration::ZERO,
        ..GroupOptions::default()
    });
    for session in [5_999, 1_800_001] {
        let call = JoinCall { session_timeout: Duration::from_millis(session), ..join("", 1) };
        assert_eq!(joined(&driver.join(call).1[0].1).error, Some(Refusal::InvalidSessionTimeout));
    }
    let call = JoinCall { protocols: Vec::new(), ..join("", 1) };
    assert_eq!(joined(&driver.join(call).1[0].1).error, Some(Refusal::InconsistentGroupProtocol));
    assert!(!driver.group.exists());
    assert_eq!(joined(&driver.join(join("stranger", 1)).1[0].1).error, Some(Refusal::UnknownMemberId));
    driver.stable();
    assert_eq!(joined(&driver.join(join("", 2)).1[0].1).error, Some(Refusal::GroupMaxSizeReached));
    let large = vec![("range".to_owned(), Bytes::from(vec![0; GROUP_BYTES_MAX]))];
    let mut driver = Driver::prompt();
    let call = JoinCall { protocols: large, ..join("", 1) };
    assert_eq!(joined(&driver.join(call).1[0].1).error, Some(Refusal::GroupMaxSizeReached));
}

#[test]
fn an_assignment_that_cannot_be_stored_is_refused_and_the_group_goes_on() {
    let mut driver = Driver::prompt();
    let id = driver.required_id(1);
    driver.join(join(&id, 0));
    let huge = "x".repeat(GROUP_BYTES_MAX);
    let (_, replies) = driver.sync(sync(&id, 1, &[(&id, &huge)]));
    assert_eq!(synced(&replies[0].1).error, Some(Refusal::UnknownServerError));
    let (_, replies) = driver.join(join(&id, 0));
    assert_eq!(joined(&replies[0].1).generation, 2);
}

#[test]
fn commits_outside_of_group_management_need_an_empty_group() {
    let mut driver = Driver::prompt();
    assert_eq!(driver.group.validate_commit(driver.now, "", None, -1), Ok(None));
    let id = driver.stable();
    let group = &mut driver.group;
    assert_eq!(group.validate_commit(driver.now, "", None, -1), Err(Refusal::UnknownMemberId));
    assert_eq!(group.validate_commit(driver.now, &id, None, -1), Err(Refusal::IllegalGeneration));
    assert_eq!(group.validate_commit(driver.now, &id, None, 0), Err(Refusal::IllegalGeneration));
    assert_eq!(group.validate_commit(driver.now, "nobody", None, 1), Err(Refusal::UnknownMemberId));
    assert_eq!(group.validate_commit(driver.now, &id, None, 1), Ok(Some(1)));
    assert!(group.is_subscribed("t") && !group.is_subscribed("u"));
    assert_eq!(group.validate_delete(), Err(Refusal::NonEmptyGroup));
    assert_eq!(group.validate_offset_delete(), Ok(()));
}

#[test]
fn a_restored_group_goes_on_without_a_rebalance() {
    let mut driver = Driver::prompt();
    let first = driver.stable();
    let second = driver.required_id(2);
    driver.join(join(&second, 0));
    driver.join(join(&first, 0));
    let stored = driver.group.snapshot(Store::Snapshot);
    let mut effects = Effects::default();
    // Between the join and the sync: whoever takes over waits for the leader.
    driver.group = ClassicGroup::restore(Arc::clone(&driver.options), stored, driver.now, &mut effects);
    assert_eq!((driver.group.state(), driver.group.generation()), (State::CompletingRebalance, 2));
    let (follower, _) = driver.sync(sync(&second, 2, &[]));
    let (_, replies) = driver.sync(sync(&first, 2, &[(&second, "s"), (&first, "f")]));
    assert!(replies.iter().any(|(call, reply)| *call == follower && synced(reply).assignment == "s"));
    let stored = driver.group.snapshot(Store::Snapshot);
    let before = driver.group.describe();
    driver.now.tick = Duration::ZERO;
    driver.group =
        ClassicGroup::restore(Arc::clone(&driver.options), stored.clone(), driver.now, &mut effects);
    assert!(effects.replies.is_empty() && effects.store.is_none());
    assert_eq!(driver.group.describe(), before);
    assert_eq!(describe_stored(stored), before);
    assert_eq!(driver.group.heartbeat(driver.now, &first, None, 2), Ok(()));
    assert_eq!(driver.group.validate_commit(driver.now, &second, None, 2), Ok(Some(2)));
    assert_eq!(driver.group.next_deadline(), Some(Duration::from_secs(10)), "a full session");
}
