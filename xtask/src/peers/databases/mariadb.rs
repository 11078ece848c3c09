//! MariaDB: the server speaks first.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Database, LARGE_BYTES, START_MAX, line};
use crate::shell::{self, Background};

/// A query, a large answer, a file loaded by the client.
pub(super) fn check(database: &Database) -> Result<()> {
    let server = start(database)?;
    let client = client(database.through)?;
    let ask = |query: &str| line(&format!("{client} -e \"{query}\""));
    let answer = ask("SELECT 6 * 7, CONNECTION_ID() > 0")?;
    ensure!(answer == "42\t1", "a query: {answer}");
    let rows = LARGE_BYTES / 1000;
    let large = line(&format!("{client} -e \"SELECT REPEAT('x', 1000) FROM app.seq_1_to_{rows}\" | wc -c"))?;
    ensure!(large == (rows * 1001).to_string(), "{large} bytes of a large answer instead of {}", rows * 1001);
    let file = database.folder.join("rows");
    let text: String = (0..rows).map(|row| format!("{row}\t{}\n", "y".repeat(1000))).collect();
    fs::write(&file, text)?;
    let loaded = ask(&format!(
        "CREATE TABLE app.loaded (id INT PRIMARY KEY, filler TEXT); \
         LOAD DATA LOCAL INFILE '{}' INTO TABLE app.loaded; \
         SELECT COUNT(*), MAX(id), SUM(LENGTH(filler)) FROM app.loaded",
        file.display()
    ))?;
    ensure!(loaded == format!("{rows}\t{}\t{}", rows - 1, rows * 1000), "rows that were loaded: {loaded}");
    let refused = line(&format!("{client} --password=wrong -e 'SELECT 1' 2>&1 || true"))?;
    ensure!(refused.contains("Access denied"), "the server's error does not arrive: {refused}");
    stop(server)
}

fn start(database: &Database) -> Result<Background> {
    let server = shell::need("mariadbd", "mariadb-server-core")?;
    let install = shell::need("mariadb-install-db", "mariadb-server-core")?;
    let folder = &database.folder;
    let data = folder.join("data");
    let common = |command: &mut Command| {
        command.args(["--no-defaults", "--user=root", "--innodb-log-file-size=4M"]);
        command.arg(format!("--datadir={}", data.display()));
    };
    let mut prepare = Command::new(install);
    common(&mut prepare);
    shell::output(prepare.args(["--auth-root-authentication-method=normal", "--skip-test-db"]))?;
    let users = folder.join("users.sql");
    // One statement a line, as this file is read.
    fs::write(&users, "CREATE DATABASE app;\nCREATE USER app IDENTIFIED BY 'secret';\nGRANT ALL ON app.* TO app;\n")?;
    let mut command = Command::new(server);
    common(&mut command);
    command.args(["--bind-address=127.0.0.1", &format!("--port={}", database.direct), "--skip-name-resolve"]);
    command.args(["--local-infile=1", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"]);
    command.arg(socket(folder)).arg(format!("--init-file={}", users.display()));
    let mut process = Background::start("mariadbd", &mut command, &folder.join("log"))?;
    let client = client(database.direct)?;
    let up = |_: &mut Background| line(&format!("{client} -e 'SELECT 1' 2>/dev/null")).ok();
    process.wait_for("MariaDB that answers", START_MAX, up)?;
    Ok(process)
}

fn stop(mut server: Background) -> Result<()> {
    server.signal("TERM")?;
    server.wait(START_MAX).map(drop)
}

fn socket(folder: &Path) -> String {
    format!("--socket={}", folder.join("socket").display())
}

/// The client without what the machine's files say, printing bare rows.
fn client(port: u16) -> Result<String> {
    let program = shell::need("mariadb", "mariadb-client-core")?;
    Ok(format!(
        "{} --no-defaults --protocol=tcp --host=127.0.0.1 --port={port} --user=app --password=secret --local-infile=1 \
         --batch --skip-column-names --connect-timeout=10",
        program.display()
    ))
}
