//! `inhaul bench` names what is slow, and what is shared, each time in another place.

use serde_json::Value;

use crate::kit::data::{Noise, large};
use crate::kit::drives::{Farm, Fs};
use crate::kit::gauge::told;
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome};
use crate::kit::{Plan, Result, shell};

const MB: u64 = 1_000_000;
const RATE: u64 = 40 * MB;
/// Images on one drive, which gives half of what they would.
const SHARING: usize = 4;
/// Drives of their own; one of them may be slow.
const APART: usize = 4;

/// A loop device over an image on another drive.
struct Image {
    device: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        drop(shell::run("losetup", &["-d", &self.device]));
    }
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let trials = plan.pick(20_u32, 1);
    let data = plan.pick(64 * MB, 8 * MB);
    let room = Farm::room_for(Fs::Ext4, (APART + SHARING) as u64, data);
    let mut farm = Farm::new(Room::new(plan, "naming", room)?)?;
    for at in 0..APART {
        farm.add(Fs::Ext4, RATE, data, |path| large(path, 1, data, at as u64))?;
    }
    let held = data * SHARING as u64;
    farm.add(Fs::Ext4, 0, held, |path| {
        large(path, SHARING as u64, data, 9)
    })?;
    let (holder, apart) = farm.drives.split_last().ok_or("no drives")?;
    let mut images = Vec::new();
    for at in 0..SHARING {
        let path = holder.path.join(format!("large-{at:03}.bin"));
        let path = path.to_string_lossy();
        let device = shell::run("losetup", &["--find", "--show", "--direct-io=on", &path])?;
        farm.throttle.limit(&device, RATE)?;
        images.push(Image { device });
    }
    let mut chance = Noise::new(20);
    let (mut slow_right, mut shared_right, mut wrong) = (0_u32, 0_u32, Vec::new());
    for trial in 0..trials {
        let slow = usize::try_from(chance.between(0, APART as u64 - 1)).unwrap_or(0);
        // One trial in two has what is looked for; the other must find nothing.
        let (has_slow, has_shared) = (trial % 2 == 0, trial / 2 % 2 == 0);
        for (at, drive) in apart.iter().enumerate() {
            let rate = if has_slow && at == slow {
                RATE / 4
            } else {
                RATE
            };
            farm.throttle.limit(&drive.device, rate)?;
        }
        let all = RATE * SHARING as u64;
        let carries = if has_shared { all / 2 } else { all * 4 };
        farm.throttle.limit(&holder.device, carries)?;
        let names = images.iter().map(|image| image.device.as_str());
        let lone = apart.iter().map(|drive| drive.device.as_str());
        let mut devices: Vec<&str> = names.chain(lone).collect();
        for at in (1..devices.len()).rev() {
            let other = usize::try_from(chance.between(0, at as u64)).unwrap_or(0);
            devices.swap(at, other);
        }
        let line = format!(
            "'{}' bench --quiet --json --no-history --seconds {} {}",
            plan.inhaul.display(),
            plan.pick(0.5, 0.1),
            devices.join(" ")
        );
        let (report, _) = told(plan, Some(&farm.throttle.door()), &line)?;
        let short = |device: &str| device.trim_start_matches("/dev/").to_owned();
        let expected = apart.get(slow).filter(|_| has_slow);
        let expected: Vec<String> = expected.iter().map(|drive| short(&drive.device)).collect();
        let found = slow_drives(&report);
        if found == expected {
            slow_right += 1;
        } else {
            wrong.push(format!("trial {trial}: slow {found:?}, not {expected:?}"));
        }
        let is_image = |device: &&&str| images.iter().any(|image| image.device == **device);
        let sharing = devices.iter().filter(is_image).map(|device| short(device));
        let expected = has_shared.then(|| (short(&holder.device), sharing.collect()));
        let found = shared(&report);
        if found == expected {
            shared_right += 1;
        } else {
            wrong.push(format!("trial {trial}: shared {found:?}, not {expected:?}"));
        }
    }
    let goal = |what: &str, right: u32| {
        Goal::at_least(
            format!("bench: {what} named rightly, of {trials}"),
            Some(f64::from(right)),
            f64::from(trials),
        )
    };
    drop(images);
    Ok(Outcome {
        goals: vec![
            goal("slow drive, or none,", slow_right),
            goal("shared drive and who shares it, or none,", shared_right),
        ],
        notes: wrong,
        ..Outcome::default()
    })
}

fn slow_drives(report: &Value) -> Vec<String> {
    let verdicts = report["verdicts"].as_array().into_iter().flatten();
    verdicts
        .filter(|verdict| verdict["about"] == "slow-drive")
        .filter_map(|verdict| verdict["text"].as_str()?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The drive that is named as shared and those that share it, or whatever else is named.
fn shared(report: &Value) -> Option<(String, Vec<String>)> {
    let together = &report["together"];
    let cause = together["cause"].as_str()?;
    let name = together["cause_name"].as_str().unwrap_or(cause).to_owned();
    let subjects = together["cause_subjects"].as_array();
    let subjects = subjects.into_iter().flatten();
    let subjects = subjects.filter_map(|name| Some(name.as_str()?.to_owned()));
    Some((name, subjects.collect()))
}
