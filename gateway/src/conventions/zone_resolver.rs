//! The zone of another system's device.

use telemetry::{DeadLetterReason, SmolStr, ZoneId, topic::check_level};

use super::{
    ReadingRefusal,
    ignore_list::IgnoreList,
    name_pattern::NamePattern,
    settings::{MappingSettings, ZoneTarget},
};

/// The rules of one mapping in order, and the default zone.
#[derive(Clone, Debug)]
pub(super) struct ZoneResolver {
    rules: Vec<CompiledZoneRule>,
    site: SmolStr,
    zone: Option<SmolStr>,
    ignored: IgnoreList,
}

#[derive(Clone, Debug)]
struct CompiledZoneRule {
    pattern: NamePattern,
    /// Whether the matched devices are ignored.
    is_ignored: bool,
    zone: Option<SmolStr>,
    site: Option<SmolStr>,
}

impl ZoneResolver {
    pub(super) fn new(mapping: &MappingSettings) -> Result<Self, String> {
        let name = |key: &str, level: &SmolStr| {
            check_level(level).map_err(|what| format!("{key} = \"{level}\": {what}"))
        };
        name("site", &mapping.site)?;
        mapping.zone.as_ref().map_or(Ok(()), |zone| name("zone", zone))?;
        let rules = mapping.zones.iter().map(|rule| {
            let pattern = NamePattern::parse(&rule.devices, &["site", "zone"])
                .map_err(|what| format!("zones: {what}"))?;
            if rule.zone.is_none() && !pattern.has_capture("zone") {
                return Err(format!(
                    "zones: the rule for `{}` names no zone; add `zone = …` to it, or {{zone}} to its pattern",
                    rule.devices
                ));
            }
            let (zone, is_ignored) = match &rule.zone {
                None => (None, false),
                Some(ZoneTarget::Zone(zone)) => (Some(zone.clone()), false),
                Some(ZoneTarget::Ignored(false)) => (None, true),
                Some(ZoneTarget::Ignored(true)) => {
                    return Err("zones.zone = true: expected a zone's name, or false".to_owned());
                }
            };
            zone.as_ref().map_or(Ok(()), |zone| name("zones.zone", zone))?;
            rule.site.as_ref().map_or(Ok(()), |site| name("zones.site", site))?;
            Ok(CompiledZoneRule { pattern, is_ignored, zone, site: rule.site.clone() })
        });
        let checked_rules = rules.collect::<Result<_, _>>()?;
        let ignored = IgnoreList::new(&mapping.ignore)?;
        Ok(Self {
            rules: checked_rules,
            site: mapping.site.clone(),
            zone: mapping.zone.clone(),
            ignored,
        })
    }

    /// Finds the zone of a device with these `names`, the most specific first; `None` if the
    /// device is ignored.
    pub(super) fn find_zone(&self, names: &[&str]) -> Result<Option<ZoneId>, ReadingRefusal> {
        if names.iter().any(|name| self.ignored.is_match(name)) {
            return Ok(None);
        }
        for CompiledZoneRule { pattern, is_ignored, zone, site } in &self.rules {
            let Some(found) = names.iter().find_map(|name| pattern.captures(name)) else {
                continue;
            };
            if *is_ignored {
                return Ok(None);
            }
            let level = |configured: &Option<SmolStr>, name| {
                configured
                    .clone()
                    .or_else(|| found.name(name).map(|level| sanitize_name(level.as_str())))
            };
            let site = level(site, "site").unwrap_or_else(|| self.site.clone());
            if let Some(zone) = level(zone, "zone") {
                return Ok(Some(ZoneId::new(site, zone)));
            }
        }
        match &self.zone {
            Some(zone) => Ok(Some(ZoneId::new(self.site.clone(), zone.clone()))),
            None => {
                let name = shorten_text(names.first().copied().unwrap_or_default());
                let what = format!(
                    "no zone for `{name}`; add `zones = [{{ devices = \"{name}\", zone = \"…\" }}]` to the mapping, or `zone = \"…\"` for all others, or `ignore = [\"{name}\"]` if it is not for you"
                );
                Err((DeadLetterReason::BadTopic, what))
            }
        }
    }

    pub(super) fn site(&self) -> &SmolStr {
        &self.site
    }
}

/// Longest name of a site, zone or device, bytes.
const NAME_BYTES_MAX: usize = telemetry::topic::MAX_LEVEL_BYTES;

/// Converts another system's name to a valid name. Levels are joined by dots, and characters that
/// topics cannot contain become `_`. A name that is too long keeps its beginning and ends with
/// its CRC-32C, so that two names stay distinct.
pub(super) fn sanitize_name(name: &str) -> SmolStr {
    let tidied: String = name
        .trim()
        .chars()
        .map(|c| match c {
            '/' => '.',
            '+' | '#' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    match tidied.as_str() {
        "" | "." | ".." => SmolStr::new("_"),
        short if short.len() <= NAME_BYTES_MAX => SmolStr::new(short),
        long => {
            let end = format!("~{:08x}", crc32c::crc32c(name.as_bytes()));
            let beginning = &long[..long.floor_char_boundary(NAME_BYTES_MAX - end.len())];
            SmolStr::new(format!("{beginning}{end}"))
        }
    }
}

/// Shortens another system's text for a message to people.
pub(super) fn shorten_text(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut shown: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '_' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_resolver(toml: &str) -> Result<ZoneResolver, String> {
        let text = format!("convention = \"homie\"\nsite = \"farm\"\n{toml}");
        ZoneResolver::new(&toml::from_str(&text).unwrap())
    }

    /// Checks configuration and names against site/zone.
    fn check(toml: &str, names: &[&str], expect: Option<&str>) {
        let got = build_resolver(toml)
            .unwrap()
            .find_zone(names)
            .ok()
            .flatten()
            .map(|zone| zone.to_string());
        assert_eq!(got.as_deref(), expect, "{toml} {names:?}");
    }

    #[test]
    fn devices_belong_to_zones() {
        let rules = r#"
            zone = "house"
            zones = [
                { devices = "bay1-*", zone = "bay-1" },
                { devices = "{site}/{zone}/*" },
                { devices = "{zone}/*" },
                { devices = "attic", zone = "attic", site = "home" },
            ]"#;
        check(rules, &["bay1-probe"], Some("farm/bay-1"));
        check(rules, &["south/bay-7/probe"], Some("south/bay-7"));
        check(rules, &["kitchen/probe"], Some("farm/kitchen"));
        check(rules, &["attic"], Some("home/attic"));
        check(rules, &["probe"], Some("farm/house"));
        check(rules, &["0x00158d", "attic"], Some("home/attic"));
        check("", &["probe"], None);
    }

    #[test]
    fn devices_that_are_not_for_us() {
        let ignoring = build_resolver("ignore = [\"neighbour-*\", \"stat/#\"]").unwrap();
        assert_eq!(ignoring.find_zone(&["neighbour-7", "x"]), Ok(None));
        assert!(ignoring.find_zone(&["probe"]).is_err());
        // All devices except those that earlier rules name.
        let rules =
            r#"zones = [{ devices = "bay1-*", zone = "bay-1" }, { devices = "*", zone = false }]"#;
        check(rules, &["bay1-probe"], Some("farm/bay-1"));
        check(rules, &["neighbour-7"], None);
        assert_eq!(build_resolver(rules).unwrap().find_zone(&["neighbour-7"]), Ok(None));
    }

    #[test]
    fn bad_zone_rules_are_refused() {
        let refuse = |toml, expect: &str| {
            let error = build_resolver(toml).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        refuse("zones = [{ devices = \"x*\" }]", "names no zone");
        refuse("zones = [{ devices = \"{room}\", zone = \"a\" }]", "{room}");
        refuse("zone = \"a/b\"", "zone = \"a/b\"");
        refuse("zones = [{ devices = \"x\", zone = true }]", "or false");
    }

    #[test]
    fn names_are_sanitized() {
        let check = |name: &str, expect: &str| assert_eq!(sanitize_name(name), expect, "{name}");
        check("kitchen/floor light", "kitchen.floor light");
        check("a+b#c\u{7}", "a_b_c_");
        check("..", "_");
        check("", "_");
        check(&"x".repeat(64), &"x".repeat(64));
        let long = "ü".repeat(40);
        assert!(check_level(&sanitize_name(&long)).is_ok());
        assert_ne!(sanitize_name(&format!("{long}1")), sanitize_name(&format!("{long}2")));
    }
}
