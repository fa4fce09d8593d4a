//! `/config_dump`: what the agent knows, as JSON.

use std::time::SystemTime;

use super::routes::Shown;
use crate::control::diagnose::dump::section::Sections;
use crate::drivers::admin::server::Page;

/// The page. Made on a thread of its own: a large mesh takes a while.
pub(super) fn page(shown: &Shown, query: &str) -> impl Future<Output = Page> + Send + use<> {
    let made = Sections::parse(query).map(|sections| {
        let known = shown.known();
        tokio::task::spawn_blocking(move || serde_json::to_string_pretty(&known.dump(&sections, SystemTime::now())))
    });
    async {
        match made {
            Err(error) => Page::text(400, format!("{error}\n")),
            Ok(made) => match made.await {
                Ok(Ok(body)) => Page::json(body + "\n"),
                Ok(Err(error)) => Page::text(500, format!("{error}\n")),
                Err(error) => Page::text(500, format!("{error}\n")),
            },
        }
    }
}
