//! P7: nothing in the way but the processor: drives and target in RAM.

use crate::kit::data::{Size, large};
use crate::kit::drives::{Farm, Fs};
use crate::kit::gauge::into_target;
use crate::kit::peers::{fio, inhaul, peer};
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, median, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;
const DRIVES: u64 = 4;

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let data = plan.pick(600 * MB, 12 * MB);
    let room = Room::new(plan, "p7", Farm::room_for(Fs::Ext4, DRIVES, data) * 2)?;
    let mut farm = Farm::new(room)?;
    for at in 0..DRIVES {
        farm.add(Fs::Ext4, 0, data, |path| large(path, 4, data / 4, at))?;
    }
    let sources = farm.paths();
    let holds = farm.holds();
    farm.add(Fs::Ext4, 0, data * DRIVES, |path| {
        // A target's root is a directory of its own: lost+found is not to be emptied.
        std::fs::create_dir(path.join("target")).map_err(|e| e.to_string())?;
        Ok(Size::default())
    })?;
    let target = farm.drives.last().ok_or("no target")?.path.join("target");
    let race = Race {
        plan,
        name: "P7: 4 drives of 600 MB and the target in RAM",
        sources,
        parent: farm.shelf(),
        target,
        door: None,
        holds,
        limit: 0.0,
    };
    let both = |block: &str| {
        let mut line = format!(
            "--name=global --bs={block} --direct=1 --ioengine=io_uring --iodepth=3 --thread"
        );
        for (at, drive) in (0..DRIVES).zip(&farm.drives) {
            let (device, size) = (&drive.device, data / 4096 * 4096);
            line += &format!(
                " --name=r{at} --rw=read --filename={device} --size={size} --name=w{at} --rw=write \
                 --filename=\"$T\"/fio-{at} --size={size} --fallocate=posix --end_fsync=1"
            );
        }
        fio(&format!("fio, reads and writes of {block}"), &line)
    };
    let tools = [
        inhaul(&plan.inhaul, ""),
        inhaul(&plan.inhaul, "--io blocking"),
        both("1M"),
        both("4M"),
        peer("parallel cp")?,
        peer("parallel cp, then b3sum")?,
    ];
    let rows = race.run(&tools, nothing)?;
    let unhashed = with_and_without(plan, &race)?;
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    let mut notes = vec![format!("P7: images in {}", farm.room.kind())];
    for row in &rows {
        #[allow(clippy::cast_precision_loss, reason = "bytes of a race")]
        let gigabytes = holds.bytes as f64 / 1e9;
        if let Some(rate) = ratio(Some(gigabytes), row.cpu()) {
            let tool = &row.tool;
            notes.push(format!("P7: {tool}: {rate:.2} GB for a second of a core"));
        }
    }
    Ok(Outcome {
        goals: vec![
            Goal::at_most(
                "P7: wall with hashing / fio's reads and writes of 4M",
                ratio(wall("inhaul"), wall("fio, reads and writes of 4M")),
                1.20,
            ),
            Goal::at_most(
                "P7: wall with hashing / without, the same reads and writes",
                unhashed,
                1.20,
            ),
        ],
        rows,
        notes,
    })
}

/// How much longer the same reads and writes take with hashing: a copy always hashes, `bench`
/// measures both.
fn with_and_without(plan: &Plan, race: &Race<'_>) -> Result<Option<f64>> {
    let mut ratios = Vec::new();
    for _ in 0..plan.runs {
        let report = into_target(race)?;
        race.clear()?;
        let rate = |of: &str| report["pair"][of]["rate"].as_f64();
        ratios.extend(ratio(rate("unhashed"), rate("hashed")));
    }
    ratios.sort_by(f64::total_cmp);
    Ok(median(&ratios))
}
