//! Progress on standard error: a bar with rate and ETA on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::print::print_error;
use super::size::show_count;
use crate::ops::Progress;

/// How often a plain line is printed.
const EVERY: Duration = Duration::from_secs(5);

/// Prints progress to standard error; warnings are printed even where progress is not.
#[derive(Debug)]
pub(super) struct Reporter {
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bar,
    Lines,
    Off,
}

#[derive(Debug, Default)]
struct State {
    what: String,
    total: u64,
    done: u64,
    began: Option<Instant>,
    printed: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Reporter {
    /// A bar where standard error is a terminal, lines elsewhere, nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        let kind = if quiet {
            Kind::Off
        } else if std::io::stderr().is_terminal() {
            Kind::Bar
        } else {
            Kind::Lines
        };
        Self {
            kind,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Reporter {
    fn start(&self, what: &str, total: u64) {
        let mut state = self.state();
        *state = State {
            what: what.to_owned(),
            total,
            began: Some(Instant::now()),
            printed: Some(Instant::now()),
            ..State::default()
        };
        if self.kind == Kind::Bar {
            let bar = ProgressBar::new(total);
            let template = "{msg} {wide_bar} {human_pos}/{human_len} cells, {per_sec}, ETA {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            state.bar = Some(bar);
        }
    }

    fn update(&self, done: u64) {
        let mut state = self.state();
        state.done = state.done.max(done);
        match self.kind {
            Kind::Bar => {
                if let Some(bar) = &state.bar {
                    bar.set_position(state.done);
                }
            }
            Kind::Lines if state.printed.is_some_and(|at| at.elapsed() >= EVERY) => {
                state.printed = Some(Instant::now());
                print_line(&state);
            }
            Kind::Lines | Kind::Off => {}
        }
    }

    fn warn(&self, message: &str) {
        let state = self.state();
        let print = || print_error(&format!("warning: {message}"));
        match &state.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finish(&self) {
        let mut state = self.state();
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        state.began = None;
        state.printed = None;
    }
}

fn print_line(state: &State) {
    let seconds = state.began.map_or(0.0, |at| at.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
    let (done, left) = (
        state.done as f64,
        state.total.saturating_sub(state.done) as f64,
    );
    if seconds <= 0.0 || done <= 0.0 {
        return;
    }
    let rate = done / seconds;
    let eta = Duration::try_from_secs_f64(left / rate).unwrap_or_default();
    print_error(&format!(
        "{}: {} of {} cells, {rate:.0} cells/s, ETA {}",
        state.what,
        show_count(state.done),
        show_count(state.total),
        HumanDuration(eta)
    ));
}
