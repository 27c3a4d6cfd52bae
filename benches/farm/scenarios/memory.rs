//! P8: memory does not grow with the number of files. (60 drives are measured with P1.)

use crate::kit::data::Small;
use crate::kit::peers::inhaul;
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio};
use crate::kit::{Plan, Result};

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for files in plan.pick([10_000, 100_000, 1_000_000], [100, 400, 1600]) {
        let room = Room::new(plan, "p8", 0)?;
        let source = room.disk("source")?;
        let tree = Small {
            files,
            dirs: files / 100,
            low: 1,
            high: 300,
            shuffled: false,
        };
        let holds = tree.write(&source, 8)?;
        let name = format!("P8: {files} files of up to 300 bytes, same disk");
        // Once is enough: peak memory hardly varies, and a million files take their time.
        let once = Plan {
            runs: 1,
            ..plan.clone()
        };
        let race = Race {
            plan: &once,
            name: &name,
            parent: source.clone(),
            sources: vec![source],
            target: room.disk("target")?,
            door: None,
            holds,
            limit: 0.0,
        };
        let rows = race.run(&[inhaul(&plan.inhaul, "")], nothing)?;
        outcome.rows.extend(rows);
    }
    let peaks: Vec<Option<f64>> = outcome.rows.iter().map(Row::peak).collect();
    let (least, most) = (
        peaks.first().copied().flatten(),
        peaks.last().copied().flatten(),
    );
    outcome.goals.push(Goal::at_most(
        "P8: peak memory with most files / with fewest",
        ratio(most, least),
        1.1,
    ));
    Ok(outcome)
}
