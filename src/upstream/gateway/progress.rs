//! How far a caller is with a question of the server's, on its way to the server (`notifications/progress`).
//!
//! Not here: progress of calls, on its way to the caller (`hear`). Invariant: the server is told under the token that
//! it gave, and only while its question is open.

use super::Gateway;
use super::answer::with_token;
use super::callers::Caller;
use super::flight::Errand;
use super::request::Era;
use super::server::Server;
use super::words::{self, kind};
use crate::proto::json::Value;
use crate::proto::jsonrpc;
use crate::server::service::{CallKey, Nanos, Service};
use crate::upstream::talk::Passage;

const METHOD: &str = "notifications/progress";

impl<S: Service> Gateway<S> {
    /// A caller on this core tells how far it is with a question.
    pub(super) fn caller_progressed(&mut self, now: Nanos, key: CallKey, ask: u32, params: &[u8]) {
        let Some(place) = self.whereabouts_of(key) else { return };
        let Some(server) = self.servers.get_mut(usize::from(place.server)) else { return };
        server.caller_progressed(now, Caller { core: self.core, key }, place.flight, ask, params);
        self.settle(now, place.server);
    }
}

impl Server {
    /// The same, on the core that speaks to the server. A question without a token wants to hear of nothing.
    pub fn caller_progressed(&mut self, now: Nanos, caller: Caller, began: Option<u32>, ask: u32, params: &[u8]) {
        if let Some(owner) = self.channel.owner() {
            let text = words::write_said(ask, METHOD, params);
            return self.callers.tell(owner, kind::PROGRESS, words::number_of(caller.key), text);
        }
        let Some(number) = self.flight_of(caller, began) else { return };
        let Some(flight) = self.flights.find(number) else { return };
        let (session, serial) = (flight.session, flight.serial);
        let Errand::Call(relay) = &flight.errand else { return };
        let asked = relay.asks.iter().find(|asked| asked.number == ask);
        let Some(token) = asked.and_then(|asked| asked.token.as_deref()) else { return };
        let (Some(era @ Era::Legacy(_)), Some(line)) = (self.verdict.era(), self.channel.line_of(serial)) else {
            return;
        };
        let params = with_token(Value::new(params), token);
        let deadline = now + self.settings.list_time;
        self.errand(now, Errand::Notice, Some(era), session, None, Passage::Notice(line), deadline, |out| {
            jsonrpc::notification(out, METHOD, &params);
        });
    }
}
