//! What is logged, as a list of directives that can be changed one by one: `info,sotto::traffic=debug,access=off`.

use std::fmt;

use tracing_subscriber::EnvFilter;

/// So many directives are kept; more are refused.
const MOST: usize = 64;

/// Says ERROR of every request to the API server that fails, each time that it is tried again. Whoever asked tells it, too, with what
/// it means and not more often than somebody wants to read it. To be heard, it or `kube_client` has to be named.
const REPETITIVE: (&str, &str) = ("kube_client", "kube_client::client::builder=off");

/// The longest directive, in bytes.
const LONGEST: usize = 200;

/// The levels, the quietest first.
pub const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A list of directives. A later one for the same target replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(Vec<Directive>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Directive {
    /// What it is about: a target, a span; empty for everything.
    target: String,
    /// As it was written.
    text: String,
}

/// What somebody wants to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether to begin with what the process was started with; or with what is in force.
    pub reset: bool,
    /// Directives to add: `debug` for everything, `sotto::traffic=debug` for a target.
    pub directives: Vec<String>,
}

/// Why a filter is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a directive.
    #[error("{0:?} is no log level: write error, warn, info, debug, trace or off, or TARGET=LEVEL")]
    Directive(String),
    /// More than anybody needs.
    #[error("at most {MOST} targets can have a level of their own, of at most {LONGEST} characters each")]
    TooMany,
    /// The log cannot be changed.
    #[error("the log cannot be changed now: {0}")]
    NotNow(String),
}

impl Filter {
    /// Reads what somebody has written in the form of `RUST_LOG`.
    ///
    /// # Errors
    /// [`FilterError`]
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for directive in split(text).map(str::trim).filter(|directive| !directive.is_empty()) {
            EnvFilter::try_new(directive).map_err(|_| FilterError::Directive(shorten(directive)))?;
            filter.set(directive)?;
        }
        Ok(filter)
    }

    /// This filter, or `start`, with a change applied.
    ///
    /// # Errors
    /// [`FilterError`]
    pub fn changed(&self, start: &Self, change: &Change) -> Result<Self, FilterError> {
        let mut next = if change.reset { start.clone() } else { self.clone() };
        for directive in &change.directives {
            let (target, level) = directive.split_once('=').unwrap_or(("", directive));
            // A bare word that is no level would be taken for a target, and "everything of it" be logged.
            let known = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
            let named = directive.is_empty() || !known || (directive.contains('=') && !is_target(target));
            if named {
                return Err(FilterError::Directive(shorten(directive)));
            }
            next.set(directive)?;
        }
        Ok(next)
    }

    /// In the form that the log wants.
    ///
    /// # Errors
    /// [`FilterError`]
    pub(super) fn compile(&self) -> Result<EnvFilter, FilterError> {
        let (library, silence) = REPETITIVE;
        let about_it = |directive: &Directive| {
            directive.target.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let silence = if self.0.iter().any(about_it) { "" } else { silence };
        let text = format!("{silence},{self}");
        EnvFilter::try_new(&text).map_err(|_| FilterError::Directive(shorten(&text)))
    }

    fn set(&mut self, directive: &str) -> Result<(), FilterError> {
        let target = directive.rsplit_once('=').map_or("", |(target, _)| target);
        // `RUST_LOG=sotto` is "everything of sotto", not a level.
        let bare = target.is_empty() && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive));
        let target = if bare { directive } else { target }.to_owned();
        if directive.len() > LONGEST {
            return Err(FilterError::TooMany);
        }
        let new = Directive { target, text: directive.to_owned() };
        match self.0.iter().position(|old| old.target == new.target) {
            Some(old) => self.0[old] = new,
            None if self.0.len() >= MOST => return Err(FilterError::TooMany),
            None => self.0.push(new),
        }
        Ok(())
    }
}

/// At commas that are not within a span's fields.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
        c == ',' && depth <= 0
    })
}

fn is_target(target: &str) -> bool {
    !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'))
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, directive) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, directive.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn change(now: &str, reset: bool, directives: &[&str]) -> Result<String, FilterError> {
        let start = Filter::parse("info,access=off")?;
        let directives = directives.iter().map(|&d| d.to_owned()).collect();
        Ok(Filter::parse(now)?.changed(&start, &Change { reset, directives })?.to_string())
    }

    #[test]
    fn a_directive_replaces_the_one_for_the_same_target_and_leaves_others() {
        assert_eq!(change("info", false, &["debug"]).unwrap(), "debug");
        assert_eq!(change("info,a::b=warn", false, &["debug"]).unwrap(), "debug,a::b=warn");
        assert_eq!(change("info,a::b=warn", false, &["a::b=trace", "c=OFF"]).unwrap(), "info,a::b=trace,c=OFF");
        assert_eq!(change("trace,x=warn", true, &[]).unwrap(), "info,access=off");
        assert_eq!(change("trace,x=warn", true, &["access=info"]).unwrap(), "info,access=info");
    }

    #[test]
    fn what_the_environment_may_say_is_kept_as_it_is() {
        for text in ["info", "sotto", "sotto=debug", "warn,sotto[x{pod=a}]=trace,access=info", ""] {
            assert_eq!(Filter::parse(text).unwrap().to_string(), text);
            assert!(Filter::parse(text).unwrap().compile().is_ok());
        }
        assert_eq!(Filter::parse("info, debug").unwrap().to_string(), "debug");
        assert!(Filter::parse("info,sotto=loud").is_err());
    }

    #[test]
    fn what_repeats_itself_is_heard_only_where_it_is_named() {
        for (text, is_heard) in [
            ("info", false),
            ("debug,access=off", false),
            ("info,kube_clients=info", false),
            ("info,kube_client=info", true),
            ("info,kube_client::client=debug", true),
            ("info,kube_client::client::builder=error", true),
            ("info,kube_client=off", false),
        ] {
            let filter = Filter::parse(text).unwrap().compile().unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
                let heard = tracing::enabled!(target: "kube_client::client::builder", tracing::Level::ERROR);
                assert_eq!(heard, is_heard, "{text:?}");
                assert!(tracing::enabled!(target: "sotto", tracing::Level::ERROR), "{text:?}");
            });
        }
    }

    #[test]
    fn nonsense_is_refused_whole() {
        for wrong in ["loud", "a=loud", "=debug", "", "a b=debug", "a=b=debug", "[x]=debug", "a=debug,b=loud", "sotto"]
        {
            let refused = change("info", false, &["warn", wrong]);
            assert!(matches!(refused, Err(FilterError::Directive(_))), "{wrong}: {refused:?}");
        }
        let many: Vec<_> = (0..=MOST).map(|n| format!("t{n}=debug")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(change("info", false, &many), Err(FilterError::TooMany));
        assert_eq!(change("info", false, &[&format!("{}=debug", "x".repeat(300))]), Err(FilterError::TooMany));
    }
}
