//! The copy itself.

pub mod job;
pub mod report;
pub mod telemetry;
