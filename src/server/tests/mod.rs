//! The machines of a core without anything around them: virtual time, bytes in, bytes out.

mod cores;
mod rig;
mod subscribing;
mod times;
