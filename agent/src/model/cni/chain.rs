//! The list of plugins that a runtime reads (`*.conflist`), with sotto's at its end.
//!
//! Other plugins rewrite the list as they please, so this is done again whenever it changes; doing it twice changes nothing.

use serde_json::{Map, Value, json};

/// The name of the plugin's binary, and so its `type`.
pub const PLUGIN: &str = "sotto-cni";

/// Why a configuration cannot be extended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It is no JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// It is JSON, but no network configuration.
    #[error("it is no network configuration: {0}")]
    Shape(&'static str),
}

/// The configuration `text` with the plugin at the end of its chain; none if it is there already, just so.
///
/// A configuration of a single plugin (`*.conf`) becomes a list of two.
///
/// # Errors
/// [`ChainError`]
pub fn extended(text: &str, own: &Map<String, Value>) -> Result<Option<String>, ChainError> {
    let mut list = as_list(parse(text)?)?;
    let plugins = plugins(&mut list)?;
    let mut entry = Map::from_iter([("type".to_owned(), json!(PLUGIN))]);
    entry.extend(own.clone());
    let entry = Value::Object(entry);
    if plugins.last() == Some(&entry) && plugins.iter().filter(|plugin| is_own(plugin)).count() == 1 {
        return Ok(None);
    }
    plugins.retain(|plugin| !is_own(plugin));
    if plugins.is_empty() {
        return Err(ChainError::Shape("no other plugin is in it, and one that gives addresses has to be"));
    }
    plugins.push(entry);
    Ok(Some(written(&list)))
}

/// The configuration `text` without the plugin; none if it is not there.
///
/// # Errors
/// [`ChainError`]
pub fn reduced(text: &str) -> Result<Option<String>, ChainError> {
    let Value::Object(mut list) = parse(text)? else { return Err(ChainError::Shape("it is no object")) };
    let Ok(plugins) = plugins(&mut list) else { return Ok(None) };
    let before = plugins.len();
    plugins.retain(|plugin| !is_own(plugin));
    Ok((plugins.len() < before).then(|| written(&list)))
}

/// The file that runtimes use among those of a directory: the first in the order of names (libcni and containerd both).
#[must_use]
pub fn first<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let is_configuration = |name: &&str| [".conflist", ".conf", ".json"].iter().any(|end| name.ends_with(end));
    names.into_iter().filter(is_configuration).min()
}

fn parse(text: &str) -> Result<Value, ChainError> {
    serde_json::from_str(text).map_err(|error| ChainError::Json(error.to_string()))
}

fn as_list(value: Value) -> Result<Map<String, Value>, ChainError> {
    let Value::Object(object) = value else { return Err(ChainError::Shape("it is no object")) };
    if object.contains_key("plugins") {
        return Ok(object);
    }
    if !object.contains_key("type") {
        return Err(ChainError::Shape("it has neither `plugins` nor `type`"));
    }
    let head = ["cniVersion", "name"].iter().filter_map(|key| Some(((*key).to_owned(), object.get(*key)?.clone())));
    let mut list: Map<String, Value> = head.collect();
    list.insert("plugins".to_owned(), json!([object]));
    Ok(list)
}

fn plugins(list: &mut Map<String, Value>) -> Result<&mut Vec<Value>, ChainError> {
    let plugins = list.get_mut("plugins").and_then(Value::as_array_mut);
    plugins.ok_or(ChainError::Shape("`plugins` is no list"))
}

fn is_own(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(PLUGIN)
}

fn written(list: &Map<String, Value>) -> String {
    let mut text = serde_json::to_string_pretty(list).expect("what was read as JSON is written as JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        r#"{"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": "bridge", "x": 1}, {"type": "portmap"}]}"#;

    fn own() -> Map<String, Value> {
        Map::from_iter([("socket".to_owned(), json!("/run/sotto/cni.sock"))])
    }

    #[test]
    fn the_plugin_comes_last_once_and_goes_without_a_trace() {
        let extended_once = extended(LIST, &own()).unwrap().unwrap();
        let value: Value = serde_json::from_str(&extended_once).unwrap();
        let types: Vec<_> = value["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].clone()).collect();
        assert_eq!(types, ["bridge", "portmap", PLUGIN]);
        assert_eq!(value["plugins"][2]["socket"], "/run/sotto/cni.sock");
        assert_eq!(extended(&extended_once, &own()).unwrap(), None);
        let restored = reduced(&extended_once).unwrap().unwrap();
        assert_eq!(parse(&restored).unwrap(), parse(LIST).unwrap());
        assert_eq!(reduced(&restored).unwrap(), None);
    }

    #[test]
    fn an_old_entry_is_replaced_and_another_plugin_behind_it_is_passed() {
        let old = LIST.replace(r#"{"type": "portmap"}"#, r#"{"type": "sotto-cni", "old": 1}, {"type": "portmap"}"#);
        let value: Value = serde_json::from_str(&extended(&old, &own()).unwrap().unwrap()).unwrap();
        assert_eq!(value["plugins"].as_array().unwrap().len(), 3);
        assert_eq!(value["plugins"][2]["type"], PLUGIN);
        assert_eq!(value["plugins"][2].get("old"), None);
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = r#"{"cniVersion": "0.3.1", "name": "pods", "type": "bridge", "isGateway": true}"#;
        let value: Value = serde_json::from_str(&extended(single, &own()).unwrap().unwrap()).unwrap();
        assert_eq!((&value["cniVersion"], &value["name"]), (&json!("0.3.1"), &json!("pods")));
        assert_eq!(value["plugins"][0]["isGateway"], true);
        assert_eq!(reduced(single).unwrap(), None);
    }

    #[test]
    fn what_is_no_configuration_is_left_alone() {
        for text in
            ["", "[]", "{}", r#"{"plugins": {}}"#, r#"{"plugins": []}"#, r#"{"plugins":[{"type":"sotto-cni"}]}"#]
        {
            assert!(extended(text, &own()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_configuration_by_name_counts() {
        let names = ["10-x.conflist.bak", "99-loopback.conf", "10-pods.conflist", "05-readme.txt"];
        assert_eq!(first(names), Some("10-pods.conflist"));
        assert_eq!(first(["readme"]), None);
    }
}
