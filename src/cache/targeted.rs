//! `CDN-Cache-Control` (RFC 9213): directives for caches that work for the backend, as we do.
//!
//! The field is a structured dictionary (RFC 9651). One that is not, or whose lifetime is no
//! integer, is ignored as a whole, so that nobody is given half of what somebody meant.

use std::convert::Infallible;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser};

use crate::http1::field::Fields;

use super::control::{Directives, SECONDS_MAX, flag};

/// Returns the directives of `CDN-Cache-Control`, if it is valid and not empty.
///
/// They then stand in the place of `Cache-Control` and of `Expires` (RFC 9213 §2.2).
pub fn directives(response: Fields<'_>) -> Option<Directives> {
    let mut found = Found::default();
    for line in response.all("cdn-cache-control") {
        // Several lines make one dictionary. Reading each by itself saves joining them.
        found = Parser::new(line).parse_dictionary_with_visitor(found).ok()?;
    }
    (found.has_members && !found.has_wrong_type).then_some(found.directives)
}

/// What the lines read so far say.
#[derive(Default)]
struct Found {
    directives: Directives,
    has_members: bool,
    has_wrong_type: bool,
}

impl Found {
    fn add(&mut self, name: &[u8], value: &Value) {
        self.has_members = true;
        match (flag(name), value) {
            (Some(_), Value::False) => self.has_wrong_type = true,
            // What permits has no argument; what restricts does so with any.
            (
                Some(Directives::PUBLIC | Directives::MUST_UNDERSTAND),
                Value::Seconds(_) | Value::Other,
            ) => {
                self.has_wrong_type = true;
            }
            (Some(flag), Value::True | Value::Seconds(_) | Value::Other) => {
                self.directives.set(flag);
            }
            (None, _) => self.add_seconds(name, value),
        }
    }

    /// Of a name that comes twice the last counts (RFC 9651 §4.2.2).
    fn add_seconds(&mut self, name: &[u8], value: &Value) {
        match (self.directives.slot(name), value) {
            (Some(slot), Value::Seconds(seconds)) => *slot = Some(*seconds),
            (Some(_), Value::True | Value::False | Value::Other) => self.has_wrong_type = true,
            (None, _) => {}
        }
    }
}

/// A member's value, as far as directives care.
enum Value {
    True,
    False,
    Seconds(u64),
    Other,
}

impl Value {
    fn of(item: &BareItemFromInput<'_>) -> Self {
        if let Some(is_true) = item.as_boolean() {
            return if is_true { Self::True } else { Self::False };
        }
        // A lifetime below zero is readable, and none.
        let seconds = |integer: sfv::Integer| u64::try_from(integer).unwrap_or(0);
        let integer = item.as_integer().map(seconds);
        integer.map_or(Self::Other, |seconds| Self::Seconds(seconds.min(SECONDS_MAX)))
    }
}

impl<'de> DictionaryVisitor<'de> for Found {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Entry { name: key.as_str().as_bytes(), found: self })
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

/// A member whose name is known and whose value comes next.
struct Entry<'de, 'a> {
    name: &'de [u8],
    found: &'a mut Found,
}

impl<'de> EntryVisitor<'de> for Entry<'de, '_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        self.found.add(self.name, &Value::Other);
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Entry<'de, '_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        self.found.add(self.name, &Value::of(&item));
        Ok(Ignored)
    }
}
