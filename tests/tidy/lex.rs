//! Just enough of Rust's grammar to tell code from comments, strings and tests.

/// Returns the code of a source file, and the names of modules in other files that are only
/// compiled for tests. Comments, contents of strings and tests become blanks; lines keep their
/// numbers.
pub(crate) fn production(text: &str) -> (String, Vec<String>) {
    without_tests(&blanked(text))
}

/// Returns the words of a text (letters, digits, underscores) and where each begins.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .map(move |word| {
            let start = at;
            at += word.len() + 1;
            (start, word)
        })
        .filter(|(_, word)| !word.is_empty())
}

/// Blanks comments and the contents of strings and characters.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            quoted(rest, '"')
        } else if !in_word && (rest.starts_with("r\"") || rest.starts_with("r#")) {
            raw(rest)
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (gone, after) = rest.split_at(len);
        code.extend(gone.chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = after;
    }
    code
}

/// Returns the length of a string or character that `rest` begins with.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a raw string that `rest` begins with; 1 if it is a raw name.
fn raw(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    if rest.as_bytes().get(1 + hashes) != Some(&b'"') {
        return 1;
    }
    let start = hashes + 2;
    let end = format!("\"{}", "#".repeat(hashes));
    rest[start..]
        .find(&end)
        .map_or(rest.len(), |at| start + at + end.len())
}

/// Returns whether a quote begins a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut after = rest.chars().skip(1);
    matches!(
        (after.next(), after.next()),
        (Some('\\'), _) | (_, Some('\''))
    )
}

/// Blanks what is only compiled for tests, in code without comments and strings.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut kept = String::with_capacity(code.len());
    let mut modules = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(at);
        kept.push_str(before);
        let end = match item.find(['{', ';']) {
            Some(at) if item[at..].starts_with('{') => at + closed(&item[at..]),
            Some(at) => {
                let names = words(&item[..at]).map(|(_, word)| word);
                let name = names.skip_while(|word| *word != "mod").nth(1);
                modules.extend(name.map(str::to_owned));
                at + 1
            }
            None => item.len(),
        };
        let (gone, after) = item.split_at(end);
        kept.extend(gone.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    kept.push_str(rest);
    (kept, modules)
}

/// Returns the length of a block in braces.
fn closed(block: &str) -> usize {
    let mut depth = 0;
    for (at, c) in block.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    block.len()
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = r##"a("x // {"); // b
/* c */ d('"', '\'', 'e'); fn f<'g>() { r#"h "i" "# }
#[cfg(test)]
mod j;
#[cfg(test)]
mod k {
    fn l() { "}" }
}
m
"##;
    let (code, modules) = production(text);
    let found: Vec<&str> = words(&code).map(|(_, word)| word).collect();
    assert_eq!(found, ["a", "d", "fn", "f", "g", "m"]);
    assert_eq!(modules, ["j"]);
    assert_eq!(code.lines().count(), text.lines().count());
}
