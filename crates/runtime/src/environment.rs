//! The environment of a container's first process.

/// The search path of a container whose image has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An environment that is put together: later settings of a name replace earlier ones in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<String>,
}

impl Environment {
    /// Returns docker's environment for a container: `PATH`, `HOSTNAME`, then the image's.
    pub fn of_container(hostname: &str, image: &[String]) -> Self {
        let mut environment = Self {
            variables: vec![
                format!("PATH={DEFAULT_PATH}"),
                format!("HOSTNAME={hostname}"),
            ],
        };
        environment.extend(image);
        environment
    }

    /// Sets each `NAME=value`.
    pub fn extend(&mut self, variables: &[String]) {
        for variable in variables {
            self.set(variable);
        }
    }

    /// Sets one `NAME=value`; a bare `NAME` removes it, as docker does.
    pub fn set(&mut self, variable: &str) {
        let name = variable.split_once('=').map_or(variable, |(name, _)| name);
        let same = |other: &String| {
            other
                .split_once('=')
                .map_or(other.as_str(), |(name, _)| name)
                == name
        };
        let position = self.variables.iter().position(same);
        match (position, variable.contains('=')) {
            (Some(at), true) => variable.clone_into(&mut self.variables[at]),
            (None, true) => self.variables.push(variable.to_owned()),
            (Some(at), false) => {
                self.variables.remove(at);
            }
            (None, false) => {}
        }
    }

    /// Sets `NAME=value` unless the name is set.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.variables.push(format!("{name}={value}"));
        }
    }

    /// Returns the value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find_map(|variable| {
            variable
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
        })
    }

    /// Returns the variables as `NAME=value`.
    pub fn into_variables(self) -> Vec<String> {
        self.variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_settings_replace_in_place_and_bare_names_remove() {
        let image = ["PATH=/bin".to_owned(), "A=1".to_owned()];
        let mut environment = Environment::of_container("box", &image);
        environment.extend(&["A=2".to_owned(), "B=".to_owned(), "HOSTNAME".to_owned()]);
        environment.set_default("B", "x");
        environment.set_default("TERM", "xterm");
        assert_eq!(environment.get("A"), Some("2"));
        assert_eq!(
            environment.into_variables(),
            ["PATH=/bin", "A=2", "B=", "TERM=xterm"]
        );
    }
}
