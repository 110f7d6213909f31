//! The users file: one user per line, with the hash of its password and its rights.
//!
//! ```text
//! # groups first: @NAME RIGHT…
//! @sensors   publish:sensors/farm/{user}/#  publish:status/{client}  retain:status/{client}
//! # users: NAME HASH RIGHT-OR-@GROUP…; the hash is `-` for one that shows a certificate
//! bay-1      $argon2id$v=19$m=7168,t=5,p=1$…$…   @sensors  subscribe:commands/bay-1/#
//! probe-7    -                                    @sensors
//! ```

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use telemetry::SmolStr;

use super::{password_hash::check_hash, topic_rights::RightPattern};

/// Largest users file, bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Placeholder for users without a password, who use a certificate.
const NO_PASSWORD: &str = "-";

/// One user of the file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserEntry {
    pub(crate) name: SmolStr,
    /// A PHC string; `None` for a user that only a certificate identifies.
    pub(crate) password_hash: Option<String>,
    pub(crate) rights: Vec<RightPattern>,
}

/// All users, by name.
pub(crate) type UsersByName = HashMap<SmolStr, Arc<UserEntry>>;

/// The error for a users file that cannot be used, with every mistake in it.
#[derive(Debug, thiserror::Error)]
#[error("{}{mistakes}\nhint: a line is NAME HASH RIGHT…, as `gateway user add` prints it", file.display())]
pub struct UsersFileError {
    file: PathBuf,
    /// `:LINE: what` for each mistake, or the system's error.
    mistakes: String,
}

/// Reads a users file.
pub(crate) fn load_users(file: &Path) -> Result<UsersByName, UsersFileError> {
    let failed = |mistakes| UsersFileError { file: file.to_owned(), mistakes };
    let io_failed = |error| failed(format!(": cannot be read: {error}"));
    let bytes = fs::metadata(file).map_err(io_failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(failed(format!(": {bytes} bytes: expected at most {FILE_BYTES_MAX}")));
    }
    parse_users(&fs::read_to_string(file).map_err(io_failed)?).map_err(|mistakes| {
        let prefix = format!("\n{}:", file.display());
        failed(format!(":{}", mistakes.join(&prefix)))
    })
}

/// Parses the text of a users file. Mistakes are `LINE: what`.
fn parse_users(text: &str) -> Result<UsersByName, Vec<String>> {
    let mut groups: HashMap<&str, Vec<RightPattern>> = HashMap::new();
    let mut users = UsersByName::new();
    let mut mistakes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        let Some(name) = words.next().filter(|name| !name.starts_with('#')) else { continue };
        let mut mistake = |what: String| mistakes.push(format!("{number}: {what}"));
        let rights_of = |words: std::str::SplitWhitespace<'_>| {
            let mut rights = Vec::new();
            for word in words {
                match word.strip_prefix('@') {
                    Some(group) => {
                        let group = groups
                            .get(group)
                            .ok_or_else(|| format!("there is no group @{group} above this line"))?;
                        rights.extend(group.iter().cloned());
                    }
                    None => rights.push(RightPattern::parse(word)?),
                }
            }
            Ok::<_, String>(rights)
        };
        if let Some(group) = name.strip_prefix('@') {
            match rights_of(words) {
                Ok(_) if groups.contains_key(group) => {
                    mistake(format!("the group @{group} occurs twice"));
                }
                Ok(rights) => {
                    groups.insert(group, rights);
                }
                Err(what) => mistake(what),
            }
            continue;
        }
        match parse_user_hash(name, &mut words).and_then(|hash| Ok((hash, rights_of(words)?))) {
            Ok(_) if users.contains_key(name) => mistake(format!("the user {name} occurs twice")),
            Ok((password_hash, rights)) => {
                let name = SmolStr::from(name);
                let entry = UserEntry { name: name.clone(), password_hash, rights };
                users.insert(name, Arc::new(entry));
            }
            Err(what) => mistake(what),
        }
    }
    if mistakes.is_empty() { Ok(users) } else { Err(mistakes) }
}

/// Parses the password's hash in a user's line.
fn parse_user_hash(
    name: &str,
    words: &mut std::str::SplitWhitespace<'_>,
) -> Result<Option<String>, String> {
    check_name(name)?;
    let hash =
        words.next().ok_or_else(|| format!("the user {name} has no hash: expected one, or -"))?;
    if hash == NO_PASSWORD {
        return Ok(None);
    }
    check_hash(hash).map_err(|what| format!("the hash of {name}: {what}"))?;
    Ok(Some(hash.to_owned()))
}

/// Refuses names that would widen a filter, or that the file format cannot hold.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_good = !name.is_empty()
        && !name.starts_with(['@', '#'])
        && !name.contains(['/', '+', '#', '{', '}'])
        && !name.contains(char::is_whitespace);
    if is_good {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a user name: expected none of / + # {{ }}, no space, no @ before it"
    ))
}

/// Formats a user's line of the file.
pub(crate) fn format_user_line(
    name: &str,
    hash: Option<&str>,
    rights: &[String],
) -> Result<String, String> {
    check_name(name)?;
    for right in rights {
        if !right.starts_with('@') {
            RightPattern::parse(right)?;
        }
    }
    Ok(format!("{name} {} {}", hash.unwrap_or(NO_PASSWORD), rights.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{password_hash::hash_password, topic_rights::TopicRights};

    #[test]
    fn users_have_the_rights_of_their_groups_and_their_own() {
        let hash = hash_password("s3cret").unwrap();
        let text = format!(
            "# comment\n\n@sensors publish:sensors/farm/{{user}}/#\n\
             bay-1 {hash} @sensors subscribe:a\nprobe-7 - @sensors\n"
        );
        let users = parse_users(&text).unwrap();
        assert_eq!(users.len(), 2);
        let bay = &users["bay-1"];
        assert_eq!(bay.password_hash.as_ref(), Some(&hash));
        let rights = TopicRights::from_patterns(&bay.rights, "bay-1", "");
        assert!(rights.may_publish("sensors/farm/bay-1/x") && rights.may_subscribe("a"));
        assert_eq!(users["probe-7"].password_hash, None);
        assert!(parse_users("").unwrap().is_empty());
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let refuse = |text: &str, expect: &[&str]| {
            let mistakes = parse_users(text).unwrap_err();
            assert_eq!(mistakes.len(), expect.len(), "{mistakes:?}");
            for (found, expect) in mistakes.iter().zip(expect) {
                assert!(found.starts_with(expect), "{found}: {expect}");
            }
        };
        refuse("a", &["1: the user a has no hash"]);
        refuse("a secret", &["1: the hash of a: not a PHC string"]);
        refuse("a - @none", &["1: there is no group @none"]);
        refuse("a - read:x\n\nb/c -", &["1: `read` is not a right", "3: `b/c` is not a user name"]);
        refuse("a -\na -", &["2: the user a occurs twice"]);
        refuse("@g\n@g", &["2: the group @g occurs twice"]);
        refuse("{client} -", &["1: `{client}` is not a user name"]);
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let rights = ["publish:a/{user}".to_owned()];
        let text = format_user_line("bay", None, &rights).unwrap();
        assert_eq!(parse_users(&text).unwrap()["bay"].rights[0].filter, "a/{user}");
        assert!(format_user_line("b/y", None, &rights).is_err());
        assert!(format_user_line("bay", None, &["read:x".to_owned()]).is_err());
    }
}
