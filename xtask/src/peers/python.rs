//! Python programs of the checks, with the libraries they take from PyPI.
//!
//! The libraries are installed under the target folder, each in the version that stands here, so that a check fails for
//! what changed in this repository and for nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::world;
use crate::shell::{self, Background};

/// What is installed: the libraries, and what they need.
const PACKAGES: [&str; 6] = [
    "grpcio==1.85.1",
    "typing-extensions==4.16.0",
    "h2==4.4.1",
    "hpack==4.2.0",
    "hyperframe==6.1.0",
    "websockets==17.4",
];

/// An interpreter and where its libraries are.
pub(crate) struct Python {
    program: PathBuf,
    packages: PathBuf,
}

impl Python {
    /// Finds Python and installs the libraries, if they are not there yet.
    pub(crate) fn set_up() -> Result<Self> {
        let program = shell::need("python3", "python3")?;
        let packages = shell::target_dir().join("python").join(PACKAGES.join(",").replace("==", "-"));
        if !packages.exists() {
            if shell::output(Command::new(&program).args(["-m", "pip", "--version"])).is_err() {
                shell::install("python3-pip")?;
            }
            // Installed beside and moved, so that a broken attempt is not taken for a whole one.
            let attempt = packages.with_file_name("attempt");
            shell::fresh_folder(&attempt)?;
            eprintln!("installing {}", PACKAGES.join(" "));
            let mut pip = Command::new(&program);
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&attempt).args(PACKAGES);
            shell::output(&mut pip)?;
            std::fs::rename(&attempt, &packages)?;
        }
        Ok(Self { program, packages })
    }

    /// Runs a script to its end, at most `seconds`; returns what it printed.
    pub(crate) fn run(&self, script: &str, arguments: &[&str], seconds: u32) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(seconds.to_string()).arg(&self.program);
        self.prepare(&mut command, script, arguments);
        shell::output(&mut command).with_context(|| format!("{script} (status 124: not done after {seconds} s)"))
    }

    /// Starts a script that serves at a port, and waits for it.
    pub(crate) fn serve(&self, script: &str, port: u16, arguments: &[&str], log: &Path) -> Result<Background> {
        let mut command = Command::new(&self.program);
        let port_text = port.to_string();
        self.prepare(&mut command, script, &[&[port_text.as_str()], arguments].concat());
        let mut process = Background::start(script, &mut command, log)?;
        process.wait_for_port(shell::loopback(port))?;
        Ok(process)
    }

    fn prepare(&self, command: &mut Command, script: &str, arguments: &[&str]) {
        world::without_proxies(command);
        command.env("PYTHONPATH", &self.packages).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
        command.arg(shell::root().join("xtask/python").join(script)).args(arguments);
    }
}
