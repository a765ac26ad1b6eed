//! Removing offsets that nobody has used for `offsets.retention.minutes`, those of deleted topics, and groups without
//! members that hold no offsets. And taking up groups that have members but no task, as after a restart: a member that
//! died meanwhile is never heard of again, and only a task notices.

use std::sync::Arc;

use penstock_metadata::groups::GroupError;
use penstock_metadata::keys::group::{GroupHeader, StoredState};
use penstock_metadata::keys::group_offset::CommittedOffset;
use penstock_types::{TimestampMs, pause};
use tokio::sync::oneshot;

use super::actor::Command;
use super::classic::OffsetExpiry;
use super::service::GroupCoordinator;

/// Groups of one page.
const PAGE: usize = 500;

pub(super) type Offset = CommittedOffset;

/// Whether an offset has expired.
pub(super) fn is_expired(
    rule: OffsetExpiry,
    offset: &CommittedOffset,
    now_ms: TimestampMs,
    retention_ms: i64,
) -> bool {
    if let Some(at) = offset.expires_at_ms {
        return now_ms >= at;
    }
    let since = match rule {
        OffsetExpiry::SinceMs(since) => since,
        OffsetExpiry::SinceCommit => offset.committed_at_ms,
    };
    now_ms.saturating_sub(since) >= retention_ms
}

impl GroupCoordinator {
    /// Looks for expired offsets again and again, until shutdown.
    pub(super) async fn expire_offsets(self: Arc<Self>) {
        let shared = Arc::clone(self.shared());
        let rounds = async {
            loop {
                if let Err(error) = self.take_up().await {
                    tracing::warn!(%error, "groups with members were not searched for");
                }
                pause(shared.options.offsets_retention_check_interval).await;
                let now_ms = shared.clock.now_ms();
                if let Err(error) = self.expire_once(now_ms).await {
                    tracing::warn!(%error, "groups were not searched for expired offsets");
                }
            }
        };
        shared.cancel.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// Starts the task of every group of this agent's that has members, unless it runs.
    ///
    /// # Errors
    /// The store's; what was found before is taken up all the same.
    pub async fn take_up(&self) -> Result<(), GroupError> {
        let mut after: Option<String> = None;
        while let Some(page) = self.next_page(&mut after).await? {
            for (group, header) in page {
                if header.state != StoredState::Empty && self.is_mine(&group) && !self.is_loaded(&group) {
                    let (answer, done) = oneshot::channel();
                    if self.send(&group, Command::Describe(answer)).await.is_ok() {
                        let _ = done.await;
                    }
                }
            }
        }
        Ok(())
    }

    /// One search through all groups, as of the wall clock's `now_ms`.
    ///
    /// # Errors
    /// The store's; what was found before is removed all the same.
    pub async fn expire_once(&self, now_ms: TimestampMs) -> Result<(), GroupError> {
        let mut after: Option<String> = None;
        while let Some(page) = self.next_page(&mut after).await? {
            for (group, header) in page {
                if self.is_mine(&group) && self.may_expire(&group, &header, now_ms).await? {
                    let (answer, done) = oneshot::channel();
                    if self.send(&group, Command::Expire(now_ms, answer)).await.is_ok() {
                        let _ = done.await;
                    }
                }
            }
        }
        Ok(())
    }

    /// The groups behind `after`, which moves along; `None` at the end.
    async fn next_page(
        &self,
        after: &mut Option<String>,
    ) -> Result<Option<Vec<(String, GroupHeader)>>, GroupError> {
        let page = self.shared().groups.list(after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.groups.last() else { return Ok(None) };
        *after = Some(last.clone());
        Ok(Some(page.groups))
    }

    /// Whether it is worth asking the group's task. Of a group with members its task knows, once it is taken up.
    async fn may_expire(
        &self,
        group: &str,
        header: &GroupHeader,
        now_ms: TimestampMs,
    ) -> Result<bool, GroupError> {
        if self.is_loaded(group) {
            return Ok(true);
        }
        if header.state != StoredState::Empty {
            return Ok(false);
        }
        let rule = match &header.protocol_type {
            None => OffsetExpiry::SinceCommit,
            Some(_) => OffsetExpiry::SinceMs(header.state_since_ms),
        };
        let retention = self.shared().options.offsets_retention;
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        // Offsets of deleted topics are left out here: of a group that has others they go with those.
        let offsets = self.shared().groups.fetch_all_offsets(group).await?;
        let mut offsets = offsets.values().flat_map(std::collections::BTreeMap::values).peekable();
        Ok(offsets.peek().is_none() || offsets.any(|offset| is_expired(rule, offset, now_ms, retention)))
    }
}
