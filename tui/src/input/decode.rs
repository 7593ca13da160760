//! Bytes of the terminal to events.

use std::time::Duration;

use anstyle_parse::{Params, Parser, Perform};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

/// The longest text that is taken as one paste, bytes.
const PASTE: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A key.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// Pasted text.
    Paste(String),
    /// The answer to a question.
    Reply(Reply),
}

/// What a terminal answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Its background is light.
    Background {
        /// Nearer to white than to black.
        light: bool,
    },
    /// The cursor stands in this column, from 1.
    Cursor {
        /// The column.
        column: u16,
    },
}

/// The state between two pieces of input.
#[derive(Debug, Default)]
pub struct Decoder {
    parser: Parser,
    events: Events,
    /// The latest byte was an Escape that may begin a sequence.
    escape: bool,
    /// An Escape was taken as a key a moment ago: what it began may still come.
    escaped: bool,
}

#[derive(Debug, Default)]
struct Events {
    out: Vec<Heard>,
    /// Text that is being pasted.
    paste: Option<String>,
    /// The next character ends `ESC O`.
    single: bool,
    /// Bytes of an old mouse report that are still to come.
    skip: u8,
}

impl Decoder {
    /// Takes bytes as they come; returns what they mean.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Heard> {
        let begins_reply = matches!(bytes, [b']' | b'P' | b'_' | b'^', next, ..] if *next != 0x1b);
        if std::mem::take(&mut self.escaped) && begins_reply && bytes.len() > 3 {
            // The rest of a reply whose Escape came long before it.
            self.byte(0x1b);
        }
        for byte in bytes {
            self.byte(*byte);
        }
        std::mem::take(&mut self.events.out)
    }

    fn byte(&mut self, byte: u8) {
        if self.events.skip > 0 {
            self.events.skip -= 1;
            return;
        }
        if self.escape && byte < 0x20 && self.events.paste.is_none() {
            // An Escape before another control character began nothing.
            self.parser = Parser::default();
            self.events.key(KeyCode::Esc, KeyModifiers::NONE);
        }
        self.escape = byte == 0x1b;
        self.parser.advance(&mut self.events, byte);
    }

    /// How long to wait for the rest of what has begun, where something has. Slow connections split
    /// sequences, and pastes more so.
    pub fn patience(&self) -> Option<Duration> {
        if self.events.paste.is_some() {
            return Some(Duration::from_secs(5));
        }
        let begun = self.escape || self.events.single || self.events.skip > 0 || self.parser != Parser::default();
        begun.then_some(Duration::from_millis(50))
    }

    /// Nothing came for that long: what was begun ends here.
    pub fn silence(&mut self) -> Vec<Heard> {
        if std::mem::take(&mut self.escape) && self.events.paste.is_none() {
            self.events.key(KeyCode::Esc, KeyModifiers::NONE);
            self.escaped = true;
        }
        if std::mem::take(&mut self.events.single) {
            self.events.key(KeyCode::Char('O'), KeyModifiers::ALT);
        }
        if let Some(text) = self.events.paste.take() {
            self.events.out.push(Heard::Paste(text));
        }
        self.events.skip = 0;
        self.parser = Parser::default();
        std::mem::take(&mut self.events.out)
    }
}

impl Events {
    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        if self.paste.is_none() {
            self.out.push(Heard::Key(KeyEvent::new(code, modifiers)));
        }
    }

    fn char(&mut self, c: char, modifiers: KeyModifiers) {
        let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
        match c {
            '\u{7f}' => self.key(KeyCode::Backspace, modifiers),
            c => self.key(KeyCode::Char(c), modifiers | shift),
        }
    }

    fn pasted(&mut self, c: char) -> bool {
        let Some(text) = &mut self.paste else { return false };
        if text.len() < PASTE {
            text.push(c);
        }
        true
    }

    fn mouse(&mut self, params: &[u16], pressed: bool) {
        let [buttons, column, row] = *params else { return };
        let button = match buttons & 3 {
            0 => MouseButton::Left,
            1 => MouseButton::Middle,
            _ => MouseButton::Right,
        };
        let kind = match (buttons & 0b1110_0000, buttons & 3, pressed) {
            (64, 0, _) => MouseEventKind::ScrollUp,
            (64, 1, _) => MouseEventKind::ScrollDown,
            (64, 2, _) => MouseEventKind::ScrollLeft,
            (64, _, _) => MouseEventKind::ScrollRight,
            (32, 3, _) => MouseEventKind::Moved,
            (32, ..) => MouseEventKind::Drag(button),
            (0, _, true) => MouseEventKind::Down(button),
            (0, _, false) => MouseEventKind::Up(button),
            _ => return,
        };
        let held = [(4, KeyModifiers::SHIFT), (8, KeyModifiers::ALT), (16, KeyModifiers::CONTROL)];
        let modifiers = held.into_iter().filter(|(bit, _)| buttons & bit != 0).map(|(_, m)| m).collect();
        let (column, row) = (column.saturating_sub(1), row.saturating_sub(1));
        self.out.push(Heard::Mouse(MouseEvent { kind, column, row, modifiers }));
    }
}

/// Modifiers as the second parameter of a key's sequence has them: one more than their bits.
fn modifiers(param: Option<u16>) -> KeyModifiers {
    let bits = param.unwrap_or(1).saturating_sub(1);
    let all = [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL), (8, KeyModifiers::SUPER)];
    all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, m)| m).collect()
}

/// The key of a final letter.
fn letter(action: u8) -> Option<KeyCode> {
    Some(match action {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'H' => KeyCode::Home,
        b'F' => KeyCode::End,
        b'Z' => KeyCode::BackTab,
        b'P' => KeyCode::F(1),
        b'Q' => KeyCode::F(2),
        b'S' => KeyCode::F(4),
        _ => return None,
    })
}

/// The key of a number before `~`.
fn numbered(number: u16) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(number as u8 - 10),
        17..=21 => KeyCode::F(number as u8 - 11),
        23..=24 => KeyCode::F(number as u8 - 12),
        _ => return None,
    })
}

/// The key of a character's code, as terminals with the newer keyboard protocol send it.
fn coded(code: u16) -> Option<KeyCode> {
    Some(match code {
        9 => KeyCode::Tab,
        13 => KeyCode::Enter,
        27 => KeyCode::Esc,
        8 | 127 => KeyCode::Backspace,
        code => KeyCode::Char(char::from_u32(code.into()).filter(|c| !c.is_control())?),
    })
}

impl Perform for Events {
    fn print(&mut self, c: char) {
        if self.pasted(c) {
            return;
        }
        if std::mem::take(&mut self.single) {
            let code = match c {
                'R' => Some(KeyCode::F(3)),
                'M' => Some(KeyCode::Enter),
                c => u8::try_from(c).ok().and_then(letter),
            };
            return match code {
                Some(code) => self.key(code, KeyModifiers::NONE),
                None => self.char(c, KeyModifiers::NONE),
            };
        }
        self.char(c, KeyModifiers::NONE);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' | b'\n' | b'\t' if self.paste.is_some() => {
                self.pasted(if byte == b'\t' { '\t' } else { '\n' });
            }
            b'\r' => self.key(KeyCode::Enter, KeyModifiers::NONE),
            b'\t' => self.key(KeyCode::Tab, KeyModifiers::NONE),
            0x08 => self.key(KeyCode::Backspace, KeyModifiers::NONE),
            0 => self.key(KeyCode::Char(' '), KeyModifiers::CONTROL),
            1..=26 => self.key(KeyCode::Char(char::from(byte - 1 + b'a')), KeyModifiers::CONTROL),
            0x1c..=0x1f => self.key(KeyCode::Char(char::from(byte - 0x1c + b'4')), KeyModifiers::CONTROL),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        let params: Vec<u16> = params.iter().map(|p| p.first().copied().unwrap_or(0)).collect();
        let first = params.first().copied().unwrap_or(0);
        if ignore {
            return;
        }
        match (intermediates, action) {
            ([], b'~') if first == 200 => self.paste = Some(String::new()),
            ([], b'~') if first == 201 => {
                if let Some(text) = self.paste.take() {
                    self.out.push(Heard::Paste(text));
                }
            }
            _ if self.paste.is_some() => {}
            ([], b'~') => {
                if let Some(code) = numbered(first) {
                    self.key(code, modifiers(params.get(1).copied()));
                }
            }
            ([], b'u') => {
                if let Some(code) = coded(first) {
                    self.key(code, modifiers(params.get(1).copied()));
                }
            }
            ([], b'R') => {
                let column = params.get(1).copied().unwrap_or(1);
                self.out.push(Heard::Reply(Reply::Cursor { column }));
            }
            // An old mouse report: three bytes follow, whatever they are.
            ([], b'M') => self.skip = 3,
            ([b'<'], b'M' | b'm') => self.mouse(&params, action == b'M'),
            ([], action) => {
                if let Some(code) = letter(action) {
                    self.key(code, modifiers(params.get(1).copied()));
                }
            }
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        match byte {
            _ if ignore || !intermediates.is_empty() => {}
            // The end of a string.
            b'\\' => {}
            b'O' => self.single = true,
            byte => self.char(byte.into(), KeyModifiers::ALT),
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _bell_terminated: bool) {
        if let [b"11", colour] = params
            && let Some(light) = std::str::from_utf8(colour).ok().and_then(is_light)
        {
            self.out.push(Heard::Reply(Reply::Background { light }));
        }
    }
}

/// Whether a colour as terminals write it (`rgb:ffff/ffff/ffff`, `#ffffff`) is light.
fn is_light(colour: &str) -> Option<bool> {
    let parts: Vec<&str> = match colour.strip_prefix('#') {
        Some(digits) if digits.is_ascii() && digits.len() == 6 => vec![&digits[..2], &digits[2..4], &digits[4..]],
        Some(_) => return None,
        None => colour.split_once(':')?.1.split('/').take(3).collect(),
    };
    let [r, g, b] = parts.as_slice() else { return None };
    let share = |digits: &str| -> Option<f64> {
        let most = 16f64.powi(i32::try_from(digits.len()).ok()?) - 1.0;
        Some(f64::from(u32::from_str_radix(digits, 16).ok()?) / most)
    };
    Some(0.299 * share(r)? + 0.587 * share(g)? + 0.114 * share(b)? > 0.5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(bytes: &[u8]) -> Vec<Heard> {
        let mut decoder = Decoder::default();
        let mut out = decoder.feed(bytes);
        out.extend(decoder.silence());
        out
    }

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Heard {
        Heard::Key(KeyEvent::new(code, modifiers))
    }

    /// A terminal's colour reply once started a run: its characters were read as keys.
    #[test]
    fn a_reply_is_no_key() {
        let replies: [&[u8]; 12] = [
            b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
            b"\x1b]4;1;rgb:1e1e/1e1e/1e1e\x07",
            b"\x1b]52;c;c3VyZQ==\x1b\\",
            b"\x1bP>|XTerm(379)\x1b\\",
            b"\x1bP1$r0m\x1b\\",
            b"\x1b_Gi=31;OK\x1b\\",
            b"\x1b^private\x1b\\",
            b"\x1bXstart of string\x1b\\",
            b"\x1b[?62;22c",
            b"\x1b[>0;276;0c",
            b"\x1b[?2026;2$y",
            b"\x1b[8;24;80t",
        ];
        for reply in replies {
            assert_eq!(heard(reply), [], "{}", reply.escape_ascii());
            // Cut anywhere, with a pause where it was cut: no letter of it is a key.
            let mut with_key = reply.to_vec();
            with_key.push(b'q');
            assert_eq!(heard(&with_key), [key(KeyCode::Char('q'), KeyModifiers::NONE)], "{}", reply.escape_ascii());
        }
        assert_eq!(heard(b"\x1b[?1;2"), [], "one that never ends");
    }

    #[test]
    fn a_reply_whose_escape_came_long_before_it_is_no_key() {
        let mut decoder = Decoder::default();
        assert!(decoder.feed(b"\x1b").is_empty());
        assert_eq!(decoder.silence(), [key(KeyCode::Esc, KeyModifiers::NONE)]);
        assert_eq!(decoder.feed(b"]10;rgb:ffff/ffff/ffff\x1b\\"), []);
        assert_eq!(decoder.feed(b"]"), [key(KeyCode::Char(']'), KeyModifiers::NONE)]);
    }

    #[test]
    fn questions_are_answered() {
        let background = |light| Heard::Reply(Reply::Background { light });
        assert_eq!(heard(b"\x1b]11;rgb:ffff/ffff/dddd\x1b\\"), [background(true)]);
        assert_eq!(heard(b"\x1b]11;rgb:1e/1e/2e\x07"), [background(false)]);
        assert_eq!(heard(b"\x1b]11;#fdf6e3\x07"), [background(true)]);
        assert_eq!(heard(b"\x1b]11;nonsense\x07"), []);
        assert_eq!(heard(b"\x1b[12;34R"), [Heard::Reply(Reply::Cursor { column: 34 })]);
    }

    #[test]
    fn keys_are_keys() {
        let none = KeyModifiers::NONE;
        let cases: [(&[u8], KeyCode, KeyModifiers); 19] = [
            (b"a", KeyCode::Char('a'), none),
            (b"G", KeyCode::Char('G'), KeyModifiers::SHIFT),
            ("é".as_bytes(), KeyCode::Char('é'), none),
            ("日".as_bytes(), KeyCode::Char('日'), none),
            (b"\r", KeyCode::Enter, none),
            (b"\t", KeyCode::Tab, none),
            (b"\x7f", KeyCode::Backspace, none),
            (b"\x08", KeyCode::Backspace, none),
            (b"\x03", KeyCode::Char('c'), KeyModifiers::CONTROL),
            (b"\x1b", KeyCode::Esc, none),
            (b"\x1bb", KeyCode::Char('b'), KeyModifiers::ALT),
            (b"\x1b[A", KeyCode::Up, none),
            (b"\x1b[1;2D", KeyCode::Left, KeyModifiers::SHIFT),
            (b"\x1b[1;5C", KeyCode::Right, KeyModifiers::CONTROL),
            (b"\x1b[Z", KeyCode::BackTab, none),
            (b"\x1b[3~", KeyCode::Delete, none),
            (b"\x1b[24~", KeyCode::F(12), none),
            (b"\x1bOP", KeyCode::F(1), none),
            (b"\x1bOH", KeyCode::Home, none),
        ];
        for (bytes, code, modifiers) in cases {
            assert_eq!(heard(bytes), [key(code, modifiers)], "{}", bytes.escape_ascii());
        }
        let twice = [key(KeyCode::Esc, none), key(KeyCode::Esc, none)];
        assert_eq!(heard(b"\x1b\x1b"), twice);
    }

    #[test]
    fn a_paste_is_one_text_without_the_sequences_in_it() {
        assert_eq!(
            heard(b"\x1b[200~a\x1b[31mb\rc\x03\x1b[201~q"),
            [Heard::Paste("ab\nc".into()), key(KeyCode::Char('q'), KeyModifiers::NONE)]
        );
        assert_eq!(heard(b"\x1b[200~never ended"), [Heard::Paste("never ended".into())]);
    }

    #[test]
    fn the_mouse_is_read_in_both_of_its_forms() {
        let at = |kind, column, row| Heard::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
        assert_eq!(heard(b"\x1b[<0;12;3M"), [at(MouseEventKind::Down(MouseButton::Left), 11, 2)]);
        assert_eq!(heard(b"\x1b[<65;1;1M"), [at(MouseEventKind::ScrollDown, 0, 0)]);
        assert_eq!(heard(b"\x1b[M !qs"), [key(KeyCode::Char('s'), KeyModifiers::NONE)]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let mut decoder = Decoder::default();
            decoder.feed(a);
            decoder.feed(b);
            decoder.silence();
            prop_assert!(decoder.patience().is_none());
            prop_assert_eq!(decoder.feed(b"q"), [key(KeyCode::Char('q'), KeyModifiers::NONE)]);
        }
    }
}
