//! The definition itself, and its help.

use clap::CommandFactory;
use inhaul::cli::Rejected;
use inhaul::cli::args::Cli;

use crate::task;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn long_help_states_every_exit_code_and_rule() {
    for command in ["", "copy", "resume", "hash", "verify"] {
        let line = format!("{command} --help");
        let text = match task(&line) {
            Err(Rejected::Clap(error)) => error.render().to_string(),
            other => panic!("{other:?}"),
        };
        for code in [0, 1, 2, 3, 4, 6, 7, 75, 130] {
            let row = format!("\n  {code:<4} ");
            assert!(text.contains(&row), "{line}: {code}");
        }
        assert!(text.contains("64MB = 64,000,000 bytes"), "{line}");
        assert!(!text.contains("--delete-"), "{line}");
    }
    let copy = match task("copy --help") {
        Err(Rejected::Clap(error)) => error.render().to_string(),
        other => panic!("{other:?}"),
    };
    assert!(copy.contains("A slash at the end of a SOURCE means 'the contents of'"));
    assert!(copy.contains("the first that matches decides"));
}
