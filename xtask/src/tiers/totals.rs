//! Adds up what the test programs say about themselves.

use std::fmt;
use std::ops::AddAssign;

/// How many tests there were, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Ran and held.
    pub(crate) passed: u64,
    /// Ran and did not, or could not even be built.
    pub(crate) failed: u64,
    /// Did not run.
    pub(crate) skipped: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sotto: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Sees a stream of output and adds up its closing lines.
#[derive(Debug, Default)]
pub(super) struct Counter {
    line: Vec<u8>,
    /// What was seen so far.
    pub(super) totals: Totals,
}

impl Counter {
    /// The next piece of output, cut anywhere.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(totals) = closing_line(&String::from_utf8_lossy(&self.line)) {
                    self.totals += totals;
                }
                self.line.clear();
            } else {
                self.line.push(byte);
            }
        }
    }
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`.
fn closing_line(line: &str) -> Option<Totals> {
    let plain = without_colour(line);
    let counts = plain.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)).and_then(|number| number.trim().parse().ok())
    };
    Some(Totals { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

/// The line without terminal escapes (`ESC [ … letter`).
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

/// How many tests `-- --list` names.
pub(super) fn listed(output: &str) -> u64 {
    output.lines().filter(|line| line.ends_with(": test")).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(pieces: &[&str]) -> Totals {
        let mut counter = Counter::default();
        pieces.iter().for_each(|piece| counter.feed(piece.as_bytes()));
        counter.totals
    }

    #[test]
    fn closing_lines_add_up_however_the_stream_is_cut() {
        let pieces = [
            "running 3 tests\ntest a ... ok\n\ntest resu",
            "lt: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s\n",
        ];
        assert_eq!(counted(&pieces), Totals { passed: 7, failed: 2, skipped: 1 });
    }

    #[test]
    fn colours_do_not_hide_a_closing_line() {
        let line = "test result: \u{1b}[32mok\u{1b}[0m. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(counted(&[line]), Totals { passed: 5, ..Totals::default() });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(
            counted(&["test result: fine\n", "a test result: ok. 1 passed; 0 failed; 0 ignored\n"]),
            Totals::default()
        );
    }

    #[test]
    fn the_sum_is_one_plain_line() {
        let totals = Totals { passed: 123, failed: 0, skipped: 2 };
        assert_eq!(totals.to_string(), "sotto: 123 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_list_counts_tests_only() {
        assert_eq!(
            listed("capture::joins: test\ncapture::leaves: test\nspeed: benchmark\n\n2 tests, 1 benchmark\n"),
            2
        );
    }
}
