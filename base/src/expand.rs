//! `${NAME}` in texts that people write: the one way in which variables are put in. Pure; whose variables is the caller's
//! business.

/// Why the variables of a text cannot be put in. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExpanded {
    /// A `${` has no end.
    #[error("has a `${{` without its `}}`")]
    Unclosed,
    /// There is no such variable.
    #[error("the environment has no variable `{0}`")]
    Unset(String),
}

/// `text` with each `${NAME}` replaced by `value_of(NAME)`, which is not looked at again. Other dollars stay.
///
/// # Errors
/// See [`NotExpanded`]; `value_of` tells with none that there is no such variable.
pub fn expand(text: &str, mut value_of: impl FnMut(&str) -> Option<String>) -> Result<String, NotExpanded> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or(NotExpanded::Unclosed)?;
        expanded.push_str(before);
        expanded.push_str(&value_of(name).ok_or_else(|| NotExpanded::Unset(name.to_owned()))?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_place() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let got = expand(text, |name| (name == "NAME").then(|| "a ${NAME}".to_owned()));
            assert_eq!(got.map_err(|e| e.to_string()), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("", Ok(""));
        check("plain", Ok("plain"));
        check("${NAME}", Ok("a ${NAME}"));
        check("x${NAME}-${NAME} $NAME }", Ok("xa ${NAME}-a ${NAME} $NAME }"));
        check("${OTHER}", Err("the environment has no variable `OTHER`"));
        check("${}", Err("the environment has no variable ``"));
        check("${NAME", Err("has a `${` without its `}`"));
    }
}
