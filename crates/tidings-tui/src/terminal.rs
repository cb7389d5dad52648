//! A terminal: what is told scrolls by, and below it stand the messages that are on their way and the line being typed.

use std::io::{self, Stdout, Write as _};

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::event::Event;
use crossterm::style::Print;
use crossterm::terminal::{self, Clear, ClearType};
use crossterm::{execute, queue};
use tidings_types::MessageId;
use unicode_width::UnicodeWidthStr as _;

use crate::editor::{Editor, Typed};
use crate::told::{Told, clean, human};

pub(crate) struct Terminal {
    out: Stdout,
    editor: Editor,
    prompt: String,
    /// Messages on their way, oldest first.
    pending: Vec<Pending>,
    /// Lines above the prompt that are drawn again and again.
    lines_above: u16,
}

struct Pending {
    message: MessageId,
    text: String,
    accepted: bool,
}

/// The rest is counted.
const PENDING_SHOWN_MAX: usize = 5;

impl Terminal {
    /// Takes the terminal until this is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let (out, editor) = (io::stdout(), Editor::default());
        Ok(Self { out, editor, prompt: "> ".into(), pending: Vec::new(), lines_above: 0 })
    }

    pub(crate) fn tell(&mut self, told: &Told) -> io::Result<()> {
        self.track(told);
        self.erase()?;
        for line in human(told) {
            queue!(self.out, Print(line), Print("\r\n"))?;
        }
        self.draw()
    }

    pub(crate) fn set_prompt(&mut self, prompt: &str) -> io::Result<()> {
        self.prompt = format!("{}> ", clean(prompt));
        self.erase()?;
        self.draw()
    }

    pub(crate) fn on_event(&mut self, event: &Event) -> io::Result<Typed> {
        let typed = match event {
            Event::Key(key) => self.editor.on_key(*key),
            _ => Typed::More,
        };
        self.erase()?;
        self.draw()?;
        Ok(typed)
    }

    /// A message stands below until its entry scrolls by.
    fn track(&mut self, told: &Told) {
        match told {
            Told::Queued { message, text } => {
                self.pending.push(Pending { message: *message, text: text.clone(), accepted: false });
            }
            Told::Accepted { message, .. } => {
                // An entry can come before the acknowledgement, or have come in an earlier run: what has been accepted
                // stays only until the next one is.
                self.pending.retain(|pending| !pending.accepted);
                if let Some(pending) = self.pending.iter_mut().find(|pending| pending.message == *message) {
                    pending.accepted = true;
                }
            }
            Told::Refused { message, .. } => self.pending.retain(|pending| pending.message != *message),
            Told::Entry(shown) => self.pending.retain(|pending| Some(pending.message) != shown.message),
            _ => {}
        }
    }

    fn erase(&mut self) -> io::Result<()> {
        if self.lines_above > 0 {
            queue!(self.out, MoveUp(self.lines_above))?;
        }
        self.lines_above = 0;
        queue!(self.out, MoveToColumn(0), Clear(ClearType::FromCursorDown))
    }

    fn draw(&mut self) -> io::Result<()> {
        let columns = usize::from(terminal::size()?.0).max(20);
        for line in self.pending_lines(columns) {
            queue!(self.out, Print(line), Print("\r\n"))?;
            self.lines_above += 1;
        }
        let prompt = cut(&self.prompt, columns / 2);
        // The last column stays free, so that the terminal does not wrap.
        let (text, cursor) = self.editor.view(columns - prompt.width() - 1);
        let column = u16::try_from(prompt.width() + cursor).unwrap_or(u16::MAX);
        queue!(self.out, Print(&prompt), Print(clean(&text)), MoveToColumn(column))?;
        self.out.flush()
    }

    fn pending_lines(&self, columns: usize) -> Vec<String> {
        let hidden = self.pending.len().saturating_sub(PENDING_SHOWN_MAX);
        let more = (hidden > 0).then(|| format!("\u{2026} {hidden} more on their way"));
        let shown = self.pending[hidden..].iter().map(|pending| {
            let mark = if pending.accepted { '\u{2713}' } else { '\u{2026}' };
            cut(&format!("{mark} {}", clean(&pending.text)), columns - 1)
        });
        more.into_iter().chain(shown).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is nothing left to do about a terminal that does not take this.
        let _ = self.erase().and_then(|()| execute!(self.out, MoveToColumn(0)));
        let _ = terminal::disable_raw_mode();
    }
}

/// The beginning that fits.
fn cut(text: &str, columns: usize) -> String {
    let mut cut = text.to_owned();
    while cut.width() > columns {
        cut.pop();
    }
    cut
}

#[cfg(test)]
mod tests {
    use tidings_types::{ConversationId, Seq};

    use super::*;

    fn terminal() -> Terminal {
        Terminal {
            out: io::stdout(),
            editor: Editor::default(),
            prompt: "> ".into(),
            pending: Vec::new(),
            lines_above: 0,
        }
    }

    fn queued(n: u8) -> Told {
        Told::Queued { message: MessageId::from_bytes([n; 16]), text: format!("text {n}") }
    }

    fn accepted(n: u8) -> Told {
        let conversation = ConversationId::from_bytes([1; 16]);
        Told::Accepted { message: MessageId::from_bytes([n; 16]), conversation, seq: Seq(1) }
    }

    #[test]
    fn a_send_is_seen_until_it_is_accepted() {
        let mut terminal = terminal();
        terminal.track(&queued(1));
        terminal.track(&queued(2));
        assert_eq!(terminal.pending_lines(40), ["\u{2026} text 1", "\u{2026} text 2"]);
        terminal.track(&accepted(1));
        assert_eq!(terminal.pending_lines(40), ["\u{2713} text 1", "\u{2026} text 2"]);
        terminal.track(&accepted(2));
        assert_eq!(terminal.pending_lines(40), ["\u{2713} text 2"]);
    }

    #[test]
    fn many_pending_sends_take_a_bounded_part_of_the_screen() {
        let mut terminal = terminal();
        (0..50).for_each(|n| terminal.track(&queued(n)));
        let lines = terminal.pending_lines(40);
        assert_eq!(lines.len(), PENDING_SHOWN_MAX + 1);
        assert_eq!(lines[0], "\u{2026} 45 more on their way");
    }

    #[test]
    fn a_pending_line_never_wraps() {
        let mut terminal = terminal();
        let text = "茶".repeat(100);
        terminal.track(&Told::Queued { message: MessageId::from_bytes([1; 16]), text });
        assert!(terminal.pending_lines(40)[0].width() < 40);
    }
}
