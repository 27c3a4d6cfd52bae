//! Events for programs: one JSON object a line on standard output.
//!
//! Each begins with `schema` and `type`. A field may be added at any time; one that changes meaning
//! or goes away raises the schema.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::escape::{escape_json, lossy};
use super::plan::DryRun;
use super::progress::{Row, View};
use crate::engine::report::{HealthChange, LaneReport, Problem, Report, SCHEMA};
use crate::engine::telemetry::Telemetry;
use crate::error::Error;

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// `start`: the lanes are known and reading begins.
    Start {
        /// `copy`, `hash` or `verify`.
        command: &'a str,
        /// The target as typed, if there is one.
        target: Option<&'a Path>,
        /// The lanes.
        telemetry: &'a Telemetry,
    },
    /// `progress`: one a second.
    Progress(&'a View),
    /// `problem`: something was not done.
    Problem(&'a Problem),
    /// `skipped`: something was left out on purpose.
    Skipped(&'a Problem),
    /// `health`: a drive fares otherwise than before.
    Health(&'a HealthChange),
    /// `drive`: a lane has ended.
    Drive(&'a LaneReport),
    /// `file`: the digest of a file (`hash`).
    File {
        /// The path, exact.
        path: &'a [u8],
        /// Length in bytes.
        size: u64,
        /// 64 hex digits.
        blake3: &'a str,
    },
    /// `plan`: what a dry run found.
    Plan(&'a DryRun),
    /// `error`: the run could not begin or had to end.
    Error(&'a Error),
    /// `summary`: the whole report, as `report`.
    Summary(&'a Report),
}

/// One line: schema, type, then the fields of the event.
#[derive(Serialize)]
struct Envelope<T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: T,
}

/// A path and, when that is not exact, its bytes.
#[derive(Serialize)]
struct PathBody {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

#[derive(Serialize)]
struct StartBody<'a> {
    command: &'a str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<PathBody>,
    lanes: Vec<StartLane<'a>>,
}

#[derive(Serialize)]
struct StartLane<'a> {
    drive: &'a str,
    sources: Vec<PathBody>,
}

#[derive(Serialize)]
struct ProgressBody<'a> {
    seconds: f64,
    total: RowBody<'a>,
    lanes: Vec<RowBody<'a>>,
    /// Lanes that read again what was copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    again: Vec<RowBody<'a>>,
}

#[derive(Serialize)]
struct RowBody<'a> {
    drive: &'a str,
    state: &'static str,
    /// How the drive fares; for the total, the worst of them.
    health: &'static str,
    /// Bytes of durable files.
    bytes_done: u64,
    /// Bytes that need no more reading.
    bytes_handled: u64,
    bytes_total: Option<u64>,
    /// Whether `bytes_total` is an estimate.
    estimated: bool,
    files_done: u64,
    problems: u64,
    bytes_per_second: Option<u64>,
    seconds_left: Option<u64>,
}

#[derive(Serialize)]
struct FileBody<'a> {
    #[serde(flatten)]
    path: PathBody,
    size: u64,
    blake3: &'a str,
}

#[derive(Serialize)]
struct ErrorBody {
    kind: &'static str,
    #[serde(flatten)]
    path: PathBody,
    reason: String,
}

#[derive(Serialize)]
struct SummaryBody<'a> {
    report: &'a Report,
}

impl Event<'_> {
    /// Returns the event as one line, with its line end.
    pub fn line(&self) -> Vec<u8> {
        match self {
            Self::Start {
                command,
                target,
                telemetry,
            } => line("start", start(command, *target, telemetry)),
            Self::Progress(view) => line("progress", progress(view)),
            Self::Problem(problem) => line("problem", problem),
            Self::Skipped(problem) => line("skipped", problem),
            Self::Health(change) => line("health", change),
            Self::Drive(lane) => line("drive", lane),
            Self::File { path, size, blake3 } => line(
                "file",
                FileBody {
                    path: path_body(path),
                    size: *size,
                    blake3,
                },
            ),
            Self::Plan(plan) => line("plan", plan),
            Self::Error(error) => line(
                "error",
                ErrorBody {
                    kind: error.kind().word(),
                    path: of_path(error.path()),
                    reason: error.reason(),
                },
            ),
            Self::Summary(report) => line("summary", SummaryBody { report }),
        }
    }
}

fn line(kind: &'static str, body: impl Serialize) -> Vec<u8> {
    let envelope = Envelope {
        schema: SCHEMA,
        kind,
        body,
    };
    // All bodies are structs of strings and numbers with string keys, which always serialise.
    let mut line = serde_json::to_vec(&envelope).unwrap_or_default();
    line.push(b'\n');
    escape_json(line)
}

fn start<'a>(command: &'a str, target: Option<&Path>, telemetry: &'a Telemetry) -> StartBody<'a> {
    let lanes = telemetry.lanes.iter().map(|lane| StartLane {
        drive: &lane.name,
        sources: lane
            .sources
            .iter()
            .map(PathBuf::as_path)
            .map(of_path)
            .collect(),
    });
    StartBody {
        command,
        version: env!("CARGO_PKG_VERSION"),
        target: target.map(of_path),
        lanes: lanes.collect(),
    }
}

fn progress(view: &View) -> ProgressBody<'_> {
    ProgressBody {
        seconds: view.elapsed.as_secs_f64(),
        total: row(&view.total),
        lanes: view.lanes.iter().map(row).collect(),
        again: view.again.iter().map(row).collect(),
    }
}

fn row(row: &Row) -> RowBody<'_> {
    RowBody {
        drive: &row.name,
        state: row.state.word(),
        health: row.health.word(),
        bytes_done: row.durable,
        bytes_handled: row.done,
        bytes_total: row.total.bytes(),
        estimated: !matches!(row.total, super::progress::Total::Exact(_)),
        files_done: row.files,
        problems: row.problems,
        bytes_per_second: row.rate,
        seconds_left: row.left.map(|left| left.as_secs()),
    }
}

fn of_path(path: &Path) -> PathBody {
    use std::os::unix::ffi::OsStrExt;
    path_body(path.as_os_str().as_bytes())
}

fn path_body(bytes: &[u8]) -> PathBody {
    let (path, path_hex) = lossy(bytes);
    PathBody { path, path_hex }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::report::{Evidence, Totals};
    use crate::engine::telemetry::{LaneCounters, LaneView};
    use crate::error::{ErrorKind, Side};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn text(event: &Event<'_>) -> String {
        String::from_utf8(event.line()).unwrap()
    }

    #[test]
    fn events_are_lines_with_schema_and_type_first() {
        let problem = Problem {
            path: "a\u{fffd}\n".to_owned(),
            path_hex: Some("61ff0a".to_owned()),
            kind: "source-read".to_owned(),
            reason: "read: Input/output error".to_owned(),
            unreadable: None,
        };
        assert_eq!(
            text(&Event::Problem(&problem)),
            "{\"schema\":1,\"type\":\"problem\",\"path\":\"a\u{fffd}\\n\",\"path_hex\":\"61ff0a\",\
             \"kind\":\"source-read\",\"reason\":\"read: Input/output error\"}\n"
        );
        let file = Event::File {
            path: b"plain",
            size: 7,
            blake3: "00ff",
        };
        assert_eq!(
            text(&file),
            "{\"schema\":1,\"type\":\"file\",\"path\":\"plain\",\"size\":7,\"blake3\":\"00ff\"}\n"
        );
        let error = Error::new(
            ErrorKind::Locked,
            Side::Record,
            OsStr::from_bytes(b"/t\xff"),
            "lock",
        );
        assert_eq!(
            text(&Event::Error(&error)),
            "{\"schema\":1,\"type\":\"error\",\"kind\":\"locked\",\"path\":\"/t\u{fffd}\",\
             \"path_hex\":\"2f74ff\",\"reason\":\"lock\"}\n"
        );
    }

    #[test]
    fn a_drive_says_whether_it_may_go() {
        let lane = LaneReport {
            drive: "sdb".to_owned(),
            model: None,
            serial: Some("VG0X".to_owned()),
            rotational: None,
            sources: vec!["/mnt/d1".to_owned()],
            state: "done".to_owned(),
            health: "ok".to_owned(),
            totals: Totals::default(),
            seconds: 1.5,
            limited_by: "source".to_owned(),
            best_bytes_per_second: Some(8.0),
            share_of_best: None,
            waited_seconds: [0.5, 0.0, 0.0, 0.0],
            evidence: Evidence {
                read_back: 7,
                ..Evidence::default()
            },
            safe_to_release: true,
            verdict: "read back".to_owned(),
            io: "blocking".to_owned(),
            buffers: 3,
        };
        assert_eq!(
            text(&Event::Drive(&lane)),
            "{\"schema\":1,\"type\":\"drive\",\"drive\":\"sdb\",\"model\":null,\
             \"serial\":\"VG0X\",\"rotational\":null,\"sources\":[\"/mnt/d1\"],\
             \"state\":\"done\",\"health\":\"ok\",\"totals\":{\"files\":0,\"bytes\":0,\"others\":0,\"dirs\":0,\
             \"existing\":0,\"existing_bytes\":0,\"kept\":0,\"kept_bytes\":0,\"changed\":0,\
             \"salvaged\":0,\"problems\":0,\"bytes_per_second\":0.0},\"seconds\":1.5,\"limited_by\":\"source\",\
             \"best_bytes_per_second\":8.0,\"share_of_best\":null,\
             \"waited_seconds\":[0.5,0.0,0.0,0.0],\"evidence\":{\"hashed\":0,\"read_back\":7,\
             \"read_back_near\":0,\"cached\":0,\"source_read_twice\":0},\
             \"safe_to_release\":true,\"verdict\":\"read back\",\"io\":\"blocking\",\
             \"buffers\":3}\n"
        );
    }

    #[test]
    fn start_and_progress_name_the_lanes() {
        let telemetry = Telemetry::new(vec![LaneView {
            name: "sdb".to_owned(),
            sources: vec!["/mnt/d1".into()],
            counters: LaneCounters::default(),
        }]);
        let start = Event::Start {
            command: "copy",
            target: Some(Path::new("/tank")),
            telemetry: &telemetry,
        };
        assert_eq!(
            text(&start),
            format!(
                "{{\"schema\":1,\"type\":\"start\",\"command\":\"copy\",\"version\":\"{}\",\
                 \"target\":{{\"path\":\"/tank\"}},\"lanes\":[{{\"drive\":\"sdb\",\
                 \"sources\":[{{\"path\":\"/mnt/d1\"}}]}}]}}\n",
                env!("CARGO_PKG_VERSION")
            )
        );
        let mut tracker = crate::cli::progress::Tracker::default();
        let view = tracker.look(&telemetry, std::time::Duration::from_millis(1500));
        let row = "\"state\":\"waiting\",\"health\":\"ok\",\"bytes_done\":0,\"bytes_handled\":0,\
                   \"bytes_total\":null,\"estimated\":true,\"files_done\":0,\"problems\":0,\
                   \"bytes_per_second\":null,\"seconds_left\":null}";
        let total = row.replace("waiting", "running");
        assert_eq!(
            text(&Event::Progress(&view)),
            format!(
                "{{\"schema\":1,\"type\":\"progress\",\"seconds\":1.5,\
                 \"total\":{{\"drive\":\"total\",{total},\"lanes\":[{{\"drive\":\"sdb\",{row}]}}\n"
            )
        );
        let back = Telemetry::new(vec![LaneView {
            name: "read back".to_owned(),
            sources: Vec::new(),
            counters: LaneCounters::default(),
        }]);
        telemetry.add_again(&std::sync::Arc::new(back));
        let view = tracker.look(&telemetry, std::time::Duration::from_millis(1600));
        let text = text(&Event::Progress(&view));
        let again = format!("],\"again\":[{{\"drive\":\"read back\",{row}]}}\n");
        assert!(text.ends_with(&again), "{text}");
    }
}
