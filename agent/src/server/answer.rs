//! What a handler hands back: an answer, or the promise of one.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::api::context::RequestContext;
use crate::wire::Frame;

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// This goes back.
    Send(Frame),
    /// Nothing goes back: a Produce with acks=0 that went well.
    Nothing,
    /// The connection is closed once the answers before this one are sent: a Produce with acks=0 that failed (the
    /// only way to tell, as in Kafka), or an answer that can't be encoded.
    Close,
}

impl Answer {
    /// Encodes `response`. A response that can't be encoded is a bug of ours: it is logged as an error, and the
    /// connection is closed, so that the client isn't left waiting.
    pub fn message<M: Encodable + HeaderVersion>(context: &RequestContext, response: &M) -> Self {
        Self::from_frame(context, Frame::encode(context, response))
    }

    /// As [`Answer::message`], for an answer that was framed by its handler.
    pub fn from_frame(context: &RequestContext, frame: Result<Frame, crate::wire::EncodeError>) -> Self {
        match frame {
            Ok(frame) => Self::Send(frame),
            Err(error) => {
                tracing::error!(%error, api_version = context.api_version, peer = %context.peer,
                    correlation_id = context.correlation_id, "an answer can't be encoded; closing the connection");
                Self::Close
            }
        }
    }
}

/// An answer that is there, or will be. Answers leave a connection in the order of their requests.
pub enum PendingAnswer {
    /// It is there.
    Ready(Answer),
    /// It comes later. The future is polled only once every answer before it on this connection has been sent, so
    /// it must merely *wait* for work that goes on elsewhere (a flush); it is dropped when the connection ends,
    /// which must not undo what was admitted.
    Later(BoxFuture<'static, Answer>),
    /// It comes later, and the future does the work itself: it is polled from the start, beside those of other
    /// requests of this connection. It is dropped (the work abandoned) when the connection ends.
    Working(BoxFuture<'static, Answer>),
}

impl PendingAnswer {
    /// The answer, if it is there; afterwards nothing is left.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self {
            Self::Ready(answer) => Poll::Ready(std::mem::replace(answer, Answer::Nothing)),
            Self::Later(answer) | Self::Working(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl std::fmt::Debug for PendingAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready(answer) => f.debug_tuple("Ready").field(answer).finish(),
            Self::Later(_) => f.write_str("Later"),
            Self::Working(_) => f.write_str("Working"),
        }
    }
}
