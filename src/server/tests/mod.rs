//! The machines of a core without anything around them: virtual time, bytes in, bytes out.

mod at_once;
mod bounds;
mod carried;
mod cores;
mod early;
mod filtered;
mod growth;
mod paced;
mod resuming;
mod rig;
mod subscribing;
mod terms;
mod times;
