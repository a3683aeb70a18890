//! Tests of the registry room with a scripted transport.
