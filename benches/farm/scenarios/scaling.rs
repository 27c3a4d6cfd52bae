//! From 1 to 60 drives: the rate of the whole shelf against the number of drives.

use super::shelf::{build, race};
use crate::kit::curve::{self, Line};
use crate::kit::peers::{inhaul, peer};
use crate::kit::race::nothing;
use crate::kit::table::{Outcome, Row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let rate = 20 * MB;
    let data = plan.pick(80 * MB, 2 * MB);
    let counts: &[u64] = plan.pick(&[1, 2, 4, 8, 15, 30, 60], &[1, 3]);
    let mut outcome = Outcome::default();
    let mut lines: Vec<Line> = Vec::new();
    for &count in counts {
        let farm = build(plan, "scale", count, data, rate)?;
        let name = format!("Scaling: {count} drives at 20 MB/s");
        let race = race(plan, &farm, &name)?;
        let tools = [
            inhaul(&plan.inhaul, ""),
            peer("parallel rsync")?,
            peer("parallel cp, then b3sum")?,
            peer("rclone copy")?,
            peer("cp -a")?,
        ];
        let rows = race.run(&tools, nothing)?;
        #[allow(clippy::cast_precision_loss, reason = "megabytes of a farm")]
        let (drives, megabytes) = (count as f64, race.holds.bytes as f64 / 1e6);
        add(
            &mut lines,
            "limit of the drives",
            drives,
            megabytes / race.limit,
        );
        for row in &rows {
            if let Some(wall) = row.median(|sample| sample.wall) {
                add(&mut lines, &row.tool, drives, megabytes / wall);
            }
        }
        outcome.rows.extend::<Vec<Row>>(rows);
    }
    let path = plan.work.join("scaling.svg");
    std::fs::write(&path, curve::svg(&lines)).map_err(|e| format!("the picture: {e}"))?;
    outcome
        .notes
        .push(format!("Scaling: picture in {}", path.display()));
    Ok(outcome)
}

fn add(lines: &mut Vec<Line>, name: &str, x: f64, y: f64) {
    match lines.iter_mut().find(|line| line.name == name) {
        Some(line) => line.points.push((x, y)),
        None => lines.push(Line {
            name: name.to_owned(),
            points: vec![(x, y)],
        }),
    }
}
