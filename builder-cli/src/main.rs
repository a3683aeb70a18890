//! The program `rbuild`: flags and environment in, a build by the library, an exit status out.

mod command;
mod console;
mod credentials;
mod engine;
mod environment;
mod exit_code;
mod flags;
mod network;
mod persona;
mod render;
mod request;
mod template;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use builder_core::Result;
use builder_core::interrupt::Interrupt;
use clap::{CommandFactory as _, Parser as _};
use command::call::{Call, Question};
use environment::Environment;
use flags::cache::CacheCommand;
use flags::store::StoreCommand;
use flags::{BuildFlags, Cli, Command};
use persona::Translated;

fn main() -> ExitCode {
    // A build starts this program again to execute RUN.
    builder_core::sandbox::enter_if_asked();
    let mut environment = Environment::read();
    let translated = persona::translate(std::env::args_os().collect(), &mut environment);
    let arguments = match translated {
        Ok(Translated::Line(words)) => flags::with_command(words, &environment.directory),
        Ok(Translated::Answer(text)) => {
            let said = command::print(&text).map(|()| exit_code::DONE);
            let status = said.unwrap_or_else(|error| command::report(&error, &environment));
            return ExitCode::from(status);
        }
        Err(error) => Err(error),
    };
    let cli = match arguments {
        Ok(arguments) => Cli::parse_from(arguments),
        Err(error) => return ExitCode::from(command::report(&error, &environment)),
    };
    let interrupt = Interrupt::from_flag(catch_signals());
    let run = || run(cli.command, &environment, &interrupt);
    let Ok(status) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) else {
        // The hook has said where.
        return ExitCode::from(exit_code::of(builder_core::ErrorKind::Internal));
    };
    ExitCode::from(status.unwrap_or_else(|error| command::report(&error, &environment)))
}

/// The first Ctrl-C or SIGTERM stops the build at the next file; the second one ends the program at once.
fn catch_signals() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        // Without a handler the signal ends the program, which is safe too: nothing is written half.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    flag
}

fn run(command: Command, environment: &Environment, interrupt: &Interrupt) -> Result<u8> {
    match command {
        Command::Build(flags) => build(&flags, environment, interrupt),
        Command::Plan(flags) => {
            command::plan::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Check(flags) => command::check::run(&flags, environment, interrupt),
        Command::Why(flags) => {
            command::why::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Cache {
            command: CacheCommand::Ls(flags),
        } => command::cache::ls(&flags, environment).map(|()| exit_code::DONE),
        Command::Store {
            command: StoreCommand::Fsck(flags),
        } => command::store::fsck(&flags, environment, interrupt),
        Command::Prune(flags) => command::cache::run(&flags, environment).map(|()| exit_code::DONE),
        Command::Run(flags) => {
            all_ids(&flags.world.mode, environment)?;
            command::session::run(&flags, environment, interrupt)
        }
        Command::Shell(flags) => {
            all_ids(&flags.world.mode, environment)?;
            command::session::shell(&flags, environment, interrupt)
        }
        Command::Images(flags) => {
            command::images::run(&flags, environment).map(|()| exit_code::DONE)
        }
        Command::Tag(flags) => command::tag::run(&flags, environment).map(|()| exit_code::DONE),
        Command::Rmi(flags) => command::rmi::run(&flags, environment).map(|()| exit_code::DONE),
        Command::Inspect(flags) => {
            command::inspect::run(&flags, environment).map(|()| exit_code::DONE)
        }
        Command::History(flags) => {
            command::history::run(&flags, environment).map(|()| exit_code::DONE)
        }
        Command::Save(flags) => {
            command::save::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Load(flags) => {
            command::load::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Export(flags) => {
            command::export::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Commit(flags) => {
            command::commit::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Copy(flags) => {
            command::copy::run(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Pull(flags) => {
            command::transfer::pull(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Push(flags) => {
            command::transfer::push(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Login(flags) => {
            command::login::login(&flags, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Logout { registry } => {
            let registry = registry.as_deref();
            command::login::logout(registry, environment, interrupt).map(|()| exit_code::DONE)
        }
        Command::Doctor(flags) => {
            all_ids(&flags.mode, environment)?;
            command::doctor::run(&flags, environment, interrupt)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rbuild", &mut script);
            command::print(&String::from_utf8_lossy(&script)).map(|()| exit_code::DONE)
        }
        Command::Manual => {
            let mut page = Vec::new();
            // Writing to memory does not fail.
            let _ = clap_mangen::Man::new(Cli::command()).render(&mut page);
            command::print(&String::from_utf8_lossy(&page)).map(|()| exit_code::DONE)
        }
    }
}

/// An ordinary user has more ids than one only in a namespace that setuid helpers have made: the program goes on there.
fn all_ids(flags: &flags::run::ModeFlags, environment: &Environment) -> Result<()> {
    let wanted = flags.run_ids == flags::run::IdsFlag::Range;
    if !wanted || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let variables = environment.variables.clone().into_iter();
    let variables: Vec<_> = variables.collect();
    Err(builder_core::sandbox::restart_with_subordinate_ids(
        &arguments, &variables,
    ))
}

fn build(flags: &BuildFlags, environment: &Environment, interrupt: &Interrupt) -> Result<u8> {
    let call = Call::of(flags)?;
    if call.question != Question::Build {
        return command::call::run(call, flags, environment, interrupt);
    }
    all_ids(&flags.run.mode, environment)?;
    command::build::run(flags, environment, interrupt).map(|()| exit_code::DONE)
}
