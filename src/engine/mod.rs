//! The copy itself: jobs in, reports out.
//!
//! **Boundary.** Prints nothing and knows no command line; tells an [`Observer`] instead.

mod ahead;
mod behind;
mod commit;
mod context;
mod copy;
mod counting;
mod dry_run;
mod elsewhere;
mod examine;
mod feed;
mod findings;
mod finisher;
mod fold;
mod folders;
mod forecast;
mod hash;
mod homes;
mod inspect;
pub mod job;
mod kept;
mod lane;
mod ledger;
mod left_out;
mod limit;
mod links;
mod log;
mod mend;
mod mounted;
mod opening;
mod outcomes;
mod outlets;
mod owed;
mod pace;
mod pass;
mod patience;
mod places;
mod proof;
mod readback;
mod recipe;
pub mod report;
mod returns;
mod revive;
mod roll_call;
mod room;
mod run;
mod sealing;
mod second_read;
mod session;
mod settle;
mod setup;
// It needs the seam, which a release build has none of.
#[cfg(debug_assertions)]
#[cfg(test)]
mod sim;
mod spill;
mod spots;
mod standing;
mod summary;
mod survey;
pub mod telemetry;
mod threads;
mod traces;
mod unmounted;
mod verdict;
mod verify;
mod vigil;
mod vitals;
mod watch;
mod watched;
mod writers;

pub(crate) use behind::Behind;
pub use copy::{copy, resume};
pub use dry_run::dry_run;
pub use hash::hash;
pub use left_out::LeftOut;
pub(crate) use outcomes::shown;
pub use recipe::{JOB_FILE, Recipe};
pub use revive::{Revived, revive, unfinished};
pub use session::{Observer, Session, Silent};
pub use verify::verify;
