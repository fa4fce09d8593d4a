//! The questions that dashboards ask: those of the usual ones (`panels.yaml`), and our own under `deploy/dashboards`.

use serde_json::Value;

/// One question.
#[derive(Debug)]
pub(super) struct Question {
    /// Where it is asked.
    pub(super) asked_by: String,
    pub(super) query: String,
    /// Why it may have no answer.
    pub(super) empty: Option<String>,
}

/// Metrics of ours that are there only once something has gone wrong that the test does not make go wrong.
const OF_TROUBLE: [(&str, &str); 2] =
    [("sotto_tunnel_dial_failures_total", "no agent is away"), ("sotto_refused_total", "no limit is reached")];

/// Those of `panels.yaml`.
pub(super) fn usual() -> Vec<Question> {
    let panels: Value = serde_saphyr::from_str(include_str!("panels.yaml")).unwrap();
    let panels = panels.as_array().unwrap().iter();
    panels
        .map(|panel| Question {
            asked_by: format!("{}, {}", text(&panel["from"]), text(&panel["panel"])),
            query: text(&panel["query"]),
            empty: panel.get("empty").map(text),
        })
        .collect()
}

/// Those of our own dashboards, for all namespaces and nodes.
pub(super) fn own() -> Vec<Question> {
    let boards =
        [include_str!("../../../deploy/dashboards/mesh.json"), include_str!("../../../deploy/dashboards/node.json")];
    boards.into_iter().flat_map(|board| of_board(&serde_json::from_str(board).unwrap())).collect()
}

fn of_board(board: &Value) -> Vec<Question> {
    let title = text(&board["title"]);
    let mut questions = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let asked_by = format!("{title}, {}", text(&panel["title"]));
            questions.push(Question::new(asked_by, &text(&target["expr"])));
        }
    }
    for variable in board["templating"]["list"].as_array().unwrap() {
        if let Some(definition) = variable["definition"].as_str() {
            let inside = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
            let (metric, label) = inside.split_once(", ").unwrap();
            let asked_by = format!("{title}, variable {}", text(&variable["name"]));
            questions.push(Question::new(asked_by, &format!("count by ({label}) ({metric}{{{label}!=\"\"}})")));
        }
    }
    questions
}

impl Question {
    fn new(asked_by: String, expression: &str) -> Self {
        let mut query = expression.replace("$__rate_interval", "1m");
        for variable in ["$namespace", "$node"] {
            query = query.replace(variable, ".*");
        }
        assert!(!query.contains('$'), "{asked_by}: {query} has a variable that nobody sets");
        let trouble = OF_TROUBLE.iter().find(|(metric, _)| query.contains(metric));
        Self { asked_by, query, empty: trouble.map(|(_, why)| (*why).to_owned()) }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
