//! Where lines come from and where what is told goes: a script's pipes, a person's pipes, or a terminal.

use std::io::{self, BufRead as _, Write};

use crossterm::event::{self, Event as TerminalEvent};
use tokio::sync::mpsc;

use crate::editor::Typed;
use crate::terminal::Terminal;
use crate::told::{Told, human, plain};

pub(crate) enum Ui {
    /// For scripts; see [`plain`].
    Plain(Box<dyn Write + Send>),
    /// For people whose input or output is no terminal.
    Lines(Box<dyn Write + Send>),
    Terminal(Terminal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Line(String),
    Terminal(TerminalEvent),
}

/// Lines waiting to be understood; a fast script waits.
const INPUT_MAX: usize = 64;

impl Ui {
    /// Standard input and output, and what is typed. The channel ends with the input.
    pub(crate) fn start(is_plain: bool, is_terminal: bool) -> io::Result<(Self, mpsc::Receiver<Input>)> {
        let (inputs, receiver) = mpsc::channel(INPUT_MAX);
        let ui = match (is_plain, is_terminal) {
            (true, _) => Self::Plain(Box::new(io::stdout())),
            (false, true) => Self::Terminal(Terminal::start()?),
            (false, false) => Self::Lines(Box::new(io::stdout())),
        };
        // Threads of their own: a blocked read of standard input cannot be cancelled and must not hold up the end of
        // the program.
        if matches!(ui, Self::Terminal(_)) {
            std::thread::spawn(move || read_terminal(&inputs));
        } else {
            std::thread::spawn(move || read_lines(&inputs));
        }
        Ok((ui, receiver))
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Has left this process when it returns.
    pub(crate) fn tell(&mut self, told: &Told) -> io::Result<()> {
        match self {
            Self::Plain(out) => {
                writeln!(out, "{}", plain(told))?;
                out.flush()
            }
            Self::Lines(out) => {
                for line in human(told) {
                    writeln!(out, "{line}")?;
                }
                out.flush()
            }
            Self::Terminal(terminal) => terminal.tell(told),
        }
    }

    /// What the prompt says.
    pub(crate) fn set_prompt(&mut self, prompt: &str) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => terminal.set_prompt(prompt),
            Self::Plain(_) | Self::Lines(_) => Ok(()),
        }
    }

    pub(crate) fn on_input(&mut self, input: Input) -> io::Result<Typed> {
        match (self, input) {
            (_, Input::Line(line)) => Ok(Typed::Line(line)),
            (Self::Terminal(terminal), Input::Terminal(event)) => terminal.on_event(&event),
            (_, Input::Terminal(_)) => Ok(Typed::More),
        }
    }
}

fn read_lines(inputs: &mpsc::Sender<Input>) {
    for line in io::stdin().lock().lines() {
        // Unreadable input ends it like its end does.
        let Ok(line) = line else { return };
        if inputs.blocking_send(Input::Line(line)).is_err() {
            return;
        }
    }
}

fn read_terminal(inputs: &mpsc::Sender<Input>) {
    while let Ok(event) = event::read() {
        if inputs.blocking_send(Input::Terminal(event)).is_err() {
            return;
        }
    }
}
