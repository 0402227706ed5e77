//! Refusals: messages that are answered by an error of the core's own.
//!
//! Not here: whether a message is refused (`router`, `modern`, `sessions`, `subscriptions`), HTTP refused (`answer`).
//! Invariant: what the core itself does not take is counted by its cause, once, in the call that writes the answer.

use super::core::Core;
use super::router::{MILLISECOND, Told};
use super::service::Service;
use crate::metrics::Refusal;
use crate::proto::json::ScanError;
use crate::proto::jsonrpc::{self, Code, RpcError};

impl<S: Service> Core<S> {
    /// Appends an error response to what the core itself does not take, and counts why.
    pub(super) fn refuse_message(
        &mut self,
        cause: Refusal,
        id: Option<&[u8]>,
        null_id: bool,
        status: u16,
        error: RpcError,
        out: &mut Vec<u8>,
    ) -> Told {
        self.refused(cause);
        self.fail(id, null_id, status, error, out)
    }

    /// Appends an error response: to what a service could not do, or what was counted where it was found.
    pub(super) fn fail(
        &mut self,
        id: Option<&[u8]>,
        null_id: bool,
        status: u16,
        error: RpcError,
        out: &mut Vec<u8>,
    ) -> Told {
        jsonrpc::error(out, id, null_id, &error);
        self.failed = Some(error.code);
        self.metrics.messages_out.add(1);
        Told::Answered { status, session: None }
    }

    pub(super) fn unreadable(&mut self, error: &ScanError, null_id: bool, out: &mut Vec<u8>) -> Told {
        let (refusal, code, status) = match error.is_too_large() {
            true => (Refusal::BodyTooLarge, Code::INVALID_REQUEST, 413),
            false => (Refusal::BadJson, Code::PARSE, 400),
        };
        self.refuse_message(refusal, None, null_id, status, RpcError::new(code, error.to_string()), out)
    }

    /// Refuses what could only be answered in a form that its sender does not take.
    pub(super) fn takes_no_answer(
        &mut self,
        text: &'static str,
        id: Option<&[u8]>,
        null_id: bool,
        out: &mut Vec<u8>,
    ) -> Told {
        let error = RpcError::new(Code::INVALID_REQUEST, text);
        self.refuse_message(Refusal::NotAcceptable, id, null_id, 406, error, out)
    }

    pub(super) fn unknown_method(&mut self, id: &[u8], name: &[u8], status: u16, out: &mut Vec<u8>) -> Told {
        let text = format!("there is no method {} here", String::from_utf8_lossy(&name[..name.len().min(80)]));
        self.refuse_message(
            Refusal::UnknownMethod,
            Some(id),
            true,
            status,
            RpcError::new(Code::METHOD_NOT_FOUND, text),
            out,
        )
    }

    pub(super) fn over_limit(&mut self, id: &[u8], out: &mut Vec<u8>) -> Told {
        let most = self.settings.in_flight_per_connection;
        let text = format!(
            "{most} calls are in flight on this connection or for its session, the most there may be; wait for an answer"
        );
        self.refuse_message(Refusal::InFlightFull, Some(id), true, 429, RpcError::new(Code::RATE_LIMITED, text), out)
    }

    pub(super) fn duplicate(&mut self, id: &[u8], out: &mut Vec<u8>) -> Told {
        let error =
            RpcError::new(Code::INVALID_REQUEST, "a request with this id is still in flight here; give each a new one");
        self.refuse_message(Refusal::DuplicateId, Some(id), true, 400, error, out)
    }

    /// What is wrong with a time that `patience` could not read.
    pub(super) fn bad_patience(&self, asked: &[u8]) -> RpcError {
        let seen = String::from_utf8_lossy(&asked[..asked.len().min(40)]);
        let most = self.settings.call_time_max / MILLISECOND;
        let text = format!(
            "the X-Request-Timeout-Ms header is `{seen}`, but has to be a whole number of milliseconds, at least 1; \
             more than {most} count as {most}; without the header it is {}",
            self.settings.call_time / MILLISECOND
        );
        RpcError::new(Code::INVALID_REQUEST, text)
    }
}
