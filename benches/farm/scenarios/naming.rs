//! `inhaul bench` names what is slow, and what is shared, each time in another place.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::kit::data::{Noise, large};
use crate::kit::drives::{Drive, Farm, Fs};
use crate::kit::gauge::told;
use crate::kit::room::Room;
use crate::kit::spindle::{Link, Mechanics};
use crate::kit::table::{Goal, Outcome};
use crate::kit::{Plan, Result, shell};

const MB: u64 = 1_000_000;
const RATE: u64 = 40 * MB;
/// Images on one drive, which gives half of what they would.
const SHARING: usize = 4;
/// Drives of their own; one of them may be slow.
const APART: usize = 4;
/// Drives on something that the kernel shows nothing of, and that carries half of what they would
/// give.
const HIDDEN: usize = 3;

/// A loop device over an image on another drive.
struct Image {
    device: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        drop(shell::run("losetup", &["-d", &self.device]));
    }
}

/// What is shared in a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    /// A drive that holds images: the kernel shows it.
    Holder,
    /// Something that the kernel does not show.
    Hidden,
    Nothing,
}

/// The drives of all trials.
struct Bench {
    // Gone before what they lie on.
    images: Vec<Image>,
    farm: Farm,
    link: Arc<Link>,
}

impl Bench {
    fn new(plan: &Plan) -> Result<Self> {
        let data = plan.pick(64 * MB, 8 * MB);
        let room = Farm::room_for(Fs::Ext4, (APART + HIDDEN + SHARING) as u64, data);
        let mut farm = Farm::new(Room::new(plan, "naming", room)?)?;
        for at in 0..APART {
            farm.add(Fs::Ext4, RATE, data, |path| large(path, 1, data, at as u64))?;
        }
        let link = Arc::new(Link::new(u64::MAX));
        for at in APART..APART + HIDDEN {
            let length = data + (48 << 20);
            let length = length.next_multiple_of(1 << 20);
            farm.add_spindle(length, RATE, |path| large(path, 1, data, at as u64))?;
            let arm = farm.drives.last().and_then(|drive| drive.arm());
            let arm = arm.ok_or("a drive without an arm")?;
            arm.hang_on(&link);
            arm.engage(Mechanics {
                rate: RATE,
                stroke: Duration::ZERO,
                turn: Duration::ZERO,
            });
        }
        let held = data * SHARING as u64;
        farm.add(Fs::Ext4, 0, held, |path| {
            large(path, SHARING as u64, data, 9)
        })?;
        let mut bench = Self {
            images: Vec::new(),
            farm,
            link,
        };
        for at in 0..SHARING {
            let path = bench.holder()?.path.join(format!("large-{at:03}.bin"));
            let path = path.to_string_lossy();
            let device = shell::run("losetup", &["--find", "--show", "--direct-io=on", &path])?;
            bench.farm.throttle.limit(&device, RATE)?;
            bench.images.push(Image { device });
        }
        Ok(bench)
    }

    fn holder(&self) -> Result<&Drive> {
        Ok(self.farm.drives.last().ok_or("no drives")?)
    }

    /// The drives of their own.
    fn apart(&self) -> &[Drive] {
        self.farm.drives.get(..APART).unwrap_or_default()
    }

    fn hidden(&self) -> &[Drive] {
        let drives = self.farm.drives.get(APART..APART + HIDDEN);
        drives.unwrap_or_default()
    }

    /// Sets what is slow and what is shared.
    fn set(&self, slow: Option<usize>, shared: Shared) -> Result<()> {
        for (at, drive) in self.apart().iter().enumerate() {
            let rate = if slow == Some(at) { RATE / 4 } else { RATE };
            self.farm.throttle.limit(&drive.device, rate)?;
        }
        let half = |is: bool, count: usize| {
            let all = RATE * count as u64;
            if is { all / 2 } else { all * 4 }
        };
        let carries = half(shared == Shared::Holder, SHARING);
        self.farm.throttle.limit(&self.holder()?.device, carries)?;
        self.link.carries(half(shared == Shared::Hidden, HIDDEN));
        Ok(())
    }

    /// All that is measured, in an order that chance gives.
    fn devices(&self, chance: &mut Noise) -> Vec<&str> {
        let images = self.images.iter().map(|image| image.device.as_str());
        let drives = self.apart().iter().chain(self.hidden());
        let drives = drives.map(|drive| drive.device.as_str());
        let mut devices: Vec<&str> = images.chain(drives).collect();
        for at in (1..devices.len()).rev() {
            let other = usize::try_from(chance.between(0, at as u64)).unwrap_or(0);
            devices.swap(at, other);
        }
        devices
    }

    /// What is to be named as shared, and by whom, in the order they are measured in.
    fn sharing(&self, shared: Shared, devices: &[&str]) -> Result<Option<(String, Vec<String>)>> {
        let named = |is_one: &dyn Fn(&str) -> bool| {
            let them = devices.iter().filter(|device| is_one(device));
            them.map(|device| short(device)).collect()
        };
        Ok(match shared {
            Shared::Holder => {
                let is_one = |device: &str| self.images.iter().any(|it| it.device == device);
                Some((short(&self.holder()?.device), named(&is_one)))
            }
            Shared::Hidden => {
                let is_one = |device: &str| self.hidden().iter().any(|it| it.device == device);
                Some(("unknown".to_owned(), named(&is_one)))
            }
            Shared::Nothing => None,
        })
    }
}

fn short(device: &str) -> String {
    device.trim_start_matches("/dev/").to_owned()
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let trials = plan.pick(20_u32, 1);
    let bench = Bench::new(plan)?;
    let mut chance = Noise::new(20);
    let (mut slow_right, mut shared_right, mut wrong) = (0_u32, 0_u32, Vec::new());
    for trial in 0..trials {
        // One trial in two has a slow one, and one in three nothing shared: then none is to be found.
        let slow = usize::try_from(chance.between(0, APART as u64 - 1)).unwrap_or(0);
        let slow = Some(slow).filter(|_| trial % 2 == 0);
        let shared = match trial / 2 % 3 {
            0 => Shared::Hidden,
            1 => Shared::Holder,
            _ => Shared::Nothing,
        };
        bench.set(slow, shared)?;
        let devices = bench.devices(&mut chance);
        // A group holds drives to their rates in steps of 100 ms: with more in flight than comes through
        // in one, a rate is that of whole steps. The search for a queue is measured elsewhere.
        let line = format!(
            "'{}' bench --quiet --json --no-history --block 128KiB --depth 8 --seconds {} {}",
            plan.inhaul.display(),
            plan.pick(0.4, 0.1),
            devices.join(" ")
        );
        let (report, _) = told(plan, Some(&bench.farm.throttle.door()), &line)?;
        let expected = slow.and_then(|at| bench.apart().get(at));
        let expected: Vec<String> = expected.iter().map(|drive| short(&drive.device)).collect();
        let found = slow_drives(&report);
        if found == expected {
            slow_right += 1;
        } else {
            wrong.push(format!("trial {trial}: slow {found:?}, not {expected:?}"));
        }
        let expected = bench.sharing(shared, &devices)?;
        let found = shared_by(&report);
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
    Ok(Outcome {
        goals: vec![
            goal("slow drive, or none,", slow_right),
            goal("what is shared and who shares it, or none,", shared_right),
        ],
        notes: wrong,
        ..Outcome::default()
    })
}

fn slow_drives(report: &Value) -> Vec<String> {
    let verdicts = report["verdicts"].as_array().into_iter().flatten();
    verdicts
        .filter(|verdict| verdict["about"] == "slow-drive")
        .filter_map(|verdict| Some(verdict["subjects"][0].as_str()?.to_owned()))
        .collect()
}

/// What is named as shared and those that share it, or whatever else is named.
fn shared_by(report: &Value) -> Option<(String, Vec<String>)> {
    let together = &report["together"];
    let cause = together["cause"].as_str()?;
    let name = together["cause_name"].as_str().unwrap_or(cause).to_owned();
    let subjects = together["cause_subjects"].as_array();
    let subjects = subjects.into_iter().flatten();
    let subjects = subjects.filter_map(|name| Some(name.as_str()?.to_owned()));
    Some((name, subjects.collect()))
}
