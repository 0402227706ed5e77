//! The pump: what crosses cores.
use super::core::Core;
use super::exchange::ExchangeKey;
use super::service::{Change, Service};
use crate::ids::CoreId;

impl<S: Service> Core<S> {
    pub(super) fn deliver_remote(&mut self, _key: ExchangeKey, _message: &[u8]) {}
    pub(super) fn conclude_remote(&mut self, _key: ExchangeKey, _message: &[u8], _status: u16) {}
    pub(super) fn end_remote_stream(&mut self, _key: ExchangeKey) {}
    pub(super) fn tell_gone(&mut self, _to: CoreId, _key: ExchangeKey) {}
    pub(super) fn broadcast(&mut self, _change: &Change) {}
}
