//! The `mds` command.
//!
//! This is the composition root: the only place that reads the environment and the files of
//! settings, installs logging and decides on exit codes. What a command does stands in one file
//! under `commands/`; `cli` says what can be typed, `context` what every command is given,
//! `exit` which codes there are, `output` how results are printed.
//!
//! Results go to standard output and nothing else does; everything about the run (warnings, errors,
//! progress, questions) goes to standard error.

mod atomic_file;
mod cli;
mod commands;
mod confirm;
mod context;
mod durable;
mod exit;
mod log_lines;
mod lost;
mod marks;
mod output;
mod pipeline;
mod runtime;
mod selection;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::Exit;
use crate::log_lines::LogLines;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage(&error).into(),
    };
    install_logging(&cli);
    let exit = run(cli);
    log_lines::tell_rest();
    exit.unwrap_or_else(|error| exit::report(&error)).into()
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let flags = cli.setting_flags();
    let context = Context::load(&cli.global, &flags)?;
    drop(flags);
    cli.command.run(&context)
}

/// Logs go to standard error: warnings and errors, more with each `-v`, errors only with `-q`. Lines
/// that repeat are told once in ten seconds. A command that makes faults tells of them itself.
fn install_logging(cli: &Cli) {
    use tracing_subscriber::filter::LevelFilter;

    let makes_faults = cli.command.makes_faults();
    let level = match (cli.global.quiet, cli.global.verbose) {
        (_, 0) if makes_faults => LevelFilter::OFF,
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = tracing_subscriber::fmt::format()
        .with_target(false)
        .with_ansi(is_terminal);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        // A standard error that nobody reads any more is no reason to fail, or to panic.
        .log_internal_errors(false)
        .event_format(LogLines(format))
        .init();
}
