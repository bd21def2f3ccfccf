//! The shell script that the machine runs: environment, directory, program.

use super::{Arguments, Error};
use std::ffi::OsStr;
use std::path::Path;

/// Directories that are not this machine's in there.
const ITS_OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The script that runs the program in this directory.
pub fn script(arguments: &Arguments, directory: &Path) -> Result<String, Error> {
    if let Some(own) = ITS_OWN.iter().find(|own| directory.starts_with(own)) {
        return Err(format!(
            "{} cannot be seen in the machine, whose {own} is its own; try: from another directory",
            directory.display()
        )
        .into());
    }
    let mut script = String::from("export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/svm-home\n");
    for variable in &arguments.environment {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = std::env::var(variable);
                (variable.as_str(), value.map_err(|error| format!("{variable}: {error}"))?)
            }
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.chars().all(fits) || name.is_empty() || name.starts_with(|c: char| c.is_numeric())
        {
            return Err(format!("{name:?} is not a variable's name; use letters and digits").into());
        }
        script += &format!("export {name}={}\n", quoted(&value));
    }
    script += &format!("cd {} || exit 125\nexec", quoted(utf8(directory.as_os_str())?));
    for word in &arguments.command {
        script += " ";
        script += &quoted(utf8(word)?);
    }
    Ok(script + "\n")
}

fn utf8(text: &OsStr) -> Result<&str, Error> {
    text.to_str().ok_or_else(|| format!("{text:?} is not UTF-8").into())
}

/// A word for a shell: nothing is special within single quotes but themselves.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{Arguments, quoted, script};
    use std::path::Path;
    use std::process::Command;

    fn arguments(environment: &[&str], command: &[&str]) -> Arguments {
        Arguments {
            timeout: 1,
            memory: "1G".to_owned(),
            environment: environment.iter().map(ToString::to_string).collect(),
            console: false,
            command: command.iter().map(Into::into).collect(),
        }
    }

    fn output(script: &str) -> String {
        let output = Command::new("sh").args(["-c", script]).output().expect("a shell");
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        for word in ["", "a b", "it's", "''", "$HOME `id` \\ \"x\" *", "two\nlines", "-n", "ä"] {
            assert_eq!(output(&format!("printf '%s' {}", quoted(word))), word);
        }
    }

    #[test]
    fn the_program_has_its_arguments_environment_and_directory() {
        let directory = std::env::temp_dir().join(format!("xtask it's {}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let print = ["sh", "-c", "printf '%s|%s|%s' \"$A_1\" \"$1\" \"$PWD\"", "sh", "x  y"];
        let arguments = arguments(&["A_1=b = 'c'"], &print);
        let printed = output(&script(&arguments, &directory).expect("a script"));
        std::fs::remove_dir(&directory).expect("gone");
        assert_eq!(printed, format!("b = 'c'|x  y|{}", directory.display()));
    }

    #[test]
    fn names_that_no_variable_has_are_refused() {
        for bad in ["=x", "a b=x", "a;b=x", "1a=x"] {
            assert!(script(&arguments(&[bad], &["true"]), Path::new("/")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = script(&arguments(&["NOT_SET_ANYWHERE"], &["true"]), Path::new("/"));
        let error = error.expect_err("not set").to_string();
        assert!(error.contains("NOT_SET_ANYWHERE"), "{error}");
    }

    #[test]
    fn directories_that_are_the_machines_own_are_refused() {
        assert!(script(&arguments(&[], &["true"]), Path::new("/dev/shm/x")).is_err());
        assert!(script(&arguments(&[], &["true"]), Path::new("/devices")).is_ok());
    }
}
