//! Servers that dial in: they connect to us, over TCP or WebSocket, say who they are and show a key, and are there for
//! as long as they stay connected. Several may share a name.
//!
//! Not here: listening (`boot::dial_in`), what is said (`gateway`). Invariant: nothing is heard of a connection, and
//! nothing said to it, before its first message showed the key of the name it gives.

mod gate;
mod links;
mod presented;
mod web_socket;

pub use gate::{Arrival, Gate, Gates, KeyDigest, NotAdmitted, Seat, Wire};
pub use links::Dialled;
pub use presented::{DIAL, Presented, accepted, refused};
pub use web_socket::{Said, WebSocket};
