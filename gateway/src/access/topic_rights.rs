//! The topics that a user may publish to, retain messages on, and subscribe to.

use std::fmt;

use crate::downlink::is_filter_match;

/// The user's name in a filter of the users file.
const USER: &str = "{user}";
/// The client identifier in a filter of the users file.
const CLIENT: &str = "{client}";

/// The actions that a right permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicAction {
    /// Publishing to the topics.
    Publish,
    /// Publishing to them with the retain flag, on topics that are forwarded.
    Retain,
    /// Subscribing to them, or to a part of them.
    Subscribe,
}

/// One right in the users file: a verb and a filter, which may contain `{user}` and `{client}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RightPattern {
    pub(super) verb: TopicAction,
    pub(super) filter: String,
}

impl RightPattern {
    /// Parses `publish:FILTER`, `retain:FILTER` or `subscribe:FILTER`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected publish:FILTER, retain:FILTER or subscribe:FILTER";
        let Some((verb, filter)) = text.split_once(':') else {
            return Err(format!("`{text}` is not a right: {expected}"));
        };
        let verb = match verb {
            "publish" => TopicAction::Publish,
            "retain" => TopicAction::Retain,
            "subscribe" => TopicAction::Subscribe,
            other => return Err(format!("`{other}` is not a right: {expected}")),
        };
        if !is_filter(filter) {
            let what = "is not an MQTT filter: `+` stands for a whole level, `#` for the last ones";
            return Err(format!("`{filter}` {what}"));
        }
        Ok(Self { verb, filter: filter.to_owned() })
    }

    /// Returns the filter for one connection; `None` if a name would widen it.
    fn resolve_filter(&self, user: &str, client: &str) -> Option<String> {
        let mut filter = self.filter.clone();
        for (placeholder, name) in [(USER, user), (CLIENT, client)] {
            if filter.contains(placeholder) {
                if name.is_empty() || name.contains(['/', '+', '#']) {
                    return None;
                }
                filter = filter.replace(placeholder, name);
            }
        }
        Some(filter)
    }
}

/// The rights of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicRights {
    /// Whether everything is permitted, because there are no users or this is the user of
    /// `mqtt.user`.
    is_unlimited: bool,
    publish: Vec<String>,
    retain: Vec<String>,
    subscribe: Vec<String>,
}

impl TopicRights {
    /// Returns rights that permit everything.
    pub(crate) fn unlimited() -> Self {
        Self { is_unlimited: true, ..Self::default() }
    }

    /// Returns the rights of `user`, connected as `client`.
    pub(crate) fn from_patterns(patterns: &[RightPattern], user: &str, client: &str) -> Self {
        let mut rights = Self::default();
        for pattern in patterns {
            let Some(filter) = pattern.resolve_filter(user, client) else { continue };
            match pattern.verb {
                TopicAction::Publish => rights.publish.push(filter),
                TopicAction::Retain => rights.retain.push(filter),
                TopicAction::Subscribe => rights.subscribe.push(filter),
            }
        }
        rights
    }

    /// Whether a message may be published to `topic`.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        self.is_unlimited || self.publish.iter().any(|filter| is_filter_match(filter, topic))
    }

    /// Whether a message may be retained for later subscribers of `topic`.
    pub(crate) fn may_retain(&self, topic: &str) -> bool {
        self.is_unlimited || self.retain.iter().any(|filter| is_filter_match(filter, topic))
    }

    /// Whether `filter` covers only topics that may be subscribed to.
    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        self.is_unlimited || self.subscribe.iter().any(|right| covers_filter(right, filter))
    }
}

impl fmt::Display for TopicAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Retain => "retain",
            Self::Subscribe => "subscribe",
        })
    }
}

/// Whether a text is an MQTT filter (MQTT 5, 4.7).
pub(crate) fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut is_valid = !text.is_empty() && !text.contains('\0');
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        is_valid &= match level {
            "+" => true,
            "#" => is_last,
            other => !other.contains(['+', '#']),
        };
    }
    is_valid
}

/// Whether `wide` matches every topic that `narrow` matches.
fn covers_filter(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['#', '+']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            // `#` matches more levels than any filter without it.
            (_, Some("#")) | (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), Some(_)) => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rights_as_written() {
        let check = |text: &str, expect: bool| {
            assert_eq!(RightPattern::parse(text).is_ok(), expect, "{text}");
        };
        check("publish:sensors/farm/{user}/#", true);
        check("retain:status/+/x", true);
        check("subscribe:#", true);
        check("publish", false);
        check("read:a", false);
        check("publish:", false);
        check("publish:a/#/b", false);
        check("publish:a#", false);
        check("publish:a/b+", false);
    }

    #[test]
    fn a_user_has_its_own_zone_only() {
        let patterns: Vec<_> = [
            "publish:sensors/farm/{user}/#",
            "publish:status/{client}",
            "retain:status/{client}",
            "subscribe:commands/{user}/#",
            "subscribe:predictions/+/frost",
        ]
        .iter()
        .map(|text| RightPattern::parse(text).unwrap())
        .collect();
        let rights = TopicRights::from_patterns(&patterns, "bay-1", "probe");
        let check = |found: bool, expect: bool, what: &str| assert_eq!(found, expect, "{what}");
        let publish = |topic, expect| check(rights.may_publish(topic), expect, topic);
        publish("sensors/farm/bay-1/probe/temperature", true);
        publish("sensors/farm/bay-2/probe/temperature", false);
        publish("status/probe", true);
        publish("status/other", false);
        publish("commands/bay-1/valve", false);
        let retain = |topic, expect| check(rights.may_retain(topic), expect, topic);
        retain("status/probe", true);
        retain("sensors/farm/bay-1/probe", false);
        let subscribe = |filter, expect| check(rights.may_subscribe(filter), expect, filter);
        subscribe("commands/bay-1/#", true);
        subscribe("commands/bay-1/valve", true);
        subscribe("commands/bay-1", true);
        subscribe("commands/+/valve", false);
        subscribe("commands/#", false);
        subscribe("#", false);
        subscribe("predictions/a/frost", true);
        subscribe("predictions/+/frost", true);
        subscribe("predictions/#", false);
    }

    #[test]
    fn a_name_with_wildcards_gives_no_right() {
        let patterns = [RightPattern::parse("publish:status/{client}").unwrap()];
        for client in ["#", "+", "a/b", ""] {
            let rights = TopicRights::from_patterns(&patterns, "u", client);
            assert_eq!(rights, TopicRights::default(), "{client}");
        }
    }

    fn any_level() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("+")]
            .prop_map(ToOwned::to_owned)
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let levels = (prop::collection::vec(any_level(), 1..4), any::<bool>());
        let filter = levels.prop_map(|(mut levels, all)| {
            if all {
                levels.push("#".to_owned());
            }
            levels.join("/")
        });
        filter.prop_filter("no filter is empty", |filter| !filter.is_empty())
    }

    fn any_topic() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just("c"), Just(""), Just("$x")];
        prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_covered_shows_no_other_topic(
            wide in any_filter(), narrow in any_filter(), topic in any_topic(),
        ) {
            prop_assert!(is_filter(&wide) && is_filter(&narrow));
            if covers_filter(&wide, &narrow) && is_filter_match(&narrow, &topic) {
                prop_assert!(is_filter_match(&wide, &topic), "{wide} {narrow} {topic}");
            }
        }

        #[test]
        fn a_filter_covers_itself(filter in any_filter()) {
            prop_assert!(covers_filter(&filter, &filter));
        }
    }
}
