//! `inhaul bench` says how long a copy will take; then the copy is made.

use crate::kit::data::{Small, large};
use crate::kit::drives::{Farm, Fs};
use crate::kit::gauge::into_target;
use crate::kit::peers::inhaul;
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let drives = plan.pick(15_u64, 3);
    foresee(plan, "an even shelf", drives, &|_| (40, 1), &mut outcome)?;
    // 20 to 62 MB/s, and from one to three times as much on them: the slowest are not the fullest.
    let uneven = |at: u64| (20 + 3 * at, 1 + at % 3);
    foresee(plan, "an uneven shelf", drives, &uneven, &mut outcome)?;
    Ok(outcome)
}

fn foresee(
    plan: &Plan,
    shelf: &str,
    drives: u64,
    of: &dyn Fn(u64) -> (u64, u64),
    outcome: &mut Outcome,
) -> Result<()> {
    let unit = plan.pick(120 * MB, 12 * MB);
    let most = (0..drives).map(|at| of(at).1).max().unwrap_or(1);
    let room = Farm::room_for(Fs::Ext4, drives, unit * most);
    let mut farm = Farm::new(Room::new(plan, "foresee", room)?)?;
    for at in 0..drives {
        let (rate, units) = of(at);
        let data = unit * units;
        // A tenth of every third drive are small files.
        let small = if at % 3 == 2 { data / 10 } else { 0 };
        farm.add(Fs::Ext4, rate * MB, data, |path| {
            let tree = Small {
                files: small / 20_000,
                dirs: 8,
                low: 10_000,
                high: 30_000,
                shuffled: false,
            };
            Ok(tree.write(path, at)? + large(path, 2, (data - small) / 2, at)?)
        })?;
    }
    let name = format!("bench: a copy of {shelf} of {drives} drives");
    let race = Race {
        plan,
        name: &name,
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: Some(farm.throttle.door()),
        holds: farm.holds(),
        limit: farm.limit(),
    };
    let report = into_target(&race)?;
    crate::kit::race::empty(&race.target)?;
    let estimate = &report["estimate"];
    let rows = race.run(&[inhaul(&plan.inhaul, "")], nothing)?;
    let wall = row(&rows, "inhaul").and_then(Row::wall);
    let told = estimate["seconds"].as_f64();
    outcome.goals.push(Goal::at_most(
        format!("{name}: what it took off what was told"),
        ratio(wall, told).map(|ratio| (ratio - 1.0).abs()),
        0.10,
    ));
    outcome.notes.push(format!(
        "{name}: told {:.2} s ({:.2} to {:.2}), limited by {}; it took {:.2} s",
        told.unwrap_or(f64::NAN),
        estimate["seconds_min"].as_f64().unwrap_or(f64::NAN),
        estimate["seconds_max"].as_f64().unwrap_or(f64::NAN),
        estimate["limited_by"].as_str().unwrap_or("nothing"),
        wall.unwrap_or(f64::NAN),
    ));
    outcome.rows.extend(rows);
    Ok(())
}
