//! Colours, where a terminal shows them; numbers as people read them.

use std::time::Duration;

/// What a text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// Less important.
    Faint,
    /// A heading.
    Strong,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether there are.
    pub colours: bool,
}

impl Style {
    /// Without colours, for files and programs.
    pub const PLAIN: Self = Self { colours: false };

    /// A text in its tone. What could control a terminal is taken out of it: names come from whoever may create objects.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let text = printable(text);
        let code = match tone {
            Tone::Plain => return text,
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
    }
}

/// A text of one line that cannot control a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A duration by its two largest units: `2d3h`, `3m12s`, `450ms`.
#[must_use]
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let Some(first) = parts.iter().position(|(count, _)| *count > 0) else {
        return format!("{}ms", duration.as_millis());
    };
    let told = parts.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    told.map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// A number of bytes: `812`, `1.5K`, `20M`, `3.1G`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut rest = count as f64;
    let mut units = ["", "K", "M", "G", "T"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while rest >= 1024.0 {
        let Some(next) = units.next() else { break };
        (rest, unit) = (rest / 1024.0, next);
    }
    if unit.is_empty() || rest >= 10.0 { format!("{rest:.0}{unit}") } else { format!("{rest:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let text = |millis| short(Duration::from_millis(millis));
        assert_eq!([text(0), text(450), text(1999), text(192_000)], ["0ms", "450ms", "1s", "3m12s"]);
        assert_eq!([text(3_600_000), text(90_061_000), text(183_600_000)], ["1h", "1d1h", "2d3h"]);
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(20 << 20), bytes(u64::MAX)],
            ["0", "1023", "1.5K", "20M", "16777216T"]
        );
    }

    #[test]
    fn names_do_not_control_the_terminal() {
        assert_eq!(Style::PLAIN.paint(Tone::Bad, "a\u{1b}[2Jb\n"), "a?[2Jb?");
        let colours = Style { colours: true };
        assert_eq!(colours.paint(Tone::Bad, "x\u{9b}y"), "\u{1b}[31mx?y\u{1b}[0m");
    }
}
