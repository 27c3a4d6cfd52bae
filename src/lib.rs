//! Copy many drives at once into target storage, hashing every byte on the way.
//!
//! One lane per physical drive: own thread, own ring, own buffers. Data flows
//! `scan -> plan -> read -> hash and write -> commit`; see `ARCHITECTURE.md` for the map.

pub mod bench;
pub mod beneath;
pub mod buffer;
pub mod cli;
pub mod digest;
pub mod engine;
pub mod error;
pub mod exit;
pub mod io;
pub mod journal;
pub mod manifest;
pub mod plan;
pub mod scan;
pub mod seam;
pub mod target;
pub mod topology;
