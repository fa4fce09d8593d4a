//! The agent's access log, read: one line per connection, `key=value` pairs after the target `access`.

use std::collections::BTreeMap;

use super::metrics::quoted;

/// One line of an agent's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    fields: BTreeMap<String, String>,
    line: String,
}

impl AccessEntry {
    /// The value of a field (`src.identity`, `dst.addr`), empty if the line does not have it.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The client's SPIFFE ID.
    #[must_use]
    pub fn source_identity(&self) -> &str {
        self.field("src.identity")
    }

    /// The server's SPIFFE ID.
    #[must_use]
    pub fn destination_identity(&self) -> &str {
        self.field("dst.identity")
    }

    /// The line as it was logged.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// All access entries among the lines of a log.
pub(crate) fn parse(log: &str) -> Vec<AccessEntry> {
    log.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<AccessEntry> {
    // The target follows the level: `2026-01-01T00:00:00Z  INFO access: connection complete src.addr=…`.
    // ztunnel puts tabs between the same things.
    let (head, rest) = line.split_once(" access:").or_else(|| line.split_once("\taccess\t"))?;
    if head.split_whitespace().count() > 3 {
        return None;
    }
    let mut fields = BTreeMap::new();
    let mut rest = rest;
    while let Some((before, after)) = rest.split_once('=') {
        let key = before.rsplit(char::is_whitespace).next().unwrap_or_default().to_owned();
        let (value, after) = match after.strip_prefix('"') {
            Some(inside) => quoted(inside)?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        fields.insert(key, value);
        rest = after;
    }
    Some(AccessEntry { fields, line: line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_and_without_quotes() {
        let log = "2026-01-01T00:00:00.0Z  INFO sotto: started access: no\n\
                   2026-01-01T00:00:00.1Z  INFO access: connection complete src.addr=10.0.0.1:5 src.identity=\"spiffe://td/ns/a/sa/b\" bytes_sent=7 error=\"broken, as = said\"\n\
                   2026-01-01T00:00:00.1Z DEBUG sotto::view: who has access: nobody a=b\n";
        let entries = parse(log);
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0].field("src.addr"), "10.0.0.1:5");
        assert_eq!(entries[0].source_identity(), "spiffe://td/ns/a/sa/b");
        assert_eq!(entries[0].field("bytes_sent"), "7");
        assert_eq!(entries[0].field("error"), "broken, as = said");
        assert_eq!(entries[0].destination_identity(), "");
    }

    #[test]
    fn ztunnels_lines_are_read_as_well() {
        let entries = parse(
            "2026-01-01T00:00:00.1Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 src.identity=\"spiffe://td/ns/a/sa/b\" bytes_sent=7\n",
        );
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!((entries[0].field("src.addr"), entries[0].field("bytes_sent")), ("10.0.0.1:5", "7"));
        assert_eq!(entries[0].source_identity(), "spiffe://td/ns/a/sa/b");
    }
}
