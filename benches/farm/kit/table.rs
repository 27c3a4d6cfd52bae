//! Results: a table for people, JSON for machines.

use std::io::Write as _;

use serde_json::{Value, json};

use super::child::Sample;
use super::{Context as _, Result, host};

/// One tool in one race.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Scenario and variant.
    pub(crate) scenario: String,
    /// The tool.
    pub(crate) tool: String,
    /// Whether it takes a digest of every byte.
    pub(crate) hashes: bool,
    /// The least seconds possible; zero when unknown.
    pub(crate) limit: f64,
    /// Bytes copied.
    pub(crate) bytes: u64,
    /// Its runs.
    pub(crate) samples: Vec<Sample>,
    /// Why there are none, or fewer.
    pub(crate) trouble: Option<String>,
}

impl Row {
    fn values(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// Median of what `of` gives; none without runs.
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(&self.values(of))
    }

    /// Median wall seconds.
    pub(crate) fn wall(&self) -> Option<f64> {
        self.median(|sample| sample.wall)
    }

    /// Median CPU seconds.
    pub(crate) fn cpu(&self) -> Option<f64> {
        self.median(Sample::cpu)
    }

    /// Median peak memory in bytes.
    pub(crate) fn peak(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "bytes of memory")]
        self.median(|sample| sample.peak as f64)
    }
}

/// Middle of sorted values.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let high = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(high);
    }
    Some(f64::midpoint(*sorted.get(half.checked_sub(1)?)?, high))
}

/// A number to reach, and the number reached.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    /// What is compared.
    pub(crate) what: String,
    /// What was measured; none when a part is missing.
    pub(crate) value: Option<f64>,
    /// The most it may be, or the least.
    pub(crate) bound: f64,
    /// Whether more is better.
    pub(crate) at_least: bool,
}

impl Goal {
    /// At most `bound`.
    pub(crate) fn at_most(what: impl Into<String>, value: Option<f64>, bound: f64) -> Self {
        Self {
            what: what.into(),
            value,
            bound,
            at_least: false,
        }
    }

    /// At least `bound`.
    pub(crate) fn at_least(what: impl Into<String>, value: Option<f64>, bound: f64) -> Self {
        Self {
            at_least: true,
            ..Self::at_most(what, value, bound)
        }
    }

    fn verdict(&self) -> &'static str {
        match self.value {
            None => "not measured",
            Some(value) if self.at_least && value >= self.bound => "reached",
            Some(value) if !self.at_least && value <= self.bound => "reached",
            Some(_) => "MISSED",
        }
    }
}

/// What a scenario gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// All rows.
    pub(crate) rows: Vec<Row>,
    /// All goals.
    pub(crate) goals: Vec<Goal>,
    /// What else is worth saying.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// Takes in another scenario's part.
    pub(crate) fn add(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.goals.extend(other.goals);
        self.notes.extend(other.notes);
    }
}

/// The row of a tool.
pub(crate) fn row<'a>(rows: &'a [Row], tool: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.tool == tool)
}

/// One number through another.
pub(crate) fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a?, b?);
    (b > 0.0).then(|| a / b)
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Prints rows, goals and notes as Markdown.
pub(crate) fn print(outcome: &Outcome) -> Result<()> {
    let mut text = String::new();
    let mut scenario = "";
    for row in &outcome.rows {
        if row.scenario != scenario {
            scenario = &row.scenario;
            text += &format!(
                "\n### {scenario}\n\n| tool | wall s (least-most) | CPU s | peak MiB | MB/s | wall / \
                 limit | CPU / ours | wall / ours |\n|---|---|---|---|---|---|---|---|\n"
            );
        }
        text += &line(row, &outcome.rows);
    }
    if !outcome.goals.is_empty() {
        text += "\n";
    }
    for goal in &outcome.goals {
        let word = if goal.at_least { "least" } else { "most" };
        let (value, bound) = (cell(goal.value, 3), goal.bound);
        text += &format!(
            "- {}: {value}, at {word} {bound}: {}\n",
            goal.what,
            goal.verdict()
        );
    }
    for note in &outcome.notes {
        text += &format!("- {note}\n");
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).context("standard output")?;
    out.flush().context("standard output")
}

fn line(row: &Row, rows: &[Row]) -> String {
    let tool = row.tool.replace('|', "\\|");
    let name = format!("{tool}{}", if row.hashes { " #" } else { "" });
    if row.samples.is_empty() {
        let why = row.trouble.as_deref().unwrap_or("not run");
        return format!("| {name} | {why} | | | | | | |\n");
    }
    let walls = row.values(|sample| sample.wall);
    let edge = |at: Option<&f64>| cell(at.copied(), 2);
    let ours = rows
        .iter()
        .find(|other| other.scenario == row.scenario && other.tool == "inhaul");
    let limit = (row.limit > 0.0).then_some(row.limit);
    #[allow(clippy::cast_precision_loss, reason = "bytes of a race")]
    let megabytes = row.bytes as f64 / 1e6;
    format!(
        "| {name} | {} ({}-{}) | {} | {} | {} | {} | {} | {} |\n",
        cell(row.wall(), 2),
        edge(walls.first()),
        edge(walls.last()),
        cell(row.cpu(), 2),
        cell(row.peak().map(|bytes| bytes / f64::from(1 << 20)), 0),
        cell(ratio(Some(megabytes), row.wall()), 0),
        cell(ratio(row.wall(), limit), 3),
        cell(ratio(row.cpu(), ours.and_then(Row::cpu)), 2),
        cell(ratio(row.wall(), ours.and_then(Row::wall)), 2),
    )
}

/// Everything as JSON.
pub(crate) fn json(outcome: &Outcome, small: bool) -> Value {
    let rows: Vec<Value> = outcome
        .rows
        .iter()
        .map(|row| {
            json!({
                "scenario": row.scenario, "tool": row.tool, "hashes": row.hashes,
                "bytes": row.bytes, "limit_seconds": row.limit,
                "wall_median": row.wall(), "cpu_median": row.cpu(), "peak_median": row.peak(),
                "runs": row.samples, "trouble": row.trouble,
            })
        })
        .collect();
    let goals: Vec<Value> = outcome
        .goals
        .iter()
        .map(|goal| {
            json!({
                "what": goal.what, "value": goal.value, "bound": goal.bound,
                "at_least": goal.at_least, "verdict": goal.verdict(),
            })
        })
        .collect();
    json!({
        "schema": 1, "machine": host::shape(), "small": small,
        "date": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        "rows": rows, "goals": goals, "notes": outcome.notes,
    })
}

/// One finished run, on standard error.
pub(crate) fn progress(scenario: &str, tool: &str, run: usize, sample: &Sample) {
    warn(&format!(
        "{scenario}: {tool}, run {}: {:.2} s, CPU {:.2} s, {} MiB{}",
        run + 1,
        sample.wall,
        sample.cpu(),
        sample.peak >> 20,
        match sample.code {
            0 => String::new(),
            code => format!(", exit code {code}"),
        }
    ));
}

/// A line on standard error.
pub(crate) fn warn(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
