//! Answers notified system calls.
#![allow(dead_code, reason = "used by the engines")]
