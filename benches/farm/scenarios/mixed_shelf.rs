//! P3: a slow drive and a drive of small files must not hold up the others.

use serde_json::Value;

use crate::kit::data::{Small, large};
use crate::kit::drives::{Farm, Fs};
use crate::kit::peers::{inhaul, peer};
use crate::kit::race::{Moment, Race};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, median};
use crate::kit::{Context as _, Plan, Result};

const MB: u64 = 1_000_000;
const RATE: u64 = 40 * MB;

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let data = plan.pick(240 * MB, 8 * MB);
    let tree = Small {
        files: plan.pick(20_000, 200),
        dirs: plan.pick(200, 5),
        low: 1,
        high: 16_000,
        shuffled: false,
    };
    let room = Room::new(plan, "p3", Farm::room_for(Fs::Ext4, 8, data))?;
    let mut farm = Farm::new(room)?;
    farm.add(Fs::Ext4, RATE / 4, data, |path| large(path, 4, data / 4, 0))?;
    farm.add(Fs::Ext4, RATE, data, |path| tree.write(path, 1))?;
    for at in 2..8 {
        farm.add(Fs::Ext4, RATE, data, |path| large(path, 4, data / 4, at))?;
    }
    let race = Race {
        plan,
        name: "P3: 8 drives at 40 MB/s, one at 10, one of small files",
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: Some(farm.throttle.door()),
        holds: farm.holds(),
        limit: farm.limit(),
    };
    let mut lanes: Vec<Vec<f64>> = vec![Vec::new(); farm.drives.len()];
    let tools = [inhaul(&plan.inhaul, ""), peer("parallel cp")?];
    let rows = race.run(&tools, |moment, tool| {
        if moment == Moment::After && tool.ours() {
            let path = race.target.join(".inhaul/latest/report.json");
            let text = std::fs::read_to_string(path).context("the report")?;
            let report: Value = serde_json::from_str(&text).context("the report")?;
            for lane in report["lanes"].as_array().into_iter().flatten() {
                let source = lane["sources"][0].as_str().unwrap_or_default();
                let at = race.sources.iter().position(|path| path == source);
                if let (Some(at), Some(seconds)) = (at, lane["seconds"].as_f64())
                    && let (Some(drive), Some(ratios)) = (farm.drives.get(at), lanes.get_mut(at))
                {
                    ratios.push(seconds / drive.limit());
                }
            }
        }
        Ok(())
    })?;
    let medians: Vec<Option<f64>> = lanes
        .iter_mut()
        .map(|ratios| {
            ratios.sort_by(f64::total_cmp);
            median(ratios)
        })
        .collect();
    let others: Option<Vec<f64>> = medians.iter().skip(2).copied().collect();
    let worst = others.and_then(|others| others.into_iter().max_by(f64::total_cmp));
    let words: Vec<String> = medians
        .iter()
        .map(|value| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}")))
        .collect();
    Ok(Outcome {
        rows,
        goals: vec![Goal::at_most(
            "P3: worst lane of large files, its time / its drive's own",
            worst,
            1.05,
        )],
        notes: vec![format!(
            "P3: each lane's time / its drive's own (slow, small files, the rest): {}",
            words.join(", ")
        )],
    })
}
