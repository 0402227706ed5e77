//! Tests of the native server.
