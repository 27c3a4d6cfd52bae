//! The manual page and the completion scripts, both from the one definition in `args`.

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Cli;
use super::help;
use super::text::push;

/// Returns the manual page of all commands, as roff.
///
/// One page, not one for each command: what a command shares with the others is said once.
///
/// # Errors
/// None that can happen: it is written to memory.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    let page = Man::new(root.clone());
    // Not render_title: it leaves out an empty date without quotes, and the rest moves up.
    let title = format!(
        ".TH INHAUL 1 \"\" \"inhaul {}\" \"User Commands\"\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut roff = title.into_bytes();
    page.render_name_section(&mut roff)?;
    roff.extend_from_slice(b".SH SYNOPSIS\n\\fBinhaul\\fR COMMAND [OPTIONS] ARGUMENTS\n");
    page.render_description_section(&mut roff)?;
    for command in root
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let name = format!("inhaul {}", command.get_name());
        roff.extend_from_slice(format!(".SH \"{}\"\n", name.to_uppercase()).as_bytes());
        let page = Man::new(command.clone().display_name(&name).bin_name(&name));
        let mut part = Vec::new();
        let usage = command.clone().bin_name(&name).render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
        part.extend_from_slice(format!(".SH SYNOPSIS\n{usage}\n").as_bytes());
        page.render_description_section(&mut part)?;
        page.render_options_section(&mut part)?;
        roff.extend_from_slice(&demoted(&part));
    }
    roff.extend_from_slice(preformatted(&help::manual()).as_bytes());
    Ok(roff)
}

/// Returns the completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inhaul", &mut script);
    script
}

/// Turns section headings into subsection headings and drops repeated preambles.
fn demoted(roff: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(roff);
    let mut demoted = String::with_capacity(text.len());
    for line in text.lines() {
        match line.strip_prefix(".SH ") {
            Some(heading) => push(&mut demoted, format_args!(".SS {heading}")),
            None => demoted.push_str(line),
        }
        demoted.push('\n');
    }
    demoted.into_bytes()
}

/// Turns sections of help (a heading that ends in a colon, then indented lines) into roff that
/// keeps their lines as they are.
fn preformatted(text: &str) -> String {
    let mut roff = String::new();
    let mut open = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|h| !h.starts_with(' ')) {
            if open {
                roff.push_str(".fi\n");
            }
            open = true;
            push(
                &mut roff,
                format_args!(".SH \"{}\"\n.nf\n", heading.to_uppercase()),
            );
        } else {
            // \& keeps a leading dot or quote from being read as a request.
            let line = line.strip_prefix("  ").unwrap_or(line);
            let escaped = line
                .replace('\\', "\\e")
                .replace('-', "\\-")
                .replace('\'', "\\(aq");
            push(&mut roff, format_args!("\\&{escaped}\n"));
        }
    }
    if open {
        roff.push_str(".fi\n");
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap_complete::Shell;

    #[test]
    fn the_page_has_every_command_and_section() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        for part in [
            ".TH INHAUL 1 \"\" \"inhaul ",
            ".SH \"INHAUL COPY\"",
            ".SH \"INHAUL RESUME\"",
            ".SH \"INHAUL HASH\"",
            ".SH \"INHAUL VERIFY\"",
            ".SH \"INHAUL MAN\"",
            ".SH \"INHAUL COMPLETIONS\"",
            ".SS OPTIONS",
            ".SH \"EXIT CODES\"",
            "\\&75   stopped in order",
            "\\-\\-existing",
            ".SH \"TRAILING SLASH\"",
            ".SH \"RESUMING\"",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(
            !page.contains("delete\\-excluded"),
            "hidden options stay hidden"
        );
        assert_eq!(page.matches(".nf\n").count(), page.matches(".fi\n").count());
    }

    #[test]
    fn completions_know_the_options() {
        for shell in [
            Shell::Bash,
            Shell::Zsh,
            Shell::Fish,
            Shell::Elvish,
            Shell::PowerShell,
        ] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for word in ["copy", "resume", "verify", "existing", "bwlimit"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            if matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish) {
                assert!(script.contains("overwrite"), "{shell} knows the values");
            }
        }
    }
}
