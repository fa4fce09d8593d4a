//! Parts of a dump, for those who do not need all of it.

use std::fmt;
use std::str::FromStr;

/// A list in the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Pods of this node that are, or ought to be, carried.
    Pods,
    /// All pods of the mesh and beside it.
    Workloads,
    /// Services and their endpoints.
    Services,
    /// PeerAuthentications and AuthorizationPolicies.
    Policies,
    /// Certificates of this node.
    Certificates,
    /// What is wrong with objects.
    Problems,
}

/// Not a section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sections: {0:?} is none of pods, workloads, services, policies, certificates and problems")]
pub struct UnknownSection(String);

/// Which sections somebody wants; the agent itself is always described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections(Vec<Section>);

impl Section {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pods, Self::Workloads, Self::Services, Self::Policies, Self::Certificates, Self::Problems];

    /// As it is called in queries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Workloads => "workloads",
            Self::Services => "services",
            Self::Policies => "policies",
            Self::Certificates => "certificates",
            Self::Problems => "problems",
        }
    }
}

impl Sections {
    /// These.
    #[must_use]
    pub fn of(sections: &[Section]) -> Self {
        Self(sections.to_vec())
    }

    /// Reads the query of a request: `sections=pods,services`; without it, all.
    ///
    /// # Errors
    /// [`UnknownSection`]
    pub fn parse(query: &str) -> Result<Self, UnknownSection> {
        let mut sections: Option<Vec<Section>> = None;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            // Readers of other agents' dumps may send what is none of ours.
            if key == "sections" {
                for name in value.split(',') {
                    sections.get_or_insert_default().push(name.parse()?);
                }
            }
        }
        Ok(Self(sections.unwrap_or_else(|| Section::ALL.to_vec())))
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, section: Section) -> bool {
        self.0.contains(&section)
    }

    /// The query that [`Self::parse`] reads.
    #[must_use]
    pub fn to_query(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|section| section.name()).collect();
        format!("sections={}", names.join(","))
    }
}

impl FromStr for Section {
    type Err = UnknownSection;

    fn from_str(text: &str) -> Result<Self, UnknownSection> {
        let found = Self::ALL.into_iter().find(|section| section.name() == text);
        found.ok_or_else(|| UnknownSection(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_sections_or_none() {
        let sections = Sections::parse("sections=pods,services&pretty=1").unwrap();
        assert!(sections.has(Section::Pods) && sections.has(Section::Services) && !sections.has(Section::Workloads));
        assert_eq!(Sections::parse(&sections.to_query()), Ok(sections));
        assert!(Section::ALL.iter().all(|section| Sections::parse("").unwrap().has(*section)));
        for wrong in ["sections=", "sections=pods,,", "sections=Pods", "sections=%00"] {
            assert!(Sections::parse(wrong).is_err(), "{wrong}");
        }
    }
}
