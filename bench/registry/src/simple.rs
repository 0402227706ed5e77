//! Two simpler registries: one map behind one Mutex, and one map whose owner is reached by messages.
//!
//! Neither has shards, replicas, bounds, or a word about whether a write is known everywhere: they show what the shape
//! costs, not what the work costs. Not here: what is asked of them. Invariant: both do the same with the same map.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

/// What a registry is asked.
pub enum Asked {
    Bind(String, String),
    Find(String),
    Register(String),
    Route(String),
}

/// The map that both have.
#[derive(Default)]
pub struct Plain {
    servers: HashMap<String, Vec<u8>>,
    bindings: HashMap<String, String>,
    /// What a sink has taken.
    routed: Arc<AtomicU64>,
}

impl Plain {
    /// With these in it.
    pub fn populated<'a>(names: impl Iterator<Item = &'a String>) -> Plain {
        Plain { servers: names.map(|name| (name.clone(), b"{}".to_vec())).collect(), ..Plain::default() }
    }

    fn serve(&mut self, asked: Asked) -> bool {
        match asked {
            Asked::Find(name) => self.servers.contains_key(&name),
            Asked::Route(name) => {
                let message = b"{\"test\":true}".to_vec();
                let known = self.servers.contains_key(&name);
                self.routed.fetch_add(message.len() as u64, Ordering::Relaxed);
                known
            }
            Asked::Register(name) => {
                self.servers.entry(name).or_insert_with(|| b"{}".to_vec());
                true
            }
            Asked::Bind(transport, server) => {
                let known = self.servers.contains_key(&transport) && self.servers.contains_key(&server);
                self.bindings.insert(transport, server);
                known
            }
        }
    }
}

/// One of them; clones are the same. An owner ends with the last of them.
#[derive(Clone)]
pub enum Simple {
    Mutex(Arc<Mutex<Plain>>),
    Owner(mpsc::Sender<(Asked, oneshot::Sender<bool>)>),
}

impl Simple {
    pub fn behind_a_mutex(plain: Plain) -> Simple {
        Simple::Mutex(Arc::new(Mutex::new(plain)))
    }

    /// With an owner on a thread of its own.
    pub fn by_messages(mut plain: Plain) -> Simple {
        let (send, mut receive) = mpsc::channel::<(Asked, oneshot::Sender<bool>)>(1024);
        std::thread::spawn(move || {
            while let Some((asked, answer)) = receive.blocking_recv() {
                let _ = answer.send(plain.serve(asked));
            }
        });
        Simple::Owner(send)
    }

    /// Whether it is known what was asked for.
    pub async fn ask(&self, asked: Asked) -> bool {
        match self {
            Simple::Mutex(plain) => plain.lock().expect("nobody panics with it").serve(asked),
            Simple::Owner(send) => {
                let (answer, answered) = oneshot::channel();
                send.send((asked, answer)).await.is_ok() && answered.await.unwrap_or(false)
            }
        }
    }
}
