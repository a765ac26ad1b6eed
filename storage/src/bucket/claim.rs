//! Whose bucket: a cluster writes its id under its prefix before anything else, so that no other cluster's sweeper
//! ever takes its objects for leftovers.

use bytes::Bytes;
use penstock_types::Incarnation;
use serde::{Deserialize, Serialize};

use super::{Bucket, BucketError, ErrorClass, Outcome};

/// The key of the claim.
pub const CLAIM_KEY: &str = "cluster";
/// The format that this version writes and reads.
const FORMAT: u32 = 1;
/// How often a claim is looked at again after an answer that leaves open whether it was laid.
const LOOKS: u32 = 5;

/// What is written under [`CLAIM_KEY`], as JSON: `{"format":1,"cluster_id":"…","incarnation":1}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    format: u32,
    cluster_id: String,
    incarnation: u32,
}

/// Whose the prefix is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The cluster's id.
    pub cluster_id: String,
    /// The incarnation of its metadata.
    pub incarnation: Incarnation,
}

/// Why a prefix can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It belongs to another cluster.
    #[error(
        "{url} belongs to cluster {theirs}, this is cluster {ours}: give each cluster a prefix of its own"
    )]
    OtherCluster {
        /// The bucket and prefix.
        url: String,
        /// The cluster that asks.
        ours: String,
        /// The cluster that it belongs to.
        theirs: String,
    },
    /// The metadata was restored or moved since: this is what was left behind.
    #[error("{url} is claimed by incarnation {theirs} of cluster {cluster_id}, this is incarnation {ours}")]
    NewerIncarnation {
        /// The bucket and prefix.
        url: String,
        /// The cluster.
        cluster_id: String,
        /// The incarnation that asks.
        ours: u32,
        /// The incarnation that holds the claim.
        theirs: u32,
    },
    /// The metadata was restored or moved, and the claim not yet raised ([`Bucket::raise_claim`]).
    #[error(
        "{url} is claimed by the older incarnation {theirs} of cluster {cluster_id}, this is incarnation {ours}: \
         raise the claim once the older one has stopped"
    )]
    OlderIncarnation {
        /// The bucket and prefix.
        url: String,
        /// The cluster.
        cluster_id: String,
        /// The incarnation that asks.
        ours: u32,
        /// The incarnation that holds the claim.
        theirs: u32,
    },
    /// There is an object under the claim's key, but not a claim.
    #[error("{url}: the object {CLAIM_KEY:?} is no claim of a cluster: {detail}")]
    Unreadable {
        /// The bucket and prefix.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl Bucket {
    /// Lays the claim of a cluster on this prefix, or finds that it is there already.
    pub async fn claim(&self, cluster_id: &str, incarnation: Incarnation) -> Result<(), ClaimError> {
        let ours = Claim { cluster_id: cluster_id.to_owned(), incarnation };
        for look in 1.. {
            if let Some((theirs, _)) = self.claim_and_etag().await? {
                if penstock_types::planted!("claim-not-compared") {
                    return Ok(());
                }
                return self.compare(&ours, &theirs);
            }
            match self.put_if_absent(CLAIM_KEY, document(&ours)).await {
                Ok(_) => return Ok(()),
                Err(error) if look < LOOKS && worth_a_look(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Replaces the claim of an older incarnation of the same cluster. An operator's step: whatever still runs with
    /// the older one loses the prefix.
    pub async fn raise_claim(&self, cluster_id: &str, incarnation: Incarnation) -> Result<(), ClaimError> {
        let ours = Claim { cluster_id: cluster_id.to_owned(), incarnation };
        for look in 1.. {
            let Some((theirs, etag)) = self.claim_and_etag().await? else {
                return self.claim(cluster_id, incarnation).await;
            };
            match self.compare(&ours, &theirs) {
                Err(ClaimError::OlderIncarnation { .. }) => {}
                settled => return settled,
            }
            match self.put_if_matches(CLAIM_KEY, document(&ours), &etag).await {
                Ok(_) => return Ok(()),
                Err(error) if look < LOOKS && worth_a_look(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Whether the claim on this prefix is this one: what deletes from the bucket asks first.
    pub async fn is_claimed_by(
        &self,
        cluster_id: &str,
        incarnation: Incarnation,
    ) -> Result<bool, ClaimError> {
        let claim = self.read_claim().await?;
        Ok(claim.is_some_and(|claim| claim.cluster_id == cluster_id && claim.incarnation == incarnation))
    }

    /// The claim on this prefix, if there is one. Sweepers read it before each round.
    pub async fn read_claim(&self) -> Result<Option<Claim>, ClaimError> {
        Ok(self.claim_and_etag().await?.map(|(claim, _)| claim))
    }

    async fn claim_and_etag(&self) -> Result<Option<(Claim, String)>, ClaimError> {
        let object = match self.get_with_etag(CLAIM_KEY).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unreadable = |detail: String| ClaimError::Unreadable { url: self.url().to_owned(), detail };
        let document: Document =
            serde_json::from_slice(&object.data).map_err(|error| unreadable(error.to_string()))?;
        if document.format != FORMAT {
            return Err(unreadable(format!("format {} isn't known", document.format)));
        }
        let claim =
            Claim { cluster_id: document.cluster_id, incarnation: Incarnation::new(document.incarnation) };
        Ok(Some((claim, object.etag.unwrap_or_default())))
    }

    fn compare(&self, ours: &Claim, theirs: &Claim) -> Result<(), ClaimError> {
        let url = self.url().to_owned();
        if ours.cluster_id != theirs.cluster_id {
            return Err(ClaimError::OtherCluster {
                url,
                ours: ours.cluster_id.clone(),
                theirs: theirs.cluster_id.clone(),
            });
        }
        let cluster_id = ours.cluster_id.clone();
        let (ours, theirs) = (ours.incarnation.get(), theirs.incarnation.get());
        match theirs.cmp(&ours) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => {
                Err(ClaimError::NewerIncarnation { url, cluster_id, ours, theirs })
            }
            std::cmp::Ordering::Less => Err(ClaimError::OlderIncarnation { url, cluster_id, ours, theirs }),
        }
    }
}

fn document(claim: &Claim) -> Bytes {
    let document = Document {
        format: FORMAT,
        cluster_id: claim.cluster_id.clone(),
        incarnation: claim.incarnation.get(),
    };
    serde_json::to_vec(&document).expect("a text and two numbers are valid JSON").into()
}

/// Somebody was faster, or it may have been us.
fn worth_a_look(error: &BucketError) -> bool {
    error.class == ErrorClass::Precondition
        || (error.outcome == Outcome::MayHaveHappened && error.class.is_retriable())
}
