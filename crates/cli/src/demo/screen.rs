//! The terminal: raw, on its other screen, and put back however we leave.

use std::io::{Stdout, Write as _, stdout};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use super::view::{Line, Tone};

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Quit,
    Choose(usize),
    Up,
    Down,
    Kill,
    Pause,
    Restart,
}

/// The terminal while the demo has it.
pub(crate) struct Screen {
    out: Stdout,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If it cannot be made raw.
    pub(crate) fn open() -> std::io::Result<Self> {
        enable_raw_mode()?;
        // From here on dropping it puts everything back.
        let mut screen = Self { out: stdout() };
        execute!(screen.out, EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// The next key that means something, without waiting.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(crate) fn key(&mut self) -> std::io::Result<Option<Key>> {
        while poll(Duration::ZERO)? {
            if let Event::Key(event) = read()?
                && event.kind == KeyEventKind::Press
                && let Some(key) = meaning(event.code, event.modifiers)
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Draws the whole screen; what does not fit is cut.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(crate) fn draw(&mut self, lines: &[Line]) -> std::io::Result<()> {
        let (columns, rows) = size()?;
        queue!(self.out, BeginSynchronizedUpdate)?;
        for (row, (tone, text)) in (0..rows).zip(lines) {
            let cut: String = text.chars().take(usize::from(columns)).collect();
            queue!(self.out, MoveTo(0, row), SetAttribute(Attribute::Reset))?;
            match tone {
                Tone::Plain => {}
                Tone::Title => queue!(self.out, SetAttribute(Attribute::Bold))?,
                Tone::Leader => queue!(self.out, SetForegroundColor(Color::Green))?,
                Tone::Trouble => queue!(self.out, SetForegroundColor(Color::Red))?,
                Tone::Faint => queue!(self.out, SetAttribute(Attribute::Dim))?,
            }
            queue!(
                self.out,
                Print(cut),
                SetAttribute(Attribute::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        let end = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        if end < rows {
            queue!(self.out, MoveTo(0, end), Clear(ClearType::FromCursorDown))?;
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _best_effort = execute!(self.out, LeaveAlternateScreen, Show);
        let _best_effort = disable_raw_mode();
    }
}

fn meaning(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('k') => Some(Key::Kill),
        KeyCode::Char('p') => Some(Key::Pause),
        KeyCode::Char('r') => Some(Key::Restart),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::Char(digit @ '1'..='9') => {
            let number = digit.to_digit(10)?;
            Some(Key::Choose(usize::try_from(number - 1).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_screen_says() {
        let plain = |code| meaning(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Char('1')), Some(Key::Choose(0)));
        assert_eq!(plain(KeyCode::Char('0')), None);
        assert_eq!(plain(KeyCode::Char('k')), Some(Key::Kill));
        assert_eq!(plain(KeyCode::Char('c')), None);
        assert_eq!(meaning(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
    }
}
