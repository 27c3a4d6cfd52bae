//! Standard error: one writer, so that lines and the live display never tear each other.
//!
//! The live display is a block of lines at the bottom, the cursor resting below it. A line that is
//! printed meanwhile takes the place of the block, and the block is drawn again under it. What was
//! drawn last stays on the screen at the end.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bars::{Line, Size};
use super::text::{Paint, Tone};

/// Clears to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";
/// Clears to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Standard error, shared by all that speak to the user.
pub struct Screen {
    state: Mutex<State>,
    paint: Paint,
    cursor_hidden: AtomicBool,
    measure: fn() -> Size,
}

struct State {
    out: Box<dyn Write + Send>,
    block: Vec<Line>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("paint", &self.paint)
            .field("cursor_hidden", &self.cursor_hidden)
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// Returns the real standard error.
    pub fn stderr(paint: Paint) -> Self {
        Self::new(Box::new(std::io::stderr()), paint, terminal_size)
    }

    /// Returns a screen on any writer; `measure` tells its size whenever it is drawn on.
    pub fn new(out: Box<dyn Write + Send>, paint: Paint, measure: fn() -> Size) -> Self {
        Self {
            state: Mutex::new(State {
                out,
                block: Vec::new(),
            }),
            paint,
            cursor_hidden: AtomicBool::new(false),
            measure,
        }
    }

    /// Returns the size now.
    pub fn size(&self) -> Size {
        (self.measure)()
    }

    /// Returns how this screen colours.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Prints text that may have several lines, above the live display if there is one.
    pub fn print(&self, text: &str) {
        let mut state = self.lock();
        let mut frame = up(&state.block);
        if !state.block.is_empty() {
            frame.push_str(CLEAR_BELOW);
        }
        frame.push_str(text);
        frame.push('\n');
        self.append_block(&mut frame, &state.block);
        send(&mut *state.out, &frame);
    }

    /// Replaces the live display.
    pub fn draw(&self, block: Vec<Line>) {
        let mut state = self.lock();
        let mut frame = String::new();
        if !self.cursor_hidden.swap(true, Relaxed) {
            frame.push_str(HIDE_CURSOR);
        }
        // Moving up and writing over, not clearing first: a cleared screen flickers.
        frame.push_str(&up(&state.block));
        self.append_block(&mut frame, &block);
        frame.push_str(CLEAR_BELOW);
        send(&mut *state.out, &frame);
        state.block = block;
    }

    /// Ends the live display: what it shows stays, and the cursor comes back.
    pub fn release(&self) {
        let mut state = self.lock();
        state.block.clear();
        if self.cursor_hidden.swap(false, Relaxed) {
            send(&mut *state.out, SHOW_CURSOR);
        }
    }

    /// Brings the cursor back without waiting for anybody: for the moment before `_exit`.
    ///
    /// A terminal that takes no output (stopped with Ctrl-S, say) is left as it is.
    pub fn restore_cursor_now(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if !self.cursor_hidden.load(Relaxed) {
            return;
        }
        let stderr = rustix::stdio::stderr();
        let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut ready, Some(&at_once)) == Ok(1) {
            let text = format!("{SHOW_CURSOR}\n");
            // Nothing can be done if it fails, and the program is about to end.
            rustix::io::write(stderr, text.as_bytes()).unwrap_or_default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a half-drawn block behind, which the next one mends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_block(&self, frame: &mut String, block: &[Line]) {
        for line in block {
            frame.push_str(&self.paint.paint(line.tone, &line.text));
            frame.push_str(CLEAR_LINE);
            frame.push('\n');
        }
    }

    /// Returns the text in the colour of its tone.
    pub fn tint(&self, tone: Tone, text: &str) -> String {
        self.paint.paint(tone, text)
    }
}

/// Moves the cursor from below the block to its beginning.
///
/// A terminal that has become narrower since may have wrapped the lines, and the block is taller
/// then. The difference is left standing: going further up on a terminal that does not wrap would
/// wipe out lines that are not ours.
fn up(block: &[Line]) -> String {
    match block.len() {
        0 => String::new(),
        rows => format!("\r\x1b[{rows}A"),
    }
}

/// Writes in one call, so that a line is never mixed with another program's.
fn send(out: &mut dyn Write, text: &str) {
    // Nobody is left to tell when standard error fails, and a full log disk must not end a copy.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Returns the size of the terminal on standard error; 80 x 24 when it does not say.
pub fn terminal_size() -> Size {
    let known = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
    match known {
        Some(size) if size.ws_row > 0 && size.ws_col > 0 => Size {
            rows: usize::from(size.ws_row),
            columns: usize::from(size.ws_col),
        },
        _ => Size {
            rows: 24,
            columns: 80,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<u8>>>);

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Recorder {
        fn taken(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn screen(measure: fn() -> Size) -> (Screen, Recorder) {
        let recorder = Recorder::default();
        let screen = Screen::new(Box::new(recorder.clone()), Paint(false), measure);
        (screen, recorder)
    }

    fn line(text: &str) -> Line {
        Line {
            text: text.to_owned(),
            tone: Tone::Plain,
        }
    }

    fn wide() -> Size {
        Size {
            rows: 24,
            columns: 80,
        }
    }

    fn narrow() -> Size {
        Size {
            rows: 24,
            columns: 5,
        }
    }

    #[test]
    fn without_a_block_lines_are_just_lines() {
        let (screen, out) = screen(wide);
        screen.print("one");
        screen.release();
        assert_eq!(out.taken(), "one\n");
    }

    #[test]
    fn lines_go_above_the_block() {
        let (screen, out) = screen(wide);
        screen.draw(vec![line("a"), line("b")]);
        assert_eq!(out.taken(), "\x1b[?25la\x1b[K\nb\x1b[K\n\x1b[J");
        screen.print("problem");
        assert_eq!(out.taken(), "\r\x1b[2A\x1b[Jproblem\na\x1b[K\nb\x1b[K\n");
        screen.draw(vec![line("c")]);
        assert_eq!(out.taken(), "\r\x1b[2Ac\x1b[K\n\x1b[J");
        screen.release();
        assert_eq!(out.taken(), "\x1b[?25h");
        screen.print("after");
        assert_eq!(out.taken(), "after\n", "the last block stays");
    }

    #[test]
    fn a_narrower_terminal_loses_no_line_of_others() {
        let (screen, out) = screen(narrow);
        screen.draw(vec![line("12345"), line("123456"), line("")]);
        out.taken();
        screen.draw(Vec::new());
        assert_eq!(out.taken(), "\r\x1b[3A\x1b[J");
    }
}
