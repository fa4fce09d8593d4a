//! `/logging`: what is logged. GET shows it, POST changes it, as ztunnel's does.

use crate::control::diagnose::dump::agent::LogStatus;
use crate::drivers::admin::server::{Page, Route};
use crate::telemetry::filter::{Change, FilterError};
use crate::telemetry::log::{self, LogControl};

/// What POST takes.
const USAGE: &str =
    "write ?level=LEVEL, ?level=TARGET=LEVEL,... or ?reset; LEVEL is off, error, warn, info, debug or trace";

/// The page.
pub(super) fn route(log: LogControl) -> Route {
    let changed = log.clone();
    Route::new("/logging", "what is logged; POST ?level=debug, ?level=TARGET=LEVEL or ?reset", move |_| show(&log))
        .with_post(move |query| change(&changed, query))
}

/// The log, for dumps.
pub(super) fn status(log: &LogControl) -> LogStatus {
    let levels = log.levels();
    LogStatus { filter: levels.filter, start: levels.start, dropped_lines: log::dropped_lines() }
}

fn show(log: &LogControl) -> Page {
    match serde_json::to_string_pretty(&status(log)) {
        Ok(body) => Page::json(body + "\n"),
        Err(error) => Page::text(500, format!("{error}\n")),
    }
}

fn change(log: &LogControl, query: &str) -> Page {
    let change = match parse(query) {
        Ok(change) => change,
        Err(problem) => return Page::text(400, format!("{problem}\n")),
    };
    // Whoever asks for no change wants to see, as with ztunnel.
    let levels = if change == Change::default() { Ok(log.levels()) } else { log.change(&change) };
    match levels {
        Ok(levels) => Page::text(200, format!("current log level is {}\n", levels.filter)),
        Err(error @ FilterError::NotNow(_)) => Page::text(500, format!("{error}\n")),
        Err(error) => Page::text(400, format!("{error}\n")),
    }
}

fn parse(query: &str) -> Result<Change, String> {
    let mut change = Change::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "reset" => change.reset = true,
            "level" => change.directives.extend(value.split(',').map(str::to_owned)),
            _ => return Err(format!("{:?} cannot be changed: {USAGE}", key.chars().take(40).collect::<String>())),
        }
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_to_be_different() {
        let change = |reset, directives: &[&str]| {
            Ok(Change { reset, directives: directives.iter().map(|&d| d.to_owned()).collect() })
        };
        assert_eq!(parse(""), change(false, &[]));
        assert_eq!(parse("reset"), change(true, &[]));
        assert_eq!(parse("level=debug"), change(false, &["debug"]));
        assert_eq!(
            parse("level=sotto::traffic=debug,access=off&reset="),
            change(true, &["sotto::traffic=debug", "access=off"])
        );
        assert_eq!(parse("level=sotto%3A%3Atraffic%3Dtrace"), change(false, &["sotto::traffic=trace"]));
        assert!(parse("access=off").unwrap_err().contains("?level="));
    }
}
