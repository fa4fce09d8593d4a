//! The tiers: which test programs belong to each, and what keeps one from running.

use clap::ValueEnum;

use super::machine;
use crate::cluster::programs::{self, Extent};
use crate::workspace::{Target, Workspace};

/// Kinds of tests, from the least to the most powerful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Beside the code they test: no privileges, no network.
    Unit,
    /// Input files and the output that they must give.
    Golden,
    /// The real library on loopback ports: no privileges.
    Loopback,
    /// What gets installed: the Helm chart, rendered.
    Deploy,
    /// A real API server on loopback: no privileges.
    Api,
    /// The real binary in network namespaces, with eBPF: root.
    Netns,
    /// A real cluster of two nodes: root.
    Cluster,
}

impl Tier {
    /// Every tier, in the order in which they run.
    pub(super) const ALL: [Self; 7] =
        [Self::Unit, Self::Golden, Self::Loopback, Self::Deploy, Self::Api, Self::Netns, Self::Cluster];

    /// As written on the command line, and the name of the test program of the tier.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Golden => "golden",
            Self::Loopback => "loopback",
            Self::Deploy => "deploy",
            Self::Api => "api",
            Self::Netns => "netns",
            Self::Cluster => "cluster",
        }
    }

    /// Whether its tests use the agent, so that the agent is built first.
    pub(super) fn needs_agent(self) -> bool {
        self != Self::Deploy
    }

    /// Why this machine cannot run it; empty when it can.
    pub(super) fn obstacles(self) -> Vec<String> {
        match self {
            Self::Unit | Self::Golden | Self::Loopback => Vec::new(),
            Self::Deploy => programs::renderer_obstacles(),
            Self::Api => programs::obstacles(Extent::Api),
            Self::Netns => machine::netns_obstacles(),
            Self::Cluster => machine::cluster_obstacles(),
        }
    }

    /// Arguments of the `cargo test` runs that make up the tier in this tree.
    pub(super) fn runs(self, workspace: &Workspace) -> Vec<Vec<String>> {
        match self {
            Self::Unit => unit_runs(&workspace.targets),
            Self::Golden | Self::Loopback | Self::Deploy | Self::Api | Self::Netns | Self::Cluster => workspace
                .targets
                .iter()
                .filter(|target| target.kind == "test" && target.name == self.name())
                .map(|target| words(&["-p", &target.package, "--test", &target.name]))
                .collect(),
        }
    }
}

/// One run over all libraries, binaries and test programs that are no tier of their own, and one over the documentation.
fn unit_runs(targets: &[Target]) -> Vec<Vec<String>> {
    let mut run = words(&["--workspace", "--lib", "--bins"]);
    let own_tier = |name: &str| Tier::ALL.iter().any(|tier| tier.name() == name);
    for target in targets.iter().filter(|target| target.kind == "test" && !own_tier(&target.name)) {
        run.extend(words(&["--test", &target.name]));
    }
    vec![run, words(&["--workspace", "--doc"])]
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Workspace {
        let target = |package: &str, kind: &str, name: &str| Target {
            package: package.into(),
            kind: kind.into(),
            name: name.into(),
        };
        Workspace {
            root: "/tree".into(),
            target_dir: "/tree/target".into(),
            targets: vec![
                target("sotto", "lib", "sotto"),
                target("sotto", "test", "limits"),
                target("sotto-tests", "test", "netns"),
                target("sotto-tests", "test", "cluster"),
            ],
        }
    }

    #[test]
    fn a_test_program_belongs_to_the_tier_of_its_name() {
        assert_eq!(Tier::Netns.runs(&tree()), [["-p", "sotto-tests", "--test", "netns"]]);
        assert_eq!(Tier::Cluster.runs(&tree()), [["-p", "sotto-tests", "--test", "cluster"]]);
        assert!(Tier::Golden.runs(&tree()).is_empty());
    }

    #[test]
    fn everything_else_is_unit() {
        let expected =
            vec![words(&["--workspace", "--lib", "--bins", "--test", "limits"]), words(&["--workspace", "--doc"])];
        assert_eq!(Tier::Unit.runs(&tree()), expected);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for tier in Tier::ALL {
            assert_eq!(tier.to_possible_value().unwrap().get_name(), tier.name());
        }
    }
}
