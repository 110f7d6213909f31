use std::fmt;

/// Largest number of mistakes of one file that are shown; further ones are counted.
const SHOWN_MAX: usize = 50;
/// Largest number of names that a hint lists.
const LISTED_MAX: usize = 24;

/// One mistake at one place of a definitions file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionDiagnostic {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, counted from 1; `None` if the mistake concerns the whole file.
    pub line: Option<usize>,
    /// Found and expected contents.
    pub what: String,
    /// How to fix it, if that is known.
    pub hint: Option<String>,
}

/// All mistakes of a definitions file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DefinitionsError {
    /// Mistakes in the order of the file, at least one.
    pub mistakes: Vec<DefinitionDiagnostic>,
}

impl fmt::Display for DefinitionDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}{mistake}", if i == 0 { "" } else { "\n" })?;
        }
        match self.mistakes.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

/// The known name that is most like a wrong one, if any is like it.
#[must_use]
pub fn find_nearest_name<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored =
        known.into_iter().map(|candidate| (strsim::jaro_winkler(candidate, name), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    best.filter(|(score, _)| *score > 0.8).map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or which names there are, where these are few.
#[must_use]
pub fn suggest_name(name: &str, known: &[&str]) -> Option<String> {
    match find_nearest_name(name, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.len() > LISTED_MAX => None,
        None => Some(format!("there are {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_nearest_or_all() {
        let check = |name: &str, expect: &str| {
            assert_eq!(suggest_name(name, &["mean", "median", "max"]).unwrap(), expect, "{name}");
        };
        check("maen", "did you mean `mean`?");
        check("meen", "did you mean `mean`?");
        check("quux", "there are mean, median, max");
        assert_eq!(suggest_name("quux", &["a"; 99]), None);
    }

    #[test]
    fn long_lists_are_cut() {
        let mistake = |line| DefinitionDiagnostic {
            file: "f".into(),
            line: Some(line),
            what: "w".into(),
            hint: None,
        };
        let error = DefinitionsError { mistakes: (1..=60).map(mistake).collect() };
        let text = error.to_string();
        assert!(text.starts_with("f:1: w\nf:2: w\n"), "{text}");
        assert!(text.ends_with("f:50: w\n… and 10 more"), "{text}");
    }
}
