//! Profiles: what is asked for.

use std::time::Duration;

/// How long processor time is watched unless somebody says, in seconds.
pub const USUAL_SECONDS: u32 = 10;

/// The longest, in seconds.
pub const MOST_SECONDS: u32 = 60;

/// How often a thread is looked at, per second of its time, unless somebody says. No multiple of what is done every 10 ms.
pub const USUAL_FREQUENCY: u32 = 99;

/// The most often, per second.
pub const HIGHEST_FREQUENCY: u32 = 1000;

/// How to look at processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuestion {
    /// For how long.
    pub duration: Duration,
    /// How often, per second.
    pub frequency: u32,
}

/// Why a question is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// A number that is none, or too small or large.
    #[error("{name}: {value:?} is not a whole number from 1 to {most}; write for example {name}={usual}")]
    Value {
        /// Of what.
        name: &'static str,
        /// What was said.
        value: String,
        /// What would be too much.
        most: u32,
        /// What is usual.
        usual: u32,
    },
    /// There is no such parameter.
    #[error(
        "{0:?} cannot be said: there are seconds and frequency, as in ?seconds={USUAL_SECONDS}&frequency={USUAL_FREQUENCY}"
    )]
    Unknown(String),
    /// One number, twice.
    #[error("{0} is said twice")]
    Twice(&'static str),
    /// There is no such parameter of the heap.
    #[error("{0:?} cannot be said: of the heap there is seconds, as in ?seconds={USUAL_SECONDS}")]
    HeapParameter(String),
}

impl CpuQuestion {
    /// Reads a query.
    ///
    /// # Errors
    /// [`QuestionError`]
    pub fn parse(query: &str) -> Result<Self, QuestionError> {
        let (mut seconds, mut frequency) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let (name, place, most, usual) = match name.as_ref() {
                "seconds" => ("seconds", &mut seconds, MOST_SECONDS, USUAL_SECONDS),
                "frequency" => ("frequency", &mut frequency, HIGHEST_FREQUENCY, USUAL_FREQUENCY),
                _ => return Err(QuestionError::Unknown(name.into_owned())),
            };
            let number = value.parse().ok().filter(|number| (1..=most).contains(number));
            let wrong = || QuestionError::Value { name, value: value.into_owned(), most, usual };
            if place.replace(number.ok_or_else(wrong)?).is_some() {
                return Err(QuestionError::Twice(name));
            }
        }
        let duration = Duration::from_secs(seconds.unwrap_or(USUAL_SECONDS).into());
        Ok(Self { duration, frequency: frequency.unwrap_or(USUAL_FREQUENCY) })
    }

    /// The query.
    #[must_use]
    pub fn to_query(self) -> String {
        format!("seconds={}&frequency={}", self.duration.as_secs(), self.frequency)
    }
}

/// Reads a query for the heap: how long allocations are to be noted where they are not noted all the time.
///
/// # Errors
/// [`QuestionError`]
pub fn parse_heap(query: &str) -> Result<Duration, QuestionError> {
    let has_seconds = |(name, _): &(_, _)| *name == "seconds";
    match form_urlencoded::parse(query.as_bytes()).find(|pair| !has_seconds(pair)) {
        Some((name, _)) => Err(QuestionError::HeapParameter(name.into_owned())),
        None => Ok(CpuQuestion::parse(query)?.duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_as_it_is_written_and_has_usual_values() {
        let question = |seconds, frequency| CpuQuestion { duration: Duration::from_secs(seconds), frequency };
        assert_eq!(CpuQuestion::parse(""), Ok(question(10, 99)));
        assert_eq!(CpuQuestion::parse("seconds=60"), Ok(question(60, 99)));
        assert_eq!(CpuQuestion::parse("frequency=1000&seconds=1"), Ok(question(1, 1000)));
        assert_eq!(CpuQuestion::parse(&question(7, 500).to_query()), Ok(question(7, 500)));
        assert_eq!(parse_heap(""), Ok(Duration::from_secs(10)));
        assert_eq!(parse_heap("seconds=3"), Ok(Duration::from_secs(3)));
    }

    #[test]
    fn nonsense_is_told_with_name_range_and_example() {
        for (query, says) in [
            ("seconds=0", "seconds: \"0\" is not a whole number from 1 to 60; write for example seconds=10"),
            ("seconds=1e9", "seconds: \"1e9\" is not a whole number from 1 to 60; write for example seconds=10"),
            ("seconds=-1", "seconds: \"-1\" is not a whole number from 1 to 60; write for example seconds=10"),
            ("seconds=61", "seconds: \"61\" is not a whole number from 1 to 60; write for example seconds=10"),
            ("seconds=", "seconds: \"\" is not a whole number from 1 to 60; write for example seconds=10"),
            (
                "seconds=99999999999999",
                "seconds: \"99999999999999\" is not a whole number from 1 to 60; write for example seconds=10",
            ),
            ("frequency=0", "frequency: \"0\" is not a whole number from 1 to 1000; write for example frequency=99"),
            (
                "frequency=1001&seconds=1",
                "frequency: \"1001\" is not a whole number from 1 to 1000; write for example frequency=99",
            ),
            ("seconds=1&seconds=2", "seconds is said twice"),
            ("debug=1", "\"debug\" cannot be said: there are seconds and frequency, as in ?seconds=10&frequency=99"),
        ] {
            assert_eq!(CpuQuestion::parse(query).unwrap_err().to_string(), says, "{query}");
        }
        assert!(parse_heap("frequency=5").unwrap_err().to_string().starts_with("\"frequency\" cannot be said"));
        assert!(parse_heap("seconds=61").unwrap_err().to_string().starts_with("seconds: \"61\" is not"));
    }
}
