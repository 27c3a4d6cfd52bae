//! The drives as people read them: a line each, what is mounted from it beneath.

use crate::cli::escape::{escape, escape_path};
use crate::cli::render::{heading, table};
use crate::cli::text::{Paint, Tone, push};
use crate::cli::units::{counted, rate, size};
use crate::topology::{Attached, Link, LinkKind, MountUse, Shelf, Unit};

/// Columns of figures.
const RIGHT: [usize; 4] = [1, 6, 7, 9];

/// Returns the whole text.
pub(super) fn render(shelf: &Shelf, verbose: bool, paint: Paint) -> String {
    let total = shelf
        .drives
        .iter()
        .map(|a| a.drive.size)
        .fold(0, u64::saturating_add);
    let drives = u64::try_from(shelf.drives.len()).unwrap_or(u64::MAX);
    let sick = shelf
        .drives
        .iter()
        .filter(|a| !a.health.concerns.is_empty())
        .count();
    let mut head = format!("{}, {}", counted(drives, "drive", "drives"), size(total));
    let tone = if sick > 0 {
        push(
            &mut head,
            format_args!("; {sick} to look at, marked with !"),
        );
        Tone::Notice
    } else {
        Tone::Strong
    };
    let mut text = paint.paint(tone, &head);
    text.push('\n');
    if !shelf.drives.is_empty() {
        text.push('\n');
        text.push_str(&drives_table(&shelf.drives, verbose, paint));
    }
    if !shelf.links.is_empty() {
        text.push_str(&heading(paint, "shared links"));
        let rows: Vec<Vec<String>> = shelf.links.iter().map(link).collect();
        text.push_str(&table(&rows, &[]));
    }
    if !shelf.units.is_empty() {
        text.push_str(&heading(paint, "storage without a drive here"));
        let rows: Vec<Vec<String>> = shelf.units.iter().flat_map(unit).collect();
        text.push_str(&table(&rows, &[]));
    }
    text
}

fn drives_table(drives: &[Attached], verbose: bool, paint: Paint) -> String {
    let titles = [
        "drive",
        "size",
        "kind",
        "by",
        "model",
        "serial",
        "block",
        "queue",
        "controller",
        "node",
        "",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(drives.iter().map(row));
    // A column that only has its title says nothing.
    for column in 0..titles.len() {
        let empty = |row: &Vec<String>| row.get(column).is_none_or(String::is_empty);
        if rows.iter().skip(1).all(empty)
            && let Some(title) = rows.first_mut().and_then(|row| row.get_mut(column))
        {
            title.clear();
        }
    }
    let lines = table(&rows, &RIGHT);
    let mut lines = lines.lines();
    let mut text = String::new();
    if let Some(titles) = lines.next() {
        push(
            &mut text,
            format_args!("{}\n", paint.paint(Tone::Faint, titles)),
        );
    }
    for (line, attached) in lines.zip(drives) {
        push(&mut text, format_args!("{line}\n"));
        for (tone, beneath) in beneath(attached, verbose) {
            push(
                &mut text,
                format_args!("      {}\n", paint.paint(tone, &beneath)),
            );
        }
    }
    text
}

fn row(attached: &Attached) -> Vec<String> {
    let drive = &attached.drive;
    let clean = |text: &Option<String>| {
        text.as_deref()
            .map_or(String::new(), |t| escape(t.as_bytes()))
    };
    let controller = attached
        .controller
        .as_ref()
        .map_or(String::new(), |controller| {
            let driver = controller.driver.as_deref().unwrap_or_default();
            let text = format!("{} {driver}", controller.place);
            escape(text.trim_end().as_bytes())
        });
    let node = attached
        .controller
        .as_ref()
        .and_then(|controller| controller.numa_node);
    let number = |number: Option<u32>| number.map_or(String::new(), |n| n.to_string());
    vec![
        escape(attached.paths.join("=").as_bytes()),
        if drive.size > 0 {
            size(drive.size)
        } else {
            "empty".to_owned()
        },
        match drive.rotational {
            Some(true) => "spins",
            Some(false) => "flash",
            None => "",
        }
        .to_owned(),
        drive.transport.word().to_owned(),
        clean(&drive.model),
        drive
            .serial
            .as_deref()
            .or(drive.wwn.as_deref())
            .map_or(String::new(), |text| escape(text.as_bytes())),
        format!("{}/{}", drive.logical_block, drive.physical_block),
        number(attached.queue.depth.or(attached.queue.requests)),
        controller,
        number(node),
        if drive.read_only { "read-only" } else { "" }.to_owned(),
    ]
}

/// The lines beneath a drive.
fn beneath(attached: &Attached, verbose: bool) -> Vec<(Tone, String)> {
    let mut lines = Vec::new();
    for concern in &attached.health.concerns {
        lines.push((Tone::Bad, format!("! {}", escape(concern.as_bytes()))));
    }
    lines.extend(
        attached
            .mounts
            .iter()
            .map(|used| (Tone::Plain, mount(used))),
    );
    if attached.mounts.is_empty() {
        lines.push((Tone::Faint, unmounted(attached)));
    } else if !attached.holders.is_empty() {
        lines.push((Tone::Faint, format!("beneath {}", holders(attached))));
    }
    if let Some(image) = &attached.drive.backing {
        lines.push((Tone::Faint, format!("image {}", escape_path(image))));
    }
    if verbose {
        lines.extend(
            details(attached)
                .into_iter()
                .map(|line| (Tone::Faint, line)),
        );
    }
    lines
}

fn mount(used: &MountUse) -> String {
    let mount = &used.mount;
    let mut text = format!(
        "{}  {}",
        escape_path(&mount.point),
        escape(mount.fs.as_bytes())
    );
    if let Some(usage) = used.usage {
        let share = u128::from(usage.used) * 100 / u128::from(usage.size.max(1));
        push(
            &mut text,
            format_args!(
                "  {} of {} used ({share}%)",
                size(usage.used),
                size(usage.size)
            ),
        );
    }
    if mount.read_only {
        text.push_str("  read-only");
    }
    if used.spread > 1 {
        push(&mut text, format_args!("  over {} drives", used.spread));
    }
    text
}

fn unmounted(attached: &Attached) -> String {
    let mut text = "not mounted".to_owned();
    if !attached.holds.is_empty() {
        let kinds: Vec<String> = attached
            .holds
            .iter()
            .map(|k| escape(k.as_bytes()))
            .collect();
        push(&mut text, format_args!("; holds {}", kinds.join(", ")));
    }
    if !attached.holders.is_empty() {
        push(&mut text, format_args!("; beneath {}", holders(attached)));
    }
    text
}

fn holders(attached: &Attached) -> String {
    escape(attached.holders.join(", ").as_bytes())
}

fn details(attached: &Attached) -> Vec<String> {
    let mut lines = Vec::new();
    let mut facts = Vec::new();
    if let Some(wwn) = &attached.drive.wwn {
        facts.push(format!("wwn {}", escape(wwn.as_bytes())));
    }
    if let Some(bytes) = attached.queue.max_bytes {
        facts.push(format!("requests of up to {} KiB", bytes >> 10));
    }
    if let Some(scheduler) = &attached.queue.scheduler {
        facts.push(format!("scheduler {}", escape(scheduler.as_bytes())));
    }
    if let Some((place, most)) = &attached.narrowest {
        let place = escape(place.as_bytes());
        facts.push(format!("narrowest link {place}, {}", rate(*most)));
    }
    if !facts.is_empty() {
        lines.push(facts.join("; "));
    }
    let mut facts = Vec::new();
    if let Some(state) = &attached.health.state {
        facts.push(format!("state {}", escape(state.as_bytes())));
    }
    if let Some(degrees) = attached.health.millidegrees {
        facts.push(format!("{} C", degrees / 1000));
    }
    if let Some(errors) = attached.health.io_errors {
        facts.push(format!("requests that failed: {errors}"));
    }
    if !facts.is_empty() {
        lines.push(facts.join("; "));
    }
    for part in &attached.parts {
        let mut line = format!("{} {}", escape(part.name.as_bytes()), size(part.size));
        for text in [&part.holds, &part.label].into_iter().flatten() {
            push(&mut line, format_args!(" {}", escape(text.as_bytes())));
        }
        if part.read_only {
            line.push_str(" read-only");
        }
        lines.push(line);
    }
    lines
}

fn link(link: &Link) -> Vec<String> {
    let what = match link.kind {
        LinkKind::Pci => "PCI",
        LinkKind::Sata => "SATA port",
        LinkKind::Sas => "SAS port",
        LinkKind::Expander => "SAS expander",
        LinkKind::UsbRoot => "USB controller",
        LinkKind::Usb => "USB hub",
        LinkKind::Nvme => "NVMe controller",
        LinkKind::Network => "storage network",
        LinkKind::Backing => "images on",
    };
    let most = match link.ceiling {
        Some(ceiling) => format!("at most {}", rate(ceiling)),
        None => "ceiling not known".to_owned(),
    };
    vec![
        format!("{what} {}", escape(link.name.as_bytes())),
        format!("{} drives", link.drives.len()),
        most,
        escape(link.drives.join(" ").as_bytes()),
    ]
}

fn unit(unit: &Unit) -> Vec<Vec<String>> {
    let row = |mount: &crate::topology::Mount| {
        vec![
            escape(unit.name.as_bytes()),
            escape_path(&mount.point),
            escape(mount.fs.as_bytes()),
            if mount.read_only { "read-only" } else { "" }.to_owned(),
        ]
    };
    unit.mounts.iter().map(row).collect()
}
