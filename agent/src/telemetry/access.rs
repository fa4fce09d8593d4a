//! The access log's lines: as tracing's formatter writes them, in text and in JSON, and made by hand: there are one or two for
//! every connection, and tracing's own way through subscriber, visitor and formatter costs more.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;
use tracing::Level;

use super::lines::Lines;
use super::log::Format;

/// What the lines call themselves, and what a filter calls them.
pub const TARGET: &str = "access";

/// Where this process's lines go.
static LOG: OnceLock<(Format, Lines)> = OnceLock::new();

thread_local! {
    /// Memory that the thread keeps, so that a line costs no allocation.
    static LINE: RefCell<String> = RefCell::default();
    /// The second that a line was made in last, and how it is written.
    static SECOND: Cell<(u64, [u8; SECOND_LENGTH])> = const { Cell::new((u64::MAX, [0; SECOND_LENGTH])) };
    #[cfg(test)]
    static CAPTURED: RefCell<Option<(Format, String)>> = RefCell::default();
}

const SECOND_LENGTH: usize = "2026-01-31T00:00:00".len();

/// Lines that are written from now on go there, in this format. Only the first call counts.
pub(super) fn start(format: Format, lines: Lines) {
    let _started_before = LOG.set((format, lines));
}

/// Whether lines of this level are wanted at the moment.
#[must_use]
pub fn is_enabled(level: Level) -> bool {
    // Each level is a place of its own, about which tracing remembers the answer.
    match level {
        Level::ERROR => tracing::enabled!(target: TARGET, Level::ERROR),
        Level::WARN => tracing::enabled!(target: TARGET, Level::WARN),
        Level::INFO => tracing::enabled!(target: TARGET, Level::INFO),
        Level::DEBUG => tracing::enabled!(target: TARGET, Level::DEBUG),
        _ => tracing::enabled!(target: TARGET, Level::TRACE),
    }
}

/// Hands a line to the log, which never waits; whether it is wanted is the caller's question ([`is_enabled`]).
pub fn write(level: Level, message: &'static str, add: impl FnOnce(&mut Fields<'_>)) {
    let Some(format) = format() else { return };
    LINE.with_borrow_mut(|text| {
        text.clear();
        line(text, format, (level, message), add);
        hand_over(text);
    });
}

fn format() -> Option<Format> {
    #[cfg(test)]
    if let Some(format) = CAPTURED.with_borrow(|captured| captured.as_ref().map(|(format, _)| *format)) {
        return Some(format);
    }
    LOG.get().map(|(format, _)| *format)
}

fn hand_over(line: &str) {
    #[cfg(test)]
    if CAPTURED.with_borrow_mut(|captured| captured.as_mut().map(|(_, lines)| lines.push_str(line))).is_some() {
        return;
    }
    if let Some((_, lines)) = LOG.get() {
        lines.add(line.as_bytes());
    }
}

/// What a line says. Values that are missing are left out.
#[derive(Debug)]
pub struct Fields<'a> {
    text: &'a mut String,
    format: Format,
}

impl Fields<'_> {
    /// A value that is a word: without quotes in text.
    pub fn word(&mut self, name: &'static str, value: &impl Display) {
        match self.format {
            Format::Text => put(self.text, format_args!(" {name}={value}")),
            Format::Json => self.text(name, Some(value)),
        }
    }

    /// A value that may be any text: in quotes.
    pub fn text(&mut self, name: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.name(name);
            self.text.push('"');
            put(&mut Escaped { text: self.text, format: self.format }, format_args!("{value}"));
            self.text.push('"');
        }
    }

    /// A number.
    pub fn number(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            put(self.text, format_args!("{value}"));
        }
    }

    fn name(&mut self, name: &'static str) {
        let [before, between, after] = match self.format {
            Format::Text => [" ", "", "="],
            Format::Json => [",\"", "\"", ":"],
        };
        [before, name, between, after].into_iter().for_each(|part| self.text.push_str(part));
    }
}

fn line(text: &mut String, format: Format, (level, message): (Level, &'static str), add: impl FnOnce(&mut Fields<'_>)) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match format {
        Format::Text => {
            put_time(text, since);
            put(text, format_args!(" {level:>5} {TARGET}: {message}"));
            add(&mut Fields { text, format });
            text.push('\n');
        }
        Format::Json => {
            text.push_str("{\"timestamp\":\"");
            put_time(text, since);
            put(text, format_args!("\",\"level\":\"{level}\",\"message\":\"{message}\""));
            add(&mut Fields { text, format });
            put(text, format_args!(",\"target\":\"{TARGET}\"}}\n"));
        }
    }
}

/// A time since 1970 as RFC 3339 has it, in UTC, to the microsecond.
fn put_time(text: &mut String, since: Duration) {
    let (second, mut written) = SECOND.get();
    if second != since.as_secs() {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let whole = Duration::from_secs(since.as_secs());
        // A clock that is thousands of years off has no such form: the last one is kept.
        let formatted = OffsetDateTime::UNIX_EPOCH.checked_add(whole.try_into().unwrap_or_default());
        if let Some(Ok(new)) = formatted.map(|time| time.format(format))
            && let Ok(new) = new.into_bytes().try_into()
        {
            written = new;
            SECOND.set((since.as_secs(), written));
        }
    }
    text.push_str(std::str::from_utf8(&written).unwrap_or_default());
    put(text, format_args!(".{:06}Z", since.subsec_micros()));
}

/// Writing into a String cannot fail; a Display that does has said what it could.
fn put(text: &mut impl fmt::Write, what: fmt::Arguments<'_>) {
    let _written = text.write_fmt(what);
}

/// Puts text between quotes.
struct Escaped<'a> {
    text: &'a mut String,
    format: Format,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if part.bytes().all(plain) {
            self.text.push_str(part);
            return Ok(());
        }
        let quoted = match self.format {
            Format::Text => format!("{part:?}"),
            Format::Json => serde_json::Value::from(part).to_string(),
        };
        self.text.push_str(&quoted[1..quoted.len() - 1]);
        Ok(())
    }
}

/// The lines of a test's thread, without the time.
#[cfg(test)]
pub(crate) fn captured(format: Format, action: impl FnOnce()) -> String {
    CAPTURED.set(Some((format, String::new())));
    action();
    CAPTURED.take().expect("it was set above").1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(format: Format) -> String {
        captured(format, || {
            write(Level::WARN, "connection denied", |fields| {
                fields.word("src.addr", &"10.0.0.1:80");
                fields.text("src.workload", Some("web"));
                fields.text("dst.workload", None::<&str>);
                fields.text("error", Some("said \"no\" \\ to ä\nit\u{7}"));
                fields.number("bytes_sent", Some(7));
                fields.number("bytes_recv", None);
            });
        })
    }

    #[test]
    fn lines_are_as_tracing_has_them() {
        let text = example(Format::Text);
        let (time, line) = text.split_once(' ').unwrap();
        assert_eq!(
            line,
            " WARN access: connection denied src.addr=10.0.0.1:80 src.workload=\"web\" error=\"said \\\"no\\\" \\\\ to ä\\nit\\u{7}\" bytes_sent=7\n"
        );
        assert_eq!(time.len(), "2026-01-31T00:00:00.000000Z".len(), "{time}");

        let json = example(Format::Json);
        assert!(json.ends_with("}\n") && json.starts_with("{\"timestamp\":\"2"), "{json}");
        let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
        value.as_object_mut().unwrap().shift_remove("timestamp").unwrap();
        let expected = serde_json::json!({
            "level": "WARN", "message": "connection denied", "src.addr": "10.0.0.1:80", "src.workload": "web",
            "error": "said \"no\" \\ to ä\nit\u{7}", "bytes_sent": 7, "target": "access",
        });
        assert_eq!(value.to_string(), expected.to_string(), "also in this order");
    }

    #[test]
    fn times_are_those_of_the_clock() {
        let mut text = String::new();
        for micros in [1_769_824_799_999_999, 1_769_824_800_000_001, 1_769_824_800_000_002, 0] {
            put_time(&mut text, Duration::from_micros(micros));
            text.push(' ');
        }
        let expected = "2026-01-31T01:59:59.999999Z 2026-01-31T02:00:00.000001Z 2026-01-31T02:00:00.000002Z 1970-01-01T00:00:00.000000Z ";
        assert_eq!(text, expected);
    }
}
