//! Command line to lanes: which sources, where they land, which drive each is on, how much memory
//! each lane gets. Everything that can be refused is refused here, before anything is written.

mod budget;
mod find;
mod identity;
mod lanes;
mod recognise;
mod sources;
mod space;
mod touch;

#[cfg(test)]
mod known_again;

pub use budget::{Budget, LANE_SLOTS_MAX, LANE_SLOTS_MIN};
pub use find::{NotBack, find_elsewhere, find_in_place, find_returned, is_same_mount};
pub use identity::{identity, serial};
pub use lanes::{LanePlan, lanes, tree};
pub use recognise::{
    Matched, Recognised, recognise, recognise_more, source_identity, source_place,
};
pub use sources::{NamedLink, Source, TargetPlace, check_landings, look_at_target, open_sources};
pub use space::{Need, Room, room};
pub use touch::{Trail, touch};
