//! The drives for programs: one JSON object. `FORMATS.md` says what each field is.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use crate::cli::escape::{escape_json, lossy};
use crate::topology::{Attached, Link, MountUse, Part, Shelf, Unit};

/// Version of the form. A field may be added at any time; one that changes meaning or goes away
/// raises it.
pub(super) const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
    kernel: &'a str,
    drives: Vec<DriveBody<'a>>,
    links: Vec<LinkBody<'a>>,
    units: Vec<UnitBody<'a>>,
}

#[derive(Serialize)]
struct DriveBody<'a> {
    name: &'a str,
    path: String,
    paths: Vec<String>,
    major: u32,
    minor: u32,
    model: Option<&'a str>,
    serial: Option<&'a str>,
    wwn: Option<&'a str>,
    bytes: u64,
    used_bytes: Option<u64>,
    transport: &'static str,
    rotational: Option<bool>,
    read_only: bool,
    logical_block: u32,
    physical_block: u32,
    queue_depth: Option<u32>,
    queue_requests: Option<u32>,
    request_bytes_max: Option<u64>,
    scheduler: Option<&'a str>,
    controller: Option<ControllerBody<'a>>,
    numa_node: Option<u32>,
    narrowest_link: Option<NarrowestBody<'a>>,
    health: HealthBody<'a>,
    holds: &'a [String],
    holders: &'a [String],
    partitions: Vec<PartBody<'a>>,
    mounts: Vec<MountBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<PathBody>,
}

#[derive(Serialize)]
struct ControllerBody<'a> {
    place: &'a str,
    driver: Option<&'a str>,
}

#[derive(Serialize)]
struct NarrowestBody<'a> {
    name: &'a str,
    bytes_per_second: u64,
}

#[derive(Serialize)]
struct HealthBody<'a> {
    state: Option<&'a str>,
    io_errors: Option<u64>,
    io_timeouts: Option<u64>,
    celsius: Option<f64>,
    concerns: &'a [String],
}

#[derive(Serialize)]
struct PartBody<'a> {
    name: &'a str,
    bytes: u64,
    read_only: bool,
    holds: Option<&'a str>,
    label: Option<&'a str>,
}

#[derive(Serialize)]
struct PathBody {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

#[derive(Serialize)]
struct MountBody<'a> {
    #[serde(flatten)]
    path: PathBody,
    fs: &'a str,
    read_only: bool,
    bytes: Option<u64>,
    used_bytes: Option<u64>,
    available_bytes: Option<u64>,
    drives: usize,
}

#[derive(Serialize)]
struct LinkBody<'a> {
    kind: &'static str,
    name: &'a str,
    also: &'a [String],
    bytes_per_second: Option<u64>,
    drives: &'a [String],
}

#[derive(Serialize)]
struct UnitBody<'a> {
    name: &'a str,
    mounts: Vec<UnitMountBody<'a>>,
}

#[derive(Serialize)]
struct UnitMountBody<'a> {
    #[serde(flatten)]
    path: PathBody,
    fs: &'a str,
    read_only: bool,
}

/// Returns the object, with a line end.
pub(super) fn document(shelf: &Shelf, kernel: &str) -> Vec<u8> {
    let document = Document {
        schema: SCHEMA,
        kind: "drives",
        version: env!("CARGO_PKG_VERSION"),
        kernel,
        drives: shelf.drives.iter().map(drive).collect(),
        links: shelf.links.iter().map(link).collect(),
        units: shelf.units.iter().map(unit).collect(),
    };
    // Structs of strings and numbers always serialise.
    let mut text = serde_json::to_vec(&document).unwrap_or_default();
    text.push(b'\n');
    escape_json(text)
}

fn drive(attached: &Attached) -> DriveBody<'_> {
    let drive = &attached.drive;
    DriveBody {
        name: &drive.name,
        path: format!("/dev/{}", drive.name),
        paths: attached
            .paths
            .iter()
            .map(|name| format!("/dev/{name}"))
            .collect(),
        major: drive.device.0,
        minor: drive.device.1,
        model: drive.model.as_deref(),
        serial: drive.serial.as_deref(),
        wwn: drive.wwn.as_deref(),
        bytes: drive.size,
        used_bytes: attached.used_bytes(),
        transport: drive.transport.word(),
        rotational: drive.rotational,
        read_only: drive.read_only,
        logical_block: drive.logical_block,
        physical_block: drive.physical_block,
        queue_depth: attached.queue.depth,
        queue_requests: attached.queue.requests,
        request_bytes_max: attached.queue.max_bytes,
        scheduler: attached.queue.scheduler.as_deref(),
        controller: attached
            .controller
            .as_ref()
            .map(|controller| ControllerBody {
                place: &controller.place,
                driver: controller.driver.as_deref(),
            }),
        numa_node: attached.controller.as_ref().and_then(|c| c.numa_node),
        narrowest_link: attached
            .narrowest
            .as_ref()
            .map(|(name, most)| NarrowestBody {
                name,
                bytes_per_second: *most,
            }),
        health: HealthBody {
            state: attached.health.state.as_deref(),
            io_errors: attached.health.io_errors,
            io_timeouts: attached.health.io_timeouts,
            celsius: attached.health.millidegrees.map(celsius),
            concerns: &attached.health.concerns,
        },
        holds: &attached.holds,
        holders: &attached.holders,
        partitions: attached.parts.iter().map(part).collect(),
        mounts: attached.mounts.iter().map(mount).collect(),
        image: drive.backing.as_deref().map(path),
    }
}

fn celsius(millidegrees: i64) -> f64 {
    let clamped = i32::try_from(millidegrees).unwrap_or(i32::MAX);
    f64::from(clamped) / 1000.0
}

fn part(part: &Part) -> PartBody<'_> {
    PartBody {
        name: &part.name,
        bytes: part.size,
        read_only: part.read_only,
        holds: part.holds.as_deref(),
        label: part.label.as_deref(),
    }
}

fn mount(used: &MountUse) -> MountBody<'_> {
    MountBody {
        path: path(&used.mount.point),
        fs: &used.mount.fs,
        read_only: used.mount.read_only,
        bytes: used.usage.map(|usage| usage.size),
        used_bytes: used.usage.map(|usage| usage.used),
        available_bytes: used.usage.map(|usage| usage.available),
        drives: used.spread,
    }
}

fn link(link: &Link) -> LinkBody<'_> {
    LinkBody {
        kind: link.kind.word(),
        name: &link.name,
        also: &link.also,
        bytes_per_second: link.ceiling,
        drives: &link.drives,
    }
}

fn unit(unit: &Unit) -> UnitBody<'_> {
    let mounts = unit.mounts.iter().map(|mount| UnitMountBody {
        path: path(&mount.point),
        fs: &mount.fs,
        read_only: mount.read_only,
    });
    UnitBody {
        name: &unit.name,
        mounts: mounts.collect(),
    }
}

fn path(path: &Path) -> PathBody {
    let (path, path_hex) = lossy(path.as_os_str().as_bytes());
    PathBody { path, path_hex }
}
