//! One line being typed: keys in, text and cursor out. No terminal.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use unicode_width::UnicodeWidthChar as _;

#[derive(Debug, Default)]
pub(crate) struct Editor {
    text: Vec<char>,
    /// The character before which the next one goes.
    cursor: usize,
    history: Vec<String>,
    /// Which line of the history is shown, and what was being typed before.
    recalled: Option<(usize, Vec<char>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Line(String),
    Quit,
    More,
}

const HISTORY_MAX: usize = 200;

impl Editor {
    pub(crate) fn on_key(&mut self, key: KeyEvent) -> Typed {
        if key.kind == KeyEventKind::Release {
            return Typed::More;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.on_control(key.code);
        }
        match key.code {
            KeyCode::Enter => return Typed::Line(self.submit()),
            KeyCode::Char(character) => self.insert(character),
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            KeyCode::Delete if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Up => self.recall_older(),
            KeyCode::Down => self.recall_newer(),
            _ => {}
        }
        Typed::More
    }

    /// The part of the line that fits into `columns`, and the column of the cursor in it.
    pub(crate) fn view(&self, columns: usize) -> (String, usize) {
        let width = |c: &char| c.width().unwrap_or(0);
        let mut start = 0;
        let mut before: usize = self.text[..self.cursor].iter().map(width).sum();
        while before >= columns.max(1) && start < self.cursor {
            before -= width(&self.text[start]);
            start += 1;
        }
        let mut used = 0;
        let fits = |c: &&char| {
            used += width(c);
            used <= columns
        };
        (self.text[start..].iter().take_while(fits).collect(), before)
    }

    fn on_control(&mut self, code: KeyCode) -> Typed {
        match code {
            KeyCode::Char('c') if self.text.is_empty() => return Typed::Quit,
            KeyCode::Char('d') if self.text.is_empty() => return Typed::Quit,
            KeyCode::Char('c' | 'u') => {
                self.text.clear();
                self.cursor = 0;
            }
            KeyCode::Char('a') => self.cursor = 0,
            KeyCode::Char('e') => self.cursor = self.text.len(),
            KeyCode::Char('w') => self.erase_word(),
            _ => {}
        }
        Typed::More
    }

    fn insert(&mut self, character: char) {
        self.text.insert(self.cursor, character);
        self.cursor += 1;
    }

    fn erase_word(&mut self) {
        let before = &self.text[..self.cursor];
        let word_end = before.iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
        let word_start = before[..word_end].iter().rposition(|c| c.is_whitespace()).map_or(0, |at| at + 1);
        self.text.drain(word_start..self.cursor);
        self.cursor = word_start;
    }

    fn submit(&mut self) -> String {
        let line: String = std::mem::take(&mut self.text).into_iter().collect();
        self.cursor = 0;
        self.recalled = None;
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
        }
        if self.history.len() > HISTORY_MAX {
            self.history.remove(0);
        }
        line
    }

    fn recall_older(&mut self) {
        let (at, typed) = match self.recalled.take() {
            Some((at, typed)) => (at.saturating_sub(1), typed),
            None if self.history.is_empty() => return,
            None => (self.history.len() - 1, self.text.clone()),
        };
        self.show(self.history[at].chars().collect());
        self.recalled = Some((at, typed));
    }

    fn recall_newer(&mut self) {
        let Some((at, typed)) = self.recalled.take() else { return };
        if at + 1 < self.history.len() {
            self.show(self.history[at + 1].chars().collect());
            self.recalled = Some((at + 1, typed));
        } else {
            self.show(typed);
        }
    }

    fn show(&mut self, text: Vec<char>) {
        self.cursor = text.len();
        self.text = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(editor: &mut Editor, code: KeyCode) -> Typed {
        editor.on_key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn control(editor: &mut Editor, character: char) -> Typed {
        editor.on_key(KeyEvent::new(KeyCode::Char(character), KeyModifiers::CONTROL))
    }

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        for character in text.chars() {
            press(&mut editor, KeyCode::Char(character));
        }
        editor
    }

    fn text(editor: &Editor) -> String {
        editor.view(1_000).0
    }

    #[test]
    fn typing_moving_and_erasing() {
        let mut editor = typed("helo");
        press(&mut editor, KeyCode::Left);
        press(&mut editor, KeyCode::Char('l'));
        assert_eq!((text(&editor), editor.cursor), ("hello".into(), 4));
        press(&mut editor, KeyCode::Home);
        press(&mut editor, KeyCode::Delete);
        press(&mut editor, KeyCode::Backspace);
        assert_eq!(text(&editor), "ello");
        press(&mut editor, KeyCode::End);
        press(&mut editor, KeyCode::Backspace);
        assert_eq!(press(&mut editor, KeyCode::Enter), Typed::Line("ell".into()));
        assert_eq!(text(&editor), "");
    }

    #[test]
    fn control_keys() {
        let mut editor = typed("one two  ");
        control(&mut editor, 'w');
        assert_eq!(text(&editor), "one ");
        assert_eq!(control(&mut editor, 'd'), Typed::More, "does not quit while something is typed");
        control(&mut editor, 'u');
        assert_eq!(text(&editor), "");
        assert_eq!(control(&mut editor, 'd'), Typed::Quit);
        assert_eq!(control(&mut typed(""), 'c'), Typed::Quit);
    }

    #[test]
    fn earlier_lines_come_back_and_what_was_typed_too() {
        let mut editor = Editor::default();
        press(&mut editor, KeyCode::Up);
        for line in ["first", "second"] {
            editor.show(line.chars().collect());
            press(&mut editor, KeyCode::Enter);
        }
        press(&mut editor, KeyCode::Char('x'));
        press(&mut editor, KeyCode::Up);
        assert_eq!(text(&editor), "second");
        press(&mut editor, KeyCode::Up);
        press(&mut editor, KeyCode::Up);
        assert_eq!(text(&editor), "first");
        press(&mut editor, KeyCode::Down);
        press(&mut editor, KeyCode::Down);
        assert_eq!(text(&editor), "x");
    }

    #[test]
    fn a_long_line_shows_the_part_around_the_cursor_in_columns_not_characters() {
        let mut editor = typed("abcdefgh");
        assert_eq!(editor.view(5), ("efgh".into(), 4));
        press(&mut editor, KeyCode::Home);
        assert_eq!(editor.view(5), ("abcde".into(), 0));
        let wide = typed("茶茶茶");
        assert_eq!(wide.view(5), ("茶茶".into(), 4));
    }
}
