//! What a bench does now: one line that is redrawn, or a line for each part of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use crate::bench::Watcher;
use crate::cli::bars::Line;
use crate::cli::escape::{escape, escape_lines};
use crate::cli::resolve::Progress;
use crate::cli::screen::Screen;
use crate::cli::text::{Tone, cut};
use crate::cli::units::{duration, rate};

/// Time between two looks at the counter: five a second is as fast as people read.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The rate shown is that of so many looks.
const LOOKS: usize = 5;

/// The watcher of a bench that a person started.
#[derive(Debug)]
pub(super) struct Live {
    screen: Arc<Screen>,
    progress: Progress,
    part: Arc<Mutex<String>>,
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Live {
    pub(super) fn new(screen: Arc<Screen>, progress: Progress) -> Self {
        Self {
            screen,
            progress,
            part: Arc::default(),
            running: Mutex::new(None),
        }
    }
}

impl Watcher for Live {
    fn begun(&self, bytes: &Arc<AtomicU64>) {
        if self.progress != Progress::Bars {
            return;
        }
        let (stop, stopped) = bounded::<()>(0);
        let screen = Arc::clone(&self.screen);
        let (part, bytes) = (Arc::clone(&self.part), Arc::clone(bytes));
        let begun = Instant::now();
        let thread = std::thread::Builder::new()
            .name("display".to_owned())
            .spawn(move || {
                let mut seen = vec![(Instant::now(), bytes.load(Relaxed))];
                while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    seen.push((Instant::now(), bytes.load(Relaxed)));
                    if seen.len() > LOOKS {
                        seen.remove(0);
                    }
                    let what = part.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let text = line(begun.elapsed(), &what, speed(&seen));
                    let text = cut(&text, screen.size().columns);
                    let tone = Tone::Plain;
                    screen.draw(vec![Line { text, tone }]);
                }
                screen.draw(Vec::new());
                screen.release();
            });
        if let Ok(thread) = thread {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            *running = Some((stop, thread));
        }
    }

    fn part(&self, what: &str) {
        // One line, whatever the names in it are.
        let what = escape(what.as_bytes());
        if self.progress == Progress::Plain {
            self.screen.print(&what);
        }
        *self.part.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn note(&self, line: &str) {
        if self.progress != Progress::None {
            self.screen.print(&format!("note: {}", escape_lines(line)));
        }
    }

    fn ended(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stop, thread)) = running.take() {
            drop(stop);
            // A panic in the display has been printed already.
            drop(thread.join());
        }
    }
}

fn line(elapsed: Duration, what: &str, speed: u64) -> String {
    format!("{}  {}  {what}", duration(elapsed), rate(speed))
}

/// Bytes a second between the first and the last look.
fn speed(seen: &[(Instant, u64)]) -> u64 {
    let (Some((since, before)), Some((now, after))) = (seen.first(), seen.last()) else {
        return 0;
    };
    let nanos = now.duration_since(*since).as_nanos().max(1);
    let bytes = u128::from(after.saturating_sub(*before));
    u64::try_from(bytes * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_long_how_fast_and_what() {
        let begun = Instant::now();
        let seen = [
            (begun, 0),
            (begun + Duration::from_millis(500), 100_000_000),
        ];
        assert_eq!(speed(&seen), 200_000_000);
        assert_eq!(speed(&[]), 0);
        assert_eq!(
            line(
                Duration::from_secs(65),
                "sda (1 of 2): reading",
                212_000_000
            ),
            "1m 05s  212 MB/s  sda (1 of 2): reading"
        );
    }
}
