//! A simulator below the engine's ports: one thread, one seed, every crash.
//!
//! The lane, the writers, the committer and the order of a publication are the real ones. Target,
//! I/O backend and clockwork are simulated: who takes the next step, what fails, what arrives
//! short, and at which operation the power goes, all follow from a seed. After a power cut the same
//! job is run again on what the disk kept, until it ends. What must hold is in [`check`].
//!
//! `SIM_SEED=N` begins at that seed, `SIM_RUNS=N` takes so many. A failure says how to see it again;
//! `SIM_ALL=1` lists all seeds that fail instead of stopping at the first.

mod aim;
mod attempt;
mod backend;
mod bugs;
mod change;
mod check;
mod content;
mod crew;
mod disk;
mod errors;
mod inode;
mod job;
mod maker;
mod meddle;
mod records;
mod rng;
mod stager;
mod sweep;
mod target;
mod tests;
mod tree;
mod world;
