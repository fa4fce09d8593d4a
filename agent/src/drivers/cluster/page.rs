//! One page of a list, taken apart without reading the objects in it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ApiError;

/// What is used of any object before it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    pub(super) metadata: HeadMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HeadMetadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) resource_version: String,
}

impl Head {
    /// What is used of an object before it is read. One without a name is no object.
    pub(super) fn of_object(what: &str, object: &RawValue) -> Result<Self, ApiError> {
        let head: Self = serde_json::from_str(object.get()).map_err(|error| ApiError::bad(what, error))?;
        if head.metadata.name.is_empty() {
            return Err(ApiError::bad(what, "an object in it has no name"));
        }
        Ok(head)
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    /// The objects as they came. Go writes no items as `null`.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continuation: Option<String>,
}

impl<'a> Page<'a> {
    /// Takes an answer apart.
    pub(super) fn read(what: &str, answer: &'a Bytes) -> Result<Self, ApiError> {
        serde_json::from_slice(answer).map_err(|error| ApiError::bad(what, error))
    }

    pub(super) fn items(&self) -> &[&'a RawValue] {
        self.items.as_deref().unwrap_or_default()
    }

    /// What to ask for the next page with, if there is one.
    pub(super) fn continuation(&self) -> Option<&str> {
        self.metadata.continuation.as_deref().filter(|token| !token.is_empty())
    }

    /// The version that the list shows.
    pub(super) fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref().filter(|version| !version.is_empty())
    }
}

/// Text as a part of a query.
pub(super) fn escaped(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_its_objects_as_they_are() {
        let answer = Bytes::from_static(
            br#"{"kind":"PodList","metadata":{"resourceVersion":"12","continue":"a b/+="},"items":[{"x":1},7,null]}"#,
        );
        let page = Page::read("LIST pods", &answer).unwrap();
        assert_eq!(page.items().iter().map(|item| item.get()).collect::<Vec<_>>(), ["{\"x\":1}", "7", "null"]);
        assert_eq!((page.version(), page.continuation()), (Some("12"), Some("a b/+=")));
        assert_eq!(escaped(page.continuation().unwrap()), "a%20b%2F%2B%3D");
    }

    #[test]
    fn the_last_page_has_no_continuation_and_an_empty_one_no_items() {
        let answer = Bytes::from_static(br#"{"metadata":{"resourceVersion":"9","continue":""},"items":null}"#);
        let page = Page::read("LIST pods", &answer).unwrap();
        assert_eq!((page.items().len(), page.continuation()), (0, None));
        for bad in [&b""[..], b"7", b"{\"items\":{}}", b"<html>"] {
            assert!(Page::read("LIST pods", &Bytes::copy_from_slice(bad)).is_err());
        }
    }
}
