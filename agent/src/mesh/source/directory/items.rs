//! The items of a `kind: List`, each read as the kind that it is.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::mesh::source::objects::kind::{Kind, Object};

/// Reads the items of a List as the kinds that they are.
pub(super) struct Items<'a> {
    /// What each item is; none for those to skip.
    pub(super) kinds: &'a [Option<Kind>],
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<(usize, Object)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<(usize, Object)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a List with items")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" && !self.kinds.is_empty() {
                objects = map.next_value_seed(ItemList(self.kinds))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(objects)
    }
}

struct ItemList<'a>(&'a [Option<Kind>]);

impl<'de> DeserializeSeed<'de> for ItemList<'_> {
    type Value = Vec<(usize, Object)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemList<'_> {
    type Value = Vec<(usize, Object)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::with_capacity(self.0.len());
        for (index, kind) in self.0.iter().enumerate() {
            let missing = || A::Error::custom("the list is shorter than it was");
            match kind {
                Some(kind) => objects.push((index, sequence.next_element_seed(*kind)?.ok_or_else(missing)?)),
                None => sequence.next_element::<IgnoredAny>()?.map(|_| ()).ok_or_else(missing)?,
            }
        }
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(objects)
    }
}
